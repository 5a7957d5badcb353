import pytest
import torch
from torch.nn import functional

from nwbrecon.encoding.core import quadrature_filters
from nwbrecon.encoding.factorized import FactorizedCore


def core_of(**options):
    settings = {
        "channels": 6,
        "memory": 9,
        "kernel_size": 5,
        "stride": 2,
        "temporal_stride": 2,
        "frame_rate": 30.0,
        "seed": 1,
    }
    return FactorizedCore(**settings | options).double()


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def awakened(core, scale=0.3):
    with torch.no_grad():
        for index, layer in enumerate(core.layers):
            layer.mixing.copy_(scale * noise(*layer.mixing.shape, seed=index))
    return core


@pytest.mark.parametrize(
    ("stride", "temporal_stride", "kernel_size", "size", "time"),
    [(1, 1, 3, (6, 7), 9), (2, 2, 5, (7, 10), 12), (2, 2, 9, (12, 12), 7), (3, 2, 7, (9, 8), 11)],
)
def test_filters_start_as_the_pairs_of_the_other_core_though_they_factorize(
    stride, temporal_stride, kernel_size, size, time
):
    core = core_of(stride=stride, temporal_stride=temporal_stride, kernel_size=kernel_size)
    reach = core.temporal.shape[-1]
    assert core.past == (reach + 1) * temporal_stride - 1 <= 9 - 1
    filters = quadrature_filters(
        torch.eye(reach), 6, kernel_size, 30.0 / temporal_stride, torch.Generator().manual_seed(1)
    ).double()
    video = noise(2, 1, time, *size)
    features, suppression = core(video)
    assert suppression is None
    n_steps, rows, columns = -(-time // temporal_stride), *(-(-length // stride) for length in size)
    assert features.shape == (2, n_steps, 6, rows, columns)
    # a step is the mean of the frames up to its own; lag 0 comes last in a convolution
    steps = functional.avg_pool1d(
        functional.pad(video[:, 0].permute(0, 2, 3, 1).flatten(0, 2)[:, None], (temporal_stride - 1, 0)),
        temporal_stride,
    )
    steps = steps.view(2, *size, -1)[..., :n_steps].permute(0, 3, 1, 2)
    half = kernel_size // 2
    whole = functional.conv3d(
        functional.pad(steps[:, None], (half, half, half, half, reach - 1, 0)),
        filters.flip(1)[:, None],
        stride=(1, stride, stride),
    )
    torch.testing.assert_close(features, whole.transpose(1, 2), rtol=1e-5, atol=1e-5)


def test_a_layer_is_a_convolution_in_space_then_in_time_beside_what_it_is_given():
    core = core_of()
    features, _ = core(noise(1, 1, 14, 8, 10))
    more, _ = awakened(core)(noise(1, 1, 14, 8, 10))
    layer = core.layers[0]
    maps = functional.elu(features[0])
    maps = functional.conv2d(maps, layer.spatial, padding=1, groups=6)
    now, later = layer.mixing.chunk(2, dim=1)
    expected = torch.einsum("tcyx,cd->tdyx", maps, now)
    expected[1:] += torch.einsum("tcyx,cd->tdyx", maps[:-1], later)
    torch.testing.assert_close(more[0], features[0] + expected)


@pytest.mark.parametrize("temporal_stride", [1, 2])
def test_the_core_is_causal_and_its_memory_ends(temporal_stride):
    core = awakened(core_of(temporal_stride=temporal_stride))
    video = noise(1, 1, 24, 8, 8).requires_grad_()
    features, _ = core(video)
    step = 20 // temporal_stride
    (gradient,) = torch.autograd.grad(features[:, step].square().sum(), video)
    reached = gradient.abs().sum(dim=(0, 1, 3, 4)) > 1e-12
    frame = step * temporal_stride
    assert reached[frame - core.past : frame + 1].all()
    assert not reached[: frame - core.past].any()
    assert not reached[frame + 1 :].any()


@pytest.mark.parametrize("temporal_stride", [1, 2])
def test_a_core_that_is_not_causal_reaches_ahead(temporal_stride):
    core = awakened(core_of(temporal_stride=temporal_stride, ahead=3))
    assert core.ahead == {1: 3, 2: 4}[temporal_stride]
    video = noise(1, 1, 24, 8, 8).requires_grad_()
    (gradient,) = torch.autograd.grad(core(video)[0][:, 12 // temporal_stride].square().sum(), video)
    reached = torch.nonzero(gradient.abs().sum(dim=(0, 1, 3, 4)) > 1e-12)[:, 0]
    assert reached.tolist() == list(range(12 - core.past, 12 + core.ahead + 1))


def test_features_are_scaled_to_unit_deviation():
    core = core_of()
    video = 3 * noise(2, 1, 30, 12, 16)
    core.rescale(video)
    torch.testing.assert_close(core(video)[0].std(dim=(0, 1, 3, 4)), torch.ones(6, dtype=torch.float64))


def test_the_gradient_is_that_of_finite_differences():
    core = awakened(core_of(channels=2, memory=5, kernel_size=3))
    video = noise(1, 1, 5, 4, 5).requires_grad_()
    names, values = zip(*core.named_parameters(), strict=True)

    def features(video, *values):
        return torch.func.functional_call(core, dict(zip(names, values, strict=True)), (video,))[0]

    assert torch.autograd.gradcheck(features, (video, *values))


def test_the_same_seed_gives_the_same_core():
    one, again, other = core_of(), core_of(), core_of(seed=2)
    for name, value in one.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert not torch.equal(one.spatial, other.spatial)
    assert not torch.equal(one.layers[0].spatial, other.layers[0].spatial)
