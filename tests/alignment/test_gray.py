"""Gray screens, cut into stretches that can be reconstructed like trials."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from small import FRAME_RATE, FRAME_SIZE, make_mouse, smooth_noise

from nwbrecon.alignment import align, behavior_on_frames, gray_session, responses_on_frames
from nwbrecon.alignment.gray import gray_periods
from nwbrecon.session.model import BehaviorSeries


def session_with(spans, invalid=(), kind="gray"):
    rows = pd.DataFrame(spans, columns=["onset", "offset"]).assign(kind=kind)
    rows.loc[len(rows)] = (500.0, 510.0, "movie")
    invalid = np.array(invalid, dtype=float).reshape(-1, 2)
    return SimpleNamespace(stimulus=SimpleNamespace(presentations=rows), invalid_times=invalid)


class TestPeriods:
    def test_only_what_is_gray_counts_in_time_order(self):
        np.testing.assert_array_equal(gray_periods(session_with([(20, 30), (0, 10)])), [(0, 10), (20, 30)])
        assert gray_periods(session_with([(20, 30)], kind="grating")).shape == (0, 2)

    def test_the_screen_may_lag_the_clocks(self):
        np.testing.assert_allclose(gray_periods(session_with([(0, 10)]), 0.04), [(0.04, 10.04)])

    @pytest.mark.parametrize(
        ("invalid", "left"),
        [
            ([(3, 4)], [(0, 3), (4, 10), (20, 30)]),
            ([(-5, 2), (25, 40)], [(2, 10), (20, 25)]),
            ([(0, 10)], [(20, 30)]),
            ([(8, 22), (23, 24)], [(0, 8), (22, 23), (24, 30)]),
            ([(10, 20)], [(0, 10), (20, 30)]),
        ],
    )
    def test_invalid_times_are_cut_out(self, invalid, left):
        np.testing.assert_array_equal(gray_periods(session_with([(0, 10), (20, 30)], invalid)), left)


def test_align_knows_when_the_screen_was_gray(make_session, make_movie):
    clips = {f"clip {number}": make_movie(number, 4.0) for number in range(7)} | {"gray": make_movie(9, 3.0)}
    schedule = [(clip, 5.0 * number + 3.0) for number, clip in enumerate(clips)]
    session = make_session(clips, schedule, kinds={"gray": "gray"})
    aligned = align(session, frame_size=(9, 16), monitor_delay_seconds=0.02)
    np.testing.assert_allclose(aligned.gray, [(38.02, 41.02)])
    assert "gray" not in set(aligned.trials["clip"])
    assert align(replace(session, invalid_times=np.array([[39.0, 50.0]])), frame_size=(9, 16)).gray.tolist() == [
        [38.0, 39.0]
    ]


@pytest.fixture(scope="module")
def aligned():
    return make_mouse(n_rois=4, train=4, validation=1, test=1, repeats=1, make_movie=smooth_noise).aligned


class TestStretches:
    def test_ends_are_left_out(self, aligned):
        found = gray_session(replace(aligned, gray=np.array([(5.0, 8.6)])), stretches=3, seconds=10)
        assert found.trials["onset"].tolist() == [5.5]
        assert found.trials["n_frames"].tolist() == [75]
        assert gray_session(replace(aligned, gray=np.array([(5.0, 7.5)])), stretches=3, seconds=10) is None
        assert gray_session(replace(aligned, gray=np.empty((0, 2))), stretches=3, seconds=10) is None

    def test_long_periods_are_cut_and_stretches_are_spread(self, aligned):
        long = replace(aligned, gray=np.array([(1.0, 20.1)]))
        whole = gray_session(long, stretches=100, seconds=4)
        assert whole.trials["onset"].tolist() == pytest.approx([1.5, 5.5, 9.5, 13.5, 17.5])
        assert whole.trials["n_frames"].tolist() == [120, 120, 120, 120, 60]
        assert gray_session(long, stretches=3, seconds=4).trials["onset"].tolist() == pytest.approx([1.5, 9.5, 17.5])
        # what is left over is too short
        assert len(gray_session(replace(aligned, gray=np.array([(1.0, 11.1)])), stretches=100, seconds=4).trials) == 2

    def test_responses_must_have_been_recorded(self, aligned):
        groups = [replace(group, activity=group.activity.copy()) for group in aligned.groups]
        for group in groups:
            group.activity[(group.timestamps > 6) & (group.timestamps < 7)] = np.nan
        found = gray_session(replace(aligned, groups=groups, gray=np.array([(1.0, 20.1)])), stretches=9, seconds=4)
        assert found.trials["onset"].tolist() == pytest.approx([1.5, 9.5, 13.5, 17.5])

    def test_they_are_trials_of_no_split_with_responses_and_behavior(self, aligned):
        clock = np.arange(0, 60, 0.05)
        series = BehaviorSeries("running_speed", clock * 2, clock, "cm/s", "")
        found = gray_session(
            replace(aligned, gray=np.array([(5.0, 8.6)]), behavior_series={"running_speed": series}),
            stretches=1,
            seconds=10,
        )
        assert found.trials_in("") == [0]
        trial = found.trial(0)
        assert trial.video.shape == (75, *FRAME_SIZE)
        assert np.isnan(trial.video).all()
        assert trial.valid.all()
        np.testing.assert_allclose(trial.behavior[:, 0], 2 * (trial.times + 0.5 / FRAME_RATE), rtol=1e-4)
        assert np.isfinite(behavior_on_frames(found, 0, lead=15, tail=9)).all()
        # the same samples as in the trial that ran at that time
        (label,) = aligned.trials.index[np.isclose(aligned.trials["onset"], 5.5)]
        np.testing.assert_allclose(responses_on_frames(found, 0), responses_on_frames(aligned, label)[:75], rtol=1e-5)
