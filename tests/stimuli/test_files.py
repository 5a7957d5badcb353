from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from nwbrecon.errors import SourceError
from nwbrecon.stimuli.files import load_movies


def write_video(
    path: Path,
    frames: np.ndarray,
    rate: float = 30,
    times: np.ndarray | None = None,
    codec: str = "ffv1",
    pixels: str = "gray",
    degrees: int = 0,
) -> None:
    """Write (time, height, width) frames; ``times`` in seconds gives each its own time stamp."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=Fraction(rate).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], pixels
        if degrees:
            stream.set_display_rotation(degrees)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="gray").reformat(format=pixels)
            if times is not None:
                picture.pts, picture.time_base = round(times[number] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def counting(n: int, size: tuple[int, int] = (36, 64)) -> np.ndarray:
    """Frame k is grey level 2 k + 10: the level tells which frame it is."""
    return np.broadcast_to((2 * np.arange(n) + 10).astype(np.uint8)[:, None, None], (n, *size)).copy()


def frame_numbers(movie: np.ndarray) -> np.ndarray:
    return (movie.mean(axis=(1, 2)) - 10) / 2


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (30, np.arange(40)),
        (60, np.arange(0, 40, 2)),
        (10, np.repeat(np.arange(40), 3)),
        (120, np.arange(0, 40, 4)),
        (25, np.arange(48) * 25 // 30),
        (30000 / 1001, np.r_[:30, 29:40]),
    ],
)
@pytest.mark.parametrize("suffix", [".mkv", ".avi"])
def test_frames_come_at_their_times(tmp_path, rate, expected, suffix):
    write_video(tmp_path / f"film{suffix}", counting(40), rate)
    movie = load_movies(tmp_path)["film"]
    assert movie.dtype == np.uint8
    np.testing.assert_array_equal(frame_numbers(movie), expected)


@pytest.mark.parametrize("frame_rate", [24.0, 30.0, 48.0])
def test_varying_time_stamps_are_followed(tmp_path, frame_rate):
    times = np.array([0, 0.1, 0.15, 0.4, 0.45, 0.5, 1.2, 1.3])
    write_video(tmp_path / "film.mkv", counting(8), 30, times)
    movie = load_movies(tmp_path / "film.mkv", frame_rate)["film"]
    shown = np.arange(len(movie)) / frame_rate
    np.testing.assert_array_equal(frame_numbers(movie), np.searchsorted(times, shown + 1e-3, side="right") - 1)
    assert len(movie) >= 1.3 * frame_rate


def test_a_film_that_starts_late_starts_at_once(tmp_path):
    write_video(tmp_path / "film.mkv", counting(20), 30, 5 + np.arange(20) / 30)
    np.testing.assert_array_equal(frame_numbers(load_movies(tmp_path)["film"]), np.arange(20))


def test_each_pixel_is_the_mean_over_its_area(tmp_path):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (4, 108, 192), dtype=np.uint8)
    write_video(tmp_path / "film.mkv", frames)
    expected = frames.reshape(4, 36, 3, 64, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(load_movies(tmp_path)["film"], expected, atol=1)
    np.savez(tmp_path / "films.npz", film=frames)
    np.testing.assert_array_equal(load_movies(tmp_path / "films.npz")["film"], load_movies(tmp_path)["film"])


def test_fine_stripes_do_not_alias(tmp_path):
    stripes = np.zeros((4, 100, 177), dtype=np.uint8)
    stripes[:, :, ::2] = 254
    write_video(tmp_path / "film.mkv", stripes)
    movie = load_movies(tmp_path)["film"].astype(float)
    assert abs(movie.mean() - 127) < 2
    # sampling without averaging gives bands of full contrast, a standard deviation near 127
    assert movie.std() < 30


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_a_film_from_a_phone_is_turned_upright(tmp_path, degrees):
    rng = np.random.default_rng(0)
    upright = np.kron(rng.integers(0, 256, (2, 9, 16)), np.ones((4, 4))).astype(np.uint8)
    stored = np.rot90(upright, -degrees // 90, axes=(1, 2))
    write_video(tmp_path / "film.mov", stored, codec="png", degrees=degrees)
    np.testing.assert_array_equal(load_movies(tmp_path, frame_size=(9, 16))["film"], upright[:, ::4, ::4])


def test_limited_range_is_spread(tmp_path):
    frames = np.stack([np.full((36, 64), level, dtype=np.uint8) for level in (0, 64, 128, 255)])
    write_video(tmp_path / "film.mkv", frames, pixels="yuv420p")
    levels = load_movies(tmp_path)["film"].mean(axis=(1, 2))
    np.testing.assert_allclose(levels, [0, 64, 128, 255], atol=2)


def test_a_folder_gives_its_films_by_name_and_skips_what_is_broken(tmp_path):
    write_video(tmp_path / "b.mkv", counting(5))
    write_video(tmp_path / "a.AVI", counting(6))
    write_video(tmp_path / "a.mkv", counting(7))
    (tmp_path / "notes.txt").write_text("not a film")
    (tmp_path / ".hidden.mp4").write_text("not a film either")
    assert {name: len(movie) for name, movie in load_movies(tmp_path).items()} == {"a": 6, "a.mkv": 7, "b": 5}
    (tmp_path / "broken.mp4").write_bytes(b"\0" * 100)
    with pytest.warns(UserWarning, match=r"broken\.mp4 is skipped"):
        assert len(load_movies(tmp_path)) == 3


def test_a_film_that_breaks_off_gives_the_frames_it_holds(tmp_path):
    rng = np.random.default_rng(0)
    write_video(tmp_path / "film.mkv", rng.integers(0, 256, (40, 36, 64), dtype=np.uint8))
    whole = (tmp_path / "film.mkv").read_bytes()
    (tmp_path / "film.mkv").write_bytes(whole[: len(whole) // 2])
    movie = load_movies(tmp_path / "film.mkv")["film"]
    assert 10 < len(movie) < 40


def test_an_npz_keeps_frames_as_they_are(tmp_path):
    rng = np.random.default_rng(0)
    gray = rng.integers(0, 256, (5, 36, 64), dtype=np.uint8)
    color = np.zeros((5, 36, 64, 3), dtype=np.uint8)
    color[..., 0], color[..., 1], color[..., 2] = 255, 100, 10
    np.savez(
        tmp_path / "a.npz",
        gray=gray,
        color=color,
        unit=gray / 255,
        floats=gray.astype(np.float32),
        wide=gray.astype(int),
    )
    movies = load_movies(tmp_path / "a.npz")
    for name in ("gray", "unit", "floats", "wide"):
        np.testing.assert_array_equal(movies[name], gray)
    # luma 0.299 R + 0.587 G + 0.114 B
    assert np.unique(movies["color"]).tolist() == [136]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((36, 64)), "shape"),
        (np.zeros((5, 36, 64, 4)), "shape"),
        (np.zeros((1, 36, 64)), "two frames"),
        (np.zeros((5, 36, 64), dtype=complex), "type complex"),
        (np.zeros((5, 36, 64), dtype="U1"), "type <U1"),
        (np.full((5, 36, 64), 300), "300"),
        (np.full((5, 36, 64), -1.0), "-1"),
        (np.full((5, 36, 64), np.nan), "nan"),
        (np.array([{}, {}, {}]), "plain arrays"),
    ],
)
def test_arrays_that_are_no_movies(tmp_path, array, message):
    np.savez(tmp_path / "a.npz", film=array)
    with pytest.raises(SourceError, match=message):
        load_movies(tmp_path / "a.npz")


def test_sources_without_movies(tmp_path):
    with pytest.raises(SourceError, match="There is no"):
        load_movies(tmp_path / "missing")
    with pytest.raises(SourceError, match="holds no video files"):
        load_movies(tmp_path)
    np.savez(tmp_path / "empty.npz")
    with pytest.raises(SourceError, match="holds no arrays"):
        load_movies(tmp_path / "empty.npz")
    np.save(tmp_path / "single.npy", np.zeros((5, 36, 64)))
    with pytest.raises(SourceError, match="without a name"):
        load_movies(tmp_path / "single.npy")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(SourceError, match="plain arrays"):
        load_movies(tmp_path / "text.npz")
    (tmp_path / "still.gif").touch()
    with pytest.raises(SourceError, match="cannot be decoded"):
        load_movies(tmp_path / "still.gif")
    write_video(tmp_path / "still.gif", counting(1), codec="gif", pixels="gray")
    with pytest.raises(SourceError, match="single picture"):
        load_movies(tmp_path / "still.gif", frame_rate=1)
    with pytest.warns(UserWarning, match="single picture"), pytest.raises(SourceError, match="None of the 1"):
        load_movies(tmp_path, frame_rate=1)
