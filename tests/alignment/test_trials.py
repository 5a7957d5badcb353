from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from nwbrecon.alignment.trials import make_trials, presentation_clocks
from nwbrecon.config import AlignmentSettings
from nwbrecon.errors import AlignmentError
from nwbrecon.session.model import FrameClock, Stimulus


def stimulus(rows):
    """``rows``: clip, onset, number of frames; optionally kind, stated split, and frame onsets of its own."""
    clocks, table = {}, []
    for label, (clip, onset, n, *more) in enumerate(rows):
        kind, split, onsets = [*more, *["movie", "", None][len(more) :]]
        onsets = onset + np.arange(n) / 30 if onsets is None else np.asarray(onsets, dtype=float)
        clocks[label] = FrameClock(np.arange(n), onsets, float(onsets[-1] + 1 / 30))
        table.append({"onset": onset, "clip": clip, "film": "", "store": "s", "kind": kind, "split": split})
    return Stimulus(pd.DataFrame(table), {"s": SimpleNamespace(name="natural_movie_one")}, clocks.__getitem__)


def trials_of(rows, **overrides):
    settings = AlignmentSettings(**overrides)
    shown = stimulus(rows)
    clocks, warnings = presentation_clocks(shown, settings)
    return make_trials(shown.presentations, clocks, settings), warnings


def test_a_presentation_is_a_trial():
    rows = [(clip, 10.0 * n, 150) for n, clip in enumerate(["a", "b", "a", "c", "d", "e", "f", "a"])]
    trials, warnings = trials_of(rows)
    assert warnings == []
    assert list(trials["clip"]) == ["a", "b", "a", "c", "d", "e", "f", "a"]
    assert list(trials["repeat"]) == [0, 0, 1, 0, 0, 0, 0, 2]
    np.testing.assert_allclose(trials["onset"], 10.0 * np.arange(8))
    assert (trials["n_frames"] == 150).all()
    assert (trials["movie"] == "").all()


def test_presentations_out_of_order_come_in_time_order():
    rows = [(clip, onset, 90) for clip, onset in zip("abcdef", [50, 10, 30, 0, 20, 40], strict=True)]
    trials, _ = trials_of(rows)
    assert list(trials["clip"]) == ["d", "b", "e", "c", "f", "a"]


def test_what_cannot_be_used_is_left_out_and_said():
    rows = [
        *((clip, 10.0 * n, 90) for n, clip in enumerate("abcdef")),
        ("flash", 100.0, 8),
        ("still", 110.0, 1),
        ("stripes", 120.0, 90, "grating"),
        ("damaged", 130.0, 90, "movie", "", [130.0, *np.linspace(131, 130, 88), 134.0]),
        ("on top", 51.0, 90),
    ]
    trials, warnings = trials_of(rows)
    assert sorted(trials["clip"]) == list("abcdef")
    assert warnings == [
        "2 presentations shorter than 2 s were left out.",
        "1 presentations whose frame times do not increase, or lack, were left out.",
        "1 presentations that begin before the one before has ended were left out.",
        "Presentations other than movie were left out: 1 of kind grating.",
    ]


def test_nothing_of_use_is_an_error_that_says_what_there_was():
    with pytest.raises(AlignmentError, match=r"None of the 2 stimulus presentations .* 2 of kind grating.*setting"):
        trials_of([("a", 0.0, 90, "grating"), ("b", 5.0, 90, "grating")])


@pytest.mark.parametrize(("seconds", "n_scenes"), [(30, 6), (120, 12), (64, 6), (15, 6)])
def test_a_lone_movie_is_cut_into_scenes_without_rest(seconds, n_scenes):
    n = 30 * seconds
    trials, _ = trials_of([("movie", 5.0 + (seconds + 1) * showing, n) for showing in range(10)])
    first = trials[trials["repeat"] == 0]
    assert len(trials) == 10 * n_scenes
    assert first["clip"].nunique() == n_scenes
    assert list(first["source_start"]) == [0, *first["source_stop"].iloc[:-1]]
    assert first["source_stop"].iloc[-1] == n
    assert first["n_frames"].sum() == n
    assert (trials["movie"] == "movie").all()
    row = trials.iloc[n_scenes + 1]
    assert row["clip"] == f"movie[{row['source_start']}:{row['source_stop']}]"
    assert row["onset"] == pytest.approx(5.0 + seconds + 1 + row["source_start"] / 30)
    assert row["movie_start"] == pytest.approx(row["source_start"] / 30)


def test_a_showing_that_was_broken_off_keeps_the_scenes_it_has():
    trials, _ = trials_of([("movie", 0.0, 1800), ("movie", 100.0, 700), ("movie", 200.0, 1800)])
    broken = trials[trials["presentation"] == 1]
    assert list(broken["clip"]) == ["movie[0:300]", "movie[300:600]", "movie[600:900]"]
    assert list(broken["n_frames"]) == [300, 300, 100]


def test_enough_clips_or_a_stated_split_are_not_cut():
    many = [(f"clip {n}", 100.0 * n, 900) for n in range(6)]
    assert not trials_of(many)[0]["clip"].str.contains("[", regex=False).any()
    stated = [("a", 0.0, 900, "movie", "train"), ("b", 100.0, 900, "movie", "test")]
    trials, _ = trials_of(stated)
    assert list(trials["clip"]) == ["a", "b"]
    assert list(trials["split"]) == ["train", "test"]


def test_short_clips_stay_whole_beside_a_movie_that_is_cut():
    rows = [("movie", 0.0, 1800), *((clip, 100.0 + 20 * n, 360) for n, clip in enumerate("abab"))]
    trials, _ = trials_of(rows)
    assert trials["clip"].nunique() == 2 + 6
    assert trials["movie"].value_counts().to_dict() == {"movie": 6, "": 4}


def test_repeats_that_jitter_by_a_frame_get_one_length():
    rng = np.random.default_rng(0)
    rows = []
    for n, clip in enumerate(["a"] * 8 + list("bcdef")):
        length = 90 + int(rng.integers(-1, 2)) if n != 5 else 70
        rows.append((clip, 10.0 * n, length))
    trials, _ = trials_of(rows)
    repeats = trials[trials["clip"] == "a"].set_index("presentation")["n_frames"]
    assert repeats[5] == 70
    assert (repeats.drop(5) == min(rows[n][2] for n in range(8) if n != 5)).all()


def test_a_clock_that_runs_a_trifle_short_still_fills_its_last_frame():
    onsets = np.linspace(0, 3 - 1 / 30 - 0.002, 90)
    rows = [("a", 0.0, 90, "movie", "", onsets), *((clip, 10.0 + 10 * n, 90) for n, clip in enumerate("bcdef"))]
    trials, _ = trials_of(rows)
    assert trials.at[0, "n_frames"] == 90


@pytest.mark.parametrize(
    ("asked", "clips"),
    [
        ("movie", "abcdef"),
        (["noise"], "uvwxyz"),
        (["noise", "movie"], "abcdefuvwxyz"),
        ("natural_movie_one", "abcdefuvwxyz"),
        (["natural*"], "abcdefuvwxyz"),
        ("[a-c]", "abc"),
        (["film 2", "a"], "adef"),
    ],
)
def test_stimuli_are_chosen_by_kind_and_by_name(asked, clips):
    shown = stimulus(
        [
            *((clip, 10.0 * n, 90) for n, clip in enumerate("abcdef")),
            *((clip, 100 + 10.0 * n, 90, "noise") for n, clip in enumerate("uvwxyz")),
            ("gray", 300.0, 90, "gray"),
        ]
    )
    shown.presentations["film"] = ["film 1"] * 3 + ["film 2"] * 3 + [""] * 7
    clocks, _ = presentation_clocks(shown, AlignmentSettings(stimuli=asked))
    assert "".join(shown.presentations.loc[list(clocks), "clip"]) == clips


def test_a_stimulus_that_was_not_shown_is_answered_by_those_that_were():
    shown = stimulus([("a", 0.0, 90), ("b", 10.0, 90, "noise")])
    shown.presentations["film"] = ["film 1", ""]
    with pytest.raises(AlignmentError, match=r"called movies.*movie, noise: natural_movie_one; films film 1"):
        presentation_clocks(shown, AlignmentSettings(stimuli=["movie", "movies"]))
