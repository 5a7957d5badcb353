"""Which series of a file are responses, what they are, and which of them are the same ROIs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nwbrecon.session.contents import Item
from nwbrecon.session.model import PREFERENCE, ResponseGroup, Signal, SignalKind
from nwbrecon.session.rois import RoiTable, read_roi_table
from nwbrecon.session.series import clean_clock, explained, read_all, sample_times, scaling, sliceable, stored_bytes

__all__ = ["find_responses", "signal_kind"]

# tried in this order: "neuropil_corrected" is corrected, "dff_events" is events
_KINDS = (
    (SignalKind.EVENTS, r"event|deconv|spike|oasis|inferred|mcmc"),
    (SignalKind.DFF, r"dff|dfoverf|deltaf"),
    (SignalKind.CORRECTED, r"correct|subtract|denoised"),
    (SignalKind.NEUROPIL, r"neuropil|fneu|npil"),
)
# a module a plane, such as VISp_0
_AREA = re.compile(r"(VIS[a-z]*|V1|LM|AL|RL|AM|PM|LI|POR|RSP[a-z]*)_\d+")
LARGE_BYTES, LEAST_SHARE = 2**33, 2000
"""More bytes than this are believed if they are not compressed by more than so much, which no codec can."""
_BACKGROUND = re.compile(r"background|baseline", re.IGNORECASE)


def signal_kind(path: str, types: set[str] = frozenset()) -> SignalKind:  # type: ignore[assignment]
    """Tell from the names of a series and of its containers, and from its type, what its values are.

    The name of the series counts before the name of its container, and that before the module's.

    Examples
    --------
    >>> signal_kind("processing/ophys/DfOverF/DfOverFEvents").value
    'events'
    >>> signal_kind("processing/ophys/neuropil_trace/traces").value
    'neuropil'
    >>> signal_kind("processing/ophys/Fluorescence/RoiResponseSeries1").value
    'raw fluorescence'
    """
    names = path.split("/")[::-1]
    for name in (names[0], *sorted(types), *names[1:]):
        spelled = re.sub(r"[^a-z0-9]", "", name.lower())
        for kind, pattern in _KINDS:
            if re.search(pattern, spelled):
                return kind
        if spelled in {"fluorescence", "demixed", "raw", "f"}:
            return SignalKind.RAW
    return SignalKind.RAW


@dataclass
class _Stored:
    """A series of ROI responses with the rows of the ROI table that its columns stand for."""

    item: Item
    kind: SignalKind
    region: np.ndarray
    n_samples: int
    transposed: bool


def find_responses(items: Sequence[Item], warn: Callable[[str], None]) -> list[ResponseGroup]:
    """Find the response groups of one file.

    Series that refer to the same rows of the same ROI table are alternative signals of the same cells; each further
    table, and each further set of rows, is a group (an imaging plane) of its own.

    Parameters
    ----------
    items
        What the file holds.
    warn
        Called with each sentence about something skipped or guessed.

    Returns
    -------
    list of ResponseGroup
        With the preferred signal in use, in order of the file.
    """
    families: list[list[_Stored]] = []
    for item in items:
        if getattr(item.content, "rois", None) is None or not item.is_series:
            continue
        table = item.content.rois.table
        if _BACKGROUND.search(item.name) or _BACKGROUND.search(table.name):
            warn(f"{item.path} was left out: by its name it is background, not cells.")
            continue
        stored = _look_at(item, warn)
        if stored is not None:
            _sort_in(stored, families)
    groups, tables = [], dict[int, RoiTable]()
    for family in families:
        table = family[0].item.content.rois.table
        if id(table) not in tables:
            tables[id(table)] = read_roi_table(table)
        group = _group(family, tables[id(table)], warn)
        if group is not None:
            groups.append(group)
    return groups


def _look_at(item: Item, warn: Callable[[str], None]) -> _Stored | None:
    series = item.content
    shape = tuple(sliceable(series.data).shape)
    data = sliceable(series.data)
    if data.dtype.kind not in "biuf":
        warn(f"{item.path} was left out: it does not hold numbers.")
        return None
    if math.prod(shape) * data.dtype.itemsize > LARGE_BYTES and stored_bytes(data) * LEAST_SHARE < data.nbytes:
        warn(f"{item.path} was left out: it claims {data.nbytes:.3g} bytes, of which next to nothing is there.")
        return None
    region = read_all(series.rois.data, f"The ROIs of {item.path}").astype(np.int64)
    if len(shape) == 1:
        shape = (shape[0], 1)
    if len(shape) != 2 or 0 in shape:
        warn(f"{item.path} was left out: its data has the shape {shape}, not (sample, ROI).")
        return None
    n_times = None if series.timestamps is None else len(series.timestamps)
    transposed = shape[1] != len(region) and shape[0] == len(region)
    if transposed and n_times == shape[0]:
        transposed = False
    n_samples, n_columns = shape[::-1] if transposed else shape
    n_rows = len(series.rois.table)
    if n_columns != len(region) and n_columns == n_rows:
        warn(f"{item.path} names {len(region)} ROIs for its {n_columns} columns; the table's {n_rows} were taken.")
        region = np.arange(n_rows)
    if n_columns != len(region) or (region.size and (region.min() < 0 or region.max() >= n_rows)):
        warn(f"{item.path} was left out: its {n_columns} columns do not fit its {len(region)} ROIs ({n_rows} in all).")
        return None
    if transposed:
        warn(f"{item.path} is stored as (ROI, sample) and is read transposed.")
    return _Stored(item, signal_kind(item.path, {type(series).__name__}), region, n_samples, transposed)


def _sort_in(stored: _Stored, families: list[list[_Stored]]) -> None:
    table = stored.item.content.rois.table
    for family in families:
        same_table = family[0].item.content.rois.table is table
        if same_table and np.intersect1d(family[0].region, stored.region).size:
            family.append(stored)
            return
    families.append([stored])


def _group(family: list[_Stored], table: RoiTable, warn: Callable[[str], None]) -> ResponseGroup | None:
    candidates = sorted(
        (stored for stored in family if stored.kind in PREFERENCE), key=lambda stored: PREFERENCE.index(stored.kind)
    )
    if not candidates:
        warn(f"{family[0].item.path} was left out: it is {family[0].kind.value} without the cells' own signal.")
        return None
    first = candidates[0]
    times, rows = _clock(candidates, table, warn)
    if times is None:
        warn(f"{first.item.path} was left out: the file does not say when it was sampled.")
        return None
    region = first.region[table.cells[first.region]]
    if len(region) < len(first.region):
        warn(
            f"{table.name}: {len(first.region) - len(region)} of {len(first.region)} ROIs were left out{table.reason}."
        )
    signals = {
        stored.item.path: _signal(stored, region, times, rows)
        for stored in family
        if _covers(stored, first, region, warn)
    }
    neuropil = next((s for s in signals.values() if s.kind is SignalKind.NEUROPIL), None)
    chosen = signals.pop(first.item.path)
    rois = table.rois.iloc[region]
    module = _AREA.fullmatch(first.item.parents[1]) if len(first.item.parents) > 1 else None
    if "area" not in rois and module:
        rois = rois.assign(area=module[1])
    return ResponseGroup(
        name=table.plane,
        signal=chosen,
        timestamps=times,
        rois=rois,
        indicator=table.indicator,
        neuropil=neuropil,
        alternatives={path: s for path, s in signals.items() if s.kind is not SignalKind.NEUROPIL},
    )


def _clock(
    candidates: Sequence[_Stored], table: RoiTable, warn: Callable[[str], None]
) -> tuple[np.ndarray | None, np.ndarray | None]:
    first = candidates[0]
    for stored in candidates:
        times = sample_times(stored.item.content, stored.n_samples) if stored.n_samples == first.n_samples else None
        if times is not None:
            break
    else:
        if table.imaging_rate is None:
            return None, None
        warn(
            f"{first.item.path} has no clock; its samples were taken to begin at 0 s at the plane's imaging rate, "
            f"{table.imaging_rate:g} Hz."
        )
        times = np.arange(first.n_samples) / table.imaging_rate
    if len(times) != first.n_samples:
        warn(
            f"{first.item.path} has {first.n_samples} samples and {len(times)} time stamps; "
            f"the first {min(first.n_samples, len(times))} of both were taken to belong together."
        )
        times = times[: first.n_samples]
    rows = clean_clock(times)
    if rows is None:
        return times, np.arange(len(times)) if len(times) < first.n_samples else None
    if len(rows) < 2:
        return None, None
    warn(f"{first.item.path}: {len(times) - len(rows)} samples with a time stamp that is NaN or out of order left out.")
    return times[rows], rows


def _covers(stored: _Stored, first: _Stored, region: np.ndarray, warn: Callable[[str], None]) -> bool:
    if stored.n_samples == first.n_samples and np.isin(region, stored.region).all():
        return True
    warn(f"{stored.item.path} was left out: it does not have the samples and ROIs of {first.item.path}.")
    return False


def _signal(stored: _Stored, region: np.ndarray, times: np.ndarray, rows: np.ndarray | None) -> Signal:
    series = stored.item.content
    place: Mapping[int, int] = {int(row): column for column, row in enumerate(stored.region)}
    columns = np.array([place[int(row)] for row in region], dtype=np.int64)
    everything = np.array_equal(columns, np.arange(len(stored.region)))
    conversion, offset = scaling(series)
    data = sliceable(series.data)

    def read(start: int, stop: int) -> np.ndarray:
        if rows is None:
            values = _slice(data, slice(start, stop), stored.transposed, stored.item.path)
        else:
            wanted = rows[start:stop]
            if len(wanted) == 0:
                return np.empty((0, len(columns)), dtype=np.float32)
            values = _slice(data, slice(int(wanted[0]), int(wanted[-1]) + 1), stored.transposed, stored.item.path)
            values = values[wanted - wanted[0]]
        values = (values if everything else values[:, columns]).astype(np.float32)
        if conversion != 1:
            values *= np.float32(conversion)
        if offset:
            values += np.float32(offset)
        return values

    return Signal(stored.item.path, stored.kind, str(series.unit), read, (len(times), len(region)))


def _slice(data: Any, samples: slice, transposed: bool, path: str) -> np.ndarray:
    with explained(path):
        values = np.asarray(data[:, samples].T if transposed else data[samples])
    return values[:, None] if values.ndim == 1 else values
