import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nwbrecon.alignment.splits import choose_split, guard, near_duplicates
from nwbrecon.config import AlignmentSettings
from nwbrecon.errors import AlignmentError

RATE = 30.0


def trials_of(showings, *, seconds=10.0, films=None, movies=None, splits=None):
    """One row a showing of each clip in ``showings``; ``movies`` gives movie and start of scenes."""
    rows = []
    for clip, times in showings.items():
        for repeat in range(times):
            movie, start = (movies or {}).get(clip, ("", np.nan))
            rows.append(
                {
                    "clip": clip,
                    "film": (films or {}).get(clip, ""),
                    "n_frames": round(seconds * RATE),
                    "split": (splits or {}).get((clip, repeat), (splits or {}).get(clip, "")),
                    "movie": movie,
                    "movie_start": start,
                    "movie_stop": start + seconds,
                }
            )
    trials = pd.DataFrame(rows)
    trials["onset"] = seconds * np.random.default_rng(0).permutation(len(rows))
    return trials.sort_values("onset", ignore_index=True)


def split_of(trials, duplicates=(), **overrides):
    return choose_split(trials, RATE, list(duplicates), AlignmentSettings(**overrides))


def clips_in(split, name):
    return {clip for clip, role in split.of_clip.items() if role == name}


MICRONS = {
    **{f"once {n}": 1 for n in range(40)},
    **{f"twice {n}": 2 for n in range(8)},
    **{f"oracle {n}": 10 for n in range(6)},
}
SCENES = {
    **{f"one[{n}]": ("one", 10.0 * n) for n in range(3)},
    **{f"three[{n}]": ("three", 10.0 * n) for n in range(12)},
}


def test_the_clips_shown_most_often_are_test():
    split = split_of(trials_of(MICRONS))
    assert clips_in(split, "test") == {f"oracle {n}" for n in range(6)}
    assert len(clips_in(split, "validation")) == 5  # 12 % of 48 clips of one length
    assert split.warnings == []


def test_the_share_bounds_the_test_clips():
    split = split_of(trials_of(MICRONS), test_share=0.08)  # 4.3 of 54 clips
    assert len(clips_in(split, "test")) == 4
    assert clips_in(split, "test") < {f"oracle {n}" for n in range(6)}


def test_nothing_is_held_out_where_the_shares_are_zero():
    split = split_of(trials_of(MICRONS), test_share=0, validation_share=0)
    assert set(split.of_clip.values()) == {"train"}


def test_where_all_repeats_whole_contiguous_scenes_are_held_out():
    split = split_of(trials_of(dict.fromkeys(SCENES, 10), movies=SCENES))
    assert clips_in(split, "test") == {"one[2]", "three[11]", "three[10]"}
    assert clips_in(split, "validation") == {"three[9]", "three[8]"}
    assert "contiguous scenes" in split.reason


def test_the_seed_decides_which_clips_validate():
    trials = trials_of(MICRONS)
    drawn = [frozenset(clips_in(split_of(trials, seed=seed), "validation")) for seed in range(5)]
    assert len(set(drawn)) > 1
    assert drawn[0] == clips_in(split_of(trials, seed=0), "validation")


def test_clips_of_one_film_stay_together():
    films = {f"once {n}": f"film {n // 4}" for n in range(40)} | {"oracle 0": "film 0", "oracle 1": "film 0"}
    split = split_of(trials_of(MICRONS, films=films))
    for film in range(10):
        assert len({split.of_clip[f"once {n}"] for n in range(4 * film, 4 * film + 4)}) == 1
    assert split.of_clip["oracle 0"] == split.of_clip["once 0"]
    assert split.warnings == []


def test_films_give_way_where_they_would_leave_nothing_to_train_on():
    films = dict.fromkeys(MICRONS, "the one film")
    split = split_of(trials_of(MICRONS, films=films))
    assert clips_in(split, "test") == {f"oracle {n}" for n in range(6)}
    assert len(split.warnings) == 1
    assert "from so few films" in split.warnings[0]


def test_near_duplicates_stay_together_through_others():
    duplicates = [("oracle 0", "once 3"), ("once 3", "once 5"), ("twice 1", "once 9")]
    split = split_of(trials_of(MICRONS), duplicates)
    assert {split.of_clip[clip] for clip in ("oracle 0", "once 3", "once 5")} == {"test"}
    assert split.of_clip["twice 1"] == split.of_clip["once 9"]


def test_few_or_no_repeats_are_said():
    assert "shown 2 times" in split_of(trials_of({f"{n}": 2 for n in range(10)})).warnings[0]
    split = split_of(trials_of({f"{n}": 1 for n in range(10)}))
    assert "shown once" in split.warnings[0]
    assert clips_in(split, "test")
    assert len(clips_in(split, "train")) >= 5


def test_one_content_only_is_refused():
    with pytest.raises(AlignmentError, match=r"3 clips \(30 s .*nearly the same content.*duplicate_correlation"):
        split_of(trials_of({"a": 5, "b": 5, "c": 5}), [("a", "b"), ("b", "c")])


def test_a_single_clip_is_refused():
    with pytest.raises(AlignmentError, match=r"only one clip, a, of 10 s.*scene_seconds"):
        split_of(trials_of({"a": 10}))


def test_what_the_file_states_wins():
    states = {clip: "test" if clip.startswith("twice") else "train" for clip in MICRONS}
    split = split_of(trials_of(MICRONS, splits=states))
    assert clips_in(split, "test") == {f"twice {n}" for n in range(8)}
    assert clips_in(split, "validation") < {clip for clip in MICRONS if not clip.startswith("twice")}
    assert split.reason.startswith("As the file states it. Validation: drawn")
    states["once 0"] = "validation"
    assert clips_in(split_of(trials_of(MICRONS, splits=states)), "validation") == {"once 0"}


def test_a_clip_that_is_test_once_is_test_always():
    states = {**dict.fromkeys(MICRONS, "train"), ("oracle 0", 3): "test", ("twice 0", 0): "validation"}
    split = split_of(trials_of(MICRONS, splits=states))
    assert clips_in(split, "test") == {"oracle 0"}
    assert clips_in(split, "validation") == {"twice 0"}
    assert "showings of the same clip in different splits (" in split.warnings[0]


def test_a_stated_split_that_leaks_or_lacks_is_said():
    states = {clip: "test" if clip == "once 0" else "train" for clip in MICRONS}
    split = split_of(trials_of(MICRONS, splits=states), [("once 0", "twice 0")])
    assert "once 0 (test) and twice 0 (train)" in split.warnings[0]
    assert split.of_clip["once 0"] == "test"
    with pytest.raises(AlignmentError, match="leaves none for training"):
        split_of(trials_of({"a": 1, "b": 2}, splits={"a": "test", "b": "validation"}))
    assert "without test clips" in split_of(trials_of(MICRONS, splits=dict.fromkeys(MICRONS, "train"))).warnings[0]


@st.composite
def recordings(draw):
    n = draw(st.integers(2, 25))
    names = [f"{k}" for k in range(n)]
    showings = {name: draw(st.sampled_from([1, 1, 2, 5, 10])) for name in names}
    films = {name: draw(st.sampled_from(["", "", "x", "y", "z"])) for name in names}
    pairs = draw(st.lists(st.tuples(st.sampled_from(names), st.sampled_from(names)), max_size=6))
    return showings, films, [(a, b) for a, b in pairs if a != b]


@given(recordings(), st.floats(0.05, 0.4), st.floats(0.05, 0.4), st.integers(0, 5))
@settings(max_examples=80, deadline=None)
def test_whatever_the_recording_the_rule_holds(recording, test_share, validation_share, seed):
    showings, films, duplicates = recording
    trials = trials_of(showings, films=films)
    try:
        split = split_of(trials, duplicates, test_share=test_share, validation_share=validation_share, seed=seed)
    except AlignmentError:
        # only where everything hangs together
        assert len(duplicates) >= len(showings) - 1
        return
    assert set(split.of_clip) == set(showings)
    assert clips_in(split, "train")
    assert clips_in(split, "test")
    assert all(split.of_clip[a] == split.of_clip[b] for a, b in duplicates)
    if not any("few films" in warning for warning in split.warnings):
        by_film = {}
        for clip, film in films.items():
            by_film.setdefault(film or clip, set()).add(split.of_clip[clip])
        assert all(len(roles) == 1 for roles in by_film.values())
    if max(showings.values()) >= 5:
        assert max(showings[clip] for clip in clips_in(split, "test")) >= 5


def test_copies_and_overlapping_clips_are_found_and_others_are_not():
    rng = np.random.default_rng(0)
    film = rng.normal(size=(30, 12, 20)).astype(np.float32) * 30 + 128
    thumbnails = {
        "first": film[:10],
        "overlap": film[5:15],
        "other": film[15:25],
        "darker, with a few pixels changed": film[:10] * 0.5 + rng.normal(size=(10, 12, 20)),
        "part": film[16:20],
        "blank": np.full((10, 12, 20), 128.0),
        "also blank": np.full((10, 12, 20), 128.0),
    }
    assert near_duplicates(thumbnails, 0.95) == [
        ("first", "overlap"),
        ("first", "darker, with a few pixels changed"),
        ("overlap", "darker, with a few pixels changed"),
        ("other", "part"),
    ]
    assert near_duplicates({}, 0.95) == []
    assert near_duplicates({"blank": thumbnails["blank"]}, 0.95) == []


@st.composite
def schedules(draw):
    n = draw(st.integers(1, 8))
    gaps = draw(st.lists(st.integers(0, 120), min_size=n, max_size=n))
    lengths = draw(st.lists(st.integers(1, 120), min_size=n, max_size=n))
    roles = draw(st.lists(st.sampled_from(["train", "validation", "test", ""]), min_size=n, max_size=n))
    movies = draw(st.lists(st.sampled_from(["", "m"]), min_size=n, max_size=n))
    places = draw(st.lists(st.integers(0, 300), min_size=n, max_size=n))
    first = np.cumsum(np.add(gaps, [0, *lengths[:-1]]))
    return first, np.array(lengths), roles, movies, np.array(places)


@given(schedules(), st.sampled_from([0, 15, 60]))
@settings(max_examples=100, deadline=None)
def test_the_guard_takes_what_is_near_another_split_and_nothing_else(schedule, ticks):
    first, lengths, roles, movies, places = schedule
    trials = pd.DataFrame(
        {
            "onset": first / RATE,
            "n_frames": lengths,
            "split": roles,
            "movie": movies,
            "movie_start": np.where(np.array(movies) == "m", places / RATE, np.nan),
        }
    )
    rank = {"": -1, "train": 0, "validation": 1, "test": 2}
    expected = []
    for mine in range(len(first)):
        for frame in range(lengths[mine]):
            near = False
            for other in range(len(first)):
                if not 0 <= rank[roles[mine]] < rank[roles[other]]:
                    continue
                clocks = [first]
                if movies[mine] == movies[other] == "m":
                    clocks.append(places)
                for clock in clocks:
                    at, start = clock[mine] + frame, clock[other]
                    # frames between this one and the other trial
                    between = max(start - (at + 1), at - (start + lengths[other]))
                    near |= between < ticks
            expected.append(near)
    np.testing.assert_array_equal(guard(trials, RATE, ticks / RATE), expected)
