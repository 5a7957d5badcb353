import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nwbrecon.alignment.video import clip_video, fill_video, scale_frames, shape_warnings
from nwbrecon.session.model import FrameClock, Stimulus

sizes = st.tuples(st.integers(1, 12), st.integers(1, 12))


def area_average(frame, size):
    """Average over each new pixel's area, on a raster so fine that old and new pixels both fall on it."""
    height, width = frame.shape
    fine = np.kron(frame, np.ones((size[0], size[1])))
    return fine.reshape(size[0], height, size[1], width).mean(axis=(1, 3))


@given(st.integers(0, 1000), sizes, sizes)
@settings(max_examples=80, deadline=None)
def test_each_new_pixel_is_the_mean_of_its_area(seed, old, new):
    frames = np.random.default_rng(seed).uniform(0, 255, (2, *old))
    scaled = scale_frames(frames, new)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, [area_average(frame, new) for frame in frames], rtol=1e-4)
    np.testing.assert_allclose(scaled.mean(axis=(1, 2)), frames.mean(axis=(1, 2)), rtol=1e-5)


@pytest.mark.parametrize("size", [(36, 64), (5, 7), (100, 200)])
def test_a_constant_stays_constant(size):
    np.testing.assert_allclose(scale_frames(np.full((1, 48, 80), 200, np.uint8), size), 200, rtol=1e-6)


def test_fine_stripes_turn_gray_in_place_of_coarse_stripes():
    stripes = np.zeros((1, 304, 608))
    stripes[:, :, ::2] = 255
    assert np.ptp(scale_frames(stripes, (36, 64))) < 0.06 * 255


@given(st.integers(0, 1000), st.floats(12, 100), st.floats(0, 1e4))
@settings(max_examples=30, deadline=None)
def test_displayed_frames_are_averaged_over_the_bin(make_store, seed, rate, onset):
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (40, 4, 6), dtype=np.uint8)
    edges = onset + np.cumsum(rng.uniform(0.5, 1.5, 41)) / rate
    starts = np.arange(edges[0], edges[-1] - 1 / 30, 1 / 30)
    store = make_store("movie", frames)
    order = rng.permutation(40)
    found = clip_video(store, order, edges, starts, starts + 1 / 30, (4, 6))
    # which frame was on the screen at each of many moments
    for start, frame in zip(starts[:5], found, strict=False):
        moments = start + (np.arange(2000) + 0.5) / 2000 / 30
        shown = frames[order[np.searchsorted(edges, moments, side="right") - 1]]
        np.testing.assert_allclose(frame, shown.mean(axis=0), atol=0.5)


def test_reading_in_parts_changes_nothing(make_store, monkeypatch):
    frames = np.random.default_rng(0).integers(0, 256, (50, 8, 12), dtype=np.uint8)
    edges, starts = np.arange(51) / 60, np.arange(25) / 30
    arguments = (np.arange(50), edges, starts, starts + 1 / 30, (4, 6))
    whole = clip_video(make_store("movie", frames), *arguments)
    monkeypatch.setattr("nwbrecon.alignment.video.CHUNK_BYTES", 7 * 4 * 8 * 12)
    np.testing.assert_allclose(clip_video(make_store("movie", frames), *arguments), whole, rtol=1e-5)
    np.testing.assert_allclose(whole, (scale_frames(frames, (4, 6)).reshape(25, 2, 4, 6)).mean(axis=1), rtol=1e-5)


def showings(store, clocks, frame_rate=30.0):
    n_frames = [round((clock.end - clock.onsets[0]) * frame_rate) for clock in clocks]
    trials = pd.DataFrame(
        {
            "clip": "a",
            "presentation": range(len(clocks)),
            "source_start": 0,
            "source_stop": [len(clock.onsets) for clock in clocks],
            "onset": [clock.onsets[0] for clock in clocks],
            "n_frames": n_frames,
            "first_frame": np.cumsum([0, *n_frames[:-1]]),
        }
    )
    stimulus = Stimulus(
        pd.DataFrame({"store": ["movie"] * len(clocks)}), {"movie": store}, dict(enumerate(clocks)).__getitem__
    )
    video = np.full((sum(n_frames), 4, 6), np.nan)
    fill_video(video, stimulus, trials, dict(enumerate(clocks)), frame_rate)
    return np.split(video, np.cumsum(n_frames)[:-1])


def test_repeats_on_one_clock_are_read_once(make_store):
    frames = np.random.default_rng(0).integers(0, 256, (60, 4, 6), dtype=np.uint8)
    store = make_store("movie", frames)
    jitter = np.random.default_rng(1).uniform(-0.001, 0.001, 60)
    clocks = [
        FrameClock(np.arange(60), 10 + np.arange(60) / 30, 12.0),
        FrameClock(np.arange(60), 50 + np.arange(60) / 30 + jitter, 52.0),
        FrameClock(np.arange(45), 80 + np.arange(45) / 30, 81.5),
    ]
    first, second, short = showings(store, clocks)
    assert store.n_read == 60
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first[:45], short)
    np.testing.assert_allclose(first, frames)


@pytest.mark.parametrize("fault", ["late frames", "other frames", "longer"])
def test_showings_that_differ_are_computed_on_their_own(make_store, fault):
    frames = np.random.default_rng(0).integers(0, 256, (60, 4, 6), dtype=np.uint8)
    onsets, shown = np.arange(45) / 30, np.arange(45)
    if fault == "late frames":
        onsets[20:] += 1 / 30
    elif fault == "other frames":
        shown[20:] += 1
    else:
        onsets, shown = np.arange(60) / 30, np.arange(60)
    second = FrameClock(shown, 50 + onsets, 50 + onsets[-1] + 1 / 30)
    store = make_store("movie", frames)
    _, found = showings(store, [FrameClock(np.arange(45), np.arange(45) / 30, 1.5), second])
    assert store.n_read == 45 + len(shown)
    expected = np.concatenate([frames[:20], frames[19:45]]) if fault == "late frames" else frames[shown]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@given(st.integers(0, 1000), sizes, sizes, st.sampled_from(["crop", "letterbox"]))
@settings(max_examples=80, deadline=None)
def test_what_is_cut_off_or_added_leaves_the_picture_undistorted(seed, old, new, fit):
    """Against a raster so fine that the edges of old and new pixels fall on it, with gray all around."""
    frame = np.random.default_rng(seed).uniform(0, 255, old)
    fine = 2 * new[0] * new[1]
    raster = np.kron(frame, np.ones((fine, fine)))
    # one new pixel is a square of so many fine pixels
    by_height, by_width = old[0] * fine // new[0], old[1] * fine // new[1]
    pixel = min(by_height, by_width) if fit == "crop" else max(by_height, by_width)
    wanted = new[0] * pixel, new[1] * pixel
    around = max(wanted)
    canvas = np.full((raster.shape[0] + 2 * around, raster.shape[1] + 2 * around), 127.5)
    canvas[around : around + raster.shape[0], around : around + raster.shape[1]] = raster
    top, left = ((whole - part) // 2 for whole, part in zip(canvas.shape, wanted, strict=True))
    expected = canvas[top : top + wanted[0], left : left + wanted[1]]
    expected = expected.reshape(new[0], pixel, new[1], pixel).mean(axis=(1, 3))
    np.testing.assert_allclose(scale_frames(frame[None], new, fit)[0], expected, rtol=1e-4, atol=1e-3)


def test_an_allen_movie_keeps_its_shape():
    """A circle on 304x608 stays one on 36x64: cropped, it is as high as wide; squeezed it is not."""
    rows, columns = np.mgrid[:304, :608]
    circle = 255.0 * (np.hypot(rows - 151.5, columns - 303.5) < 100)[None]

    def extent(frame, axis):
        position = np.arange(frame.shape[axis]) - (frame.shape[axis] - 1) / 2
        return np.sqrt((frame.sum(axis=1 - axis) * position**2).sum() / frame.sum())

    scaled = {fit: scale_frames(circle, (36, 64), fit)[0] for fit in ("crop", "letterbox", "squeeze")}
    np.testing.assert_array_equal(scaled["letterbox"][[0, 1, 34, 35]], 127.5)
    scaled["letterbox"] = scaled["letterbox"][2:34]
    shape = {fit: extent(frame, 1) / extent(frame, 0) for fit, frame in scaled.items()}
    assert shape == pytest.approx({"crop": 1, "letterbox": 1, "squeeze": 64 / 36 / 2}, rel=5e-3)


@pytest.mark.parametrize("fit", ["crop", "letterbox", "squeeze"])
@pytest.mark.parametrize("size", [(36, 64), (144, 256), (90, 160)])
def test_movies_of_the_right_shape_are_scaled_alike(fit, size):
    frames = np.random.default_rng(0).integers(0, 256, (2, *size), dtype=np.uint8)
    np.testing.assert_array_equal(scale_frames(frames, (36, 64), fit), scale_frames(frames, (36, 64)))
    if size == (36, 64):
        np.testing.assert_array_equal(scale_frames(frames, (36, 64), fit), frames)


@pytest.mark.parametrize(
    ("fit", "words"),
    [
        ("squeeze", "which makes the picture 11% narrower in relation to its height"),
        ("crop", "11% of them, at left and right, cut off"),
        ("letterbox", "of which gray bars at top and bottom take 11%"),
    ],
)
def test_what_happens_to_another_shape_is_said(make_store, fit, words):
    stores = {name: make_store(name, np.zeros((1, *size))) for name, size in {"a": (304, 608), "b": (144, 256)}.items()}
    stimulus = Stimulus(pd.DataFrame({"store": ["a", "b", "a"]}), stores, lambda _: None)
    (warning,) = shape_warnings(stimulus, pd.DataFrame({"presentation": [0, 1, 2]}), (36, 64), fit)
    assert warning == f"Movies of 304x608 pixels were scaled to 36x64, {words}."
    assert shape_warnings(stimulus, pd.DataFrame({"presentation": [1]}), (36, 64), fit) == []
