import pytest
import torch

from nwbrecon.encoding.masks import MaskReadout
from nwbrecon.encoding.parts import pair_energy, set_dropout
from nwbrecon.encoding.readout import PointReadout


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def readout_of(n_rois=5, channels=6, map_size=(4, 7), seed=3):
    readout = MaskReadout(n_rois, channels, map_size).double()
    with torch.no_grad():
        for index, parameter in enumerate(readout.parameters()):
            parameter.copy_(noise(*parameter.shape, seed=seed + index))
    return readout.eval()


@pytest.mark.parametrize("suppressed", [True, False])
def test_the_drive_is_the_sum_over_places_and_features(suppressed):
    readout = readout_of()
    features = noise(2, 9, 6, 4, 7, seed=1)
    suppression = noise(2, 9, 4, 7, seed=2).sigmoid() if suppressed else None
    drive = readout(features, suppression)
    last = features.movedim(2, -1)
    everything = torch.cat([last, pair_energy(last)], dim=-1)
    if suppressed:
        everything = everything * suppression[..., None]
    weights = torch.cat([readout.linear, readout.energy], dim=1)
    mask = readout.mask.abs().view(5, 4, 7)
    expected = torch.einsum("btyxc,nc,nyx->bnt", everything, weights, mask) + readout.bias[:, None]
    torch.testing.assert_close(drive, expected)


def test_a_mask_of_a_single_place_reads_as_a_point_there():
    masked, point = readout_of(n_rois=1), PointReadout(1, 6, (4, 7)).double().eval()
    with torch.no_grad():
        masked.mask.zero_()
        masked.mask[0, 2 * 7 + 5] = -1
        # the center of the map is at 1.5, 3
        point.position.copy_(torch.tensor([[0.5, 2.0]]))
        for name in ("linear", "energy", "bias"):
            getattr(point, name).copy_(getattr(masked, name))
    features, suppression = noise(2, 9, 6, 4, 7, seed=1), noise(2, 9, 4, 7, seed=2).sigmoid()
    torch.testing.assert_close(masked(features, suppression), point(features, suppression))
    torch.testing.assert_close(masked.positions, point.positions)
    torch.testing.assert_close(masked.size(), point.size())


def test_a_position_is_the_center_of_mass():
    readout = readout_of(n_rois=1)
    with torch.no_grad():
        readout.mask.zero_()
        readout.mask[0, 0], readout.mask[0, 2 * 7 + 6] = 1, -3
    torch.testing.assert_close(readout.positions, torch.tensor([[0.0, 1.5]], dtype=torch.float64))


def test_a_mask_that_has_vanished_is_no_division_by_zero():
    readout = readout_of(n_rois=1)
    readout.mask.data.zero_()
    assert torch.isfinite(readout.positions).all()


def test_it_starts_from_a_linear_fit_as_a_spot():
    readout = readout_of(n_rois=3, map_size=(20, 24))
    others = readout.mask[2].clone()
    # inside, and so near the edge that the spot is cut
    places = torch.tensor([[1.5, -3.0], [-9.5, 0.5]]).double()
    linear, energy = noise(2, 6), noise(2, 3)
    readout.place(slice(0, 2), places, linear, energy, torch.tensor([1.0, 2.0]).double())
    torch.testing.assert_close(readout.positions[0], places[0], atol=1e-3, rtol=0)
    torch.testing.assert_close(readout.positions[1], places[1], atol=0.6, rtol=0)
    torch.testing.assert_close(readout.mask[:2].sum(dim=1), torch.ones(2).double())
    assert torch.equal(readout.mask[2], others)
    # what changes slowly from place to place is read as at a point
    slow = torch.linspace(-1, 1, 20).double()[:, None].expand(20, 24)
    drive = readout(slow.expand(1, 1, 6, 20, 24), None)[0, 0, 0].detach()
    there = slow[11, 0].expand(6)
    assert float(drive) == pytest.approx(float(linear[0] @ there + energy[0] @ pair_energy(there) + 1), abs=0.02)


def test_its_size_stays_where_a_factor_goes_from_weights_to_mask():
    readout = readout_of()
    features = noise(1, 3, 6, 4, 7)
    size, drive = readout.size(), readout(features, None)
    # the sum over all places, features and ROIs of absolute weights
    weights = torch.cat([readout.linear, readout.energy], dim=1)
    whole = torch.einsum("nc,np->ncp", weights, readout.mask).abs().sum()
    torch.testing.assert_close(size, whole)
    with torch.no_grad():
        readout.mask.mul_(2)
        readout.linear.div_(2)
        readout.energy.div_(2)
    torch.testing.assert_close(readout.size(), size)
    torch.testing.assert_close(readout(features, None), drive)


def test_the_gradient_is_that_of_finite_differences():
    readout = readout_of(n_rois=2, channels=2, map_size=(2, 3))
    features, suppression = noise(1, 2, 2, 2, 3, seed=1), noise(1, 2, 2, 3, seed=2).sigmoid()
    names, values = zip(*readout.named_parameters(), strict=True)

    def drive(features, suppression, *values):
        return torch.func.functional_call(readout, dict(zip(names, values, strict=True)), (features, suppression))

    inputs = (features.requires_grad_(), suppression.requires_grad_(), *values)
    assert torch.autograd.gradcheck(drive, inputs)


def test_dropout_leaves_out_weights_in_training_alone():
    readout = readout_of()
    features = noise(2, 4, 6, 4, 7)
    plain = readout(features, None)
    set_dropout(torch.nn.ModuleDict({"readout": readout}), 0.5)
    assert torch.equal(readout(features, None), plain)
    torch.manual_seed(0)
    readout.train()(features, None).sum().backward()
    dropped = readout.linear.grad == 0
    assert 0 < int(dropped.sum()) < dropped.numel()
    assert (readout.mask.grad != 0).all()
