import numpy as np
import pandas as pd
import pytest
import torch

from nwbrecon.alignment import AlignedGroup, AlignedSession
from nwbrecon.encoding.observation import Window, observe, window_video
from nwbrecon.session import SignalKind

RATE = 30.0


def group_at(times, kind=SignalKind.EVENTS, n_rois=2, seed=0, name="plane"):
    activity = np.random.default_rng(seed).gamma(2, 1, (len(times), n_rois)).astype(np.float32)
    return AlignedGroup(name, kind, np.asarray(times), activity, np.ones(n_rois), pd.DataFrame(index=range(n_rois)))


def session_of(*groups, onsets=(2.0, 5.0, 8.013), n_frames=60):
    rng = np.random.default_rng(0)
    return AlignedSession.from_arrays(
        [rng.uniform(0, 255, (n_frames, 4, 5)) for _ in onsets],
        groups,
        onsets=onsets,
        clips=[f"clip {n}" for n in range(len(onsets))],
        splits=["train"] * len(onsets),
        frame_rate=RATE,
        behaviors=[rng.normal(size=(n_frames, 2)) for _ in onsets],
        behavior_names=("running_speed", "pupil_size"),
    )


def staggered(n_planes=3, rate=7.3, last=12.0):
    return [
        group_at(np.arange(0.1 + plane / n_planes / rate, last, 1 / rate), n_rois=plane + 1, seed=plane)
        for plane in range(n_planes)
    ]


def integral(rates, onset, start, stop, steps=20_001):
    """Sum of the rates (per frame, constant within frames) between two times, by brute force."""
    middle = start + (np.arange(steps) + 0.5) / steps * (stop - start)
    frame = np.floor((middle - onset) * RATE).astype(int)
    return rates[frame].sum() / steps * (stop - start) * RATE


def known_times(group, seen, onset, n_frames):
    """Sample times of the rows of an observation of a window: those that reach into it, and the one before."""
    inside = (group.timestamps > onset) & (group.timestamps <= onset + n_frames / RATE)
    first = np.flatnonzero(inside)[0] - 1
    return group.timestamps[first : first + seen.weights.shape[1]]


def test_expected_counts_are_the_rate_summed_since_the_sample_before():
    groups = staggered()
    aligned = session_of(*groups)
    onset = 8.013 + 5 / RATE
    rates = np.random.default_rng(1).uniform(0, 3, (1, 6, 40))
    for group, seen in zip(groups, observe(aligned, [Window(2, 5, 40)]), strict=True):
        expected = seen.expected(torch.from_numpy(rates).float())[0].numpy()
        times = known_times(group, seen, onset, 40)
        known = seen.known[0].numpy() == 1
        assert known.any(axis=1).sum() >= 8
        for row, time in enumerate(times):
            covered = row > 0 and times[row - 1] >= onset - 1e-9 and time <= onset + 40 / RATE + 1e-9
            assert (known[row] == covered).all()
            if covered:
                truth = [integral(rates[0, roi], onset, times[row - 1], time) for roi in range(6)[seen.rois]]
                np.testing.assert_allclose(expected[row], truth, rtol=2e-3)


def test_what_was_measured_stands_beside_its_expectation():
    groups = staggered()
    aligned = session_of(*groups)
    first_roi = 0
    for group, seen in zip(groups, observe(aligned, [Window(0, 0, 60)]), strict=True):
        times = known_times(group, seen, 2.0, 60)
        rows = np.searchsorted(group.timestamps, times)
        known = seen.known[0].numpy().astype(bool)
        np.testing.assert_array_equal(seen.measured[0].numpy()[known], group.activity[rows][known])
        assert not seen.measured[0].numpy()[~known].any()
        assert seen.rois == slice(first_roi, first_roi + group.n_rois)
        first_roi += group.n_rois
        assert seen.kind is SignalKind.EVENTS


def test_a_plane_faster_than_the_frames_is_summed_too():
    group = group_at(np.arange(0.003, 12, 1 / 47.0))
    (seen,) = observe(session_of(group), [Window(0, 0, 60)])
    rates = np.random.default_rng(1).uniform(0, 3, (1, 2, 60))
    expected = seen.expected(torch.from_numpy(rates).float())[0].numpy()
    times = known_times(group, seen, 2.0, 60)
    known = seen.known[0, :, 0].numpy() == 1
    assert known.sum() > 85
    for row in np.flatnonzero(known):
        truth = [integral(rates[0, roi], 2.0, times[row - 1], times[row]) for roi in range(2)]
        np.testing.assert_allclose(expected[row], truth, rtol=2e-3)
    # all of the clip is counted once
    counted = seen.weights[0, known].sum(dim=0)
    torch.testing.assert_close(counted[2:-2], torch.ones(56), atol=1e-5, rtol=0)


def test_fluorescence_is_the_rate_at_the_time_of_the_sample():
    group = group_at(np.arange(0.05, 12, 1 / 9.1), SignalKind.DFF)
    (seen,) = observe(session_of(group), [Window(1, 10, 45)])
    onset = 5.0 + 10 / RATE
    rates = np.random.default_rng(2).uniform(-1, 3, (1, 2, 45))
    expected = seen.expected(torch.from_numpy(rates).float())[0].numpy()
    middles = onset + (np.arange(45) + 0.5) / RATE
    known = seen.known[0, :, 0].numpy() == 1
    times = group.timestamps[np.searchsorted(group.timestamps, onset) - 1 :][: len(known)]
    np.testing.assert_array_equal(known, (times >= middles[0]) & (times <= middles[-1]))
    for roi in range(2):
        np.testing.assert_allclose(expected[known, roi], np.interp(times[known], middles, rates[0, roi]), atol=1e-4)


def test_samples_that_reach_into_the_warm_up_are_not_known():
    group = group_at(np.arange(0, 12, 0.2))
    (seen,) = observe(session_of(group), [Window(0, 0, 60)], warm_up=15)
    times = known_times(group, seen, 2.0, 60)
    known = seen.known[0, :, 0].numpy() == 1
    starts = np.append(-np.inf, times[:-1])
    np.testing.assert_array_equal(known, (starts >= 2.5 - 1e-9) & (times <= 4.0 + 1e-9))


def test_samples_that_reach_into_what_lacks_its_future_are_not_known():
    group = group_at(np.arange(0, 12, 0.2))
    (seen,) = observe(session_of(group), [Window(0, 0, 60)], look_ahead=15)
    times = known_times(group, seen, 2.0, 60)
    known = seen.known[0, :, 0].numpy() == 1
    starts = np.append(-np.inf, times[:-1])
    np.testing.assert_array_equal(known, (starts >= 2.0 - 1e-9) & (times <= 3.5 + 1e-9))
    (none,) = observe(session_of(group), [Window(0, 0, 60)], look_ahead=99)
    assert not none.known.any()


def test_samples_that_reach_into_invalid_frames_are_not_known():
    group = group_at(np.arange(0, 12, 0.2))
    aligned = session_of(group)
    aligned.valid[30:33] = False
    (seen,) = observe(aligned, [Window(0, 0, 60)])
    times = known_times(group, seen, 2.0, 60)
    known = seen.known[0, :, 0].numpy() == 1
    starts = np.append(-np.inf, times[:-1])
    touches = (starts < 3.1 - 1e-9) & (times > 3.0 + 1e-9)
    np.testing.assert_array_equal(known, (starts >= 2.0 - 1e-9) & ~touches & (times <= 4.0 + 1e-9))
    assert touches.sum() == 1
    # another trial is not touched
    (other,) = observe(aligned, [Window(1, 0, 60)])
    assert other.known[0, :, 0].sum() == 10


def test_frames_before_and_after_the_trial_take_part():
    group = group_at(np.arange(0.05, 12, 0.2))
    (seen,) = observe(session_of(group), [Window(0, -15, 60 + 15 + 9)])
    times = known_times(group, seen, 1.5, 84)
    known = seen.known[0, :, 0].numpy() == 1
    starts = np.append(-np.inf, times[:-1])
    np.testing.assert_array_equal(known, (starts >= 1.5) & (times <= 4.3 + 1e-9))


def test_missing_values_and_gaps_are_not_known():
    times = np.delete(np.arange(0, 12, 0.1), [25, 26, 27, 33])
    group = group_at(times)
    group.activity[np.searchsorted(times, 3.0 - 1e-9), 1] = np.nan
    (seen,) = observe(session_of(group), [Window(0, 0, 60)])
    found = known_times(group, seen, 2.0, 60)
    known = seen.known[0].numpy() == 1
    intervals = np.diff(found, prepend=np.nan)
    missing = np.isclose(found, 3.0)
    # one lost sample is bridged, three are not
    assert not known[np.isclose(intervals, 0.4)].any()
    assert known[np.isclose(intervals, 0.2)].all()
    np.testing.assert_array_equal(known[missing], [[True, False]])
    assert known[np.isclose(intervals, 0.1) & ~missing & (found <= 4.0)].all()
    assert np.isfinite(seen.measured.numpy()).all()


def test_windows_of_a_batch_are_those_of_each_alone():
    aligned = session_of(*staggered())
    windows = [Window(0, 3, 40), Window(2, 11, 40), Window(1, 0, 40)]
    together = observe(aligned, windows)
    for index, window in enumerate(windows):
        for batch, alone in zip(together, observe(aligned, [window]), strict=True):
            n_samples = alone.weights.shape[1]
            for name in ("weights", "measured", "known"):
                stacked, single = getattr(batch, name)[index], getattr(alone, name)[0]
                torch.testing.assert_close(stacked[:n_samples], single, rtol=0, atol=0)
                assert not stacked[n_samples:].any()


@pytest.mark.parametrize("times", [np.arange(0.0, 1.0, 0.1), np.arange(20.0, 21.0, 0.1)])
def test_a_plane_that_was_not_recorded_then_knows_nothing(times):
    for seen in observe(session_of(group_at(times), *staggered()), [Window(0, 0, 60)])[:1]:
        assert not seen.known.any()
        assert seen.expected(torch.ones(1, 8, 60)).shape == seen.measured.shape


def test_windows_show_what_was_shown_and_done():
    aligned = session_of(*staggered())
    video, behavior = window_video(aligned, [Window(1, 7, 20), Window(2, 0, 20)])
    assert video.shape == (2, 1, 20, 4, 5)
    np.testing.assert_array_equal(video[0, 0].numpy(), aligned.trial(1).video[7:27])
    np.testing.assert_array_equal(behavior[1].numpy(), aligned.trial(2).behavior[:20])
