import numpy as np
import pandas as pd
import pytest
from pynwb.base import Images
from pynwb.image import GrayscaleImage, ImageSeries, IndexSeries

import nwbrecon as nr
from nwbrecon.errors import SessionError
from nwbrecon.session.showings import stimulus_kind

from .conftest import clip_frames, new_file, with_responses

# writers of the wild index beyond their template, too
pytestmark = pytest.mark.filterwarnings("ignore:IndexSeries:UserWarning")


def images(n, name="templates", order=None):
    made = [GrayscaleImage(name=f"frame_{k}", data=clip_frames(0, n)[k]) for k in (order or range(n))]
    return Images(name=name, images=made)


def with_index(frames, onsets=None, n=30, dtype=np.int64, **clock):
    nwb = with_responses(new_file())
    template = images(n)
    nwb.add_stimulus_template(template)
    clock = clock or {"timestamps": 1 + np.arange(len(frames)) / 30 if onsets is None else onsets}
    nwb.add_stimulus(
        IndexSeries(name="shown", data=np.array(frames).astype(dtype), unit="N/A", indexed_images=template, **clock)
    )
    return nwb


def presentations(nwb, **options):
    session = nr.open_session(nwb, **options)
    return session, session.stimulus.shown, " ".join(session.warnings)


def test_images_are_counted_by_the_number_in_their_name():
    # in a file they come in the order of their names: 0, 1, 10, 11, ...
    nwb = with_responses(new_file())
    template = images(12, order=[0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9])
    nwb.add_stimulus_template(template)
    nwb.add_stimulus(
        IndexSeries(name="s", data=np.arange(12), unit="N/A", indexed_images=template, timestamps=np.arange(12) / 30)
    )
    session, shown, _ = presentations(nwb)
    assert len(shown) == 1
    np.testing.assert_allclose(session.stimulus.read(shown.index[0]), clip_frames(0, 12))


def test_monitor_flips_of_one_frame_are_one_frame():
    session, shown, _ = presentations(with_index(np.repeat(np.arange(30), 2), 1 + np.arange(60) / 60))
    assert list(shown["n_frames"]) == [30]
    clock = session.stimulus.clocks(shown.index[0])
    np.testing.assert_array_equal(clock.frames, np.arange(30))
    np.testing.assert_allclose(clock.onsets, 1 + np.arange(30) / 30)
    assert clock.end == pytest.approx(2.0)


@pytest.mark.parametrize("dtype", [np.int64, np.uint32, np.float64])
def test_blanks_in_the_index_end_a_presentation(dtype):
    frames = np.concatenate([np.arange(30), np.full(15, -1), np.arange(30)])
    _, shown, _ = presentations(with_index(frames, dtype=dtype))
    np.testing.assert_allclose(shown["onset"], [1.0, 2.5])
    np.testing.assert_allclose(shown["offset"], [2.0, 3.5])
    assert shown["clip"].nunique() == 1


def test_an_index_beyond_the_template_is_left_out():
    _, shown, _ = presentations(with_index(np.arange(40), n=30))
    assert list(shown["n_frames"]) == [30]


def test_an_index_with_a_rate_has_a_clock():
    _, shown, _ = presentations(with_index(np.arange(30), rate=15.0, starting_time=3.0))
    assert shown[["onset", "offset"]].to_numpy().tolist() == [[3.0, 5.0]]


def test_a_bad_time_stamp_costs_its_frame():
    onsets = 1 + np.arange(30) / 30
    onsets[12] = np.nan
    _, shown, warnings = presentations(with_index(np.arange(30), onsets))
    assert list(shown["n_frames"]) == [29]
    assert "1 frames with a time stamp" in warnings


def test_a_repeat_that_lost_its_last_frame_is_a_repeat():
    frames = np.concatenate([np.arange(30), np.arange(29), np.arange(30)])
    _, shown, _ = presentations(with_index(frames))
    assert list(shown["n_frames"]) == [30, 29, 30]
    assert set(shown["clip"]) == {"templates"}


def test_a_backward_showing_is_another_clip():
    nwb = with_responses(new_file())
    template = images(30)
    nwb.add_stimulus_template(template)
    for name, frames, start in (("forth", np.arange(30), 1), ("back", np.arange(30)[::-1], 5)):
        nwb.add_stimulus(
            IndexSeries(
                name=name, data=frames, unit="N/A", indexed_images=template, timestamps=start + np.arange(30) / 30
            )
        )
    session, shown, _ = presentations(nwb)
    assert list(shown["clip"]) == ["templates", "templates backward"]
    np.testing.assert_allclose(session.stimulus.read(shown.index[1]), clip_frames(0, 30)[::-1])


def test_trials_that_name_a_template_show_it_whole():
    nwb = with_responses(new_file())
    for name, rate in (("river", 30.0), ("forest", np.nan), ("desert", 12.0)):
        nwb.add_stimulus_template(
            ImageSeries(name=name, data=clip_frames(len(name), 60), unit="n.a.", rate=rate, starting_time=0.0)
        )
    nwb.add_trial_column(name="stimulus", description="what was shown")
    nwb.add_trial_column(name="split", description="what for")
    for start, name, split in ((1.0, "river", "train"), (4.0, "forest", "test"), (7.0, "gray", ""), (9.0, "River", "")):
        nwb.add_trial(start_time=start, stop_time=start + 2.0, stimulus=name, split=split)
    session, shown, _ = presentations(nwb)
    np.testing.assert_allclose(shown["onset"], [1, 4, 9])
    np.testing.assert_allclose(shown["offset"], [3, 6, 11])
    assert list(shown["clip"]) == ["river", "forest", "river"]
    assert list(shown["split"]) == ["train", "test", ""]
    np.testing.assert_allclose(session.stimulus.read(shown.index[1]), clip_frames(6, 60))
    np.testing.assert_allclose(np.diff(session.stimulus.clocks(shown.index[1]).onsets), 1 / 30)


def test_a_table_of_frames_without_their_template_is_said():
    nwb = with_responses(new_file())
    table = nwb.create_time_intervals(name="natural_movie_one_presentations", description="flips")
    table.add_column(name="frame", description="frame")
    for frame in range(5):
        table.add_row(start_time=frame / 30, stop_time=(frame + 1) / 30, frame=float(frame))
    with pytest.raises(SessionError, match="natural_movie_one_presentations, of which the file has"):
        nr.open_session(nwb)


def test_a_template_may_stand_among_the_presentations():
    nwb = with_responses(new_file())
    nwb.add_stimulus(ImageSeries(name="movie_a", data=clip_frames(0, 30), unit="n.a.", rate=np.nan, starting_time=0.0))
    table = nwb.create_time_intervals(name="movie_a_presentations", description="flips")
    table.add_column(name="frame", description="frame")
    for row in range(30):
        table.add_row(start_time=1 + row / 30, stop_time=1 + (row + 1) / 30, frame=float(row))
    session, shown, _ = presentations(nwb)
    assert list(shown["clip"]) == ["movie_a"]
    np.testing.assert_allclose(session.stimulus.read(shown.index[0]), clip_frames(0, 30))


def test_frames_that_are_missing_in_a_table_are_gray():
    nwb = with_responses(new_file())
    nwb.add_stimulus_template(
        ImageSeries(name="movie_a", data=clip_frames(0, 30), unit="n.a.", rate=30.0, starting_time=0.0)
    )
    table = nwb.create_time_intervals(name="movie_a_presentations", description="flips")
    table.add_column(name="frame", description="frame")
    for row, frame in enumerate([*range(30), *[np.nan] * 30, *range(30)]):
        table.add_row(start_time=1 + row / 30, stop_time=1 + (row + 1) / 30, frame=float(frame))
    _, shown, _ = presentations(nwb)
    np.testing.assert_allclose(shown["onset"], [1, 3])
    assert shown["clip"].nunique() == 1


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("locally_sparse_noise",), "noise"),
        (("", "Trippy"), "noise"),
        (("drifting_gratings",), "grating"),
        (("spontaneous",), "gray"),
        (("stimulus.Clip", "Clip"), "movie"),
        (("natural_images",), "image"),
    ],
)
def test_the_kind_is_told_by_the_name(names, kind):
    assert stimulus_kind(*names) == kind


def test_presentations_have_the_stated_columns():
    _, shown, _ = presentations(with_index(np.arange(30)))
    assert list(shown) == ["onset", "offset", "clip", "film", "store", "kind", "split", "n_frames"]
    assert isinstance(shown.index, pd.RangeIndex)
