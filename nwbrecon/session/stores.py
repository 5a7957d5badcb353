"""The frame stores of a file: where the pixels of its series and images are, inside or beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from nwbrecon.errors import SessionError, SourceError
from nwbrecon.session.contents import Item
from nwbrecon.session.folder import StimulusFolder
from nwbrecon.session.frames import FrameAxes, ImageStore, MovieStore, find_axes, ordered_images
from nwbrecon.session.model import FrameStore
from nwbrecon.session.series import sliceable
from nwbrecon.session.videos import VideoFile, VideoStore

__all__ = ["Stores", "is_external"]


def is_external(series: Any) -> bool:
    """Whether the pixels of an image series are said to be in other files."""
    return getattr(series, "external_file", None) is not None


@dataclass
class Stores:
    """Makes the frame stores of a file, each once, and keeps why it could not.

    Attributes
    ----------
    items
        What the file holds.
    axes
        Order of the axes of stored movies.
    warn
        Called with each sentence about something guessed.
    beside
        Gives the file at a path relative to the NWB file; see `nwbrecon.sources.OpenFile`.
    folder
        What the user keeps outside, by key.
    found
        Stores by key: the path in the file.
    refused
        Why an object is not used as a stimulus, by its path.
    """

    items: Sequence[Item]
    axes: FrameAxes
    warn: Callable[[str], None]
    beside: Callable[[str], Path | BinaryIO | None] = lambda path: None
    folder: Mapping[str, FrameStore] = field(default_factory=dict)
    found: dict[str, FrameStore] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def of_movie(self, item: Item, n_frames: int | None) -> FrameStore | None:
        """Store of the pixels of an ``ImageSeries``; ``None``, with the reason kept, where it has none to read.

        Parameters
        ----------
        item
            The series.
        n_frames
            How many frames it has, where its clock or the indices into it say so.
        """
        if item.path in self.found:
            return self.found[item.path]
        series = item.content
        data = sliceable(series.data)
        shape = tuple(data.shape)
        store: FrameStore
        try:
            if is_external(series):
                store = self._of_videos(item)
            elif 0 in shape or len(shape) < 3:
                raise SessionError(f"its data has the shape {shape}, not (frame, row, column)")
            else:
                store = MovieStore(item.name, data, find_axes(shape, n_frames, self.axes))
        except (SessionError, SourceError) as error:
            self.refused[item.path] = error.found.rstrip(".")
            return None
        self.found[item.path] = store
        if self.axes == "auto" and store.height > store.width:
            self.warn(
                f"{item.path} is read as {store.height} rows of {store.width}; should it be lying on its side, "
                'say frame_axes="TXY".'
            )
        return store

    def of_images(self, item: Item) -> FrameStore | None:
        """Store of the pixels of an ``Images`` container."""
        if item.path not in self.found:
            try:
                self.found[item.path] = ImageStore(item.name, ordered_images(item.content, self.warn))
            except SessionError as error:
                self.refused[item.path] = error.found.rstrip(".")
        return self.found.get(item.path)

    def item_of(self, content: Any) -> Item:
        """Find the item that holds an object which another refers to."""
        return next((item for item in self.items if item.content is content), Item(content.name, content))

    def _of_videos(self, item: Item) -> VideoStore:
        names = [str(name) for name in item.content.external_file[:]]
        files = []
        for number, name in enumerate(names):
            suffix = PurePosixPath(name).suffix.lower()
            # what `dandi organize` calls it
            organized = f"{item.content.object_id}_external_file_{number}{suffix}"
            place = self.beside(name) or self.beside(organized)
            if place is None and isinstance(self.folder, StimulusFolder):
                place = self.folder.video(name)
            if place is None:
                raise SessionError(
                    f"its pixels are in {name}, which is not in the folder of the NWB file; name the folder that it "
                    "is in with stimulus_folder"
                )
            files.append(VideoFile(place, name))
        store = VideoStore(item.name, files)
        starts = item.content.starting_frame
        if starts is not None and len(starts) == len(files) and [int(k) for k in starts] != store.starts[:-1].tolist():
            self.warn(
                f"{item.path} says that its files begin with the frames {', '.join(str(int(k)) for k in starts)}; by "
                f"their lengths it is {', '.join(str(k) for k in store.starts[:-1])}, which was taken."
            )
        return store
