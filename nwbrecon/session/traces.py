"""Behavioral traces as a file stores them, on clean clocks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nwbrecon.errors import SessionError
from nwbrecon.session.contents import Item
from nwbrecon.session.model import BehaviorSeries
from nwbrecon.session.series import clean_clock, sample_times, sample_values

__all__ = ["Trace", "behavior_series", "named", "read_trace", "traces_of", "without_blinks"]

Warn = Callable[[str], None]

_MEASURES = ("area", "area_raw", "width", "height")


@dataclass
class Column:
    """A trace that is no series of its own: a column of a table, or a measure that a series of an extension carries."""

    name: str
    data: np.ndarray
    timestamps: np.ndarray | None
    unit: str
    rate: float | None = None
    starting_time: float | None = None


@dataclass
class Trace:
    """Values of one object on a clock that increases; NaN where missing."""

    item: Item
    times: np.ndarray
    values: np.ndarray


def traces_of(items: Sequence[Item]) -> list[Item]:
    """List what may be behavior: series, what series of extensions carry beside their data, and columns of tables.

    A table is taken if it has a column ``timestamps``, as fits of ellipses to the eye have in some archives.
    """
    found: list[Item] = []
    for item in items:
        if item.parents[0] not in {"acquisition", "processing", "analysis"}:
            continue
        if item.is_series and not item.is_images_over_time and getattr(item.content, "rois", None) is None:
            found += [item, *_measures(item)]
        elif "DynamicTable" in item.types and "timestamps" in item.content.colnames:
            found += _columns(item)
    return found


def _measures(item: Item) -> Iterator[Item]:
    series = item.content
    for name in _MEASURES:
        data = getattr(series, name, None)
        if data is not None and np.ndim(data) == 1 and len(data) == len(series.data):
            column = Column(name, data, series.timestamps, str(series.unit), series.rate, series.starting_time)
            yield Item(f"{item.path}/{name}", column)


def _columns(item: Item) -> Iterator[Item]:
    table = item.content
    times = np.asarray(table["timestamps"][:], dtype=np.float64)
    for name in table.colnames:
        data = np.asarray(table[name][:]) if name != "timestamps" else np.empty(0)
        if data.ndim == 1 and data.dtype.kind in "biuf" and len(data) == len(times) > 0:
            yield Item(f"{item.path}/{name}", Column(name, data, times, _unit_told(table[name].description)))


def _unit_told(description: str) -> str:
    match = re.search(r"\b(pixels?|px|mm|cm|m|degrees?|deg)\b", description, re.IGNORECASE)
    return match.group(1) if match else "as stored"


def named(traces: Sequence[Item], pattern: str) -> Item | None:
    """Find the first trace whose name matches."""
    return next((item for item in traces if re.search(pattern, item.name, re.IGNORECASE)), None)


def read_trace(item: Item, warn: Warn) -> Trace | None:
    """Values and clock of a trace; samples with bad time stamps are left out, infinities are missing.

    ``None``, and a sentence, where it has no values or no clock.
    """
    try:
        values = sample_values(item.content)
        times = sample_times(item.content, len(values)) if values.ndim else None
    except SessionError as error:
        warn(f"{item.path} was left out: {error.found}")
        return None
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if times is None or len(values) == 0:
        warn(f"{item.path} was left out: it has no {'values' if values.size == 0 else 'clock'}.")
        return None
    n = min(len(values), len(times))
    if len(times) != len(values):
        warn(f"{item.path} has {len(values)} samples and {len(times)} time stamps; the surplus was left out.")
    rows = clean_clock(times[:n])
    if rows is None:
        rows = np.arange(n)
    if len(rows) < n:
        warn(f"{item.path}: {n - len(rows)} samples with bad time stamps were left out.")
    values = values[rows]
    return Trace(item, times[rows], np.where(np.isfinite(values), values, np.nan))


def without_blinks(trace: Trace, traces: Sequence[Item], warn: Warn) -> None:
    """Mask the samples of an eye's trace that a series ``…blink…`` beside it calls blinks.

    Each sample is judged by the sample of that series that is nearest in time.
    """
    parents = trace.item.parents
    blinks = [item for item in traces if re.search("blink", item.name, re.IGNORECASE)]
    beside = [item for item in blinks if parents[: len(item.parents)] == item.parents]
    for item in beside or (blinks if len(blinks) == 1 else []):
        told = read_trace(item, warn)
        if told is None or told.values.ndim != 1 or not np.isin(told.values, (0, 1)).all():
            continue
        middles = (told.times[1:] + told.times[:-1]) / 2
        blinking = told.values[np.searchsorted(middles, trace.times)] == 1
        trace.values[blinking] = np.nan


def behavior_series(name: str, trace: Trace, values: np.ndarray, unit: str, words: str) -> BehaviorSeries:
    """Make a variable of a trace; ``words`` say how its values came about."""
    held = getattr(trace.item.content, "continuity", None) == "step"
    return BehaviorSeries(name, values, trace.times, unit, f"{words}; {trace.item.path}", held)
