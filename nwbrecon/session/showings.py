"""The ways in which NWB says which frame was on the screen when; each gives timelines."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from nwbrecon.session.contents import Item
from nwbrecon.session.model import FrameStore
from nwbrecon.session.series import clean_clock, read_all, sample_times
from nwbrecon.session.tables import IntervalTable
from nwbrecon.session.timeline import Timeline, frame_ends

__all__ = ["by_frame_column", "by_index", "by_own_clock", "by_template_name", "frames_named", "stimulus_kind"]

Warn = Callable[[str], None]

_KINDS = (
    ("noise", r"noise|monet|trippy"),
    ("grating", r"grating|gabor"),
    ("gray", r"gr[ae]y|spontaneous|blank"),
    ("image", r"scene|image\b|images\b|picture|photo"),
)
_NUMBERED = re.compile(r"clip|movie|film|stim|video|image|scene|condition", re.IGNORECASE)
_DECORATION = re.compile(r"^(movie|stimulus|stim|natural_movie)_|_(presentations?|stimulus|stim|template|intervals)$")


def stimulus_kind(*names: str, unknown: str = "movie") -> str:
    """Kind of a stimulus by what it is called, ``unknown`` where nothing fits.

    Examples
    --------
    >>> stimulus_kind("stimulus.Monet2"), stimulus_kind("natural_scenes_stimulus"), stimulus_kind("Clip")
    ('noise', 'image', 'movie')
    """
    for name in names:
        for kind, pattern in _KINDS:
            if re.search(pattern, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().replace("_", " ")):
                return kind
    return unknown


def by_own_clock(item: Item, store: FrameStore, warn: Warn) -> Timeline | None:
    """Read a movie that has a time stamp for each of its frames, in the order shown."""
    times = sample_times(item.content, store.n_frames)
    if times is None:
        return None
    if len(times) != store.n_frames:
        warn(
            f"{item.path} has {store.n_frames} frames and {len(times)} time stamps; the first "
            f"{min(store.n_frames, len(times))} of both were taken to belong together."
        )
        times = times[: store.n_frames]
    return _timeline(item.path, item.path, np.arange(len(times)), times, None, store, False, warn, item.name)


def by_index(item: Item, key: str, store: FrameStore, warn: Warn) -> Timeline | None:
    """Read an ``IndexSeries``: the time of each onset, and an index into a template."""
    series = item.content
    frames = read_all(series.data, item.path).ravel()
    times = sample_times(series, len(frames))
    if times is None:
        warn(f"{item.path} was left out: it has no clock.")
        return None
    n = min(len(frames), len(times))
    # a blank is stored as -1, which an unsigned data type turns into its largest value
    frames = np.where(frames[:n] < store.n_frames, frames[:n].astype(np.int64), -1)
    return _timeline(item.path, key, frames, times[:n], None, store, True, warn, item.name)


def by_frame_column(table: IntervalTable, stores: Mapping[str, FrameStore], warn: Warn) -> list[Timeline]:
    """Read a table of intervals, one a frame, whose column ``frame`` is an index into a template.

    The template is told by ``stimulus_name`` or by the name of the table; the table's may have ``movie_`` before and
    ``_presentations`` behind it that the template's has not.
    """
    rows = table.rows
    if frames_named(table) is None:
        return []
    named = rows["stimulus_name"].astype(str) if "stimulus_name" in rows else rows["frame"].astype(str) * 0
    timelines = []
    for name, part in rows.groupby(named, sort=False):
        key = _match(str(name), stores) or (_match(table.name, stores) if named.nunique() == 1 else None)
        if key is None:
            if stimulus_kind(str(name), table.name, unknown="") == "gray":
                continue
            warn(f"{table.path} shows frames of {name or table.name}, of which the file has no template.")
            continue
        frame = part["frame"].to_numpy(dtype=float)
        frames = np.where(np.isfinite(frame), frame, -1).round().astype(np.int64)
        timeline = _timeline(
            table.path,
            key,
            np.where(frames < stores[key].n_frames, frames, -1),
            part["start_time"].to_numpy(dtype=float),
            part["stop_time"].to_numpy(dtype=float),
            stores[key],
            True,
            warn,
            str(name),
            table.name,
        )
        if timeline is not None:
            timelines.append(timeline)
    return timelines


def frames_named(table: IntervalTable) -> int | None:
    """How many frames a template must have for the column ``frame`` of a table; ``None`` if there is no such column."""
    if "frame" not in table.rows or table.rows["frame"].dtype.kind not in "iuf" or table.rows["frame"].isna().all():
        return None
    return int(table.rows["frame"].max()) + 1


def by_template_name(
    table: IntervalTable, stores: Mapping[str, FrameStore], rates: Mapping[str, float | None], warn: Warn
) -> list[tuple[Timeline, int]]:
    """Read a table of intervals that names, in each row, the template that was shown whole.

    A name may be a number, or end in the suffix of a file.

    Parameters
    ----------
    table
        The table.
    stores
        The templates.
    rates
        Frames per second of each template, where the file has it; else what the store has, or else its frames fill the
        interval evenly.
    warn
        Called with a sentence where not all names are those of a template, or frame rates and intervals disagree.

    Returns
    -------
    list of (Timeline, int)
        With the row of the table that each belongs to.
    """
    rows = table.rows
    for column in rows.columns:
        if pd.api.types.is_numeric_dtype(rows[column]) and not _NUMBERED.search(str(column)):
            continue
        names = [f"{value:g}" if isinstance(value, float) else str(value) for value in rows[column]]
        keys = [_match(name, stores, exactly=True) for name in names]
        if not any(keys) or (pd.api.types.is_numeric_dtype(rows[column]) and not all(keys)):
            continue
        if not all(keys):
            lacking = sorted({name for name, key in zip(names, keys, strict=True) if key is None})
            warn(f"{table.path} names {', '.join(lacking[:3])} ({len(lacking)} in all), of which there are no pixels.")
        found, stretched = [], dict[str, float]()
        for row, (start, stop, key) in enumerate(zip(rows["start_time"], rows["stop_time"], keys, strict=True)):
            if key is None:
                continue
            n_frames, rate = stores[key].n_frames, rates.get(key) or getattr(stores[key], "frame_rate", None)
            evenly = n_frames / (stop - start)
            # a rate that would not fill the interval to a tenth belongs to something else
            if rate is None or abs(rate / evenly - 1) >= 0.1:
                stretched |= {} if rate is None else {key: rate}
                rate = evenly
            onsets = start + np.arange(n_frames) / rate
            kind = stimulus_kind(key.rpartition("/")[2], table.name)
            ends = np.append(onsets[1:], onsets[-1] + 1 / rate)
            found.append((Timeline(table.path, key, np.arange(n_frames), onsets, ends, True, kind), row))
        for key, rate in stretched.items():
            warn(
                f"{key} has {stores[key].n_frames} frames at {rate:.4g} Hz, which do not fill the intervals of "
                f"{table.path}; its frames were spread over them evenly."
            )
        return found
    return []


def _match(name: str, stores: Mapping[str, FrameStore], *, exactly: bool = False) -> str | None:
    by_name = {key.rpartition("/")[2].lower(): key for key in stores}
    wanted = name.lower()
    if wanted in by_name:
        return by_name[wanted]
    if (stem := re.sub(r"\.(avi|mp4|mov|mkv|m4v|webm|npy|png|jpe?g|tiff?|bmp)$", "", wanted)) in by_name:
        return by_name[stem]
    if exactly:
        return None
    bare = {_bare(short): key for short, key in by_name.items()}
    return bare.get(_bare(wanted))


def _bare(name: str) -> str:
    previous = ""
    while previous != name:
        previous, name = name, _DECORATION.sub("", name)
    return name


def _timeline(
    path: str,
    key: str,
    frames: np.ndarray,
    onsets: np.ndarray,
    stops: np.ndarray | None,
    store: FrameStore,
    indexed: bool,
    warn: Warn,
    *names: str,
) -> Timeline | None:
    rows: Any = clean_clock(onsets)
    if rows is not None:
        warn(f"{path}: {len(onsets) - len(rows)} frames with a time stamp that is NaN or out of order were left out.")
        frames, onsets = frames[rows], onsets[rows]
        stops = None if stops is None else stops[rows]
    if len(onsets) == 0:
        return None
    ends = frame_ends(onsets)
    if stops is not None:
        ends = np.minimum(np.where(np.isfinite(stops), stops, ends), np.append(onsets[1:], np.inf))
    shown = (frames >= 0) & (frames < store.n_frames)
    if not shown.any():
        warn(f"{path} was left out: none of its indices is a frame of {key}.")
        return None
    frames, onsets, ends = frames[shown], onsets[shown], ends[shown]
    if indexed:
        frames, onsets, ends = _without_repeated_flips(frames, onsets, ends)
    return Timeline(path, key, frames, onsets, ends, indexed, stimulus_kind(*names, key.rpartition("/")[2]))


def _without_repeated_flips(
    frames: np.ndarray, onsets: np.ndarray, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Join the monitor's flips that show one frame on, so that each showing of a frame is counted once."""
    contiguous = onsets[1:] - ends[:-1] < 0.5 * np.median(ends - onsets)
    new = np.append(True, (np.diff(frames) != 0) | ~contiguous)
    last = np.append(np.flatnonzero(new)[1:] - 1, len(frames) - 1)
    return frames[new], onsets[new], ends[last]
