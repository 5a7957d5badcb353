import json
import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from nwbrecon.config import DwiseNeuroSettings
from nwbrecon.encoding.dwiseneuro.network import (
    Depthwise,
    DropPath,
    DwiseNeuro,
    InvertedResidual,
    position_table,
    shrink,
)

TINY = DwiseNeuroSettings(
    readout_outputs=(5,),
    in_channels=3,
    core_features=(6, 8),
    spatial_strides=(2, 1),
    expansion_ratio=2,
    se_reduce_ratio=4,
    cortex_features=(12, 20),
)
SENSORIUM = (7863, 7908, 8202, 7939, 8122, 7440, 7928, 8285, 7671, 7495)


def test_names_and_shapes_are_those_of_the_published_checkpoints(data_folder):
    expected = json.loads((data_folder / "paper_shapes.json").read_text())
    with torch.device("meta"):
        network = DwiseNeuro(DwiseNeuroSettings(readout_outputs=SENSORIUM))
    found = {name: list(value.shape) for name, value in network.state_dict().items()}
    assert found == expected
    assert len(found) == 365
    assert sum(parameter.numel() for parameter in network.parameters()) == 170_656_070


def test_rates_and_gradient_are_those_of_the_published_network(network, vectors):
    inputs = torch.from_numpy(vectors["window_input"]).requires_grad_()
    rates = network(inputs)
    assert len(rates) == 2
    for readout, found in enumerate(rates):
        expected = vectors[f"window_rates_{readout}"]
        np.testing.assert_allclose(found.detach(), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).mean())
        torch.testing.assert_close(network(inputs, readout)[0], found)
    sum((found**2).mean() for found in rates).backward()
    expected = vectors["window_input_grad"]
    np.testing.assert_allclose(inputs.grad, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_the_gradient_agrees_with_finite_differences():
    network = DwiseNeuro(TINY, seed=1).double().eval().requires_grad_(False)
    inputs = torch.rand(2, 3, 7, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda x: network(x)[0], (inputs.requires_grad_(),), fast_mode=True)


def test_initial_weights_scatter_by_their_fan_out():
    network = DwiseNeuro(
        DwiseNeuroSettings(readout_outputs=(3000,), core_features=(64, 96), spatial_strides=(2, 1)), seed=3
    )
    residual = network.core.blocks[3]
    expected = {
        residual.conv_pw[0]: 64 * 7 * 96 / 64,
        residual.spat_covn_dw[0]: 3 * 3,
        residual.temp_covn_dw[0]: 5,
        residual.se.conv_reduce: 672 // 32,
        residual.conv_pwl[0]: 96,
        network.cortex.layers[1].conv: 2048 / 2,
        network.readouts[0].layer[1]: 3000 / 2,
    }
    for layer, fan_out in expected.items():
        deviations = layer.weight.numel() ** 0.5
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=4 / deviations)
        assert abs(layer.weight.mean().item()) < 5 * math.sqrt(2 / fan_out) / deviations
    biases = [value for name, value in network.named_parameters() if name.endswith("bias")]
    assert biases
    assert all((value == 0).all() for value in biases)
    assert (residual.bn_sc.bn.weight == 1).all()


def test_the_seed_decides_the_weights_and_leaves_other_randomness_alone():
    state = torch.get_rng_state()
    first, second, other = (DwiseNeuro(TINY, seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["core.stem.0.weight"], other["core.stem.0.weight"])


def test_training_drops_and_counts_and_evaluation_does_not():
    network = DwiseNeuro(TINY)
    inputs = torch.rand(4, 3, 6, 8, 8, generator=torch.Generator().manual_seed(0)) * 50
    torch.manual_seed(0)
    once, again = network(inputs)[0], network(inputs)[0]
    assert not torch.allclose(once, again)
    assert network.core.stem[1].bn.num_batches_tracked == 2
    assert not torch.allclose(network.core.stem[1].bn.running_mean, torch.zeros(6))
    network.eval()
    torch.testing.assert_close(network(inputs)[0], network(inputs)[0], rtol=0, atol=0)
    assert network.core.stem[1].bn.num_batches_tracked == 2


def test_it_learns():
    torch.manual_seed(0)
    network = DwiseNeuro(TINY)
    light = torch.rand(16, 1, 6, 1, 1)
    inputs = torch.cat([light.expand(-1, 1, -1, 8, 8), torch.rand(16, 2, 6, 8, 8)], dim=1)
    target = 40 * light[:, 0, :, :, 0].transpose(1, 2).expand(-1, 5, -1) ** 2
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(80):
        loss = nn.functional.poisson_nll_loss(network(inputs)[0], target, log_input=False)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())
    rates = network.eval()(inputs)[0].detach()
    assert np.corrcoef(rates.flatten(), target.flatten())[0, 1] > 0.9


def test_blocks_are_left_out_more_often_the_deeper_they_are():
    network = DwiseNeuro(DwiseNeuroSettings(readout_outputs=(2,)))
    rates = [block.drop_path.rate for block in network.core.blocks[1::2]]
    np.testing.assert_allclose(rates, 0.1 * np.arange(9) / 9)
    assert {layer.drop_path.rate for layer in network.cortex.layers} == {0.1}


def test_what_is_left_out_is_made_up_for():
    torch.manual_seed(0)
    drop = DropPath(0.25)
    maps = torch.rand(4000, 3, 2)
    kept = drop(maps)
    ratio = (kept / maps).reshape(4000, -1)
    assert torch.allclose(ratio, ratio[:, :1])
    assert ratio.mean().item() == pytest.approx(1, abs=0.03)
    assert (ratio[:, 0] == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(drop.eval()(maps), maps)


def test_positions_are_sines_then_cosines_axis_by_axis():
    frequencies = torch.tensor([1.0, 0.1])
    table = position_table(frequencies, (3, 4, 5), 11)
    t, y, x = 2, 3, 4
    expected = [
        math.sin(t), math.sin(0.1 * t), math.cos(t), math.cos(0.1 * t),
        math.sin(y), math.sin(0.1 * y), math.cos(y), math.cos(0.1 * y),
        math.sin(x), math.sin(0.1 * x), math.cos(x),
    ]  # fmt: skip
    np.testing.assert_allclose(table[t, y, x], expected, rtol=1e-5)


@pytest.mark.parametrize(("size", "stride"), [(64, 2), (9, 2), (10, 3), (7, 1)])
def test_shrinking_is_nearest_neighbor_interpolation(size, stride):
    maps = torch.arange(size, dtype=torch.float32).expand(1, 1, size, size)
    new = -(-size // stride)
    expected = nn.functional.interpolate(maps, size=(new, new), mode="nearest")
    assert torch.equal(shrink(maps, stride, dims=(2, 3)), expected)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"spatial_strides": (2,)}, "one of each a block"), ({"temporal_kernel": 4}, "odd"), ({"depth": 3}, "depth")],
)
def test_settings_that_cannot_be_are_refused(wrong, message):
    with pytest.raises(ValidationError, match=message):
        DwiseNeuroSettings(readout_outputs=(2,), **wrong)


def test_in_training_the_faster_form_computes_the_same():
    settings = TINY.model_copy(update={"drop_rate": 0.0, "drop_path_rate": 0.0})
    network, inputs = DwiseNeuro(settings, seed=1).double(), torch.rand(3, 3, 6, 9, 10, dtype=torch.float64)
    found = []
    for fast in (True, False):
        network.train()
        for module in network.modules():
            # batch norms stay in training
            if isinstance(module, Depthwise | InvertedResidual):
                module.training = fast
        given = inputs.clone().requires_grad_()
        rates = network(given)[0]
        found.append([rates, *torch.autograd.grad((rates**2).sum(), [given, *network.parameters()])])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
