"""Clocks and values of a time series, whatever way the file stores them."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

import numpy as np

__all__ = ["clean_clock", "median_interval", "sample_times", "sample_values", "scaling", "sliceable"]


def sample_times(series: Any, n_samples: int) -> np.ndarray | None:
    """Seconds at which the samples of a series were taken.

    Parameters
    ----------
    series
        A time series with ``timestamps`` (its own or another's, by link), or ``starting_time`` and ``rate``.
    n_samples
        Number of its samples.

    Returns
    -------
    numpy.ndarray or None
        ``(sample,)`` float64, as stored: possibly with NaN or out of order, and not always ``n_samples`` long. ``None``
        where the file says nothing (some templates have a rate of NaN).
    """
    if series.timestamps is not None:
        times = np.asarray(series.timestamps[:], dtype=np.float64).ravel()
        return times if np.isfinite(times).any() else None
    rate, start = series.rate, series.starting_time
    if rate is None or not np.isfinite(rate) or rate <= 0:
        return None
    return (float(start) if start is not None and np.isfinite(start) else 0.0) + np.arange(n_samples) / float(rate)


def clean_clock(times: np.ndarray) -> np.ndarray | None:
    """Rows of the longest strictly increasing run of finite times, by leaving out as few samples as possible.

    Parameters
    ----------
    times
        ``(sample,)`` seconds, possibly with NaN, repeats or steps back.

    Returns
    -------
    numpy.ndarray or None
        ``(kept,)`` indices; ``None`` where all samples are good.

    Examples
    --------
    >>> clean_clock(np.array([0.0, 1.0, 99.0, 2.0, np.nan, 3.0])).tolist()
    [0, 1, 3, 5]
    """
    if np.isfinite(times).all() and (np.diff(times) > 0).all():
        return None
    # longest increasing subsequence (patience sorting): one stray value costs one sample, not all that follow it
    tails: list[float] = []
    tail_rows: list[int] = []
    before = np.full(len(times), -1)
    for row in np.flatnonzero(np.isfinite(times)).tolist():
        place = bisect_left(tails, times[row])
        if place == len(tails):
            tails.append(times[row])
            tail_rows.append(row)
        elif times[row] < tails[place]:
            tails[place], tail_rows[place] = times[row], row
        before[row] = tail_rows[place - 1] if place else -1
    rows = np.empty(len(tails), dtype=np.int64)
    row = tail_rows[-1] if tail_rows else -1
    for place in range(len(tails) - 1, -1, -1):
        rows[place] = row
        row = int(before[row])
    return rows


def median_interval(times: np.ndarray) -> float:
    """Median of the seconds between samples."""
    return float(np.median(np.diff(times)))


def scaling(series: Any) -> tuple[float, float]:
    """``(conversion, offset)`` that turn stored values into the series' unit: ``stored * conversion + offset``."""
    pair = []
    for name, default in (("conversion", 1.0), ("offset", 0.0)):
        value = getattr(series, name, None)
        pair.append(float(value) if value is not None and np.isfinite(value) else default)
    return pair[0], pair[1]


def sliceable(data: Any) -> Any:
    """Give the array behind the data of a series, unread; lists and wrappers of a file made in memory included."""
    if hasattr(data, "shape") and hasattr(data, "dtype"):
        return data
    return sliceable(data.data) if hasattr(data, "data") and hasattr(data.data, "__len__") else np.asarray(data)


def sample_values(series: Any) -> np.ndarray:
    """All values of a series in its unit, float64, conversion and offset applied."""
    conversion, offset = scaling(series)
    return np.asarray(series.data[:], dtype=np.float64) * conversion + offset
