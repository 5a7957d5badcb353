import numpy as np
import pytest
from pynwb.epoch import TimeIntervals
from pynwb.image import ImageSeries

import nwbrecon as nr

from .conftest import clip_frames, new_file, with_responses
from .test_folder import flips


def gray_of(session):
    rows = session.stimulus.presentations
    rows = rows[rows["kind"] == "gray"]
    assert set(rows["clip"]) <= {"gray"}
    return rows, rows[["onset", "offset"]].to_numpy()


def movie_with(nwb, *parts, rate=30.0, start=2.0, name="movie"):
    frames = np.concatenate(parts)
    nwb.add_stimulus(ImageSeries(name=name, data=frames, unit="n.a.", timestamps=start + np.arange(len(frames)) / rate))


def blank(n, level=90):
    return np.full((n, 12, 20), level, np.uint8)


def test_blank_frames_between_trials_are_kept_as_they_are():
    nwb = with_responses(new_file())
    movie_with(nwb, blank(30), clip_frames(1, 60), blank(45), clip_frames(2, 60), blank(15))
    for start in (3.0, 6.5):
        nwb.add_trial(start_time=start, stop_time=start + 2)
    session = nr.open_session(nwb)
    rows, spans = gray_of(session)
    np.testing.assert_allclose(spans, [[2, 3], [5, 6.5], [8.5, 9]], atol=1e-6)
    assert list(rows["n_frames"]) == [30, 45, 15]
    np.testing.assert_array_equal(session.stimulus.read(rows.index[1]), blank(45))
    assert session.stimulus.presentations["onset"].is_monotonic_increasing


def test_frames_that_no_interval_covers_and_that_are_not_blank_are_said():
    nwb = with_responses(new_file())
    movie_with(nwb, clip_frames(3, 60), clip_frames(1, 60), clip_frames(2, 60))
    nwb.add_trial(start_time=4.0, stop_time=6.0)
    session = nr.open_session(nwb)
    assert len(gray_of(session)[0]) == 0
    assert "4 s of stimulus/presentation/movie lie in no interval and are not blank" in " ".join(session.warnings)


def test_blanks_of_an_index_and_pauses_between_blocks_are_gray():
    nwb = with_responses(new_file())
    nwb.add_stimulus_template(ImageSeries(name="a", data=clip_frames(0, 30), unit="n.a.", rate=30.0))
    flips(nwb, "a", [*range(30), *[-1] * 15, *range(30)], 3.0, rate=30.0)
    flips(nwb, "a", range(30), 9.0, rate=30.0, table="a_again")
    rows, spans = gray_of(nr.open_session(nwb))
    np.testing.assert_allclose(spans, [[4, 4.5], [5.5, 9]], atol=1e-6)
    assert set(rows["store"]) == {"gray"}


@pytest.fixture
def two_movies():
    """Two movies with 20 s between."""
    nwb = with_responses(new_file())
    movie_with(nwb, clip_frames(1, 60), start=2.0, name="first")
    movie_with(nwb, clip_frames(2, 60), start=24.0, name="second")
    return nwb


def interval(nwb, name, start, stop, **columns):
    table = TimeIntervals(name=name, description="what was shown")
    for column in columns:
        table.add_column(name=column, description=column)
    table.add_row(start_time=start, stop_time=stop, **columns)
    nwb.add_stimulus(table)


def test_something_without_pixels_is_not_gray(two_movies):
    interval(two_movies, "drifting_gratings", 6.0, 16.0)
    session = nr.open_session(two_movies)
    np.testing.assert_allclose(gray_of(session)[1], [[4, 6], [16, 24]], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "columns"),
    [("spontaneous_stimulus", {}), ("shown", {"stimulus_type": "spontaneous"}), ("shown", {"label": "gray screen"})],
)
def test_spontaneous_periods_are_gray_where_nothing_else_is_said_to_be_shown(two_movies, name, columns):
    # it begins before the first movie and goes on in the pause
    interval(two_movies, name, 0.5, 3.0, **columns)
    session = nr.open_session(two_movies)
    np.testing.assert_allclose(gray_of(session)[1], [[0.5, 2], [4, 24]], atol=1e-6)
    assert "the pixels of its" not in " ".join(session.warnings)
    rows, _ = gray_of(session)
    picture = session.stimulus.read(rows.index[0])
    assert picture.shape == (1, 12, 20)
    assert np.unique(picture).tolist() == [127.5]


def test_jitter_is_no_gray_screen():
    nwb = with_responses(new_file())
    movie_with(nwb, clip_frames(1, 60), start=2.0, name="first")
    movie_with(nwb, clip_frames(2, 60), start=4.05, name="second")
    assert len(gray_of(nr.open_session(nwb))[0]) == 0
