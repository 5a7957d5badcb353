"""Clocks and values of a time series, whatever way the file stores them."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from nwbrecon.errors import SessionError

__all__ = [
    "clean_clock",
    "explained",
    "median_interval",
    "read_all",
    "require_possible",
    "sample_times",
    "sample_values",
    "scaling",
    "sliceable",
    "stored_bytes",
]

MOST_VALUES = 2**27
"""No clock, trace or column of a recording has more; one that claims them would only exhaust the memory (1 GB)."""


def require_possible(n_values: int, what: str) -> None:
    """Refuse what claims more values than `MOST_VALUES`.

    Raises
    ------
    SessionError
        If it does.
    """
    if n_values > MOST_VALUES:
        raise SessionError(
            f"{what} claims {n_values:.3g} values.",
            f"Clocks, traces and columns of up to {MOST_VALUES:.3g} were expected.",
            "The file is damaged, or this is not what it seems.",
        )


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn the errors of reading an array into one that names it."""
    try:
        yield
    except (OSError, RuntimeError, MemoryError) as error:
        raise SessionError(
            f"{what} cannot be read ({error}).", action="The file is probably damaged; copy or download it again."
        ) from error


def read_all(data: Any, what: str) -> np.ndarray:
    """All values of an array in a file, which must fit into memory: a clock, a trace, a column.

    Raises
    ------
    SessionError
        If it claims too many, or cannot be read.
    """
    shape = data.shape if hasattr(data, "shape") else np.shape(data)
    require_possible(math.prod(shape), what)
    with explained(what):
        return np.asarray(data[:])


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
        times = _numbers(read_all(series.timestamps, f"The clock of {series.name}"), series.name).ravel()
        return times if np.isfinite(times).any() else None
    rate, start = series.rate, series.starting_time
    if rate is None or not np.isfinite(rate) or rate <= 0:
        return None
    require_possible(n_samples, series.name)
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


def stored_bytes(data: Any) -> int:
    """How many bytes of an array are in the file; all of them where the file does not say."""
    return int(data.id.get_storage_size()) if hasattr(getattr(data, "id", None), "get_storage_size") else data.nbytes


def sliceable(data: Any) -> Any:
    """Give the array behind the data of a series, unread; lists and wrappers of a file made in memory included."""
    if hasattr(data, "shape") and hasattr(data, "dtype"):
        return data
    return sliceable(data.data) if hasattr(data, "data") and hasattr(data.data, "__len__") else np.asarray(data)


def sample_values(series: Any) -> np.ndarray:
    """All values of a series in its unit, float64, conversion and offset applied."""
    conversion, offset = scaling(series)
    return _numbers(read_all(series.data, series.name), series.name) * conversion + offset


def _numbers(values: np.ndarray, what: str) -> np.ndarray:
    if values.dtype.kind not in "biuf":
        raise SessionError(f"{what} holds {values.dtype}, not numbers.")
    return values.astype(np.float64)
