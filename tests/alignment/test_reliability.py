import numpy as np
import pandas as pd
import pytest

from nwbrecon.alignment import AlignedGroup, AlignedSession, reliability, responses_on_frames
from nwbrecon.session import SignalKind


def session(activity, clips):
    """Clips of 30 frames, one after another at 30 Hz; a sample every two frames."""
    times = np.arange(len(activity)) / 15
    rois = pd.DataFrame(index=range(activity.shape[1]))
    group = AlignedGroup("plane", SignalKind.EVENTS, times, activity, np.ones(activity.shape[1]), rois)
    return AlignedSession.from_arrays(
        [np.zeros((30, 4, 4))] * len(clips),
        [group],
        onsets=2.0 + np.arange(len(clips)),
        clips=list(clips),
        splits=["test"] * len(clips),
        frame_rate=30.0,
    )


def test_it_is_the_correlation_of_each_showing_with_the_mean_of_the_others():
    activity = np.random.default_rng(0).gamma(1, 1, (120, 3)).astype(np.float32)
    # the first ROI does the same in every showing of the clip; a sample counts what happened since the one before
    activity[31:46, 0] = activity[61:76, 0] = activity[76:91, 0]
    activity[:, 2] = 0
    aligned = session(activity, "abaac")
    found = reliability(aligned, range(5))
    showings = [responses_on_frames(aligned, trial) for trial in (0, 2, 3)]
    ones = np.concatenate(showings)[:, 1]
    others = np.concatenate([np.mean([b for b in showings if b is not a], axis=0) for a in showings])[:, 1]
    assert found[1] == pytest.approx(np.corrcoef(ones, others)[0, 1], abs=1e-6)
    assert found[1] < found[0]
    assert found[0] == pytest.approx(1, abs=1e-6)
    assert np.isnan(found[2])


def test_without_repeats_it_is_not_known():
    activity = np.random.default_rng(0).gamma(1, 1, (120, 2)).astype(np.float32)
    assert np.isnan(reliability(session(activity, "abcde"), range(5))).all()


def test_missing_samples_are_left_out():
    activity = np.tile(np.random.default_rng(0).gamma(1, 1, (15, 1)), (8, 2)).astype(np.float32)
    activity[63:66, 1] = np.nan
    np.testing.assert_allclose(reliability(session(activity, "aaa"), range(3)), 1, atol=1e-6)
