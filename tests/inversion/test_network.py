import numpy as np
import pytest
import torch

from nwbrecon.inversion.network import DecoderNetwork

POSITIONS = np.array([[0.0, 0.0], [2.2, 3.9], [-9.0, 20.0]])


def network(grid=(4, 5), lead=4, tail=8, positions=POSITIONS):
    torch.manual_seed(0)
    return DecoderNetwork(positions, grid, lead, tail)


@pytest.mark.parametrize(("grid", "steps"), [((4, 5), 9), ((1, 1), 1), ((9, 16), 32)])
def test_a_movie_of_the_steps_that_are_decoded(grid, steps):
    made = network(grid)(torch.randn(2, 4 + steps + 8, 3))
    assert made.shape == (2, steps, 2 * grid[0], 2 * grid[1])


def test_rois_speak_where_they_see():
    bump = network().to_cells(torch.eye(3)).T.view(3, 4, 5)
    assert [divmod(int(one.argmax()), 5) for one in bump] == [(0, 0), (2, 4), (0, 4)]
    torch.testing.assert_close(bump.square().sum(dim=(1, 2)), torch.ones(3))


def test_the_gradient_is_that_of_finite_differences():
    made = network((2, 3), lead=1, tail=1).double()
    torch.nn.init.normal_(made.out.weight)
    responses = torch.randn(1, 4, 3, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(made, (responses,), atol=1e-6)


def test_untrained_it_gives_one_picture_whatever_is_answered():
    one, other = network()(torch.randn(2, 20, 3))
    torch.testing.assert_close(one, other)


def test_clips_of_a_batch_do_not_touch():
    made = network()
    torch.nn.init.normal_(made.out.weight)
    responses = torch.randn(3, 20, 3)
    together = made(responses)
    assert (together[0] - together[1]).abs().max() > 0.01
    torch.testing.assert_close(together[1:2], made(responses[1:2]), rtol=1e-4, atol=1e-5)
