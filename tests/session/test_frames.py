import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nwbrecon.errors import SessionError
from nwbrecon.session.frames import ImageStore, MovieStore, find_axes, to_gray

from .conftest import clip_frames

MOVIE = clip_frames(0, 30)


class Counted:
    """An array that counts what is read from it."""

    def __init__(self, data):
        self.data, self.shape, self.dtype, self.read = data, data.shape, data.dtype, 0

    def __getitem__(self, key):
        part = self.data[key]
        self.read += part.size
        return part


@pytest.mark.parametrize(
    ("shape", "n_frames", "asked", "axes"),
    [
        ((900, 304, 608), None, "auto", "TYX"),
        ((900, 304, 608), 900, "auto", "TYX"),
        ((304, 608, 900), 900, "auto", "YXT"),
        ((608, 304, 900), 900, "auto", "XYT"),
        ((36, 64, 36), 36, "auto", "TYX"),
        ((900, 608, 304), None, "TXY", "TXY"),
        ((900, 36, 64, 3), 900, "auto", "TYXC"),
        ((900, 36, 64, 1), None, "auto", "TYXC"),
        ((36, 64, 3, 900), 900, "auto", "YXCT"),
        ((64, 36, 3, 900), 900, "auto", "XYCT"),
        ((64, 36, 3, 900), None, "XYT", "XYCT"),
        ((900, 64, 36, 4), None, "TXY", "TXYC"),
    ],
)
def test_the_axes_are_told_by_the_number_of_frames(shape, n_frames, asked, axes):
    assert find_axes(shape, n_frames, asked) == axes


@pytest.mark.parametrize("shape", [(10,), (10, 20), (10, 20, 30, 40), (2, 10, 20, 30, 3)])
def test_what_is_no_movie_is_refused(shape):
    with pytest.raises(SessionError, match="A movie of shape"):
        find_axes(shape, None)


@pytest.mark.parametrize(
    ("stored", "axes"),
    [
        (MOVIE, "TYX"),
        (MOVIE.transpose(0, 2, 1), "TXY"),
        (MOVIE.transpose(2, 1, 0), "XYT"),
        (MOVIE.transpose(1, 2, 0), "YXT"),
        (MOVIE[..., None], "TYXC"),
        (np.repeat(MOVIE[..., None], 3, axis=-1), "TYXC"),
        (np.repeat(MOVIE[..., None], 4, axis=-1), "TYXC"),
        (np.repeat(MOVIE[..., None], 3, axis=-1).transpose(1, 2, 3, 0), "YXCT"),
        (np.repeat(MOVIE[..., None], 3, axis=-1).transpose(2, 1, 3, 0), "XYCT"),
        (MOVIE.astype(np.float32) / 255, "TYX"),
        (MOVIE.astype(np.float64), "TYX"),
        (MOVIE / 127.5 - 1, "TYX"),
        (MOVIE.astype(np.uint16) * 257, "TYX"),
        (MOVIE.astype(np.int16), "TYX"),
    ],
)
def test_however_it_is_stored_it_is_read_the_same(stored, axes):
    store = MovieStore("movie", stored, axes)
    assert (store.n_frames, store.height, store.width) == MOVIE.shape
    found = store.read(np.arange(30))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, MOVIE, atol=2e-3)


def test_black_and_white_are_black_and_white():
    found = MovieStore("dots", MOVIE > 127, "TYX").read(np.arange(30))
    np.testing.assert_array_equal(found, 255.0 * (MOVIE > 127))


def test_color_is_weighted_by_its_luminance():
    frames = np.zeros((3, 1, 1, 3))
    frames[0, ..., 0] = frames[1, ..., 1] = frames[2, ..., 2] = 200
    np.testing.assert_allclose(to_gray(frames)[:, 0, 0], [59.8, 117.4, 22.8], rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(frames=st.lists(st.integers(0, 29), max_size=60), axes=st.sampled_from(["TYX", "XYT"]))
def test_frames_are_read_in_any_order(frames, axes):
    stored = MOVIE if axes == "TYX" else MOVIE.transpose(2, 1, 0)
    found = MovieStore("movie", stored, axes).read(np.array(frames, dtype=int))
    np.testing.assert_array_equal(found, MOVIE[frames].astype(np.float32))


def test_no_more_is_read_than_is_needed():
    data = Counted(clip_frames(0, 1000))
    store = MovieStore("movie", data, "TYX")
    assert data.read == 0
    store.read(np.array([500]))
    assert data.read <= 20 * 12 * 20
    data.read = 0
    store.read(np.array([3, 5, 3, 900]))
    assert data.read == 4 * 12 * 20


def test_images_are_frames():
    class Image:
        def __init__(self, data):
            self.data = data

    store = ImageStore("scenes", [Image(MOVIE[0]), Image(np.repeat(MOVIE[1][..., None], 3, axis=-1))])
    assert (store.n_frames, store.height, store.width) == (2, 12, 20)
    np.testing.assert_allclose(store.read(np.array([1, 0, 1])), MOVIE[[1, 0, 1]], atol=1e-3)
    with pytest.raises(SessionError, match="sizes: none"):
        ImageStore("scenes", [])
    with pytest.raises(SessionError, match="4 x 4, 12 x 20"):
        ImageStore("scenes", [Image(MOVIE[0]), Image(np.zeros((4, 4)))])
