import numpy as np
import pytest
import torch

from nwbrecon.encoding.dwiseneuro import DwiseNeuroEncoder
from nwbrecon.errors import EncoderError


@pytest.fixture(scope="module")
def trial(vectors):
    """The trial of the test vectors: video and behavior as an encoder takes them."""
    video = torch.from_numpy(np.moveaxis(vectors["video"], -1, 0))[None, None]
    behavior = torch.from_numpy(np.concatenate([vectors["behavior"], vectors["pupil_center"]]).T)[None]
    return video, behavior


@pytest.mark.parametrize(("readout", "fused"), [(0, True), (1, True), (1, False)])
def test_a_trial_is_predicted_as_published(data_folder, vectors, trial, readout, fused):
    encoder = DwiseNeuroEncoder.load(data_folder / "small.pth", readout=readout, fused=fused)
    with torch.no_grad():
        rates = encoder.predict_rates(*trial)
    expected = vectors[f"trial_rates_{readout}"]
    assert rates.shape == (1, encoder.n_rois, 48)
    np.testing.assert_allclose(rates[0], expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_behavior_is_found_by_name(data_folder, trial):
    video, behavior = trial
    path = data_folder / "small.pth"
    usual = DwiseNeuroEncoder.load(path)
    names = ("gaze_y", "licking", "pupil_size", "gaze_x", "running_speed")
    shuffled = torch.stack(
        [behavior[..., 3], torch.rand(1, 48), behavior[..., 0], behavior[..., 2], behavior[..., 1]], dim=2
    )
    other = DwiseNeuroEncoder.load(path, behavior_names=names)
    torch.testing.assert_close(other.stack(video, shuffled), usual.stack(video, behavior), rtol=0, atol=0)


def test_the_video_stands_in_the_middle_of_the_canvas(data_folder, trial):
    encoder = DwiseNeuroEncoder.load(data_folder / "small.pth")
    inputs = encoder.stack(*trial)
    assert inputs.shape == (1, 5, 48, 64, 64)
    torch.testing.assert_close(inputs[:, :1, :, 14:50], trial[0], rtol=0, atol=0)
    assert (inputs[:, 0, :, :14] == 0).all()
    assert (inputs[:, 0, :, 50:] == 0).all()
    assert encoder.margins((36, 64)) == ((14, 14), (0, 0))
    assert encoder.margins((33, 60)) == ((15, 16), (2, 2))
    # behavior fills the padding too
    assert (inputs[0, 2, 7] == trial[1][0, 7, 1]).all()


def test_missing_behavior_takes_the_value_that_was_set_for_it(data_folder, trial):
    video, behavior = trial
    behavior = behavior.clone()
    behavior[0, 5, 0] = torch.nan
    encoder = DwiseNeuroEncoder.load(
        data_folder / "small.pth", behavior_names=("pupil_size", "running_speed"), missing=(1.5, 2, 110, 105)
    )
    inputs = encoder.stack(video, behavior[..., :2])
    assert inputs[0, 1, 5, 0, 0] == 1.5
    assert inputs[0, 1, 6, 0, 0] == behavior[0, 6, 0]
    assert (inputs[0, 3] == 110).all()
    assert (inputs[0, 4] == 105).all()


def test_a_batch_is_its_videos_one_by_one(data_folder, trial):
    video, behavior = (torch.cat([part[:, :34], part[:, 10:44].flip(1)]) for part in (trial[0][0], trial[1]))
    encoder = DwiseNeuroEncoder.load(data_folder / "small.pth")
    together = encoder.predict_rates(video[:, None], behavior)
    for index in range(2):
        alone = encoder.predict_rates(video[index : index + 1, None], behavior[index : index + 1])
        torch.testing.assert_close(together[index], alone[0], rtol=1e-4, atol=1e-4)


def test_the_fewest_positions_reach_every_frame_once_where_they_can(data_folder, trial):
    path = data_folder / "small.pth"
    every, fewest = (DwiseNeuroEncoder.load(path, every_position=choice) for choice in (True, False))
    video, behavior = trial
    first = every.predict_rates(video[:, :, :32], behavior[:, :32])
    last = every.predict_rates(video[:, :, 16:], behavior[:, 16:])
    found = fewest.predict_rates(video, behavior)
    torch.testing.assert_close(found[..., :16], first[..., :16])
    torch.testing.assert_close(found[..., 16:32], (first[..., 16:] + last[..., :16]) / 2)
    torch.testing.assert_close(found[..., 32:], last[..., 16:])


def test_the_gradient_reaches_every_frame_and_does_not_depend_on_saving_memory(data_folder, trial):
    encoder = DwiseNeuroEncoder.load(data_folder / "small.pth")
    video = trial[0][:, :, :34].clone().requires_grad_()
    (encoder.predict_rates(video, trial[1][:, :34]) ** 2).mean().backward()
    assert (video.grad.abs().sum(dim=(0, 1, 3, 4)) > 0).all()

    inputs = encoder.stack(trial[0][:, :, :34], trial[1][:, :34]).requires_grad_()
    total = inputs.new_zeros(1, encoder.n_rois, 34)
    for position in range(4):
        frames = slice(position, position + 31, 2)
        window = inputs[:, :, frames]
        total[:, :, frames] += encoder.network(window, encoder.readout)[0]
    counts = torch.tensor([sum(frame in range(p, p + 31, 2) for p in range(4)) for frame in range(34)])
    ((total / counts) ** 2).mean().backward()
    torch.testing.assert_close(inputs.grad[:, :1, :, 14:50], video.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.gpu
@pytest.mark.parametrize("window_bytes", [None, 2**50])
def test_on_a_gpu_it_does_not_matter_how_many_windows_are_predicted_together(data_folder, trial, gpu, window_bytes):
    encoder = DwiseNeuroEncoder.load(data_folder / "small.pth")
    random = torch.Generator().manual_seed(1)
    direction = torch.randn(1, encoder.n_rois, trial[0].shape[2], generator=random)

    def rates_and_gradient(device):
        video = trial[0].clone().to(device).requires_grad_()
        rates = encoder.to(device).predict_rates(video, trial[1].to(device))
        (rates * direction.to(device)).sum().backward()
        return rates.detach().cpu(), video.grad.cpu()

    expected = rates_and_gradient("cpu")
    # 2**50: one at a time
    encoder._window_bytes = window_bytes
    for found, true in zip(rates_and_gradient(gpu), expected, strict=True):
        assert (found - true).norm() < 2e-3 * true.norm()
    assert (encoder._windows_at_once(trial[0].to(gpu)) == 1) == (window_bytes is not None)


def test_a_plain_network_can_be_trained_through_it(network, trial):
    encoder = DwiseNeuroEncoder(network, readout=1, fused=False).train()
    rates = encoder.predict_rates(trial[0][:, :, :32], trial[1][:, :32])
    rates.mean().backward()
    assert network.core.stem[0].weight.grad.abs().sum() > 0
    assert network.readouts[0].layer[1].weight.grad is None
    assert network.training


def test_a_video_that_does_not_fit_is_refused(data_folder):
    encoder = DwiseNeuroEncoder.load(data_folder / "small.pth")
    with pytest.raises(EncoderError, match=r"31 frames.*at least 32"):
        encoder.predict_rates(torch.zeros(1, 1, 31, 36, 64), torch.zeros(1, 31, 4))
    with pytest.raises(EncoderError, match=r"72x128 pixels.*at most 64x64"):
        encoder.predict_rates(torch.zeros(1, 1, 40, 72, 128), torch.zeros(1, 40, 4))
    with pytest.raises(EncoderError, match=r"2 behavioral variables.*expects pupil_size, running_speed"):
        encoder.predict_rates(torch.zeros(1, 1, 40, 36, 64), torch.zeros(1, 40, 2))


def test_channels_and_readouts_that_do_not_exist_are_refused(network):
    with pytest.raises(EncoderError, match=r"5 input channels and 1 behavioral variables"):
        DwiseNeuroEncoder(network, channels=("running_speed",))
    with pytest.raises(EncoderError, match=r"Readout 2 was asked for.*0 to 1"):
        DwiseNeuroEncoder(network, readout=2)
