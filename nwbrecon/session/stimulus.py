"""Which objects of a file are the stimulus, by the evidence, and what was shown when."""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from nwbrecon.errors import SessionError
from nwbrecon.session.clips import name_clips
from nwbrecon.session.contents import Item
from nwbrecon.session.divide import divide, row_notes
from nwbrecon.session.folder import StimulusFolder
from nwbrecon.session.frames import FrameAxes, GrayStore
from nwbrecon.session.gray import GRAY, blank_frames, gray_periods, is_gray
from nwbrecon.session.model import FrameClock, FrameStore, ScreenGeometry, Stimulus
from nwbrecon.session.series import median_interval, read_all, sample_times, sliceable
from nwbrecon.session.showings import by_frame_column, by_index, by_own_clock, by_template_name, frames_named
from nwbrecon.session.stores import Stores, is_external
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


def find_stimulus(
    items: Sequence[Item],
    *,
    wanted: str | None,
    axes: FrameAxes,
    warn: Warn,
    beside: Callable[[str], Path | BinaryIO | None] = lambda path: None,
    folder: Path | None = None,
    screen: ScreenGeometry | None = None,
) -> Stimulus | None:
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
    beside
        Gives the file at a path relative to the NWB file.
    folder
        Where the user keeps movies and pictures that the file only names.
    screen
        Where the screen stood, as the user knows it; else what an ``OpticalSeries`` says.

    Returns
    -------
    Stimulus or None
        ``None`` where the file has none that can be read.

    Raises
    ------
    SessionError
        If there is no `wanted`, or nothing in the folder.
    """
    stores = Stores(items, axes, warn, beside, {} if folder is None else StimulusFolder(folder, axes))
    tables = [read_intervals(item) for item in items if item.is_intervals]
    if wanted is not None:
        items = _named(items, wanted)
    pieces = _from_index(stores, items, tables)
    indexed_stores = set(stores.found)
    pieces += _from_tables(stores, items, tables, indexed_stores)
    pieces += _from_own_clock(stores, items, tables, wanted, alone=not pieces)
    used = {piece.timeline.path for piece in pieces}
    for table in tables:
        if table.path.startswith("stimulus/") and table.path not in used and not is_gray(table).all():
            stores.refused[table.path] = f"the pixels of its {len(table.rows)} intervals are not in the file"
    for path, reason in stores.refused.items():
        warn(f"{path} was not used as a stimulus: {reason}.")
    if not pieces:
        return None
    pieces = _without_overlap(pieces, warn)
    pieces += blank_frames(pieces, stores.found, warn)
    gray = gray_periods(pieces, tables)
    if gray:
        shown = stores.found[max(pieces, key=lambda piece: piece.last - piece.first).timeline.store]
        stores.found[GRAY] = GrayStore(shown.height, shown.width)
    return _stimulus(pieces + gray, stores.found, _screens(stores, screen))


def _named(items: Sequence[Item], wanted: str) -> list[Item]:
    found = [item for item in items if wanted.strip("/") in (item.path, item.name)]
    if not found:
        shown = [item.path for item in items if item.is_images_over_time or item.is_intervals]
        raise SessionError(
            f"There is no {wanted} in the file.", action=f"Stimuli could be: {', '.join(shown) or 'none'}."
        )
    return found


def _from_index(stores: Stores, items: Sequence[Item], tables: Sequence[IntervalTable]) -> list[Presentation]:
    pieces: list[Presentation] = []
    for item in items:
        if "IndexSeries" not in item.types:
            continue
        movie, images = (getattr(item.content, name, None) for name in ("indexed_timeseries", "indexed_images"))
        if movie is None and images is None:
            stores.refused[item.path] = "it does not say into what its indices point"
            continue
        target = stores.item_of(images if movie is None else movie)
        if movie is None:
            store = stores.of_images(target)
        else:
            store = stores.of_movie(target, _frames_counted(movie, read_all(item.content.data, item.path)))
        if store is None:
            continue
        timeline = by_index(item, target.path, store, stores.warn)
        if timeline is not None:
            pieces += divide(timeline, tables)
    return pieces


def _frames_counted(movie: Any, indices: np.ndarray) -> int | None:
    """How many frames a template has, judged by its clock or by the indices into it."""
    if movie.timestamps is not None:
        return len(movie.timestamps)
    real = indices[indices < max(sliceable(movie.data).shape)]
    return int(real.max()) + 1 if real.size else None


def _from_tables(
    stores: Stores, items: Sequence[Item], tables: Sequence[IntervalTable], used: set[str]
) -> list[Presentation]:
    """Presentation tables that name a template; templates that an index series shows are not looked up again."""
    inside = _templates(stores, tables, used)
    templates = ChainMap(inside, stores.folder)  # type: ignore[arg-type]
    rates = {
        item.path: _frame_rate(item.content, inside[item.path].n_frames)
        for item in stores.items
        if item.path in inside and item.is_images_over_time
    }
    pieces: list[Presentation] = []
    chosen = {item.path for item in items if item.is_intervals}
    for table in tables:
        if table.path not in chosen:
            continue
        timelines = by_frame_column(table, templates, stores.warn)
        for timeline in timelines:
            pieces += divide(timeline, [other for other in tables if other is not table])
        if timelines:
            continue
        notes = row_notes(table)
        for timeline, row in by_template_name(table, templates, rates, stores.warn):
            note = notes.iloc[row].to_dict()
            pieces.append(Presentation(timeline, 0, len(timeline), **{**note, "kind": timeline.kind}))
    stores.found |= {piece.timeline.store: templates[piece.timeline.store] for piece in pieces}
    return pieces


def _templates(stores: Stores, tables: Sequence[IntervalTable], used: set[str]) -> dict[str, FrameStore]:
    """Movies and sets of images that have no clock of their own by which they were shown."""
    counts = {count for table in tables if (count := frames_named(table)) is not None}
    templates: dict[str, FrameStore] = {}
    for item in stores.items:
        if item.parents[0] != "stimulus" or item.path in used:
            continue
        store = None
        if item.is_images_over_time and (item.parents[1] == "templates" or _frame_rate(item.content, 2) is None):
            shape = sliceable(item.content.data).shape
            # the frame axis is the last one if only that has as many frames as a table counts
            n_frames = next((count for count in counts if shape[-1] == count != shape[0]), None)
            store = stores.of_movie(item, n_frames)
        elif "Images" in item.types:
            store = stores.of_images(item)
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
    stores: Stores, items: Sequence[Item], tables: Sequence[IntervalTable], wanted: str | None, alone: bool
) -> list[Presentation]:
    """Movies with a clock of their own, as far as the evidence goes: a name or place that says so, else a trials table.

    What only a trials table speaks for is taken if it is the only such movie and nothing else is a stimulus.
    """
    movies = [
        (item, _evidence(item))
        for item in items
        if item.is_images_over_time and item.path not in stores.found and item.parents != ("stimulus", "templates")
    ]
    strong = [item for item, score in movies if wanted is not None or score >= STRONG]
    pieces: list[Presentation] = []
    for item in strong:
        pieces += _clocked(stores, item, tables)
        if wanted is None and item.parents[0] != "stimulus" and item.path in stores.found:
            stores.warn(f"{item.path} was taken to be the stimulus by its name.")
    weak = [item for item, score in movies if item not in strong and score >= 0]
    if pieces or not alone:
        for item in weak:
            stores.refused[item.path] = "something else is the stimulus by better evidence"
        return pieces
    divided = {item.path: _clocked(stores, item, tables) for item in weak}
    told = [path for path, parts in divided.items() if any(part.label or part.split for part in parts)]
    for item in weak:
        if [item.path] != told and item.path in stores.found:
            del stores.found[item.path]
            stores.refused[item.path] = "nothing says that it was shown rather than filmed"
    if len(told) != 1:
        return []
    stores.warn(f"{told[0]} was taken to be the stimulus, since a table of intervals divides it.")
    return divided[told[0]]


def _clocked(stores: Stores, item: Item, tables: Sequence[IntervalTable]) -> list[Presentation]:
    times = item.content.timestamps
    store = stores.of_movie(item, None if times is None else len(times))
    timeline = None if store is None else by_own_clock(item, store, stores.warn)
    if timeline is not None and len(timeline) > 1:
        return divide(timeline, tables)
    if store is not None:
        del stores.found[item.path]
        stores.refused[item.path] = "it has no clock"
    return []


def _evidence(item: Item) -> int:
    """How much speaks for a movie with a clock of its own having been shown, not recorded."""
    if getattr(item.content, "imaging_plane", None) is not None or {"TwoPhotonSeries", "OnePhotonSeries"} & item.types:
        return -9
    told = f"{item.name} {' '.join(item.parents[1:])}"
    camera = f"{told} {getattr(item.content.device, 'name', '')}"
    # cameras film into files of their own
    score = {"stimulus": 3, "processing": -1}.get(item.parents[0], -is_external(item.content))
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


def _screens(stores: Stores, told: ScreenGeometry | None) -> dict[str, ScreenGeometry]:
    if told is not None:
        return dict.fromkeys(stores.found, told)
    screens = {}
    for item in stores.items:
        distance, field = (getattr(item.content, name, None) for name in ("distance", "field_of_view"))
        if item.path not in stores.found or distance is None or field is None or np.size(field) < 2:
            continue
        # meters in the file
        width, height = (100 * float(length) for length in np.ravel(field[:])[:2])
        try:
            screens[item.path] = ScreenGeometry(100 * float(distance), height, width)
        except SessionError as error:
            stores.warn(f"{item.path}: {error.found}")
    return screens


def _stimulus(
    pieces: Sequence[Presentation], stores: dict[str, FrameStore], screens: dict[str, ScreenGeometry]
) -> Stimulus:
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
    return Stimulus(
        rows,
        {key: store for key, store in stores.items() if key in used},
        clocks,
        {key: screen for key, screen in screens.items() if key in used},
    )
