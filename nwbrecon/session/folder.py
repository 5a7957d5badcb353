"""Where the pixels of a stimulus are, if a file has only their names: in a folder that the user keeps."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nwbrecon.errors import SessionError
from nwbrecon.session.frames import MOST_PIXELS, ImageStore, MovieStore, find_axes
from nwbrecon.session.model import FrameStore
from nwbrecon.session.videos import VideoFile, VideoStore
from nwbrecon.stimuli.files import VIDEO_SUFFIXES

__all__ = ["PictureFile", "StimulusFolder"]

PICTURE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff"})
_GRAY_MODES = frozenset({"1", "L", "I", "F", "I;16", "I;16B", "I;16L"})


class PictureFile:
    """A picture in a file of its own; read when its array is sliced.

    Parameters
    ----------
    path
        PNG, JPEG, TIFF or BMP.

    Raises
    ------
    SessionError
        If it is no picture.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._opened() as picture:
            self.shape = picture.size[::-1]
        if self.shape[0] * self.shape[1] > MOST_PIXELS:
            raise SessionError(f"{path.name} claims {self.shape[0]} x {self.shape[1]} pixels.")

    @property
    def data(self) -> PictureFile:
        """The array, unread."""
        return self

    def __getitem__(self, rows: Any) -> np.ndarray:
        try:
            with self._opened() as picture:
                # Pillow mixes colors to grey by the weights of ITU-R BT.601
                return np.asarray(picture if picture.mode in _GRAY_MODES else picture.convert("L"))[rows]
        except (OSError, ValueError, SyntaxError) as error:
            raise SessionError(f"{self.path.name} cannot be read as a picture ({error}).") from error

    def _opened(self) -> Any:
        from PIL import Image, UnidentifiedImageError

        try:
            return Image.open(self.path)
        except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
            raise SessionError(f"{self.path.name} cannot be read as a picture ({error}).") from error


class StimulusFolder(Mapping[str, FrameStore]):
    """Movies and pictures of a folder, by what they are called; each is opened when it is first asked for.

    What a file ``clip_12.mp4``, ``clip_12.npy`` or ``clip_12.png`` holds, or a folder ``clip_12`` of pictures, is found
    as ``stimulus_folder/clip_12``; subfolders are searched too. The pictures of a folder are counted by the number at
    the end of their names.

    Parameters
    ----------
    path
        The folder.
    axes
        Order of the axes of arrays.

    Raises
    ------
    SessionError
        If there is no such folder, or nothing in it that could be shown.
    """

    def __init__(self, path: Path, axes: Any = "auto") -> None:
        if not path.is_dir():
            raise SessionError(f"There is no folder {path}.", "A folder with the stimuli was expected.")
        self.path, self._axes = path, axes
        self._places: dict[str, list[Path]] = {}
        self._stores: dict[str, FrameStore] = {}
        pictures = []
        for file in sorted(path.rglob("*")):
            suffix = file.suffix.lower()
            if file.name.startswith(".") or not file.is_file():
                continue
            if suffix in VIDEO_SUFFIXES or suffix == ".npy":
                self._places.setdefault(self._key(file.stem), []).append(file)
            elif suffix in PICTURE_SUFFIXES:
                pictures.append(file)
        for folder in {picture.parent for picture in pictures} - {path}:
            self._places.setdefault(self._key(folder.name), []).append(folder)
        for picture in pictures:
            # a picture of a set is meant by its number, unless nothing else has its name
            self._places.setdefault(self._key(picture.stem), [picture])
        if not self._places:
            raise SessionError(
                f"The folder {path} holds nothing that could be a stimulus.",
                "Video files, arrays (.npy) or pictures were expected, called as the NWB file calls them.",
            )

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, key: str) -> FrameStore:
        if key not in self._stores:
            places = self._places[key]
            if len(places) > 1:
                raise SessionError(
                    f"{self.path} holds {len(places)} stimuli of the name {key.rpartition('/')[2]}: "
                    f"{', '.join(str(place.relative_to(self.path)) for place in places)}.",
                    action="Leave one of them there.",
                )
            self._stores[key] = self._open(places[0])
        return self._stores[key]

    def video(self, name: str) -> Path | None:
        """Find the video file that an NWB file names, whatever folder it says that it is in."""
        stem = re.split(r"[/\\]", name)[-1].rpartition(".")[0]
        places = [one for one in self._places.get(self._key(stem), ()) if one.suffix.lower() in VIDEO_SUFFIXES]
        return places[0] if len(places) == 1 else None

    def _open(self, place: Path) -> FrameStore:
        if place.is_dir():
            files = [file for file in place.iterdir() if file.suffix.lower() in PICTURE_SUFFIXES]
            return ImageStore(place.name, [PictureFile(file) for file in sorted(files, key=_counted)])
        if place.suffix.lower() in PICTURE_SUFFIXES:
            return ImageStore(place.stem, [PictureFile(place)])
        if place.suffix.lower() == ".npy":
            try:
                array = np.load(place, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError) as error:
                raise SessionError(f"{place.name} cannot be read as an array ({error}).") from error
            return MovieStore(place.stem, array, find_axes(array.shape, None, self._axes))
        return VideoStore(place.stem, [VideoFile(place, place.name)])

    @staticmethod
    def _key(name: str) -> str:
        return f"stimulus_folder/{name}"


def _counted(file: Path) -> tuple[int, str]:
    number = re.search(r"(\d+)\D*$", file.stem)
    return (int(number.group(1)) if number else -1), file.name
