import math

import pytest
import torch

from nwbrecon.encoding.modulation import BehaviorGain, GazeShifter, LearnedSoftplus


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slope(height, width):
    """A picture whose gray level is three times the column and five times the row: interpolation of it is exact."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return (5 * rows + 3 * columns).double()


def shifted(weight, behavior, picture):
    shifter = GazeShifter((1, 2)).double()
    shifter.shift.weight.data = torch.tensor(weight, dtype=torch.float64)
    video = picture.expand(1, 1, behavior.shape[1], *picture.shape)
    return shifter(video, behavior)[0, 0].detach()


def test_it_starts_without_a_shift():
    video, behavior = noise(2, 1, 3, 6, 9), noise(2, 3, 3)
    torch.testing.assert_close(GazeShifter((1, 2)).double()(video, behavior), video)


@pytest.mark.parametrize(
    ("gaze", "right", "down"), [((1.0, 0.0), 2.0, 0.0), ((0.0, 1.0), 0.0, -1.0), ((0.5, -2.0), 1, 2)]
)
def test_gaze_moves_the_picture_by_what_was_learned(gaze, right, down):
    # a standard deviation of the first variable moves the gaze two columns to the right, of the second a row up
    height, width = 11, 21
    weight = [[2.0 / (width - 1) * 2, 0.0], [0.0, -1.0 / (height - 1) * 2]]
    picture = slope(height, width)
    seen = shifted(weight, torch.tensor([[[9.0, *gaze]]], dtype=torch.float64), picture)[0]
    # what the gaze is moved to comes to lie where the center was: the picture moves against the gaze
    inside = (slice(3, -3), slice(3, -3))
    torch.testing.assert_close(seen[inside], (picture + 3 * right + 5 * down)[inside])


def test_every_frame_has_its_own_shift_and_edges_are_repeated():
    picture = slope(11, 21)
    behavior = torch.tensor([[[0.0, 0.0, 0.0], [0.0, 5.0, 0.0]]], dtype=torch.float64)
    first, second = shifted([[0.1, 0.0], [0.0, 0.0]], behavior, picture)
    torch.testing.assert_close(first, picture)
    # five columns to the right; beyond the edge the last column
    torch.testing.assert_close(second[:, :16], picture[:, 5:])
    torch.testing.assert_close(second[:, 16:], picture[:, -1:].expand(-1, 5))


def test_only_gaze_shifts():
    behavior = noise(1, 4, 3)
    other = behavior.clone()
    other[..., 0] += 1
    picture = noise(7, 8)
    weight = [[0.1, 0.2], [-0.1, 0.05]]
    torch.testing.assert_close(shifted(weight, behavior, picture), shifted(weight, other, picture), rtol=0, atol=0)


def test_the_gradient_of_the_shift_is_that_of_finite_differences():
    shifter = GazeShifter((0, 1)).double()
    video, behavior = noise(1, 1, 2, 5, 6).requires_grad_(), noise(1, 2, 2)
    weight = (0.03 * noise(2, 2, seed=5)).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda video, weight: torch.func.functional_call(shifter, {"shift.weight": weight}, (video, behavior)),
        (video, weight),
    )


def test_gain_starts_at_one_whatever_the_behavior():
    torch.testing.assert_close(BehaviorGain(3, 5)(torch.randn(2, 7, 3)), torch.ones(2, 5, 7), rtol=0, atol=0)


def test_gain_is_the_exponential_of_its_network_and_bounded():
    gain = BehaviorGain(2, 3).double()
    gain.out.weight.data = noise(3, 8)
    behavior = noise(2, 9, 2)
    exponent = torch.tanh(behavior @ gain.hidden.weight.T + gain.hidden.bias) @ gain.out.weight.T
    factor = gain(behavior)
    torch.testing.assert_close(factor.log(), (3 * torch.tanh(exponent / 3)).transpose(1, 2))
    gain.out.bias.data = torch.tensor([100.0, -100.0, 0.0], dtype=torch.float64)
    loud, silent, _ = gain(behavior)[0]
    torch.testing.assert_close(loud, torch.full_like(loud, 3).exp())
    torch.testing.assert_close(silent, torch.full_like(silent, -3).exp())


def test_the_gradient_of_the_gain_is_that_of_finite_differences():
    gain = BehaviorGain(2, 3, hidden=4).double()
    behavior = noise(1, 3, 2).requires_grad_()
    parameters = {name: noise(*value.shape, seed=7).requires_grad_() for name, value in gain.named_parameters()}
    assert torch.autograd.gradcheck(
        lambda behavior, *values: torch.func.functional_call(
            gain, dict(zip(parameters, values, strict=True)), (behavior,)
        ),
        (behavior, *parameters.values()),
    )


def test_a_softplus_starts_at_the_rates_of_its_rois_and_with_their_slopes():
    softplus, rates = LearnedSoftplus(4).double(), torch.tensor([1e-3, 0.1, 5.0], dtype=torch.float64)
    drive, slopes = softplus.start(slice(1, 4), rates)
    drive = torch.cat([torch.zeros(1), drive])[None, :, None].requires_grad_()
    result = softplus(drive)
    torch.testing.assert_close(result[0, 1:, 0], rates)
    (gradient,) = torch.autograd.grad(result.sum(), drive)
    torch.testing.assert_close(gradient[0, 1:, 0], slopes)
    # the others are left alone
    assert result[0, 0].item() == pytest.approx(math.log(2))


def test_sharpness_bends_rates_but_leaves_large_ones_alone():
    softplus = LearnedSoftplus(2).double()
    softplus.log_sharpness.data = torch.tensor([0.0, math.log(10.0)], dtype=torch.float64)
    at_zero, large = (softplus(torch.full((1, 2, 1), x, dtype=torch.float64))[0, :, 0] for x in (0.0, 30.0))
    torch.testing.assert_close(at_zero, torch.tensor([math.log(2), math.log(2) / 10], dtype=torch.float64))
    torch.testing.assert_close(large, torch.full((2,), 30.0, dtype=torch.float64))
