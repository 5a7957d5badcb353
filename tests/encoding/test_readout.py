import pytest
import torch
from torch.nn import functional

from nwbrecon.encoding.parts import pair_energy, set_dropout
from nwbrecon.encoding.readout import PointReadout, _LocalDrive


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def readout_of(n_rois=5, channels=6, map_size=(4, 7), seed=3):
    readout = PointReadout(n_rois, channels, map_size).double()
    with torch.no_grad():
        for index, parameter in enumerate(readout.parameters()):
            parameter.copy_(noise(*parameter.shape, seed=seed + index))
    return readout.eval()


def plainly(readout, features, suppression):
    """The same by PyTorch's own interpolation."""
    batch, time, channels, rows, columns = features.shape
    place = readout.position / (torch.tensor([rows, columns]) - 1) * 2
    grid = place.flip(1).expand(batch * time, 1, -1, 2)

    def at_position(maps):
        return functional.grid_sample(maps, grid, align_corners=True)[:, :, 0]

    local = at_position(features.reshape(-1, channels, rows, columns)).permute(2, 0, 1)
    factor = at_position(suppression.reshape(-1, 1, rows, columns))[:, 0].T
    drive = torch.einsum("ntc,nc->nt", local, readout.linear)
    drive = drive + torch.einsum("ntc,nc->nt", pair_energy(local), readout.energy)
    own = torch.einsum("ntc,npc->ntp", local, readout.own_pair)
    drive = drive + pair_energy(own)[..., 0] * readout.own_energy[:, None]
    return (drive * factor + readout.bias[:, None]).view(-1, batch, time).transpose(0, 1)


def test_the_energy_of_a_pair_is_the_length_of_its_vector():
    features = noise(3, 8)
    even, odd = features[:, :4], features[:, 4:]
    torch.testing.assert_close(pair_energy(features) ** 2, even**2 + odd**2 + 0.1)


def test_drive_and_gradients_are_those_of_plain_interpolation():
    readout = readout_of()
    readout.position.data.mul_(0.8)
    features, suppression = noise(2, 9, 6, 4, 7, seed=1), noise(2, 9, 4, 7, seed=2).sigmoid()
    features, suppression = features.requires_grad_(), suppression.requires_grad_()
    inputs = [features, suppression, readout.position, readout.linear, readout.energy, readout.bias]
    inputs += [readout.own_pair, readout.own_energy]
    weights = noise(2, 5, 9, seed=4)
    drives = [readout(features, suppression), plainly(readout, features, suppression)]
    assert drives[0].shape == (2, 5, 9)
    torch.testing.assert_close(*drives)
    for ours, theirs in zip(*(torch.autograd.grad((drive * weights).sum(), inputs) for drive in drives), strict=True):
        torch.testing.assert_close(ours, theirs)


def parts_of_a_drive():
    parts = {"places": noise(6, 4, 4), "weights": noise(2, 4, seed=1), "sums": noise(2, 3, 4, seed=2)}
    return parts | {"energy": noise(2, 2, seed=3), "own_energy": noise(2, seed=4)}


@pytest.mark.parametrize("frozen", [None, "places", "weights", "sums", "energy", "own_energy"])
def test_the_written_out_gradient_is_that_of_finite_differences_whatever_is_frozen(frozen):
    corners = torch.tensor([[0, 1, 3, 4], [1, 2, 4, 5]])
    parts = parts_of_a_drive()
    for name, value in parts.items():
        value.requires_grad_(name != frozen)
    assert torch.autograd.gradcheck(
        lambda places, *others: _LocalDrive.apply(places, corners, *others), tuple(parts.values())
    )


def test_a_linear_fit_is_where_it_starts_and_the_pair_that_counts_most_its_own():
    readout, features = readout_of(n_rois=3), noise(1, 4, 6, 4, 7)
    position, linear, bias = noise(2, 2, seed=1) * 0.5, noise(2, 6, seed=2), noise(2, seed=3)
    energy = torch.tensor([[0.1, 0.5, -2.0], [-1.0, -3.0, -0.5]], dtype=torch.float64)
    before = readout.own_pair[0].clone()
    readout.place(slice(1, 3), position, linear, energy, bias)
    torch.testing.assert_close(readout.own_energy[1:], torch.tensor([0.5, -0.5], dtype=torch.float64))
    assert [pair.nonzero().tolist() for pair in readout.own_pair[1:]] == [[[0, 1], [1, 4]], [[0, 2], [1, 5]]]
    torch.testing.assert_close(readout.own_pair[0], before)
    # the same as of the fit
    plain = readout_of(n_rois=2)
    plain.position.data, plain.linear.data, plain.bias.data, plain.energy.data = position, linear, bias, energy
    plain.own_energy.data.zero_()
    torch.testing.assert_close(readout(features, None)[:, 1:], plain(features, None))


def test_an_roi_reads_the_place_where_it_is():
    readout = readout_of(n_rois=1)
    features = torch.zeros(1, 2, 6, 4, 7, dtype=torch.float64)
    features[0, 1, 2, 3, 5] = 2.0
    readout.energy.data.zero_()
    readout.own_energy.data.zero_()
    ones = torch.ones(1, 2, 4, 7, dtype=torch.float64)
    # the center of the map is at 1.5, 3
    for place, share in (((1.5, 2.0), 1.0), ((1.0, 2.0), 0.5), ((1.25, 1.75), 0.75**2), ((0.0, 2.0), 0.0)):
        readout.position.data[0] = torch.tensor(place)
        without, drive = readout(features, ones)[0, 0].detach()
        torch.testing.assert_close(without, readout.bias.data[0])
        torch.testing.assert_close(drive - without, share * 2 * readout.linear.data[0, 2], atol=3e-3, rtol=0)


@pytest.mark.parametrize("place", [(-9.0, 0.0), (9.0, 9.0), (0.0, -50.0)])
def test_positions_beyond_the_edge_read_the_edge(place):
    readout = readout_of(n_rois=1)
    readout.position.data[0] = torch.tensor(place)
    features, ones = noise(1, 3, 6, 4, 7), torch.ones(1, 3, 4, 7, dtype=torch.float64)
    drive = readout(features, ones).detach()
    inside = torch.tensor(place).clamp(torch.tensor([-1.5, -3.0]), torch.tensor([1.5, 3.0]))
    readout.position.data[0] = inside
    torch.testing.assert_close(drive, plainly(readout, features, ones).detach(), atol=0.02, rtol=0)


@pytest.mark.parametrize("map_size", [(1, 7), (4, 1), (1, 1)])
def test_maps_of_a_single_row_or_column_are_read_too(map_size):
    readout = readout_of(map_size=map_size)
    features = noise(1, 3, 6, *map_size)
    drive = readout(features, torch.ones(1, 3, *map_size, dtype=torch.float64))
    assert torch.isfinite(drive).all()
    if map_size == (1, 1):
        local = features[0, :, :, 0, 0]
        own = pair_energy((readout.own_pair @ local.T).transpose(1, 2))[..., 0] * readout.own_energy[:, None]
        expected = readout.linear @ local.T + readout.energy @ pair_energy(local).T + own + readout.bias[:, None]
        torch.testing.assert_close(drive[0], expected)


def test_positions_are_jittered_in_training_alone():
    readout = readout_of()
    # well inside the map
    readout.position.data.mul_(0.1)
    readout.log_spread.data.fill_(-2)
    features, suppression = noise(1, 4, 6, 4, 7), torch.ones(1, 4, 4, 7, dtype=torch.float64)
    torch.testing.assert_close(readout(features, suppression), readout(features, suppression), rtol=0, atol=0)
    readout.train()
    one, other = readout(features, suppression), readout(features, suppression)
    assert not torch.allclose(one, other)
    # the spread is learned
    (gradient,) = torch.autograd.grad(one.sum(), readout.log_spread)
    assert gradient.abs().min() > 0


def test_dropout_leaves_out_a_share_of_the_weights_in_training_alone_and_keeps_the_mean():
    readout = readout_of(n_rois=3)
    features, suppression = noise(2, 4, 6, 4, 7), noise(2, 4, 4, 7, seed=9)
    plain = readout(features, suppression)
    set_dropout(torch.nn.ModuleDict({"readout": readout}), 0.4)
    assert torch.equal(readout(features, suppression), plain)
    readout.train()
    with torch.no_grad():
        # no jitter
        readout.log_spread.fill_(-torch.inf)
        torch.manual_seed(0)
        drawn = torch.stack([readout(features, suppression) for _ in range(4000)])
    torch.testing.assert_close(drawn.mean(dim=0), plain, rtol=0.1, atol=0.15)
    readout(features, suppression).sum().backward()
    dropped = readout.energy.grad == 0
    assert 0 < int(dropped.sum()) < dropped.numel()


def test_dropout_is_the_same_for_all_stretches_of_a_step():
    readout = readout_of().train()
    set_dropout(readout, 0.5)
    features, suppression = noise(1, 4, 6, 4, 7), noise(1, 4, 4, 7, seed=9)
    torch.manual_seed(0)
    one, other = readout(features.expand(2, -1, -1, -1, -1), suppression.expand(2, -1, -1, -1))
    assert torch.equal(one, other)
    assert not torch.equal(one, readout(features, suppression)[0])
