import numpy as np
import pytest
import torch

from nwbrecon.config import EncoderSettings
from nwbrecon.encoding.encoder import VideoEncoder, look_ahead

SMALL = {"channels": 4, "temporal_kernels": 2, "memory_seconds": 0.2, "kernel_size": 3}
NAMES = ("running_speed", "gaze_x", "gaze_y")


def encoder_of(size=(6, 8), names=NAMES, n_rois=3, seed=0, **settings):
    encoder = VideoEncoder(
        EncoderSettings(**SMALL | settings),
        n_rois=n_rois,
        frame_size=size,
        frame_rate=30.0,
        behavior_names=names,
        seed=seed,
    )
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for name, value in encoder.named_parameters():
            if not name.startswith("core"):
                value.copy_(0.3 * torch.randn(value.shape, generator=generator))
    encoder.standardize_video(120.0, 50.0)
    encoder.standardize_behavior(np.arange(len(names)) + 1.0, np.full(len(names), 2.0))
    return encoder.eval()


def inputs(time=12, size=(6, 8), names=NAMES, batch=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    video = 255 * torch.rand(batch, 1, time, *size, generator=generator)
    return video, torch.randn(batch, time, len(names), generator=generator)


@pytest.mark.parametrize("temporal_stride", [1, 2, 3])
@pytest.mark.parametrize("time", [11, 12])
def test_there_is_a_rate_for_every_frame_and_roi(time, temporal_stride):
    encoder = encoder_of(temporal_stride=temporal_stride, gain=False, gaze_shift=False)
    rates = encoder.predict_rates(*inputs(time, batch=2))
    assert rates.shape == (2, 3, time)
    assert rates.min() > 0
    # a rate holds until the next step
    for frame in range(time):
        torch.testing.assert_close(rates[..., frame], rates[..., frame - frame % temporal_stride], rtol=0, atol=0)
    assert not torch.allclose(rates[..., 0], rates[..., temporal_stride])


@pytest.mark.parametrize(("temporal_stride", "warm_up"), [(1, 5), (2, 6), (3, 6)])
def test_past_the_warm_up_the_prediction_is_that_of_a_longer_video(temporal_stride, warm_up):
    encoder = encoder_of(core="quadrature", temporal_stride=temporal_stride)
    video, behavior = inputs(40)
    whole = encoder.predict_rates(video, behavior)[..., 12:]
    part = encoder.predict_rates(video[:, :, 12:], behavior[:, 12:])
    assert encoder.warm_up == warm_up
    torch.testing.assert_close(part[..., warm_up:], whole[..., warm_up:], rtol=1e-4, atol=1e-6)
    assert not torch.isclose(part[..., :warm_up], whole[..., :warm_up], rtol=1e-3).all(dim=1).any()


@pytest.mark.parametrize("core", ["quadrature", "factorized"])
@pytest.mark.parametrize("temporal_stride", [1, 2])
def test_an_encoder_that_is_not_causal_lacks_the_future_at_the_end(core, temporal_stride):
    encoder = encoder_of(core=core, temporal_stride=temporal_stride, causal=False)
    assert encoder.look_ahead == look_ahead(encoder) == 2
    warm_up = encoder.warm_up
    video, behavior = inputs(50)
    whole = encoder.predict_rates(video, behavior)[..., 12:40]
    part = encoder.predict_rates(video[:, :, 12:40], behavior[:, 12:40])
    torch.testing.assert_close(part[..., warm_up:-2], whole[..., warm_up:-2], rtol=1e-4, atol=1e-6)
    assert not torch.isclose(part[..., -1], whole[..., -1], rtol=1e-3).all()
    assert look_ahead(encoder_of()) == 0


def test_the_future_does_not_matter():
    encoder = encoder_of()
    video, behavior = inputs(20)
    changed, other = video.clone(), behavior.clone()
    changed[:, :, 12:], other[:, 12:] = 0, 5
    torch.testing.assert_close(
        encoder.predict_rates(changed, other)[..., :12], encoder.predict_rates(video, behavior)[..., :12]
    )


def test_missing_behavior_counts_as_the_mean():
    encoder = encoder_of()
    video, behavior = inputs()
    behavior[:, 3:7, 0] = torch.nan
    filled = behavior.clone()
    filled[:, 3:7, 0] = 1.0
    torch.testing.assert_close(encoder.predict_rates(video, behavior), encoder.predict_rates(video, filled))
    assert torch.isfinite(encoder.predict_rates(video, torch.full_like(behavior, torch.nan))).all()


def test_behavior_multiplies_and_gaze_shifts():
    video, behavior = inputs()
    encoder = encoder_of(gaze_shift=False)
    rates = encoder.predict_rates(video, behavior)
    gain = encoder.gain((behavior - torch.tensor([1.0, 2, 3])) / 2)
    encoder.gain = None
    torch.testing.assert_close(rates, gain * encoder.predict_rates(video, behavior))
    shifting = encoder_of(gain=False)
    moved = behavior.clone()
    moved[..., 1:] += 3
    assert not torch.allclose(shifting.predict_rates(video, moved), shifting.predict_rates(video, behavior))


@pytest.mark.parametrize(
    ("names", "has_gain", "has_shifter"), [((), False, False), (("running_speed",), True, False), (NAMES, True, True)]
)
def test_what_was_not_recorded_is_done_without(names, has_gain, has_shifter):
    encoder = encoder_of(names=names)
    assert (encoder.gain is not None, encoder.shifter is not None) == (has_gain, has_shifter)
    assert torch.isfinite(encoder.predict_rates(*inputs(names=names))).all()


def test_gaze_is_found_by_name_whatever_its_place():
    encoder = encoder_of(names=("gaze_y", "running_speed", "gaze_x"))
    assert encoder.shifter.gaze_variables == [2, 0]


def test_gray_levels_are_standardized():
    encoder = encoder_of(gaze_shift=False)
    video, behavior = inputs()
    rates = encoder.predict_rates(video, behavior)
    encoder.standardize_video(2 * 120.0 + 10, 2 * 50.0)
    encoder.standardize_behavior(np.array([1.0, 2, 3]), np.full(3, 2.0))
    torch.testing.assert_close(encoder.predict_rates(2 * video + 10, behavior), rates, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("temporal_stride", [1, 2])
def test_the_gradient_is_that_of_finite_differences(temporal_stride):
    encoder = encoder_of(size=(4, 5), temporal_stride=temporal_stride, memory_seconds=0.1).double()
    video, behavior = (value.double() for value in inputs(5, (4, 5)))
    video.requires_grad_()
    parameters = dict(encoder.named_parameters())

    def rates(video, *values):
        return torch.func.functional_call(encoder, dict(zip(parameters, values, strict=True)), (video, behavior))

    assert torch.autograd.gradcheck(rates, (video, *parameters.values()), atol=1e-6)


def test_sizes_of_weights_are_means_over_rois():
    encoder = encoder_of()
    readout = encoder.readout
    weights = readout.linear.abs().sum(dim=1) + readout.energy.abs().sum(dim=1)
    of_own_pair = (readout.own_energy[:, None, None] * readout.own_pair).abs().sum(dim=(1, 2))
    torch.testing.assert_close(encoder.readout_size(), (weights + 0.3 * of_own_pair).mean())
    torch.testing.assert_close(encoder.gain_size(), (encoder.gain.out.weight**2).sum(dim=1).mean())
    assert encoder_of(names=()).gain_size() == 0


def test_the_same_seed_gives_the_same_encoder():
    def fresh(seed):
        return VideoEncoder(
            EncoderSettings(**SMALL), n_rois=3, frame_size=(6, 8), frame_rate=30.0, behavior_names=NAMES, seed=seed
        ).state_dict()

    torch.manual_seed(5)
    one = fresh(1)
    torch.manual_seed(6)
    again, other = fresh(1), fresh(2)
    before = torch.get_rng_state()
    fresh(3)
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in one.items():
        torch.testing.assert_close(value, again[name], rtol=0, atol=0)
    assert not torch.equal(one["gain.hidden.weight"], other["gain.hidden.weight"])
    assert not torch.equal(one["core.spatial"], other["core.spatial"])
