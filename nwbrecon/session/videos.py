"""Where the pixels of a stimulus are, if not in the NWB file: video files, decoded frame by frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np

from nwbrecon.errors import SessionError
from nwbrecon.session.frames import MOST_PIXELS

__all__ = ["VideoFile", "VideoStore"]

FORMATS = "avi,mov,mp4,matroska,webm,mpeg,mpegts,asf,ogg,gif,m4v,flv"
"""What is taken for video. Play lists, which FFmpeg reads too, would make it open whatever files they name."""
TIMED = ("mp4", "matroska", "avi")
"""Formats in which a frame can be found by its time; in others frames are counted from the first."""
AHEAD = 64
"""So many frames are decoded in vain rather than looked up from the key frame before."""


class VideoFile:
    """The frames of one video file, by number, in grey.

    Parameters
    ----------
    file
        Path, or a file that is open for reading and can seek.
    name
        What to call it in errors.

    Raises
    ------
    SessionError
        If it cannot be read as video, or holds none.
    """

    def __init__(self, file: Path | BinaryIO, name: str) -> None:
        self._file, self.name = file, name
        self._container: Any = None
        self._frames: Iterator[tuple[int, np.ndarray]] = iter(())
        self._next = -AHEAD - 1
        with self._explained(), self._opened() as container:
            stream = container.streams.video[0]
            # how a frame is turned is said by the frame alone
            _, first = next(self._decoded(container, False), (0, np.empty((0, 0))))
            self.frame_rate = float(stream.average_rate) if stream.average_rate else None
            told = int(stream.frames)
        if not first.size:
            raise SessionError(f"{name} holds no picture that can be decoded.")
        self.height, self.width = first.shape
        # the header of a file elsewhere is believed: to count its frames would be to transfer all of it
        self.n_frames = told if told and not isinstance(file, Path) else len(self._times)

    def read(self, frames: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the pictures ``(height, width)`` uint8 of frame numbers that increase.

        Raises
        ------
        SessionError
            If the file ends before one of the frames, is damaged, or its frames differ in size.
        """
        for number in frames.tolist():
            if not self._next <= number <= self._next + AHEAD:
                self._start(number)
            with self._explained():
                reached = (one for one in self._frames if one[0] >= number)
                found, picture = next(reached, (-1, np.empty((0, 0))))
                self._next = found + 1
            if found != number:
                raise SessionError(
                    f"{self.name} has no frame {number}, although it names {self.n_frames} frames.",
                    action="It is probably cut short; copy or download it again.",
                )
            if picture.shape != (self.height, self.width):
                raise SessionError(f"{self.name} changes its size in the middle.")
            yield picture

    def close(self) -> None:
        """Close the file until it is read again; a file object that was handed over stays open."""
        self._frames, self._next = iter(()), -AHEAD - 1
        if self._container is not None:
            self._container.close()
            self._container = None

    @cached_property
    def _times(self) -> np.ndarray:
        """Presentation time of each frame, increasing, in the file's units; NaN where frames can only be counted."""
        with self._explained(), self._opened() as container:
            packets = [packet for packet in container.demux(video=0) if packet.size and not packet.is_discard]
            times = np.sort([np.nan if packet.pts is None else float(packet.pts) for packet in packets])
            # AVI has no place for the order in which frames are shown where it differs from that of decoding
            reordered = container.format.name == "avi" and container.streams.video[0].codec_context.has_b_frames
            reliable = not reordered and any(kind in container.format.name for kind in TIMED)
        return times if reliable and (np.diff(times) > 0).all() else np.full(len(times), np.nan)

    def _start(self, number: int) -> None:
        """Begin to decode, so that ``number`` is not far ahead."""
        self.close()
        with self._explained():
            self._container = self._opened()
            timed = number > AHEAD and number < len(self._times) and np.isfinite(self._times[number])
            if timed:
                self._container.seek(int(self._times[number]), stream=self._container.streams.video[0])
        self._frames, self._next = self._decoded(self._container, timed), number

    def _decoded(self, container: Any, timed: bool) -> Iterator[tuple[int, np.ndarray]]:
        for count, frame in enumerate(container.decode(video=0)):
            if frame.width * frame.height > MOST_PIXELS:
                raise SessionError(f"{self.name} claims frames of {frame.height} x {frame.width} pixels.")
            number = int(np.searchsorted(self._times, frame.pts)) if timed and frame.pts is not None else count
            # the ITU-R BT.601 mix of red, green and blue, full range, is what FFmpeg calls grey
            yield number, np.rot90(frame.to_ndarray(format="gray"), round(frame.rotation / 90))

    def _opened(self) -> Any:
        if not isinstance(self._file, Path):
            self._file.seek(0)
        container = av.open(self._file, options={"format_whitelist": FORMATS, "protocol_whitelist": "file"})
        if not container.streams.video:
            container.close()
            raise SessionError(f"{self.name} holds no video.")
        container.streams.video[0].thread_type = "AUTO"
        return container

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (av.FFmpegError, OSError, ValueError) as error:
            raise SessionError(
                f"{self.name} cannot be decoded as video ({error}).",
                action="Convert it, to MP4 with H.264 for instance, and put it in the folder of the stimuli.",
            ) from error


class VideoStore:
    """Frames in video files, one file after the other.

    Parameters
    ----------
    name
        Name of the series, or of the file.
    files
        In the order in which they were shown, all of one size.

    Raises
    ------
    SessionError
        If they differ in size.
    """

    def __init__(self, name: str, files: Sequence[VideoFile]) -> None:
        self.name = name
        sizes = {(file.height, file.width) for file in files}
        if len(sizes) != 1:
            listed = ", ".join(f"{height} x {width}" for height, width in sorted(sizes)) or "none"
            raise SessionError(f"The video files of {name} differ in size ({listed}).")
        ((self.height, self.width),) = sizes
        self.frame_rate = files[0].frame_rate
        self._files = list(files)
        self.starts = np.cumsum([0, *(file.n_frames for file in files)])
        self.n_frames = int(self.starts[-1])

    def __repr__(self) -> str:
        return f"VideoStore({self.name!r}, {self.n_frames} frames of {self.height} x {self.width})"

    def read(self, frames: np.ndarray) -> np.ndarray:
        """Read frames (indices, any order, repeats allowed) as ``(time, height, width)`` float32 grey, 0-255."""
        wanted, place = np.unique(np.asarray(frames, dtype=np.int64), return_inverse=True)
        pictures = np.empty((len(wanted), self.height, self.width), dtype=np.uint8)
        for file, first, last in zip(self._files, self.starts[:-1], self.starts[1:], strict=True):
            inside = slice(*np.searchsorted(wanted, (first, last)))
            for row, picture in enumerate(file.read(wanted[inside] - first), inside.start):
                pictures[row] = picture
        return pictures[place].astype(np.float32)

    def close(self) -> None:
        """Close the files until they are read again."""
        for file in self._files:
            file.close()
