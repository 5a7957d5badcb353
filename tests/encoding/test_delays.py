import math

import numpy as np
import pytest
import torch
from small import clips_of, make_mouse, smooth_noise

from nwbrecon.config import EncoderSettings, TrainingSettings
from nwbrecon.encoding import EncoderEnsemble, VideoEncoder, train
from nwbrecon.encoding.delays import LONGEST_DELAY, PlaneDelays, shifted
from nwbrecon.encoding.observation import Window, observe, window_video


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def delays_of(seconds, n_rois=(2, 3)):
    delays = PlaneDelays(n_rois, 30.0).double()
    delays.start(torch.tensor(seconds).double())
    return delays.requires_grad_(False)


def test_a_shift_by_whole_frames_moves_and_one_in_between_interpolates():
    values = noise(2, 3, 9)
    torch.testing.assert_close(shifted(values, torch.tensor(2.0))[..., :-2], values[..., 2:])
    torch.testing.assert_close(shifted(values, torch.tensor(-3.0))[..., 3:], values[..., :-3])
    between = 0.75 * values[..., :-1] + 0.25 * values[..., 1:]
    torch.testing.assert_close(shifted(values, torch.tensor(-0.75).double())[..., 1:], between)
    assert torch.equal(shifted(values, torch.tensor(0.0)), values)


def test_no_delay_changes_nothing():
    rates = noise(2, 5, 12)
    assert torch.equal(PlaneDelays((2, 3), 30.0).double()(rates), rates)


@pytest.mark.parametrize("seconds", [0.1, 0.045, -0.21, 0.0])
def test_a_delay_is_what_is_to_be_added_to_the_clock(seconds):
    """Shifted rates, summed over samples as they are stamped, are rates summed over samples when they were taken."""
    aligned = clips_of([120], ["train"])
    # slow beside a frame: within it, rates are taken to be even
    rates = torch.sin(torch.arange(120) / torch.tensor([[[4.0], [6.0], [9.0]]])).double().exp()
    found = observe(aligned, [Window(0, 0, 120)])[0].expected(delays_of([seconds], (3,))(rates).float())
    stamps = aligned.groups[0].timestamps.copy()
    aligned.groups[0].timestamps = stamps + seconds
    (true,) = observe(aligned, [Window(0, 0, 120)], warm_up=10, look_ahead=10)
    expected = true.expected(rates.float())
    known = true.known[0].any(dim=1)
    assert known.sum() > 20
    # the same samples, by when they were stamped
    onset = aligned.trials.at[0, "onset"]
    first, first_true = (np.searchsorted(times, onset, side="right") - 1 for times in (stamps, stamps + seconds))
    place = torch.nonzero(known)[:, 0]
    torch.testing.assert_close(found[0, place + first_true - first], expected[0, place], rtol=0.02, atol=0.02)


def test_the_gradient_is_that_of_finite_differences():
    delays = PlaneDelays((2, 3), 30.0).double()
    delays.start(torch.tensor([0.013, -0.05]).double())
    rates = noise(1, 5, 25).requires_grad_()
    weights = noise(1, 5, 25, seed=1)

    def total(rates, unbounded):
        return (torch.func.functional_call(delays, {"unbounded": unbounded}, (rates,)) * weights).sum()

    assert torch.autograd.gradcheck(total, (rates, delays.unbounded))


def test_delays_are_bounded():
    delays = PlaneDelays((2, 3), 30.0)
    torch.nn.init.constant_(delays.unbounded, 50.0)
    delays.requires_grad_(False)
    assert delays.seconds.max() <= LONGEST_DELAY
    delays.start(torch.tensor([0.12, -9.0]))
    assert delays.seconds[0] == pytest.approx(0.12, abs=1e-6)
    assert -LONGEST_DELAY < delays.seconds[1] < -0.9 * LONGEST_DELAY


@pytest.mark.parametrize(
    ("seconds", "reach"), [([0.05, 0.01], (0, 2)), ([-0.05, 0.0], (2, 0)), ([0.11, -0.22], (7, 4))]
)
def test_what_is_reached_for_is_known_once_nothing_is_learned(seconds, reach):
    delays = delays_of(seconds)
    assert delays.reach == reach
    longest = math.ceil(LONGEST_DELAY * 30)
    assert delays.requires_grad_(True).reach == (longest, longest)


def test_between_warm_up_and_look_ahead_the_prediction_is_that_of_a_longer_video():
    encoder = VideoEncoder(
        EncoderSettings(channels=4, temporal_kernels=2, memory_seconds=0.2, kernel_size=3, plane_delay=True),
        n_rois=5,
        frame_size=(6, 8),
        frame_rate=30.0,
        groups=(2, 3),
    ).eval()
    for parameter in encoder.readout.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(0))
    encoder.delays.start(torch.tensor([0.08, -0.11]))
    encoder.requires_grad_(False)
    assert (encoder.warm_up, encoder.look_ahead) == (10, 3)
    video = 255 * torch.rand(1, 1, 60, 6, 8, generator=torch.Generator().manual_seed(1))
    whole = encoder.predict_rates(video, torch.zeros(1, 60, 0))
    part = encoder.predict_rates(video[:, :, 12:48], torch.zeros(1, 36, 0))
    torch.testing.assert_close(part[..., 10:-3], whole[..., 22:45], rtol=1e-4, atol=1e-6)
    assert not torch.isclose(part[:, :2, -3:], whole[:, :2, 45:48], rtol=1e-3).all()


@pytest.fixture(scope="module")
def late():
    """A mouse whose second plane is stamped a tenth of a second too early, with and without learned delays."""
    aligned = make_mouse(
        train=20, validation=3, test=1, seconds=4.0, n_rois=24, noise=0.1, types=("simple",), make_movie=smooth_noise
    ).aligned
    aligned.groups[1].timestamps = aligned.groups[1].timestamps - 0.1
    return aligned, [
        train(aligned, EncoderSettings(channels=16, plane_delay=learned), TrainingSettings(epochs=4))
        for learned in (False, True)
    ]


def test_misreported_clocks_are_found_and_responses_are_predicted_better(late):
    _, (without, encoder) = late
    one, other = encoder.plane_delays
    assert other - one == pytest.approx(0.1, abs=0.02)
    assert list(encoder.plane_delays.index) == ["plane 1", "plane 2"]
    assert without.plane_delays is None
    scores = [float(np.nanmean(each.validation_scores)) for each in (without, encoder)]
    assert scores[1] > scores[0] + 0.03
    assert encoder.gate["sees"]


def test_delays_are_told_and_kept(late, tmp_path):
    aligned, (without, encoder) = late
    told = f"plane 2 {1000 * encoder.plane_delays['plane 2']:+.0f} ms"
    assert told in repr(encoder)
    assert told in encoder._repr_html_()
    assert "Learned delays" not in repr(without) + without._repr_html_()
    back = EncoderEnsemble.load(encoder.save(tmp_path / "encoder"))
    assert back.plane_delays.equals(encoder.plane_delays)
    assert (back.warm_up, back.look_ahead) == (encoder.warm_up, encoder.look_ahead)
    shown = window_video(aligned, [Window(0, 0, 90)])
    assert torch.equal(back.predict_rates(*shown), encoder.predict_rates(*shown))


def test_delays_belong_to_the_session_not_to_the_core(late):
    aligned, (without, _) = late
    taken = train(aligned, EncoderSettings(plane_delay=True), TrainingSettings(epochs=0), core=without)
    assert taken.encoders[0].core_digest() == without.encoders[0].core_digest()
    # that core has learned to make up for some of it
    assert 0.03 < taken.plane_delays["plane 2"] - taken.plane_delays["plane 1"] < 0.12
