import numpy as np
import pytest
import torch

from nwbrecon.encoding.core import QuadratureCore
from nwbrecon.encoding.parts import pair_energy


def core_of(**options):
    settings = {
        "channels": 6,
        "temporal_kernels": 3,
        "memory": 8,
        "kernel_size": 5,
        "stride": 2,
        "temporal_stride": 1,
        "frame_rate": 30.0,
    }
    return QuadratureCore(**settings | options).double()


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("stride", "temporal_stride", "size"), [(1, 1, (6, 7)), (2, 2, (7, 10)), (3, 2, (9, 8))])
def test_features_are_those_of_a_plain_sum(stride, temporal_stride, size):
    core = core_of(stride=stride, temporal_stride=temporal_stride)
    time = 13
    video = noise(2, 1, time, *size)
    features, suppression = (maps.detach() for maps in core(video))
    rows, columns = (-(-length // stride) for length in size)
    assert features.shape == (2, -(-time // temporal_stride), 6, rows, columns)
    assert suppression.shape == (2, -(-time // temporal_stride), rows, columns)

    # frames before the first, and pixels outside, are zero
    padded = np.pad(video[:, 0].numpy(), ((0, 0), (7, 0), (2, 2), (2, 2)))
    temporal, spatial = core.temporal.detach().numpy(), core.spatial.detach().numpy()
    kernel = np.einsum("kl,ckyx->clyx", temporal, spatial)[:, ::-1]
    random = np.random.default_rng(0)
    for _ in range(40):
        clip, step = random.integers(2), random.integers(features.shape[1])
        channel, row, column = random.integers(6), random.integers(rows), random.integers(columns)
        frame, top, left = step * temporal_stride, row * stride, column * stride
        seen = padded[clip, frame : frame + 8, top : top + 5, left : left + 5]
        assert float(features[clip, step, channel, row, column]) == pytest.approx((seen * kernel[channel]).sum())


def test_the_core_is_causal_and_its_memory_ends():
    core, video = core_of(), noise(1, 1, 20, 6, 6)
    changed = video.clone()
    changed[:, :, 9] += noise(1, 1, 6, 6, seed=1)
    for before, after in zip(core(video), core(changed), strict=True):
        differs = (before != after).flatten(2).any(dim=2)
        assert not differs[0, :9].any()
        assert differs[0, 9:17].all()
        assert not differs[0, 17:].any()


@pytest.mark.parametrize("temporal_stride", [1, 2])
def test_a_core_that_is_not_causal_reaches_ahead(temporal_stride):
    core, video = core_of(ahead=3, temporal_stride=temporal_stride), noise(1, 1, 20, 6, 6).requires_grad_()
    assert (core.past, core.ahead) == (7, 3)
    assert core.temporal.shape == (3, 11)
    (gradient,) = torch.autograd.grad(core(video)[0][:, 12 // temporal_stride].square().sum(), video)
    reached = torch.nonzero(gradient.abs().sum(dim=(0, 1, 3, 4)) > 0)[:, 0]
    assert reached.tolist() == list(range(12 - 7, 12 + 4))
    # the first lag of the kernels is the frame farthest ahead
    kernel = torch.einsum("kl,ckyx->clyx", core.temporal, core.spatial)[:, :, 2, 2]
    impulse = torch.zeros(1, 1, 20, 6, 6, dtype=torch.float64)
    impulse[:, :, 12, 2, 2] = 1
    response = core(impulse)[0][0, :, :, 1, 1]
    for step, found in enumerate(response):
        lag = step * temporal_stride - 12
        expected = kernel[:, lag + 3] if -3 <= lag < 8 else torch.zeros(6).double()
        torch.testing.assert_close(found, expected)


def test_half_the_pairs_of_a_core_that_is_not_causal_start_earlier():
    core = core_of(ahead=5, memory=15, temporal_kernels=6, channels=32)
    kernel = torch.einsum("kl,ckyx->clyx", core.temporal, core.spatial).square().sum(dim=(2, 3))
    middle = (kernel @ (torch.arange(20.0).double() - 5)) / kernel.sum(dim=1)
    middle = middle[:16]
    assert float((middle[0::2].mean() - middle[1::2].mean()).detach()) == pytest.approx(5, abs=1.5)


def test_steps_of_a_slower_core_are_every_second_of_a_faster_one():
    slow, fast = core_of(temporal_stride=2), core_of()
    video = noise(1, 1, 15, 8, 8)
    for every_second, all_steps in zip(slow(video), fast(video), strict=True):
        torch.testing.assert_close(every_second, all_steps[:, ::2])


def test_contrast_suppresses_where_it_is_and_gray_does_not():
    core = core_of(stride=1)
    gray = torch.zeros(1, 1, 12, 40, 40, dtype=torch.float64)
    assert (core(gray)[1] == 1).all()
    faint = gray.clone()
    faint[:, :, :, :6, :6] = noise(1, 1, 12, 6, 6)
    strong = 3 * faint
    suppressed, more = core(faint)[1][0, -1], core(strong)[1][0, -1]
    assert suppressed[3, 3] < 0.97
    assert more[3, 3] < suppressed[3, 3]
    # the pool has a reach
    assert suppressed[30, 30] == 1
    # 1 / sqrt(1 + s P): the pooled power P of three times the contrast is nine times as large
    torch.testing.assert_close(more**-2 - 1, 9 * (suppressed**-2 - 1))


def test_without_its_strength_there_is_no_suppression():
    core = core_of()
    torch.nn.init.constant_(core.normalization, -50)
    torch.testing.assert_close(core(noise(1, 1, 9, 8, 8))[1], torch.ones(1, 9, 4, 4, dtype=torch.float64))


def test_rescaled_features_have_unit_deviation():
    core, video = core_of(), 2 * noise(1, 1, 60, 16, 16)
    before = core(video)[0]
    core.rescale(video)
    features = core(video)[0]
    torch.testing.assert_close(features.std(dim=(0, 1, 3, 4)), torch.ones(6, dtype=torch.float64))
    # each is only scaled
    torch.testing.assert_close(features / before, (features / before)[:1, :1, :, :1, :1].expand_as(features))


def test_a_channel_that_sees_nothing_survives_rescaling():
    core = core_of()
    core.rescale(torch.zeros(1, 1, 10, 8, 8, dtype=torch.float64))
    assert torch.isfinite(core.spatial).all()


def test_gradients_are_those_of_finite_differences():
    core = core_of(channels=2, temporal_kernels=2, memory=3, kernel_size=3)
    video = noise(1, 1, 5, 4, 5).requires_grad_()

    def outputs(video, *parameters):
        return torch.func.functional_call(
            core, dict(zip(("temporal", "spatial", "normalization"), parameters, strict=True)), (video,)
        )

    assert torch.autograd.gradcheck(outputs, (video, core.temporal, core.spatial, core.normalization))


def test_filters_start_as_quadrature_pairs_some_of_which_prefer_a_direction():
    core = core_of(channels=40, temporal_kernels=4, memory=15, kernel_size=9, stride=1)
    rows, columns = np.mgrid[:9, :9]
    frames = np.arange(45)[:, None, None] / 30
    best = torch.zeros(20, 2, dtype=torch.float64)
    ripple = torch.full((20, 2), torch.nan, dtype=torch.float64)
    for angle in np.arange(0, np.pi, np.pi / 8):
        along = columns * np.cos(angle) + rows * np.sin(angle)
        for wavelength in (6.5, 9.0, 14.0):
            for direction, sign in enumerate((1, -1)):
                grating = np.cos(2 * np.pi * (along / wavelength - sign * 2.2 * frames))
                features, _ = core(torch.from_numpy(grating)[None, None])
                # the middle of the screen, once the memory is full
                energy = pair_energy(features[0, 15:, :, 4, 4]).detach()
                mean = energy.mean(dim=0)
                better = mean > best[:, direction]
                best[better, direction] = mean[better]
                ripple[better, direction] = (energy.std(dim=0) / mean)[better]
    # energy of a moving grating hardly changes with its phase
    preferred = best.argmax(dim=1)
    assert ripple[torch.arange(20), preferred].median() < 0.25
    selectivity = (best[:, 0] - best[:, 1]).abs() / best.sum(dim=1)
    assert (selectivity > 0.3).sum() >= 5
    assert (selectivity < 0.1).sum() >= 3


def test_the_same_seed_gives_the_same_filters():
    one, again, other = core_of(seed=1), core_of(seed=1), core_of(seed=2)
    torch.testing.assert_close(one.spatial, again.spatial, rtol=0, atol=0)
    assert not torch.allclose(one.spatial, other.spatial)
