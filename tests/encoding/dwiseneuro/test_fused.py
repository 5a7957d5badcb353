import copy

import numpy as np
import pytest
import torch

from nwbrecon.config import DwiseNeuroSettings
from nwbrecon.encoding.dwiseneuro import fused
from nwbrecon.encoding.dwiseneuro.fused import FusedDwiseNeuro
from nwbrecon.encoding.dwiseneuro.network import DwiseNeuro


def awkward_network():
    """Odd sizes, channels that repeat and are cut, strides that do not divide, statistics that matter."""
    settings = DwiseNeuroSettings(
        readout_outputs=(5, 7),
        in_channels=3,
        core_features=(6, 10, 25, 8),
        spatial_strides=(2, 1, 3, 1),
        spatial_kernel=5,
        temporal_kernel=3,
        expansion_ratio=3,
        se_reduce_ratio=4,
        cortex_features=(12, 20),
    )
    network = DwiseNeuro(settings, seed=2).eval()
    generator = torch.Generator().manual_seed(5)
    for name, value in network.named_buffers():
        if name.endswith("running_mean"):
            value.normal_(generator=generator)
        if name.endswith("running_var"):
            value.uniform_(0.3, 3, generator=generator)
    for name, value in network.named_parameters():
        if "bn" in name or name.endswith("bias"):
            value.data.add_(0.3 * torch.randn(value.shape, generator=generator))
    return network


def rates_and_gradient(predict, inputs):
    inputs = inputs.clone().requires_grad_()
    rates = predict(inputs)
    (rates**2).mean().backward()
    return rates.detach(), inputs.grad


def test_rates_are_those_of_the_published_network(network, vectors):
    inputs = torch.from_numpy(vectors["window_input"])
    for readout in (0, 1):
        expected = vectors[f"window_rates_{readout}"]
        found = FusedDwiseNeuro(network, readout)(inputs)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_rates_and_gradient_are_those_of_the_plain_network(network, vectors):
    inputs = torch.from_numpy(vectors["window_input"])
    expected = rates_and_gradient(lambda x: network(x, 1)[0], inputs)
    found = rates_and_gradient(FusedDwiseNeuro(network, 1), inputs)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * theirs.abs().max().item())


@pytest.mark.parametrize("chunk", [1, 700, 10**9])
def test_they_are_the_same_to_double_precision_however_it_is_cut(chunk, monkeypatch):
    monkeypatch.setattr(fused, "_CHUNK", chunk)
    network = awkward_network().double()
    inputs = 5 * torch.rand(3, 3, 6, 9, 13, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = rates_and_gradient(lambda x: network(x, 1)[0], inputs)
    found = rates_and_gradient(FusedDwiseNeuro(network, 1), inputs)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11 * theirs.abs().max().item())


def test_the_gradient_agrees_with_finite_differences():
    network = FusedDwiseNeuro(awkward_network().double())
    inputs = torch.rand(2, 3, 5, 7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(network, (inputs.requires_grad_(),), fast_mode=True)


def test_it_is_frozen_and_on_its_own():
    network = awkward_network()
    frozen = FusedDwiseNeuro(network)
    inputs = torch.rand(1, 3, 6, 8, 8)
    before = frozen(inputs)
    frozen.train()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    torch.testing.assert_close(frozen(inputs), before, rtol=0, atol=0)
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert not frozen(inputs).requires_grad


def test_input_of_another_size_or_type_has_positions_of_its_own():
    network = awkward_network()
    frozen = FusedDwiseNeuro(network)
    for size in ((6, 8, 8), (4, 8, 8), (6, 9, 8)):
        inputs = torch.rand(1, 3, *size)
        torch.testing.assert_close(frozen(inputs), network(inputs)[0], rtol=1e-4, atol=1e-5)
    double = copy.deepcopy(frozen).double()
    inputs = torch.rand(1, 3, 6, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(double(inputs), network.double()(inputs)[0], rtol=1e-5, atol=1e-6)


def test_a_gradient_of_the_gradient_is_refused():
    inputs = torch.rand(1, 3, 4, 6, 6).requires_grad_()
    (gradient,) = torch.autograd.grad(FusedDwiseNeuro(awkward_network())(inputs).sum(), inputs, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("n_frames", [1, 2, 3, 9])
def test_shifts_filter_as_a_convolution_does(n_frames):
    random = torch.Generator().manual_seed(0)
    maps = torch.randn(2, n_frames, 4, 3, dtype=torch.float64, generator=random)
    weight = torch.randn(3, 1, 5, 1, dtype=torch.float64, generator=random)
    bias = torch.randn(3, dtype=torch.float64, generator=random)
    for offset in (None, bias):
        expected = torch.nn.functional.conv2d(maps.permute(0, 3, 1, 2), weight, offset, padding=(2, 0), groups=3)
        found = fused.sum_of_shifts(maps, weight[:, 0, :, 0], offset)
        torch.testing.assert_close(found, expected.permute(0, 2, 3, 1))


@pytest.mark.gpu
def test_on_a_gpu_it_is_the_same_to_double_precision(gpu):
    network = awkward_network().double()
    inputs = 5 * torch.rand(3, 3, 6, 9, 13, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = rates_and_gradient(lambda x: network(x, 1)[0], inputs)
    found = rates_and_gradient(FusedDwiseNeuro(network, 1).to(gpu), inputs.to(gpu))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-9, atol=1e-11 * theirs.abs().max().item())
