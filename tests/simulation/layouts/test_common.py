import numpy as np
import pytest

from nwbrecon.simulation.layouts.common import (
    corrected,
    delta_f_over_f,
    events,
    object_names,
    roi_images,
    roi_pixels,
    screen,
    tracked,
)


@pytest.fixture
def recording(make_recording):
    return make_recording()


def on_screen(recording, time):
    """What was on the screen at a time: the slow way, from the schedule."""
    for row in recording.schedule.itertuples():
        if row.onset - 1e-9 <= time < row.offset - 1e-9:
            return recording.clips[row.clip][int((time - row.onset) * recording.frame_rate + 1e-6)]
    return np.full((36, 64), recording.gray)


@pytest.mark.parametrize(("flips", "gray_rate"), [(1, None), (2, 60.0), (3, 10.0)])
def test_each_flip_shows_what_was_on_the_screen(recording, flips, gray_rate):
    shown = screen(recording, flips_per_frame=flips, gray_rate=gray_rate)
    assert (np.diff(shown.timestamps) > 0).all()
    assert shown.timestamps[0] == 0
    assert shown.timestamps[-1] < recording.duration
    for flip in np.random.default_rng(0).choice(len(shown.timestamps), 60, replace=False):
        np.testing.assert_array_equal(
            shown.read(slice(flip, flip + 1))[0], on_screen(recording, shown.timestamps[flip])
        )


def test_the_screen_flips_steadily(recording):
    shown = screen(recording, flips_per_frame=2, gray_rate=60.0)
    intervals = np.diff(shown.timestamps)
    movie = shown.clips[:-1] >= 0
    np.testing.assert_allclose(intervals[movie], 1 / 60, atol=1e-9)
    # a gap of n and a half flips is filled with n or n + 1
    np.testing.assert_allclose(intervals[~movie], 1 / 60, rtol=0.02)


def test_one_gray_flip_between_clips(recording):
    shown = screen(recording)
    gray = shown.timestamps[shown.clips < 0]
    np.testing.assert_allclose(gray, [0, *recording.schedule["offset"]])


def test_clips_back_to_back_have_no_gray(make_recording):
    recording = make_recording(gap=0.0)
    for rate in (None, 60.0):
        shown = screen(recording, gray_rate=rate)
        inside = (shown.timestamps >= recording.schedule["onset"].iloc[0]) & (
            shown.timestamps < recording.schedule["offset"].iloc[-1] - 1e-9
        )
        assert (shown.clips[inside] >= 0).all()
        assert (np.diff(shown.timestamps) > 1e-3).all()


def test_rois_are_discs_around_their_positions(recording):
    plane = recording.planes[0]
    plane.positions[0] = [30.2, 40.4]
    plane.positions[1] = [0.0, 79.0]
    masks = np.concatenate([piece.data for piece in roi_images(plane).data.data])
    assert masks.shape == (5, 80, 64)
    x, y = np.nonzero(masks[0])
    assert (x.mean(), y.mean()) == (40, 30)
    assert np.hypot(x - 40, y - 30).max() <= 5
    assert abs(masks[0].sum() - np.pi * 25) < 5
    assert masks[1, 79, 0] == 1
    assert 0 < masks[1].sum() < masks[0].sum() / 2
    for mask, pixels in zip(masks, roi_pixels(plane), strict=True):
        assert len(pixels) == mask.sum()


@pytest.fixture
def known_plane(recording):
    """One cell that drifts by half and fires every 30 s, under neuropil that goes its own way."""
    plane = recording.planes[0]
    plane.timestamps = np.arange(3600) / 6
    plane.cells = np.zeros(1, dtype=int)
    since = np.arange(3600) - np.arange(3600) // 180 * 180 - 60
    plane.transients = np.where(since >= 0, np.exp(-since / 6), 0)
    cell = (200 + 100 * plane.timestamps / 600) * (1 + plane.transients)
    plane.neuropil = (100 + 30 * np.sin(plane.timestamps))[:, None].astype(np.float32)
    plane.fluorescence = (cell[:, None] + 0.7 * plane.neuropil).astype(np.float32)
    plane.fluorescence += np.random.default_rng(0).normal(0, 0.5, (3600, 1)).astype(np.float32)
    return plane


def test_neuropil_is_taken_away(known_plane):
    cell = (200 + 100 * known_plane.timestamps / 600) * (1 + known_plane.transients)
    np.testing.assert_allclose(corrected(known_plane)[:, 0], cell, atol=2.5)


def test_dff_has_neither_drift_nor_neuropil(known_plane):
    dff = delta_f_over_f(known_plane)[:, 0]
    inside = slice(180, -180)  # the baseline is constant in the first and the last half window
    np.testing.assert_allclose(dff[inside], known_plane.transients[inside], atol=0.04)


def test_events_are_where_the_cell_fired(known_plane):
    found = events(known_plane)[:, 0]
    assert np.isnan(found[0])
    assert (found[1:] >= 0).all()
    fired = np.arange(60, 3600, 180)
    np.testing.assert_allclose(found[fired], 1, atol=0.1)
    elsewhere = np.delete(found, np.r_[0, fired])
    assert elsewhere.max() < 0.1


def test_the_pupil_is_cut_to_where_it_was_seen(recording):
    kept = tracked(recording.pupil)
    assert len(kept) == len(recording.pupil) - 3
    assert kept["radius"].isna().sum() == 3
    recording.pupil["radius"] = np.nan
    assert tracked(recording.pupil).empty


def test_names_that_nwb_refuses():
    names = object_names(["a:b", "a/b", "a b", "films/été.mp4"])
    assert names == {"a:b": "a_b", "a/b": "a_b_2", "a b": "a_b_3", "films/été.mp4": "films_été.mp4"}
