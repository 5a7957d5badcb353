import numpy as np
import pandas as pd
import pytest

import nwbrecon as nr
from nwbrecon.alignment import AlignedGroup, AlignedSession
from nwbrecon.errors import AlignmentError
from nwbrecon.session.model import SignalKind


def from_arrays():
    group = AlignedGroup(
        "plane", SignalKind.EVENTS, np.arange(0, 30, 0.1), np.ones((300, 2)), np.ones(2), pd.DataFrame(index=[5, 9])
    )
    return AlignedSession.from_arrays(
        [np.full((n, 4, 6), level) for n, level in [(60, 1), (90, 2), (60, 1)]],
        [group],
        onsets=[0, 5, 10],
        clips=["a", "b", "a"],
        splits=["test", "train", "test"],
        frame_rate=30.0,
    )


def test_trials_are_views_into_the_arrays():
    aligned = from_arrays()
    assert list(aligned.trials["repeat"]) == [0, 0, 1]
    trial = aligned.trial(1)
    assert (trial.video == 2).all()
    assert trial.video.shape == (90, 4, 6)
    assert np.shares_memory(trial.video, aligned.video)
    np.testing.assert_allclose(trial.times, 5 + np.arange(90) / 30)
    assert aligned.trials_in("test", repeats=[1]) == [2]
    assert aligned.showings_like(2) == [0, 2]
    # another cut of the clip is another thing
    aligned.trials.loc[2, "n_frames"] = 50
    assert aligned.showings_like(2) == [2]


def test_other_dtypes_come_out_as_float32():
    aligned = from_arrays()
    aligned.video = aligned.video.astype(np.float16)
    assert aligned.trial(0).video.dtype == np.float32


def test_it_shows_what_it_holds():
    aligned = from_arrays()
    aligned.valid[:30] = False
    assert repr(aligned).splitlines() == [
        "AlignedSession: 4x6 pixels at 30 Hz",
        "  train         1 clips     1 trials    0.1 min, 0.1 min of it unique",
        "  test          1 clips     2 trials    0.1 min, 0.0 min of it unique",
        "  ROIs          2 in plane: 2 (events every 100 ms)",
        "  behavior   none",
    ]


def test_the_split_says_how_it_came_about(microns_like):
    lines = nr.align(microns_like, frame_size=(9, 16)).describe_split().splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["train", "validation", "test", "unused"]
    assert lines[2].split()[1:7] == ["2", "clips", "12", "trials", "0.8", "min,"]
    assert lines[4].startswith("Test: the clips shown most often, at most 25% of the unique movie.")
    assert "s within 2 s of another split were dropped" in lines[4]


def test_tables_that_do_not_fit_are_refused():
    aligned = from_arrays()
    with pytest.raises(AlignmentError, match="lacks film"):
        AlignedSession(
            30.0, aligned.trials.drop(columns="film"), aligned.video, aligned.behavior, (), aligned.valid, []
        )
    with pytest.raises(AlignmentError, match="They must agree"):
        AlignedSession(30.0, aligned.trials, aligned.video[:-1], aligned.behavior, (), aligned.valid, [])
