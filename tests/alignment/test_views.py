import numpy as np
import pandas as pd
import pytest

import nwbrecon as nr
from nwbrecon.alignment import AlignedGroup, AlignedSession, behavior_on_frames, responses_on_frames, samples_in
from nwbrecon.alignment.resample import interval_weights
from nwbrecon.alignment.views import covered_frames, sample_behavior
from nwbrecon.session.model import BehaviorSeries, SignalKind

SIZE = (9, 16)


def group_of(times, values, kind=SignalKind.EVENTS):
    values = np.asarray(values, dtype=np.float32).reshape(len(times), -1)
    n = values.shape[1]
    return AlignedGroup("plane", kind, np.asarray(times), values, np.ones(n), pd.DataFrame(index=range(n)))


def session_of(groups, onset=10.0, n_frames=60, **more):
    return AlignedSession.from_arrays(
        [np.zeros((n_frames, 4, 4))], groups, onsets=[onset], clips=["a"], splits=["train"], frame_rate=30.0, **more
    )


def test_counts_keep_their_area_and_return_through_the_weights():
    rng = np.random.default_rng(0)
    times = 9 + np.cumsum(rng.uniform(0.12, 0.16, 40))
    group = group_of(times, rng.poisson(2, (40, 3)))
    frames = responses_on_frames(session_of([group]), 0, lead=10, tail=10)
    assert frames.shape == (80, 3)
    assert frames.dtype == np.float32
    starts = 10 + np.arange(-10, 70) / 30
    for frame in (0, 25, 79):
        expected = 0
        for k in range(1, 40):
            common = max(min(starts[frame] + 1 / 30, times[k]) - max(starts[frame], times[k - 1]), 0)
            expected = expected + group.activity[k] * common / (times[k] - times[k - 1])
        np.testing.assert_allclose(frames[frame], expected, rtol=1e-4)
    inside = samples_in(group, starts[0], starts[-1] + 1 / 30)
    weights, covered = interval_weights(starts, 1 / 30, times[inside.start - 1 : inside.stop])
    assert covered[1:].all()
    # what frames hold was spread evenly within each sample; a sample gets back all but what it shares a frame with
    back = (weights @ frames)[1:]
    assert back.sum(axis=0) == pytest.approx(group.activity[inside].sum(axis=0), rel=0.05)


def test_dff_follows_straight_lines():
    times = np.arange(0, 20, 0.15)
    group = group_of(times, np.stack([3 * times, 5 - times], axis=1), SignalKind.DFF)
    aligned = session_of([group])
    middles = aligned.trial(0).times + 0.5 / 30
    np.testing.assert_allclose(responses_on_frames(aligned, 0), np.stack([3 * middles, 5 - middles], 1), atol=1e-4)


def test_what_samples_do_not_cover_is_missing():
    times = np.delete(np.arange(9, 11, 0.1), slice(14, 17))  # 10.4, 10.5 and 10.6 s were lost
    frames = responses_on_frames(session_of([group_of(times, np.ones(len(times)))]), 0)[:, 0]
    known = np.isfinite(frames)
    starts = 10 + np.arange(60) / 30
    expected = (starts + 1 / 30 <= 10.3 + 1e-4) | ((starts >= 10.7 - 1e-4) & (starts + 1 / 30 <= 10.9 + 1e-4))
    np.testing.assert_array_equal(known, expected)
    np.testing.assert_allclose(frames[known], 1 / 3, rtol=1e-4)


def test_one_lost_sample_is_bridged():
    times = np.delete(np.arange(9, 13, 0.1), 15)
    frames = responses_on_frames(session_of([group_of(times, np.ones(len(times)))]), 0)
    assert np.isfinite(frames).all()


def test_groups_stand_side_by_side_each_on_its_clock(microns_like):
    aligned = nr.align(microns_like, frame_size=SIZE)
    frames = responses_on_frames(aligned, 3)
    assert frames.shape == (120, 12)
    alone = responses_on_frames(session_of([aligned.groups[1]], aligned.trials.at[3, "onset"], 120), 0)
    np.testing.assert_array_equal(frames[:, 6:], alone)
    assert list(aligned.rois["group"]) == ["plane 1"] * 6 + ["plane 2"] * 6


def test_behavior_beyond_the_trial(microns_like):
    aligned = nr.align(microns_like, frame_size=SIZE)
    behavior = behavior_on_frames(aligned, 2, lead=30, tail=15)
    times = aligned.trials.at[2, "onset"] + (np.arange(-30, 135) + 0.5) / 30
    np.testing.assert_allclose(behavior[:, 0], 0.5 * times, atol=1e-3)
    np.testing.assert_array_equal(behavior[30:150], aligned.trial(2).behavior)


def test_behavior_beyond_the_trial_is_missing_where_no_series_was_kept():
    group = group_of(np.arange(0, 20, 0.1), np.ones(200))
    aligned = session_of([group], behaviors=[np.ones((60, 1))], behavior_names=["running_speed"])
    behavior = behavior_on_frames(aligned, 0, lead=2, tail=1)
    np.testing.assert_array_equal(np.isnan(behavior[:, 0]), [True] * 2 + [False] * 60 + [True])


@pytest.mark.parametrize(("gap", "bridged"), [(0.4, True), (0.6, False)])
def test_gaps_in_behavior_are_bridged_up_to_the_limit(gap, bridged):
    times = np.arange(0, 10, 0.05)
    values = 2 * times
    values[(times > 5) & (times < 5 + gap - 0.01)] = np.nan
    series = BehaviorSeries("pupil_size", values, times, "px", "made")
    starts = np.arange(4, 7, 1 / 30)
    found = sample_behavior(series, starts, starts + 1 / 30, 0.5)
    inside = (starts + 1 / 30 > 5.01) & (starts < 5 + gap - 0.01)
    assert np.isnan(found[inside]).all() != bridged
    np.testing.assert_allclose(found[~inside], 2 * (starts[~inside] + 0.5 / 30), atol=1e-9)


def test_a_slow_variable_is_not_all_gaps():
    series = BehaviorSeries("pupil_size", np.arange(10.0), np.arange(10.0), "px", "made")
    assert np.isfinite(sample_behavior(series, np.arange(3.0), np.arange(1, 4.0), 0.5)).all()


def test_held_behavior_on_the_frame_clock_is_unchanged():
    # late in a long session, where times are rounded most
    starts = 8892.7 + np.arange(60) / 30
    values = np.random.default_rng(0).normal(size=60)
    series = BehaviorSeries("pupil_size", values.copy(), starts, "px", "made", held=True)
    np.testing.assert_allclose(sample_behavior(series, starts, starts + 1 / 30, 0.5), values, rtol=1e-15)
    # at half the rate it is the mean of two, and a blink is bridged by what stood before it
    series.values[20:26] = np.nan
    found = sample_behavior(series, starts[::2], starts[::2] + 2 / 30, 0.5)
    values[20:26] = values[19]
    np.testing.assert_allclose(found, values.reshape(-1, 2).mean(axis=1), atol=1e-9)
    # one that is too long is not
    series.values[20:40] = np.nan
    found = sample_behavior(series, starts, starts + 1 / 30, 0.5)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(found)), np.arange(20, 40))


def test_samples_in_for_counts_and_for_points():
    times = np.arange(10.0)
    counts, points = group_of(times, np.ones(10)), group_of(times, np.ones(10), SignalKind.DFF)
    # the sample at 2 counts from 1 to 2, and so belongs to no stretch that begins later than 1
    assert samples_in(counts, 1.5, 4.5) == slice(3, 5)
    assert samples_in(points, 1.5, 4.0) == slice(2, 4)
    for group in (counts, points):
        assert not np.arange(10)[samples_in(group, 20, 30)].size
        assert not np.arange(10)[samples_in(group, 3.2, 3.4)].size


def test_a_missing_point_spoils_both_its_lines():
    times = np.arange(10.0)
    values = np.ones(10)
    values[5] = np.nan
    starts = np.arange(9.0)
    covered = covered_frames([group_of(times, values, SignalKind.DFF)], starts, starts + 1)
    np.testing.assert_array_equal(np.flatnonzero(~covered), [4, 5])
    covered = covered_frames([group_of(times, values)], starts, starts + 1)
    np.testing.assert_array_equal(np.flatnonzero(~covered), [4])
    assert covered_frames([group_of(times, values), group_of(times, np.ones(10))], starts, starts + 1).all()
