import numpy as np
import pandas as pd
import pytest

from nwbrecon.alignment import AlignedGroup, AlignedSession
from nwbrecon.alignment.cells import cells_of_rois
from nwbrecon.session.model import SignalKind

SECONDS, RATE = 60.0, 7.0


def activity_of(n_cells, share=0.0, seed=0):
    """``(time, cell)`` at 100 Hz, of which a share is common to all cells."""
    rng = np.random.default_rng(seed)
    own, common = rng.gamma(0.3, 1.0, (int(100 * SECONDS), n_cells)), rng.gamma(0.3, 1.0, (int(100 * SECONDS), 1))
    return (1 - share) * own + share * common


def plane(traces, cells, delay, noise=0.0, seed=0, kind=SignalKind.EVENTS):
    """Sample some cells at times of the plane's own: each sample counts what happened since the one before."""
    times = np.arange(1 / RATE + delay, SECONDS, 1 / RATE)
    summed = np.concatenate([np.zeros((1, traces.shape[1])), traces.cumsum(axis=0) / 100])
    counts = np.diff(
        np.stack([np.interp(times, np.arange(len(summed)) / 100, one) for one in summed.T], axis=1), axis=0
    )
    values = counts[:, cells] + noise * np.random.default_rng(seed).standard_normal((len(times) - 1, len(cells)))
    rois = pd.DataFrame(index=range(len(cells)))
    return AlignedGroup(f"plane {delay}", kind, times[1:], values.astype(np.float32), np.ones(len(cells)), rois)


def session_of(*groups, n_trials=5, splits=("train",) * 5):
    length = 11.0
    return AlignedSession.from_arrays(
        [np.zeros((int(30 * length), 2, 2))] * n_trials,
        groups,
        onsets=[1 + length * index for index in range(n_trials)],
        clips=[f"clip {index}" for index in range(n_trials)],
        splits=splits,
        frame_rate=30.0,
    )


def test_a_cell_that_two_planes_see_is_one():
    traces = activity_of(9, share=0.5)
    groups = [
        plane(traces, [0, 1, 2, 3], 0.0),
        plane(traces, [4, 1, 5], 0.05, noise=2e-3),
        plane(traces, [6, 5, 1], 0.1),
    ]
    assert cells_of_rois(session_of(*groups)).tolist() == [0, 1, 2, 3, 4, 1, 5, 6, 5, 1]


def test_cells_that_only_share_much_are_several():
    traces = activity_of(6, share=0.7)
    groups = [plane(traces, [0, 1, 2], 0.0), plane(traces, [3, 4, 5], 0.05)]
    assert len(set(cells_of_rois(session_of(*groups)))) == 6


def test_one_roi_has_at_most_one_match_in_a_plane():
    # two ROIs of one plane are never one cell by themselves, however alike
    traces = activity_of(3)
    groups = [plane(traces, [0, 0, 1], 0.0, noise=1e-3), plane(traces, [2, 0], 0.05, noise=1e-3, seed=1)]
    found = cells_of_rois(session_of(*groups))
    assert found[0] != found[1]
    assert (found[4] == found[:2]).sum() == 1


def test_missing_samples_do_not_hide_a_cell_and_silent_rois_match_nothing():
    traces = activity_of(4)
    one, other = plane(traces, [0, 1, 2], 0.0), plane(traces, [3, 1, 2], 0.05)
    one.activity[:100, 1] = np.nan
    one.activity[:, 2] = 0
    other.activity[200:230] = np.nan
    assert cells_of_rois(session_of(one, other)).tolist() == [0, 1, 2, 3, 1, 4]


@pytest.mark.parametrize("splits", [("train",) * 2 + ("validation",) * 3, ("test",) * 5])
def test_where_little_was_recorded_nothing_is_claimed(splits):
    traces = activity_of(2)
    groups = [plane(traces, [0, 1], 0.0), plane(traces, [0, 1], 0.05)]
    # 44 bins, or none: too few to tell
    assert cells_of_rois(session_of(*groups, splits=splits)).tolist() == [0, 1, 2, 3]


def test_a_single_plane_sees_every_cell_once():
    assert cells_of_rois(session_of(plane(activity_of(3), [0, 1, 2], 0.0))).tolist() == [0, 1, 2]
