import numpy as np
import pytest
from pynwb.base import Images
from pynwb.image import GrayscaleImage, ImageSeries, IndexSeries

import nwbrecon as nr

from .conftest import clip_frames, new_file, with_responses

FPS = 30


def movie_of(nwb, clips, n_frames=60, pause=0.0, blank=0, name="movie"):
    """One movie of all clips, a blank of frames before each and a pause of the clock after each; gives the onsets."""
    frames, times, onsets, now = [], [], [], 2.0
    for clip in clips:
        content = clip_frames(clip, n_frames)
        frames += [np.full((blank, *content.shape[1:]), 127, np.uint8), content]
        times.append(now + np.arange(blank + n_frames) / FPS)
        onsets.append(now + blank / FPS)
        now += (blank + n_frames) / FPS + pause
    nwb.add_stimulus(ImageSeries(name=name, data=np.concatenate(frames), unit="n.a.", timestamps=np.concatenate(times)))
    return np.array(onsets)


def trials(nwb, onsets, seconds=2.0, **columns):
    for name in columns:
        nwb.add_trial_column(name=name, description=name)
    for row, onset in enumerate(onsets):
        values = {name: column[row] for name, column in columns.items()}
        nwb.add_trial(start_time=float(onset), stop_time=float(onset + seconds), **values)


def presentations(nwb):
    session = nr.open_session(nwb)
    return session, session.stimulus.shown, " ".join(session.warnings)


@pytest.fixture
def nwb():
    return with_responses(new_file())


def same(clips):
    """Which entries are equal, whatever they are called."""
    return [list(clips).index(clip) for clip in clips]


def test_without_a_table_a_pause_of_the_clock_divides(nwb):
    onsets = movie_of(nwb, [1, 2, 1, 3], pause=1.0)
    session, shown, _ = presentations(nwb)
    np.testing.assert_allclose(shown["onset"], onsets)
    np.testing.assert_allclose(shown["offset"], onsets + 2)
    # no name, no index: what looks alike is a repeat
    assert same(shown["clip"]) == same([1, 2, 1, 3])
    np.testing.assert_allclose(session.stimulus.read(shown.index[3]), clip_frames(3, 60))


def test_without_table_or_pause_there_is_one_presentation(nwb):
    movie_of(nwb, [1, 2, 3])
    _, shown, _ = presentations(nwb)
    assert list(shown["n_frames"]) == [180]
    assert list(shown["clip"]) == ["movie 1"]


def test_trials_without_names_are_told_apart_by_their_looks(nwb):
    onsets = movie_of(nwb, [1, 2, 1, 3, 2], blank=15)
    trials(nwb, onsets)
    _, shown, _ = presentations(nwb)
    np.testing.assert_allclose(shown["onset"], onsets)
    assert same(shown["clip"]) == same([1, 2, 1, 3, 2])


def test_a_name_that_covers_several_clips_is_no_identity(nwb):
    onsets = movie_of(nwb, [1, 2, 1, 3])
    trials(nwb, onsets, movie_name=["alpha", "alpha", "alpha", "beta"])
    _, shown, _ = presentations(nwb)
    assert same(shown["clip"]) == same([1, 2, 1, 3])
    assert list(shown["film"]) == ["alpha", "alpha", "alpha", "beta"]
    # a name that is one clip's alone is its name
    assert list(shown["clip"]) == ["alpha 1", "alpha 2", "alpha 1", "beta"]


def test_equal_names_of_unequal_lengths_are_no_identity(nwb):
    onsets = movie_of(nwb, [1, 2, 3])
    nwb.add_trial_column(name="clip", description="what kind of clip")
    for onset, seconds in zip(onsets, (2.0, 2.0, 1.7), strict=True):
        nwb.add_trial(start_time=float(onset), stop_time=float(onset + seconds), clip="natural")
    _, shown, _ = presentations(nwb)
    assert shown["clip"].nunique() == 3


def test_a_film_that_all_come_from_keeps_nothing_together(nwb):
    onsets = movie_of(nwb, [1, 2])
    trials(nwb, onsets, clip=["a", "b"], film=["the one", "the one"])
    _, shown, _ = presentations(nwb)
    assert list(shown["film"]) == ["", ""]


def test_a_number_within_a_film_is_an_identity(nwb):
    onsets = movie_of(nwb, [1, 2, 1, 3])
    trials(nwb, onsets, movie_name=["alpha", "alpha", "alpha", "beta"], clip_number=[1, 2, 1, 1])
    _, shown, _ = presentations(nwb)
    assert list(shown["clip"]) == ["alpha/1", "alpha/2", "alpha/1", "beta/1"]


@pytest.mark.parametrize(
    ("word", "split"),
    [("train", "train"), ("Val", "validation"), ("validation", "validation"), ("TEST", "test"), ("oracle", "test"),
     ("live_test_main", "test"), ("final_test_bonus", "test"), ("none", ""), ("", "")],
)  # fmt: skip
def test_the_split_of_the_file_is_kept(nwb, word, split):
    onsets = movie_of(nwb, [1, 2])
    trials(nwb, onsets, clip=["a", "b"], tier=[word, "train"])
    _, shown, _ = presentations(nwb)
    assert list(shown["split"]) == [split, "train"]


def test_trials_may_be_longer_than_their_movie(nwb):
    onsets = movie_of(nwb, [1, 2, 1], pause=3.0)
    trials(nwb, onsets - 1, seconds=5.0, clip=["a", "b", "a"])
    _, shown, _ = presentations(nwb)
    np.testing.assert_allclose(shown["onset"], onsets)
    np.testing.assert_allclose(shown["offset"], onsets + 2)
    assert list(shown["clip"]) == ["a", "b", "a"]


def test_a_trial_of_two_movies_is_two_presentations(nwb):
    onsets = movie_of(nwb, [1, 2, 3, 4], pause=3.0)
    trials(nwb, onsets[::2], seconds=7.0, clip=["a", "b"], split=["train", "test"])
    _, shown, _ = presentations(nwb)
    np.testing.assert_allclose(shown["onset"], onsets)
    assert shown["clip"].nunique() == 4
    assert list(shown["split"]) == ["train", "train", "test", "test"]


def test_intervals_of_something_else_do_not_divide(nwb):
    movie_of(nwb, [1, 2, 3])
    licks = nwb.create_time_intervals(name="licks", description="licks")
    bouts = nwb.create_time_intervals(name="running_bouts", description="running")
    for table in (licks, bouts):
        for start in (2.5, 4.1, 6.2):
            table.add_row(start_time=start, stop_time=start + 0.7)
    _, shown, _ = presentations(nwb)
    assert list(shown["n_frames"]) == [180]


def test_trials_count_more_than_epochs(nwb):
    onsets = movie_of(nwb, [1, 2, 3])
    nwb.add_epoch(start_time=2.0, stop_time=8.0, tags=["movies"])
    trials(nwb, onsets, clip=["a", "b", "c"])
    _, shown, _ = presentations(nwb)
    assert list(shown["clip"]) == ["a", "b", "c"]


def test_trials_outside_the_movie_do_not_matter(nwb):
    onsets = movie_of(nwb, [1, 2])
    trials(nwb, [0.0, *onsets, 30.0], clip=["x", "a", "b", "y"])
    _, shown, _ = presentations(nwb)
    assert list(shown["clip"]) == ["a", "b"]


def test_a_clock_that_starts_within_a_flip_of_the_trial_loses_no_frame(nwb):
    onsets = movie_of(nwb, [1, 2, 3])
    trials(nwb, onsets + np.array([0.3, -0.3, 0.2]) / FPS, clip=["a", "b", "c"])
    _, shown, _ = presentations(nwb)
    assert list(shown["n_frames"]) == [60, 60, 60]


def with_index(nwb, frames, onsets):
    template = Images(name="clips", images=[GrayscaleImage(name=f"f{k}", data=np.zeros((4, 6))) for k in range(90)])
    nwb.add_stimulus_template(template)
    nwb.add_stimulus(
        IndexSeries(name="shown", data=np.asarray(frames), unit="N/A", indexed_images=template, timestamps=onsets)
    )


def test_an_interval_over_many_showings_gives_them_its_split_only(nwb):
    with_index(nwb, np.tile(np.arange(30), 6), 2 + np.arange(180) / FPS)
    trials(nwb, [2.0, 5.0], seconds=3.0, clip=["first block", "second block"], split=["train", "test"])
    _, shown, _ = presentations(nwb)
    assert list(shown["split"]) == ["train"] * 3 + ["test"] * 3
    assert set(shown["clip"]) == {"clips[0:30]"}


def test_an_interval_within_a_run_cuts_it_and_names_the_part(nwb):
    with_index(nwb, np.arange(90), 2 + np.arange(90) / FPS)
    trials(nwb, [2.0, 3.0, 4.0], seconds=1.0, clip=["a", "b", "c"])
    _, shown, _ = presentations(nwb)
    assert list(shown["clip"]) == ["a", "b", "c"]
    assert list(shown["n_frames"]) == [30, 30, 30]


def test_the_index_counts_more_than_a_name(nwb):
    frames = np.concatenate([np.arange(0, 30), np.arange(30, 60), np.arange(0, 30)])
    with_index(nwb, frames, 2 + np.arange(90) / FPS)
    trials(nwb, [2.0, 3.0, 4.0], seconds=1.0, clip=["same", "same", "same"])
    _, shown, _ = presentations(nwb)
    assert list(shown["clip"]) == ["clips[0:30]", "clips[30:60]", "clips[0:30]"]


def test_what_no_interval_covers_of_an_index_is_kept(nwb):
    with_index(nwb, np.tile(np.arange(30), 3), 2 + np.arange(90) / FPS)
    trials(nwb, [3.0], seconds=1.0, split=["test"])
    _, shown, _ = presentations(nwb)
    np.testing.assert_allclose(shown["onset"], [2, 3, 4])
    assert list(shown["split"]) == ["", "test", ""]
