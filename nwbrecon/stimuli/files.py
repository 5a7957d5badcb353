"""The user's own movies: arrays in an npz, or video files."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nwbrecon.errors import SourceError
from nwbrecon.progress import progress

if TYPE_CHECKING:
    from av import VideoFrame

__all__ = ["VIDEO_SUFFIXES", "load_movies"]

VIDEO_SUFFIXES = frozenset(
    {".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"}
)
CLOCK_ROUNDING = 1e-3
"""Containers round the times of frames, to milliseconds at worst (Matroska); a frame may be that late (s)."""

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey level (ITU-R BT.601)."""


def load_movies(
    path: str | Path, frame_rate: float = 30.0, frame_size: tuple[int, int] = (36, 64)
) -> dict[str, np.ndarray]:
    """Load movies, all at one frame rate and size, in grey.

    Parameters
    ----------
    path
        One of

        - an npz of ``(time, height, width)`` or ``(time, height, width, 3)`` arrays, taken to run at `frame_rate`:
          integers are grey levels 0-255, floats are too unless all are within 0-1, which is then scaled to 0-255;
        - a folder of video files (those with a suffix in `VIDEO_SUFFIXES`; others and subfolders are not looked at);
        - a video file.
    frame_rate
        Frames per second (Hz). At each time ``k / frame_rate`` a video contributes the frame that its time stamps say
        was on the screen, so that films of any, even varying, frame rate keep their speed.
    frame_size
        Rows and columns (pixels). Whole frames are scaled, each pixel the mean over the area that it covers; where that
        is less than a pixel of the source, it is interpolated. Videos are turned as their metadata say.

    Returns
    -------
    dict of str to numpy.ndarray
        ``(time, height, width)`` uint8, grey level 0-255, by name of the array or stem of the file; sorted for a
        folder.

    Raises
    ------
    SourceError
        If `path` does not exist, is neither npz nor video nor folder, holds no movie, or an array is not a movie.

    Warns
    -----
    UserWarning
        For a file of a folder that is skipped, because it cannot be decoded or holds a single picture.
    """
    path = Path(path)
    if path.is_dir():
        return _load_folder(path, frame_rate, frame_size)
    if not path.is_file():
        raise SourceError(f"There is no {path}.", action="Give an npz of movies, or a folder of video files.")
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return {path.stem: _decode(path, frame_rate, frame_size)}
    return _load_npz(path, frame_size)


def _load_npz(path: Path, frame_size: tuple[int, int]) -> dict[str, np.ndarray]:
    expected = "Movies come as an npz of (time, height, width) or (time, height, width, 3) arrays, or as video files."
    try:
        # opened here, since numpy leaves a damaged archive open
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array without a name")
            movies = {name: _checked(f"{path}:{name}", archive[name], frame_size) for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise SourceError(
            f"{path} cannot be read as an npz of plain arrays ({error}).",
            expected,
            "Save it with numpy.savez, one numeric array a movie; pickled objects are never loaded.",
        ) from error
    if not movies:
        raise SourceError(f"{path} holds no arrays.", expected)
    return movies


def _checked(name: str, movie: np.ndarray, frame_size: tuple[int, int]) -> np.ndarray:
    if movie.ndim not in (3, 4) or (movie.ndim == 4 and movie.shape[3] != 3) or len(movie) < 2 or not movie.size:
        raise SourceError(
            f"{name} has the shape {movie.shape}.",
            "A movie is (time, height, width) or (time, height, width, 3), with at least two frames.",
        )
    if movie.dtype.kind not in "uif":
        raise SourceError(f"{name} is of type {movie.dtype}.", "A movie holds integers or floats.")
    low, high = float(movie.min()), float(movie.max())
    if not (low >= 0 and high <= 255):
        raise SourceError(f"{name} has values from {low:g} to {high:g}.", "Grey levels are from 0 to 255.")
    factor = 255.0 if movie.dtype.kind == "f" and high <= 1 else 1.0
    # frame by frame, since a movie at full size in floats may not fit in memory
    return np.stack([_scaled(_picture(frame * factor), frame_size) for frame in movie])


def _picture(frame: np.ndarray) -> VideoFrame:
    from av import VideoFrame

    levels = frame @ LUMA if frame.ndim == 3 else frame
    return VideoFrame.from_ndarray(np.ascontiguousarray(np.rint(levels), dtype=np.uint8), format="gray")


def _scaled(frame: VideoFrame, frame_size: tuple[int, int]) -> np.ndarray:
    turns = round(frame.rotation / 90)
    height, width = frame_size[::-1] if turns % 2 else frame_size
    # swscale's AREA is the mean over the area of the new pixel where that is larger than the old, and linear otherwise
    scaled = frame.reformat(width=width, height=height, format="gray", interpolation="AREA").to_ndarray()
    return np.rot90(scaled, turns)


def _load_folder(path: Path, frame_rate: float, frame_size: tuple[int, int]) -> dict[str, np.ndarray]:
    files = sorted(
        file
        for file in path.iterdir()
        if file.suffix.lower() in VIDEO_SUFFIXES and not file.name.startswith(".") and file.is_file()
    )
    if not files:
        raise SourceError(
            f"The folder {path} holds no video files.", f"Their names end in {', '.join(sorted(VIDEO_SUFFIXES))}."
        )
    movies: dict[str, np.ndarray] = {}
    for file in progress(files, label="Decoding movies", unit="film"):
        try:
            movie = _decode(file, frame_rate, frame_size)
        except SourceError as error:
            warnings.warn(f"{file.name} is skipped: {error}", stacklevel=3)
            continue
        movies[file.name if file.stem in movies else file.stem] = movie
    if not movies:
        raise SourceError(f"None of the {len(files)} video files in {path} can be decoded.")
    return movies


def _decode(path: Path, frame_rate: float, frame_size: tuple[int, int]) -> np.ndarray:
    import av

    shown: list[np.ndarray] = []
    try:
        with av.open(path) as container:
            if not container.streams.video:
                raise SourceError(f"{path} holds no video.")
            for start, stop, frame in _shown_frames(container.streams.video[0]):
                first, last = (ceil((time - CLOCK_ROUNDING) * frame_rate) for time in (start, stop))
                if last > first:
                    shown += [_scaled(frame, frame_size)] * (last - first)
    except (av.FFmpegError, OSError) as error:
        raise SourceError(
            f"{path} cannot be decoded as video ({error}).", action="Convert it, to MP4 with H.264 for instance."
        ) from error
    if len(shown) < 2:
        raise SourceError(f"{path} holds a single picture.", "A movie has at least two frames.")
    return np.stack(shown)


def _shown_frames(stream: Any) -> Iterator[tuple[float, float, VideoFrame]]:
    """Frames with the seconds since the first at which each appeared and was taken away."""
    rate = float(stream.average_rate or 25)
    stream.thread_type = "AUTO"
    held, start, origin = None, 0.0, None
    for frame in stream.container.decode(stream):
        if held is None:
            origin, time = frame.time, 0.0
        elif frame.time is None:
            time = start + 1 / rate
        else:
            time = frame.time - (origin or 0.0)
            # rounded times of a steady film would beat against the frame rate: frames left out, others twice
            steady = round(time * rate) / rate
            time = steady if abs(time - steady) < CLOCK_ROUNDING else time
        if held is not None and time > start:
            yield start, time, held
        held, start = frame, max(time, start)
    if held is not None:
        yield start, start + max(float((held.duration or 0) * held.time_base), 1 / rate), held
