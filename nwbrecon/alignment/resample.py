"""From one clock to another without inventing anything: pure functions of arrays.

Conventions. Times are seconds. A *bin* is the half-open time ``[start, stop)``, such as the time for which a frame of
the common clock stands. A *count* at ``t[k]`` belongs to the preceding interval ``(t[k-1], t[k]]`` and is spread evenly
over it, so that its area is kept (spikes, deconvolved events). A *point sample* at ``t[k]`` is the value at that
instant; between two of them the signal is the straight line (dF/F, running speed, pupil). A *displayed frame* stands
from its onset until the next one's; so does a *held* value.

Nothing is carried across an interval longer than ``longest``, nor outside the first and last sample: what is not
covered is NaN. A bin counts as covered when all but a thousandth of it is, which forgives rounding.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import sparse

from nwbrecon.errors import AlignmentError

__all__ = [
    "COVERED",
    "bin_averages",
    "bin_counts",
    "coverage",
    "held_averages",
    "held_weights",
    "interval_weights",
    "overlaps",
]

COVERED = 0.999
"""Share of a bin or interval that must be covered for it to count as covered."""


def overlaps(
    starts: np.ndarray, stops: np.ndarray, source_starts: np.ndarray, source_stops: np.ndarray
) -> sparse.csr_array:
    """Seconds that each bin shares with each source interval.

    Parameters
    ----------
    starts, stops
        ``(bin,)`` in any order; bins may overlap one another.
    source_starts, source_stops
        ``(source,)`` in time order, not overlapping; gaps between them are allowed.

    Returns
    -------
    scipy.sparse.csr_array
        ``(bin, source)`` seconds, free of entries that are mere rounding.

    Examples
    --------
    >>> overlaps(np.array([0.0, 1.0]), np.array([1.0, 2.0]), np.array([0.5]), np.array([1.75])).toarray()
    array([[0.5 ],
           [0.75]])
    """
    first = np.searchsorted(source_stops, starts, side="right")
    last = np.searchsorted(source_starts, stops, side="left")
    per_bin = np.maximum(last - first, 0)
    rows = np.repeat(np.arange(len(starts)), per_bin)
    columns = np.arange(per_bin.sum()) + np.repeat(first - np.cumsum(per_bin) + per_bin, per_bin)
    shared = np.minimum(stops[rows], source_stops[columns]) - np.maximum(starts[rows], source_starts[columns])
    shortest = np.minimum(stops[rows] - starts[rows], source_stops[columns] - source_starts[columns])
    real = shared > 1e-6 * shortest
    return sparse.csr_array(
        (shared[real], (rows[real], columns[real])), shape=(len(starts), len(source_starts)), dtype=float
    )


def interval_weights(
    frame_times: np.ndarray, frame_interval: float, sample_times: np.ndarray, *, longest: float = np.inf
) -> tuple[np.ndarray, np.ndarray]:
    """Weights that turn counts per frame into expected counts per sample.

    Row ``k`` holds the share of each frame's bin that lies in the interval ``(sample_times[k-1], sample_times[k]]``
    which sample ``k`` counts; ``weights @ counts_per_frame`` is what sample ``k`` is expected to count if each frame's
    count is spread evenly over the frame.

    Parameters
    ----------
    frame_times
        ``(frame,)`` onset of each frame (s), increasing; frame ``f`` stands in
        ``[frame_times[f], frame_times[f] + frame_interval)``.
    frame_interval
        Seconds per frame.
    sample_times
        ``(sample,)`` seconds, increasing. The interval of the first sample is unknown: pass one sample more in front.
    longest
        Intervals longer than this (s) are gaps in the recording; their samples are not covered.

    Returns
    -------
    weights : numpy.ndarray
        ``(sample, frame)``, each column summing to 1 at most.
    covered : numpy.ndarray
        ``(sample,)`` bool: the frames cover the whole of the sample's interval.

    Raises
    ------
    AlignmentError
        If `sample_times` or `frame_times` do not increase.

    Examples
    --------
    >>> weights, covered = interval_weights(np.array([0.0, 0.5, 1.0]), 0.5, np.array([0.0, 0.75, 1.5]))
    >>> weights
    array([[0. , 0. , 0. ],
           [1. , 0.5, 0. ],
           [0. , 0.5, 1. ]])
    >>> covered
    array([False,  True,  True])
    """
    _require_increasing(frame_times, "Frame times")
    starts, stops, kept = _sample_intervals(sample_times, longest)
    # rounding of the frames' onsets must not make neighbors overlap
    frame_stops = np.minimum(frame_times + frame_interval, np.append(frame_times[1:], np.inf))
    shared = overlaps(starts[kept], stops[kept], frame_times, frame_stops)
    weights = np.zeros((len(sample_times), len(frame_times)))
    covered = np.zeros(len(sample_times), dtype=bool)
    samples = np.flatnonzero(kept) + 1
    weights[samples] = shared.toarray() / frame_interval
    covered[samples] = np.asarray(shared.sum(axis=1)) >= COVERED * (stops - starts)[kept]
    return weights, covered


def bin_counts(
    sample_times: np.ndarray, counts: np.ndarray, starts: np.ndarray, stops: np.ndarray, *, longest: float = np.inf
) -> np.ndarray:
    """Area-preserving resampling of counts over preceding intervals.

    Parameters
    ----------
    sample_times
        ``(sample,)`` seconds, increasing.
    counts
        ``(sample, ...)`` what happened in ``(sample_times[k-1], sample_times[k]]``; NaN where missing. The first one is
        not used, since its interval is unknown.
    starts, stops
        ``(bin,)`` seconds.
    longest
        Intervals longer than this (s) are gaps in the recording.

    Returns
    -------
    numpy.ndarray
        ``(bin, ...)`` float64 counts per bin; over bins that tile the samples' intervals they sum to the sum of the
        counts. NaN where a bin is not covered or touches a missing count.

    Raises
    ------
    AlignmentError
        If `sample_times` do not increase.

    Examples
    --------
    >>> edges = np.arange(0, 5) / 4
    >>> bin_counts(np.array([0.0, 0.5, 1.0]), np.array([9.0, 2.0, 4.0]), edges[:-1], edges[1:])
    array([1., 1., 2., 2.])
    """
    sample_starts, sample_stops, kept = _sample_intervals(sample_times, longest)
    shared = overlaps(starts, stops, sample_starts[kept], sample_stops[kept])
    covered = np.asarray(shared.sum(axis=1)) >= COVERED * (stops - starts)
    return _apply(shared / (sample_stops - sample_starts)[kept], np.asarray(counts)[1:][kept], covered)


def bin_averages(
    sample_times: np.ndarray, values: np.ndarray, starts: np.ndarray, stops: np.ndarray, *, longest: float = np.inf
) -> np.ndarray:
    """Average over each bin of the straight lines between point samples.

    Where samples are denser than bins this is a box average, which keeps faster fluctuations from folding into slower
    ones; where they are sparser it is linear interpolation. It is exact for a signal that is linear between samples.

    Parameters
    ----------
    sample_times
        ``(sample,)`` seconds, increasing.
    values
        ``(sample, ...)`` values at those instants; NaN where missing. A NaN spoils the bins that touch the lines on
        either side; drop NaN samples first where a short gap may be bridged.
    starts, stops
        ``(bin,)`` seconds.
    longest
        Longest interval (s) between samples that a line may bridge.

    Returns
    -------
    numpy.ndarray
        ``(bin, ...)`` float64; NaN where a bin is not covered.

    Raises
    ------
    AlignmentError
        If `sample_times` do not increase.

    Examples
    --------
    >>> bin_averages(np.array([0.0, 1.0]), np.array([0.0, 10.0]), np.array([0.0, 0.5, 0.8]), np.array([0.5, 1.0, 1.3]))
    array([2.5, 7.5, nan])
    """
    line_starts, line_stops, kept = _sample_intervals(sample_times, longest)
    shared = overlaps(starts, stops, line_starts[kept], line_stops[kept]).tocoo()
    bins, lines = shared.coords
    lines = np.flatnonzero(kept)[lines]
    # the integral of a straight line over a stretch is its length times the value at its middle
    middle = (
        np.maximum(starts[bins], line_starts[lines]) + np.minimum(stops[bins], line_stops[lines])
    ) / 2 - line_starts[lines]
    later = middle / (line_stops - line_starts)[lines]
    weight = shared.data / (stops - starts)[bins]
    weights = sparse.csr_array(
        (
            np.concatenate([weight * (1 - later), weight * later]),
            (np.concatenate([bins, bins]), np.concatenate([lines, lines + 1])),
        ),
        shape=(len(starts), len(sample_times)),
    )
    covered = np.bincount(bins, weight, minlength=len(starts)) >= COVERED
    return _apply(weights, np.asarray(values), covered)


def held_averages(
    sample_times: np.ndarray,
    values: np.ndarray,
    starts: np.ndarray,
    stops: np.ndarray,
    *,
    longest: float = np.inf,
    usual: float,
) -> np.ndarray:
    """Average over each bin of values that each stand until the next sample.

    Parameters
    ----------
    sample_times
        ``(sample,)`` seconds, increasing.
    values
        ``(sample, ...)`` what stands from each of these instants on; NaN where missing.
    starts, stops
        ``(bin,)`` seconds.
    longest
        Longest interval (s) to the next sample for which a value stands.
    usual
        Seconds for which a value stands where the next sample is farther away, or there is none.

    Returns
    -------
    numpy.ndarray
        ``(bin, ...)`` float64; NaN where a bin is not covered.

    Raises
    ------
    AlignmentError
        If `sample_times` do not increase.

    Examples
    --------
    >>> bins = np.array([0.0, 1.0, 1.5]), np.array([1.0, 2.0, 2.5])
    >>> held_averages(np.array([0.0, 1.0]), np.array([2.0, 6.0]), *bins, usual=1.0)
    array([ 2.,  6., nan])
    """
    _require_increasing(sample_times, "Sample times")
    following = np.append(sample_times[1:], np.inf)[: len(sample_times)]
    reached = np.isfinite(following) & (following - sample_times <= longest)
    ends = np.where(reached, following, sample_times + usual)
    shared = overlaps(starts, stops, sample_times, np.minimum(ends, following))
    covered = np.asarray(shared.sum(axis=1)) >= COVERED * (stops - starts)
    return _apply(_shares(shared), np.asarray(values), covered)


def coverage(
    sample_times: np.ndarray, present: np.ndarray, starts: np.ndarray, stops: np.ndarray, *, longest: float = np.inf
) -> np.ndarray:
    """Whether samples cover each bin.

    Parameters
    ----------
    sample_times
        ``(sample,)`` seconds, increasing.
    present
        ``(sample,)`` bool: the interval before the sample holds data.
    starts, stops
        ``(bin,)`` seconds.
    longest
        Intervals longer than this (s) are gaps in the recording.

    Returns
    -------
    numpy.ndarray
        ``(bin,)`` bool.

    Raises
    ------
    AlignmentError
        If `sample_times` do not increase.
    """
    sample_starts, sample_stops, kept = _sample_intervals(sample_times, longest)
    kept &= present[1:]
    shared = overlaps(starts, stops, sample_starts[kept], sample_stops[kept])
    return np.asarray(shared.sum(axis=1)) >= COVERED * (stops - starts)


def held_weights(edges: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> sparse.csr_array:
    """Weights of displayed frames in each bin of the common clock.

    Each displayed frame stands from its onset until the next one's, the last until `end`; a bin shows their average,
    weighted by the time for which each stood in it.

    Parameters
    ----------
    edges
        ``(displayed + 1,)`` seconds, increasing: the onset of each displayed frame, and the end of the last.
    starts, stops
        ``(bin,)`` seconds.

    Returns
    -------
    scipy.sparse.csr_array
        ``(bin, displayed)``; rows sum to 1, or to 0 where nothing was displayed.

    Raises
    ------
    AlignmentError
        If `edges` do not increase.

    Examples
    --------
    >>> held_weights(np.array([0.0, 0.25, 1.0, 2.0]), np.array([0.0, 1.0]), np.array([1.0, 2.0])).toarray()
    array([[0.25, 0.75, 0.  ],
           [0.  , 0.  , 1.  ]])
    """
    _require_increasing(edges, "Frame onsets and the end of the last frame")
    shared = overlaps(starts, stops, edges[:-1], edges[1:])
    return _shares(shared)


def _shares(shared: sparse.csr_array) -> sparse.csr_array:
    # of what was there, not of the bin, so that a bin with one value has that value whatever the rounding of clocks
    total = np.asarray(shared.sum(axis=1))
    return sparse.csr_array(sparse.diags_array(np.divide(1, total, out=np.zeros_like(total), where=total > 0)) @ shared)


def _sample_intervals(times: np.ndarray, longest: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    _require_increasing(times, "Sample times")
    return times[:-1], times[1:], np.diff(times) <= longest


def _apply(weights: sparse.sparray, values: np.ndarray, covered: np.ndarray) -> np.ndarray:
    flat = values.reshape(len(values), math.prod(values.shape[1:]))
    missing = ~np.isfinite(flat)
    if missing.any():
        result = weights @ np.where(missing, 0, flat)
        result[(weights != 0).astype(float) @ missing.astype(float) > 0] = np.nan
    else:
        result = weights @ flat
    result[~covered] = np.nan
    return np.asarray(result, dtype=float).reshape(len(covered), *values.shape[1:])


def _require_increasing(times: np.ndarray, what: str) -> None:
    steps = np.diff(times)
    if not (np.isfinite(times).all() and (steps > 0).all()):
        worst = int(np.argmin(np.where(np.isfinite(steps), steps, -np.inf))) if len(steps) else 0
        raise AlignmentError(
            f"{what} do not increase near entry {worst} of {len(times)}.",
            "They must be finite and each later than the one before.",
        )
