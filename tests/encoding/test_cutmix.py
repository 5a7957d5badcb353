import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nwbrecon.encoding.cutmix import Patch, draw_box, paste, paste_behavior
from nwbrecon.encoding.observation import Window


@given(st.integers(0, 10_000), st.tuples(st.integers(1, 40), st.integers(1, 70)))
def test_a_box_lies_in_the_frame_and_its_share_is_its_area(seed, frame_size):
    rows, columns, share = draw_box(np.random.default_rng(seed), frame_size)
    inside = np.zeros(frame_size)
    inside[rows, columns] = 1
    assert 0 <= rows.start <= rows.stop <= frame_size[0]
    assert 0 <= columns.start <= columns.stop <= frame_size[1]
    assert share == pytest.approx(inside.mean())


def test_boxes_are_as_large_as_those_of_cutmix_and_lie_anywhere():
    order = np.random.default_rng(0)
    covered, shares = np.zeros((400, 600)), []
    for _ in range(4000):
        rows, columns, share = draw_box(order, (400, 600))
        covered[rows, columns] += 1
        shares.append(share)
    # a side s, cut off at the edge, is s - s^2/4 long on average: the mean of (s - s^2/4)^2 over uniform s^2
    expected = 2 * (1 / 4 - 1 / 10 + 1 / 96)
    assert np.mean(shares) == pytest.approx(expected, abs=0.015)
    assert covered.mean() / 4000 == pytest.approx(np.mean(shares))
    np.testing.assert_allclose(covered, covered[::-1, ::-1], atol=200)


def patch(share=0.25):
    return Patch(Window(1, 0, 3), slice(1, 3), slice(0, 2), share)


def test_pasting_replaces_the_box_in_all_frames_and_nothing_else():
    video, other = torch.zeros(2, 1, 3, 4, 5), torch.ones(2, 1, 3, 4, 5)
    paste(video, other, [None, patch()])
    expected = torch.zeros(2, 1, 3, 4, 5)
    expected[1, :, :, 1:3, 0:2] = 1
    assert torch.equal(video, expected)
    assert torch.equal(other, torch.ones(2, 1, 3, 4, 5))


def test_behavior_is_averaged_by_area_and_missing_where_either_is():
    behavior = torch.tensor([[[1.0, 2.0]], [[1.0, 2.0]]])
    other = torch.tensor([[[9.0, 9.0]], [[5.0, float("nan")]]])
    paste_behavior(behavior, other, [None, patch(0.25)])
    assert behavior[0].tolist() == [[1.0, 2.0]]
    assert float(behavior[1, 0, 0]) == pytest.approx(2.0)
    assert torch.isnan(behavior[1, 0, 1])
