"""Where the pixels of a stimulus are: movies and sets of images, read frame by frame as grey levels 0-255."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np

from nwbrecon.errors import SessionError
from nwbrecon.session.series import explained

__all__ = ["MID_GRAY", "MOST_PIXELS", "FrameAxes", "GrayStore", "ImageStore", "MovieStore", "find_axes", "to_gray"]

FrameAxes = Literal["auto", "TYX", "TXY", "XYT", "YXT"]
"""Order of the axes of a stored movie: T frames, Y rows, X columns; a color axis comes last among the others."""

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of red, green and blue (ITU-R BT.601), so that equal channels keep their value."""

MOST_PIXELS = 2**26
"""No screen has more; a file that claims them would only exhaust the memory."""

MID_GRAY = 127.5
"""Grey level of a screen that shows nothing, where the file does not hold its picture."""

_PROBES = 12


def find_axes(shape: Sequence[int], n_frames: int | None, asked: FrameAxes = "auto") -> str:
    """Tell which axis of a stored movie is which.

    Parameters
    ----------
    shape
        Shape of the stored array, 3-D (grey) or 4-D (color, or one channel).
    n_frames
        How many frames it must have, from its clock or from the indices into it; ``None`` where nothing says.
    asked
        What the user says, or ``auto``.

    Returns
    -------
    str
        One letter an axis: ``T`` frames, ``Y`` rows, ``X`` columns, ``C`` colors.

    Raises
    ------
    SessionError
        If no order fits.

    Examples
    --------
    >>> find_axes((900, 304, 608), 900), find_axes((608, 304, 900), 900), find_axes((900, 304, 608, 3), None)
    ('TYX', 'XYT', 'TYXC')
    """
    colored = len(shape) == 4
    if len(shape) not in (3, 4) or (colored and 3 not in _color_axes(shape) and 2 not in _color_axes(shape)):
        raise SessionError(
            f"A movie of shape {tuple(shape)} was found.",
            "Frames of rows and columns, with at most one color axis of 1, 3 or 4 values, were expected.",
        )
    if asked == "auto":
        first = n_frames is None or shape[0] == n_frames or shape[-1] != n_frames
        if colored and not first:
            # (.., .., color, frame): the color axis stands just before the frames
            first = 2 not in _color_axes(shape)
        # an array that comes from a column-major program is reversed; screens are wider than high
        last: FrameAxes = "XYT" if shape[0] > shape[1] else "YXT"
        asked = "TYX" if first else last
    if not colored:
        return asked
    return f"{asked}C" if asked[0] == "T" else f"{asked[:2]}CT"


def _color_axes(shape: Sequence[int]) -> list[int]:
    return [axis for axis, size in enumerate(shape) if size in (1, 3, 4)]


def to_gray(frames: np.ndarray) -> np.ndarray:
    """Mix ``(time, height, width, color)`` to grey; the fourth of four colors is opacity and is ignored."""
    if frames.shape[-1] == 1:
        return frames[..., 0]
    return frames[..., :3] @ LUMA


def _levels(sample: np.ndarray, dtype: np.dtype[Any]) -> tuple[float, float]:
    """``(factor, shift)`` that bring stored pixel values to 0-255, judged by their type and by a few frames."""
    if dtype == np.bool_:
        return 255.0, 0.0
    finite = sample[np.isfinite(sample)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if dtype.kind in "ui":
        return (255.0 / np.iinfo(dtype).max, 0.0) if high > 255 else (1.0, 0.0)
    if low < 0:
        return (127.5, 127.5) if max(-low, high) <= 1 else (1.0, 0.0)
    return (255.0, 0.0) if high <= 1 else (1.0, 0.0)


class GrayStore:
    """A screen that shows nothing: a single frame of mid-grey.

    Parameters
    ----------
    height, width
        Rows and columns of what the screen shows else.
    """

    name = "gray"
    n_frames = 1

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width

    def read(self, frames: np.ndarray) -> np.ndarray:
        """Give ``(time, height, width)`` float32, all of the same grey."""
        return np.full((len(frames), self.height, self.width), MID_GRAY, dtype=np.float32)


class MovieStore:
    """Frames in one array of the file.

    Parameters
    ----------
    name
        Name of the series.
    data
        The array; sliced when frames are read, never before.
    axes
        As `find_axes` gives it.

    Raises
    ------
    SessionError
        If its frames claim a size that no screen has, or are not numbers.
    """

    def __init__(self, name: str, data: Any, axes: str) -> None:
        self.name = name
        size = dict(zip(axes, data.shape, strict=True))
        self.n_frames, self.height, self.width = int(size["T"]), int(size["Y"]), int(size["X"])
        if self.height * self.width > MOST_PIXELS or data.dtype.kind not in "biuf":
            raise SessionError(
                f"Frames of {self.height} x {self.width} {data.dtype}, which {name} claims, are no movie."
            )
        self._data = data
        self._axes = axes
        # bytes can only be grey levels, so that none need be looked at
        self._to_255 = (1.0, 0.0) if data.dtype.kind in "ui" and data.dtype.itemsize == 1 else None

    def __repr__(self) -> str:
        return f"MovieStore({self.name!r}, {self.n_frames} frames of {self.height} x {self.width})"

    def read(self, frames: np.ndarray) -> np.ndarray:
        """Read frames (indices, any order, repeats allowed) as ``(time, height, width)`` float32 grey, 0-255.

        The range of stored values (0-1, 0-255, -1 to 1, 16 bit) is judged once, by a few frames over the whole movie.
        """
        frames = np.asarray(frames, dtype=np.int64)
        if self._to_255 is None:
            probes = np.unique(np.linspace(0, self.n_frames - 1, _PROBES).round().astype(np.int64))
            sample = np.concatenate([self._stored(int(frame), int(frame) + 1) for frame in probes])
            self._to_255 = _levels(sample, self._data.dtype)
        factor, shift = self._to_255
        wanted, place = np.unique(frames, return_inverse=True)
        read = np.empty((len(wanted), self.height, self.width), dtype=np.float32)
        for rows in _runs(wanted):
            first, last = int(wanted[rows[0]]), int(wanted[rows[-1]])
            part = self._stored(first, last + 1)[wanted[rows] - first].astype(np.float32)
            read[rows] = to_gray(part) if part.ndim == 4 else part
        read *= factor
        read += shift
        return read if np.array_equal(place, np.arange(len(frames))) else read[place]

    def _stored(self, start: int, stop: int) -> np.ndarray:
        with explained(f"Frame {start} of {self.name}"):
            block = self._data[start:stop] if self._axes[0] == "T" else self._data[..., start:stop]
        order = "TYXC" if "C" in self._axes else "TYX"
        return np.asarray(block).transpose([self._axes.index(axis) for axis in order])


class ImageStore:
    """Frames in an ``Images`` container, one data set each.

    Parameters
    ----------
    name
        Name of the container.
    images
        In the order in which an ``IndexSeries`` counts them; all of one size.

    Raises
    ------
    SessionError
        If there are none, or they differ in size.
    """

    def __init__(self, name: str, images: Sequence[Any]) -> None:
        self.name = name
        sizes = {tuple(image.data.shape[:2]) for image in images}
        if len(sizes) != 1:
            listed = ", ".join(f"{height} x {width}" for height, width in sorted(sizes)) or "none"
            raise SessionError(f"The images of {name} differ in size or are missing (sizes: {listed}).")
        ((self.height, self.width),) = sizes
        self.n_frames = len(images)
        self._images = list(images)
        self._to_255: tuple[float, float] | None = None

    def __repr__(self) -> str:
        return f"ImageStore({self.name!r}, {self.n_frames} images of {self.height} x {self.width})"

    def read(self, frames: np.ndarray) -> np.ndarray:
        """Read images (indices, any order, repeats allowed) as ``(time, height, width)`` float32 grey, 0-255."""
        if self._to_255 is None:
            probes = np.unique(np.linspace(0, self.n_frames - 1, _PROBES).round().astype(np.int64))
            sample = np.stack([self._image(int(frame)) for frame in probes])
            self._to_255 = _levels(sample, np.asarray(self._images[0].data[:1]).dtype)
        factor, shift = self._to_255
        wanted, place = np.unique(np.asarray(frames, dtype=np.int64), return_inverse=True)
        return (np.stack([self._image(int(frame)) for frame in wanted]) * factor + shift)[place].astype(np.float32)

    def _image(self, frame: int) -> np.ndarray:
        with explained(f"Image {frame} of {self.name}"):
            pixels = np.asarray(self._images[frame].data[:]).astype(np.float32)
        return to_gray(pixels) if pixels.ndim == 3 else pixels


def ordered_images(images: Any, warn: Callable[[str], None]) -> list[Any]:
    """List the images of an ``Images`` container in the order in which they are counted.

    That is ``order_of_images``, else the number at the end of their names, else the names.
    """
    if images.order_of_images is not None:
        return [images.order_of_images.data[place] for place in range(len(images.order_of_images.data))]
    named = {name: re.search(r"(\d+)\D*$", name) for name in images.images}
    if all(named.values()):
        return [images.images[name] for name in sorted(named, key=lambda name: int(named[name].group(1)))]  # type: ignore[union-attr]
    warn(f"{images.name} does not say in which order its images are counted; the order of their names was taken.")
    return [images.images[name] for name in sorted(named)]


def _runs(wanted: np.ndarray, most: int = 256, gap: int = 4) -> Iterator[np.ndarray]:
    """Cut sorted indices into stretches that are read in one go: gaps are short, and so is each stretch."""
    start = 0
    for row in range(1, len(wanted) + 1):
        if row == len(wanted) or wanted[row] - wanted[row - 1] > gap or wanted[row] - wanted[start] >= most:
            yield np.arange(start, row)
            start = row
