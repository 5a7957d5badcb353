"""Which objects of a file are the stimulus, by the evidence, and what was shown when."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from nwbrecon.errors import SessionError
from nwbrecon.session.clips import name_clips
from nwbrecon.session.contents import Item
from nwbrecon.session.divide import divide, row_notes
from nwbrecon.session.frames import FrameAxes, ImageStore, MovieStore, find_axes, ordered_images
from nwbrecon.session.model import FrameClock, FrameStore, Stimulus
from nwbrecon.session.series import median_interval, sample_times, sliceable
from nwbrecon.session.showings import by_frame_column, by_index, by_own_clock, by_template_name, frames_named
from nwbrecon.session.tables import IntervalTable, read_intervals
from nwbrecon.session.timeline import Presentation, cut_at_shared_edges

__all__ = ["find_stimulus"]

Warn = Callable[[str], None]

STRONG = 2
"""Evidence from which on a movie is the stimulus without a table that divides it."""

_SHOWN = re.compile(r"stim|natural|clip|screen|monitor|visual|presented", re.IGNORECASE)
_FILMED = re.compile(
    r"eye|pupil|face|body|behav|camera|(^|[_ -])cam|whisk|snout|paw|webcam|dlc|motion|two_?photon", re.IGNORECASE
)


@dataclass
class _Finder:
    """What is known of the stimulus while the file is searched."""

    items: Sequence[Item]
    axes: FrameAxes
    warn: Warn
    stores: dict[str, FrameStore] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def movie_store(self, item: Item, n_frames: int | None) -> FrameStore | None:
        """Store of the pixels of an ``ImageSeries``; ``None``, with the reason kept, where it has none to read."""
        if item.path in self.stores:
            return self.stores[item.path]
        series = item.content
        external = getattr(series, "external_file", None)
        data = sliceable(series.data)
        shape = tuple(data.shape)
        if external is not None or 0 in shape or len(shape) < 3:
            files = ", ".join(str(name) for name in (external[:] if external is not None else ())) or "no file"
            self.refused[item.path] = f"its pixels are not in the NWB file ({files}); video files are not read yet"
            return None
        try:
            self.stores[item.path] = MovieStore(item.name, data, find_axes(shape, n_frames, self.axes))
        except SessionError as error:
            self.refused[item.path] = error.found
            return None
        store = self.stores[item.path]
        if self.axes == "auto" and store.height > store.width:
            self.warn(
                f"{item.path} is read as {store.height} rows of {store.width}; should it be lying on its side, "
                'say frame_axes="TXY".'
            )
        return store

    def image_store(self, item: Item) -> FrameStore | None:
        """Store of the pixels of an ``Images`` container."""
        if item.path not in self.stores:
            try:
                self.stores[item.path] = ImageStore(item.name, ordered_images(item.content, self.warn))
            except SessionError as error:
                self.refused[item.path] = error.found
        return self.stores.get(item.path)

    def path_of(self, content: Any) -> Item:
        """Find the item that holds an object which another refers to."""
        return next((item for item in self.items if item.content is content), Item(content.name, content))


def find_stimulus(items: Sequence[Item], *, wanted: str | None, axes: FrameAxes, warn: Warn) -> Stimulus | None:
    """Find what was shown and when.

    Parameters
    ----------
    items
        What the file holds.
    wanted
        Path or name of the object that is the stimulus, where the user says so; else the evidence decides.
    axes
        Order of the axes of stored movies.
    warn
        Called with each sentence about something chosen, skipped or guessed.

    Returns
    -------
    Stimulus or None
        ``None`` where the file has none that can be read.
    """
    finder = _Finder(items, axes, warn)
    tables = [read_intervals(item) for item in items if item.is_intervals]
    if wanted is not None:
        items = _named(items, wanted)
    pieces = _from_index(finder, items, tables)
    indexed_stores = set(finder.stores)
    pieces += _from_tables(finder, items, tables, indexed_stores)
    pieces += _from_own_clock(finder, items, tables, wanted, alone=not pieces)
    used = {piece.timeline.path for piece in pieces}
    for table in tables:
        if table.path.startswith("stimulus/") and table.path not in used:
            finder.refused[table.path] = f"the pixels of its {len(table.rows)} intervals are not in the file"
        if table.name == "invalid_times" and len(table.rows):
            warn(f"The file calls {len(table.rows)} stretches invalid ({table.path}); they were not taken out.")
    for path, reason in finder.refused.items():
        warn(f"{path} was not used as a stimulus: {reason}.")
    if not pieces:
        return None
    pieces = _without_overlap(pieces, warn)
    return _stimulus(pieces, finder.stores)


def _named(items: Sequence[Item], wanted: str) -> list[Item]:
    found = [item for item in items if wanted.strip("/") in (item.path, item.name)]
    if not found:
        shown = [item.path for item in items if item.is_images_over_time or item.is_intervals]
        raise SessionError(
            f"There is no {wanted} in the file.", action=f"Stimuli could be: {', '.join(shown) or 'none'}."
        )
    return found


def _from_index(finder: _Finder, items: Sequence[Item], tables: Sequence[IntervalTable]) -> list[Presentation]:
    pieces: list[Presentation] = []
    for item in items:
        if "IndexSeries" not in item.types:
            continue
        movie, images = (getattr(item.content, name, None) for name in ("indexed_timeseries", "indexed_images"))
        if movie is None and images is None:
            finder.refused[item.path] = "it does not say into what its indices point"
            continue
        target = finder.path_of(images if movie is None else movie)
        if movie is None:
            store = finder.image_store(target)
        else:
            store = finder.movie_store(target, _frames_counted(movie, np.asarray(item.content.data[:])))
        if store is None:
            continue
        timeline = by_index(item, target.path, store, finder.warn)
        if timeline is not None:
            pieces += divide(timeline, tables, finder.warn)
    return pieces


def _frames_counted(movie: Any, indices: np.ndarray) -> int | None:
    """How many frames a template has, judged by its clock or by the indices into it."""
    if movie.timestamps is not None:
        return len(movie.timestamps)
    real = indices[indices < max(sliceable(movie.data).shape)]
    return int(real.max()) + 1 if real.size else None


def _from_tables(
    finder: _Finder, items: Sequence[Item], tables: Sequence[IntervalTable], used: set[str]
) -> list[Presentation]:
    """Presentation tables that name a template; templates that an index series shows are not looked up again."""
    templates = _templates(finder, tables, used)
    rates = {
        item.path: _frame_rate(item.content, templates[item.path].n_frames)
        for item in finder.items
        if item.path in templates and item.is_images_over_time
    }
    pieces: list[Presentation] = []
    chosen = {item.path for item in items if item.is_intervals}
    for table in tables:
        if table.path not in chosen:
            continue
        timelines = by_frame_column(table, templates, finder.warn)
        for timeline in timelines:
            pieces += divide(timeline, [other for other in tables if other is not table], finder.warn)
        if timelines:
            continue
        notes = row_notes(table)
        for timeline, row in by_template_name(table, templates, rates):
            note = notes.iloc[row].to_dict()
            pieces.append(Presentation(timeline, 0, len(timeline), **{**note, "kind": timeline.kind}))
    return pieces


def _templates(finder: _Finder, tables: Sequence[IntervalTable], used: set[str]) -> dict[str, FrameStore]:
    """Movies and sets of images that have no clock of their own by which they were shown."""
    counts = {count for table in tables if (count := frames_named(table)) is not None}
    templates: dict[str, FrameStore] = {}
    for item in finder.items:
        if item.parents[0] != "stimulus" or item.path in used:
            continue
        store = None
        if item.is_images_over_time and (item.parents[1] == "templates" or _frame_rate(item.content, 2) is None):
            shape = sliceable(item.content.data).shape
            # the frame axis is the last one if only that has as many frames as a table counts
            n_frames = next((count for count in counts if shape[-1] == count != shape[0]), None)
            store = finder.movie_store(item, n_frames)
        elif "Images" in item.types:
            store = finder.image_store(item)
        if store is not None:
            templates[item.path] = store
    return templates


def _frame_rate(movie: Any, n_frames: int) -> float | None:
    times = sample_times(movie, n_frames)
    if times is None or len(times) < 2:
        return None
    interval = median_interval(times)
    return 1 / interval if interval > 0 else None


def _from_own_clock(
    finder: _Finder, items: Sequence[Item], tables: Sequence[IntervalTable], wanted: str | None, alone: bool
) -> list[Presentation]:
    """Movies with a clock of their own, as far as the evidence goes: a name or place that says so, else a trials table.

    What only a trials table speaks for is taken if it is the only such movie and nothing else is a stimulus.
    """
    movies = [
        (item, _evidence(item))
        for item in items
        if item.is_images_over_time and item.path not in finder.stores and item.parents != ("stimulus", "templates")
    ]
    strong = [item for item, score in movies if wanted is not None or score >= STRONG]
    pieces: list[Presentation] = []
    for item in strong:
        pieces += _clocked(finder, item, tables)
        if wanted is None and item.parents[0] != "stimulus" and item.path in finder.stores:
            finder.warn(f"{item.path} was taken to be the stimulus by its name.")
    weak = [item for item, score in movies if item not in strong and score >= 0]
    if pieces or not alone:
        for item in weak:
            finder.refused[item.path] = "something else is the stimulus by better evidence"
        return pieces
    divided = {item.path: _clocked(finder, item, tables) for item in weak}
    told = [path for path, parts in divided.items() if any(part.label or part.split for part in parts)]
    for item in weak:
        if [item.path] != told and item.path in finder.stores:
            del finder.stores[item.path]
            finder.refused[item.path] = "nothing says that it was shown rather than filmed"
    if len(told) != 1:
        return []
    finder.warn(f"{told[0]} was taken to be the stimulus, since a table of intervals divides it.")
    return divided[told[0]]


def _clocked(finder: _Finder, item: Item, tables: Sequence[IntervalTable]) -> list[Presentation]:
    times = item.content.timestamps
    store = finder.movie_store(item, None if times is None else len(times))
    timeline = None if store is None else by_own_clock(item, store, finder.warn)
    if timeline is not None and len(timeline) > 1:
        return divide(timeline, tables, finder.warn)
    if store is not None:
        del finder.stores[item.path]
        finder.refused[item.path] = "it has no clock"
    return []


def _evidence(item: Item) -> int:
    """How much speaks for a movie with a clock of its own having been shown, not recorded."""
    if getattr(item.content, "imaging_plane", None) is not None or {"TwoPhotonSeries", "OnePhotonSeries"} & item.types:
        return -9
    told = f"{item.name} {' '.join(item.parents[1:])}"
    camera = f"{told} {getattr(item.content.device, 'name', '')}"
    score = {"stimulus": 3, "processing": -1}.get(item.parents[0], 0)
    return score + 2 * bool(_SHOWN.search(told)) - 3 * bool(_FILMED.search(camera))


def _without_overlap(pieces: Sequence[Presentation], warn: Warn) -> list[Presentation]:
    """Leave out what is described a second time: what comes first in the list is the better evidence."""
    kept: list[Presentation] = []
    left: dict[str, int] = {}
    by_timeline: dict[int, list[Presentation]] = {}
    for piece in pieces:
        by_timeline.setdefault(id(piece.timeline), []).append(piece)
    starts, stops = np.array([]), np.array([])
    for group in by_timeline.values():
        fresh = []
        for piece in group:
            overlap = np.minimum(stops, piece.offset) - np.maximum(starts, piece.onset)
            if overlap.size and overlap.max() > 0.1 * (piece.offset - piece.onset):
                left[piece.timeline.path] = left.get(piece.timeline.path, 0) + 1
            else:
                fresh.append(piece)
        kept += fresh
        starts = np.append(starts, [piece.onset for piece in fresh])
        stops = np.append(stops, [piece.offset for piece in fresh])
    for path, count in left.items():
        warn(f"{count} presentations by {path} were left out: something else was shown at the same time.")
    return kept


def _stimulus(pieces: Sequence[Presentation], stores: dict[str, FrameStore]) -> Stimulus:
    ordered = sorted(cut_at_shared_edges(pieces), key=lambda piece: piece.onset)
    rows = pd.DataFrame(
        {
            "onset": [piece.onset for piece in ordered],
            "offset": [piece.offset for piece in ordered],
            "clip": name_clips(ordered, stores),
            "film": [piece.film for piece in ordered],
            "store": [piece.timeline.store for piece in ordered],
            "kind": [piece.kind or piece.timeline.kind for piece in ordered],
            "split": [piece.split for piece in ordered],
            "n_frames": [piece.last - piece.first for piece in ordered],
        }
    )

    def clocks(presentation: int) -> FrameClock:
        piece = ordered[presentation]
        return FrameClock(piece.frames, piece.timeline.onsets[piece.first : piece.last], piece.offset)

    used = {piece.timeline.store for piece in ordered}
    return Stimulus(rows, {key: store for key, store in stores.items() if key in used}, clocks)
