"""Spike times of sorted units, binned on a regular clock when they are asked for."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from nwbrecon.session.contents import Item
from nwbrecon.session.model import ResponseGroup, Signal, SignalKind
from nwbrecon.session.series import sliceable
from nwbrecon.session.tables import column_values

__all__ = ["SPIKE_INTERVAL", "find_units"]

SPIKE_INTERVAL = 1 / 60
"""Seconds a bin: half a frame of a movie at 30 Hz, since bins and frames are not in step."""

_LABELS = ("quality", "ks_label", "kslabel", "decoder_label", "unit_quality", "group_label")
_GOOD = frozenset({"good", "sua", "single", "single unit"})
_METRICS = (
    ("isi_violations", operator.lt, 0.5),
    ("amplitude_cutoff", operator.lt, 0.1),
    ("presence_ratio", operator.gt, 0.9),
)
"""Which units count as isolated, as in the Allen Institute's Neuropixels data; unknown metrics exclude no unit."""


def find_units(items: Sequence[Item], span: tuple[float, float], warn: Callable[[str], None]) -> list[ResponseGroup]:
    """Find the sorted units of a file, one group a probe.

    Parameters
    ----------
    items
        What the file holds.
    span
        Seconds between which spikes are counted.
    warn
        Called with each sentence about something skipped or guessed.

    Returns
    -------
    list of ResponseGroup
        Spike counts in bins of `SPIKE_INTERVAL`, read and binned when they are asked for. The ROI table holds what the
        file says of each unit in a plain column, and ``area`` and the place of its electrode, where known.
    """
    groups = []
    for item in items:
        units = item.content
        if "Units" not in item.types or "spike_times" not in units.colnames or len(units) == 0:
            continue
        spans = _ragged(units, "spike_times")
        if spans is None:
            warn(f"{item.path} was left out: the index of its spike times does not fit them.")
            continue
        table = _unit_table(units)
        good, reason = _isolated(table)
        if not good.all():
            warn(f"{item.path}: {(~good).sum()} of {len(good)} units were left out by {reason}.")
        probes = _probes(units, table)
        for name in dict.fromkeys(probes[good]):
            rows = np.flatnonzero(good & (probes == name))
            groups.append(_group(item, str(name), rows, table, span))
    return groups


def _group(item: Item, name: str, rows: np.ndarray, table: pd.DataFrame, span: tuple[float, float]) -> ResponseGroup:
    n_bins = max(2, int(np.ceil((span[1] - span[0]) / SPIKE_INTERVAL)) + 1)
    timestamps = span[0] + np.arange(n_bins) * SPIKE_INTERVAL
    counts = _SpikeCounts(item.content, rows, timestamps)
    signal = Signal(f"{item.path}/spike_times", SignalKind.SPIKES, "spikes", counts.read, (n_bins, len(rows)))
    return ResponseGroup(name=name, signal=signal, timestamps=timestamps, rois=table.iloc[rows])


class _SpikeCounts:
    """Spikes of some units, counted in the interval before each time stamp."""

    def __init__(self, units: Any, rows: np.ndarray, timestamps: np.ndarray) -> None:
        self._units, self._rows, self._timestamps = units, rows, timestamps

    def read(self, start: int, stop: int) -> np.ndarray:
        counts = np.zeros((max(0, stop - start), len(self._rows)), dtype=np.float32)
        for column, bins in enumerate(self._bins):
            first, last = np.searchsorted(bins, (start, stop))
            counts[:, column] = np.bincount(bins[first:last] - start, minlength=len(counts))
        for column, observed in enumerate(self._observed):
            if observed is not None:
                counts[~observed[start:stop], column] = np.nan
        return counts

    @cached_property
    def _bins(self) -> list[np.ndarray]:
        """Bin of each spike, unit by unit, in order: four bytes a spike."""
        times = sliceable(self._units["spike_times"].target.data)
        first, n_bins = self._timestamps[0], len(self._timestamps)
        found = []
        for low, high in _ragged(self._units, "spike_times")[self._rows]:  # type: ignore[index]
            # a bin ends with its time stamp
            bins = np.ceil((np.asarray(times[low:high], dtype=np.float64) - first) / SPIKE_INTERVAL - 1e-9)
            bins = bins[(bins >= 0) & (bins < n_bins)].astype(np.int32)
            found.append(bins if (np.diff(bins) >= 0).all() else np.sort(bins))
        return found

    @cached_property
    def _observed(self) -> list[np.ndarray | None]:
        """Which bins lie within the times at which each unit was observed; None where the file does not say."""
        spans = _ragged(self._units, "obs_intervals") if "obs_intervals" in self._units.colnames else None
        if spans is None:
            return [None] * len(self._rows)
        intervals = np.asarray(sliceable(self._units["obs_intervals"].target.data)[:], dtype=np.float64).reshape(-1, 2)
        stops = self._timestamps
        found: list[np.ndarray | None] = []
        for low, high in spans[self._rows]:
            inside = np.zeros(len(stops), dtype=bool)
            for start, stop in intervals[low:high]:
                inside |= (stops - SPIKE_INTERVAL >= start - 1e-9) & (stops <= stop + 1e-9)
            found.append(inside if high > low else None)
        return found


def _ragged(units: Any, name: str) -> np.ndarray | None:
    """Where each unit's part of a ragged column begins and ends: ``(unit, 2)``; None if it is not ragged or broken."""
    column = units[name]
    if not hasattr(column, "target"):
        return None
    ends = np.asarray(column.data[:], dtype=np.int64)
    if len(ends) != len(units) or (np.diff(ends, prepend=0) < 0).any():
        return None
    if len(ends) and ends[-1] > sliceable(column.target.data).shape[0]:
        return None
    return np.column_stack([np.append(0, ends[:-1]), ends])


def _unit_table(units: Any) -> pd.DataFrame:
    plain = {column.name: column_values(column, len(units)) for column in units.columns}
    table = pd.DataFrame(
        {name: values for name, values in plain.items() if values is not None and values.ndim == 1},
        index=pd.Index(np.asarray(units.id[:]), name="roi"),
    )
    electrodes, rows = _electrodes(units, table)
    if electrodes is not None:
        known = rows >= 0
        for name, target in (("location", "area"), ("group_name", "probe"), *((axis, axis) for axis in "xyz")):
            if name in electrodes and target not in table:
                values = electrodes[name].to_numpy()[np.maximum(rows, 0)]
                table[target] = pd.Series(values, index=table.index).where(known)
    return table


def _electrodes(units: Any, table: pd.DataFrame) -> tuple[pd.DataFrame | None, np.ndarray]:
    """Table of the electrodes, and for each unit the row of the one that it was seen best at, -1 where unknown."""
    nwbfile = units.get_ancestor("NWBFile")
    stored = getattr(nwbfile, "electrodes", None)
    nowhere = np.full(len(table), -1)
    if stored is None or len(stored) == 0:
        return None, nowhere
    columns = {column.name: column_values(column, len(stored)) for column in stored.columns}
    plain = {name: values for name, values in columns.items() if values is not None and values.ndim == 1}
    electrodes = pd.DataFrame(plain, index=np.asarray(stored.id[:]))
    if "peak_channel_id" in table and electrodes.index.is_unique:
        return electrodes, electrodes.index.get_indexer(table["peak_channel_id"])
    if "electrodes" not in units.colnames:
        return electrodes, nowhere
    spans = _ragged(units, "electrodes")
    column = units["electrodes"]
    region = np.asarray((column if spans is None else column.target).data[:], dtype=np.int64)
    firsts = np.arange(len(table)) if spans is None else np.where(np.diff(spans)[:, 0] > 0, spans[:, 0], -1)
    if len(region) == 0 or (region < 0).any() or (region >= len(electrodes)).any() or firsts.max() >= len(region):
        return electrodes, nowhere
    return electrodes, np.where(firsts >= 0, region[np.maximum(firsts, 0)], -1)


def _isolated(table: pd.DataFrame) -> tuple[np.ndarray, str]:
    """Which units are well isolated, and by which columns."""
    good, used = np.ones(len(table), dtype=bool), []
    for name in table.columns:
        values, low = table[name], str(name).lower()
        if low in _LABELS and values.astype(str).str.lower().isin(_GOOD).any():
            chosen = values.astype(str).str.lower().isin(_GOOD).to_numpy()
        elif low == "default_qc" and values.isin([0, 1, "True", "False"]).all():
            chosen = values.isin([1, "True"]).to_numpy()
        else:
            continue
        good &= chosen
        used.append(str(name))
    for name, better, limit in _METRICS:
        if name in table and table[name].dtype.kind in "iuf":
            values = table[name].to_numpy(dtype=float)
            good &= better(values, limit) | np.isnan(values)
            used.append(name)
    return (good, ", ".join(used)) if good.any() else (np.ones(len(table), dtype=bool), "")


def _probes(units: Any, table: pd.DataFrame) -> np.ndarray:
    """Name of the probe of each unit."""
    if "electrode_group" in units.colnames:
        groups = units["electrode_group"].data
        return np.array([str(groups[row].name) for row in range(len(units))], dtype=object)
    if "probe" in table:
        return table["probe"].fillna("units").astype(str).to_numpy(dtype=object)
    return np.full(len(table), "units", dtype=object)
