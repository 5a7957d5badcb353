"""From fluorescence to the activity behind it: non-negative AR(1) deconvolution, exact and linear in time."""

from __future__ import annotations

import re

import numpy as np
from scipy.ndimage import uniform_filter1d
from scipy.optimize import isotonic_regression

__all__ = ["deconvolve", "estimate_decay", "noise_level", "usual_decay"]

LONGEST_REACH = 300.0
"""Decay times on either side of a segment's middle; ``exp(2 * 300)`` is still a float64."""
DECAY_RANGE = (0.05, 5.0)
"""No calcium indicator decays faster or slower (s)."""
DECAY_LAGS = 1.0
"""The autocovariance is fitted up to this lag (s)."""
SLOW = 10.0
"""What changes over longer than this (s) is arousal, drift and the movie's own pace rather than the indicator."""


_USUAL_DECAYS = {"6s": 1.0, "7s": 1.0, "6m": 0.7, "6": 0.7, "6f": 0.4, "7f": 0.4}


def usual_decay(indicator: str) -> float | None:
    """Look up the decay time (s) that is customary for a calcium indicator; ``None`` for one that is not known.

    A single spike's transient falls to a half in 0.55 s with GCaMP6s and in 0.14 s with GCaMP6f (Chen et al. 2013,
    Nature 499:295); that of several spikes takes longer.

    Examples
    --------
    >>> usual_decay("GCaMP6s"), usual_decay("GCaMP6"), usual_decay("OGB-1")
    (1.0, 0.7, None)
    """
    match = re.search(r"gcamp[\s-]?(\d[a-z]?)", indicator.lower())
    return None if match is None else _USUAL_DECAYS.get(match.group(1))


def deconvolve(traces: np.ndarray, timestamps: np.ndarray, decay: float, noise: np.ndarray | None = None) -> np.ndarray:
    """Activity whose exponentially decaying response fits each trace best, and that is never negative.

    The trace is taken for calcium ``c`` plus noise, with ``c(t_k) = c(t_{k-1}) exp(-(t_k - t_{k-1}) / decay) + s_k``
    and ``s_k >= 0``. ``s`` minimizes the squared error (non-negative deconvolution); with ``noise``, it is the ``s`` of
    least sum whose squared error is what the noise explains, ``noise**2`` a sample (soft threshold).

    Sample ``k`` of the result is activity in ``(t_{k-1}, t_k]``. It is NaN where that interval was not observed: at the
    first sample, at samples that are NaN, and at the sample after them.

    Parameters
    ----------
    traces
        ``(roi, sample)``, baseline subtracted; NaN where missing.
    timestamps
        ``(sample,)`` seconds, increasing; they need not be regular.
    decay
        Decay time of the indicator (s).
    noise
        ``(roi,)`` standard deviation of the noise; ``None`` sets no threshold.

    Returns
    -------
    numpy.ndarray
        ``(roi, sample)`` float32, in units of `traces`: a jump of the calcium by so much.

    Notes
    -----
    The model and the two problems are those of Friedrich, Zhou & Paninski (2017), PLoS Comput Biol 13:e1005423, where
    pools of samples that decay together are merged from left to right (OASIS). With ``x_k = c_k exp(t_k / decay)`` the
    constraint is that ``x`` increases, so that the same solution is a weighted isotonic regression, which is solved in
    compiled code in stretches short enough for the exponential; pools of adjacent stretches are then merged. That
    leaving out the threshold finds spikes at least as well was seen by Pachitariu, Stringer & Harris (2018), J Neurosci
    38:7976.

    Examples
    --------
    >>> times = np.arange(6) / 10
    >>> trace = np.exp(-(times - 0.2) / 0.5) * (times >= 0.2)
    >>> deconvolve(trace[None], times, 0.5).round(3)[0].tolist()
    [nan, 0.0, 1.0, 0.0, 0.0, 0.0]
    """
    phase = (np.asarray(timestamps, dtype=np.float64) - timestamps[0]) / decay
    events = np.full(traces.shape, np.nan, dtype=np.float32)
    for roi, trace in enumerate(traces):
        seen = np.flatnonzero(np.isfinite(trace))
        if len(seen) < 2:
            continue
        values, at = trace[seen].astype(np.float64), phase[seen]
        if noise is None or not noise[roi] > 0:
            jumps = _jumps(values, at)
        else:
            jumps = _sparsest_jumps(values, at, float(noise[roi]))
        events[roi, seen] = jumps
        # the jump after a pause in the trace belongs to no single interval
        events[roi, seen[np.append(True, np.diff(seen) > 1)]] = np.nan
    return events


def _jumps(values: np.ndarray, phase: np.ndarray, residual: bool = False) -> np.ndarray:
    """Non-negative jumps at each sample (or what the calcium leaves unexplained), by weighted isotonic regression."""
    starts, heights = _pools(values, phase)
    heights = np.maximum(heights, 0)
    if residual:
        pool = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(values))))
        return values - heights[pool] * np.exp(-(phase - phase[starts][pool]))
    jumps = np.zeros(len(values))
    carried = np.append(0.0, heights[:-1] * np.exp(-np.diff(phase[starts])))
    jumps[starts] = np.maximum(heights - carried, 0)
    return jumps


def _sparsest_jumps(values: np.ndarray, phase: np.ndarray, noise: float, steps: int = 12) -> np.ndarray:
    """Jumps of least sum among those that leave the noise, and no more, unexplained."""
    keeps = np.append(np.exp(-np.diff(phase)), 0.0)
    allowed = noise**2 * len(values)

    def excess(penalty: float) -> float:
        left = values - penalty * (1 - keeps)
        # the penalty moves the target, not the data
        return float(np.sum((_jumps(left, phase, residual=True) + penalty * (1 - keeps)) ** 2)) - allowed

    low, high = 0.0, noise
    if excess(low) >= 0:
        return _jumps(values, phase)
    while excess(high) < 0:
        low, high = high, 2 * high
        if high > 1e3 * max(noise, float(np.abs(values).max())):
            return np.zeros(len(values))
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    return _jumps(values - low * (1 - keeps), phase)


def _pools(values: np.ndarray, phase: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(first sample, calcium there)`` of each pool of samples that decay together."""
    edges = np.flatnonzero(np.diff(np.floor(phase / (2 * LONGEST_REACH)))) + 1
    joined: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    for first, last in zip([0, *edges.tolist()], [*edges.tolist(), len(values)], strict=True):
        local = phase[first:last] - (phase[first] + phase[last - 1]) / 2
        growth = np.exp(local)
        fit = isotonic_regression(values[first:last] * growth, weights=growth**-2)
        begins = fit.blocks[:-1]
        pools = (begins + first, fit.x[begins] / growth[begins], fit.weights * growth[begins] ** 2)
        joined = pools if joined is None else _join(joined, pools, phase)
    assert joined is not None
    return joined[0], joined[1]


def _join(
    left: tuple[np.ndarray, np.ndarray, np.ndarray],
    right: tuple[np.ndarray, np.ndarray, np.ndarray],
    phase: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Merge pools across the edge of two stretches, as far as they violate the order."""
    before, after = len(left[0]) - 1, 0
    start, height, weight = int(left[0][before]), float(left[1][before]), float(left[2][before])
    while True:
        if after < len(right[0]):
            keep = np.exp(phase[start] - phase[right[0][after]])
            if right[1][after] < height * keep:
                total = weight + keep**2 * right[2][after]
                height = (weight * height + keep * right[2][after] * right[1][after]) / total
                weight, after = total, after + 1
                continue
        if before > 0:
            keep = np.exp(phase[left[0][before - 1]] - phase[start])
            if height < left[1][before - 1] * keep:
                before -= 1
                total = left[2][before] + keep**2 * weight
                height = (left[2][before] * left[1][before] + keep * weight * height) / total
                start, weight = int(left[0][before]), total
                continue
        break
    merged = (start, height, weight)
    return tuple(  # type: ignore[return-value]
        np.concatenate([a[:before], [one], b[after:]]) for a, one, b in zip(left, merged, right, strict=True)
    )


def noise_level(traces: np.ndarray) -> np.ndarray:
    """Estimate the standard deviation of the white noise of each trace, from the upper half of its power spectrum.

    Calcium is slow, noise is not: the mean power above a quarter of the sampling rate is the noise's, as in Friedrich
    et al. (2017) and Pnevmatikakis et al. (2016), Neuron 89:285.

    Parameters
    ----------
    traces
        ``(roi, sample)``; samples that are NaN count as the trace's mean.

    Returns
    -------
    numpy.ndarray
        ``(roi,)``
    """
    centered = _centered(traces)
    length = min(256, centered.shape[1])
    count = centered.shape[1] // length
    pieces = centered[:, : count * length].reshape(len(centered), count, length)
    window = np.hanning(length + 2)[1:-1]
    power = np.mean(np.abs(np.fft.rfft(pieces * window, axis=2)) ** 2, axis=1) / np.sum(window**2)
    observed = np.maximum(np.isfinite(traces).mean(axis=1), 1e-12)
    return np.sqrt(power[:, length // 4 :].mean(axis=1) / observed)


def estimate_decay(traces: np.ndarray, interval: float) -> float | None:
    """Decay time (s) of the indicator, from how the traces' autocovariance falls.

    Noise adds to the autocovariance at lag 0 only; at the others it falls by one factor from lag to lag, which is
    fitted by least squares for each trace (Pnevmatikakis et al. 2016). Activity that is itself slow looks like a slow
    indicator; the running mean over 10 s is therefore taken away first, which makes the estimate a little short. That
    is the harmless side: too long a decay takes what follows a response for the response's own tail. The indicator is
    the same for all ROIs: their median, weighted by how far each stands out of its noise, is taken.

    Parameters
    ----------
    traces
        ``(roi, sample)``
    interval
        Seconds between samples.

    Returns
    -------
    float or None
        ``None`` where no trace has a covariance that falls.
    """
    centered = _centered(traces)
    centered -= uniform_filter1d(centered, max(2, round(SLOW / interval)), axis=1)
    n_lags = int(np.clip(round(DECAY_LAGS / interval), 2, centered.shape[1] // 3))
    covariance = np.stack(
        [np.mean(centered[:, lag:] * centered[:, : centered.shape[1] - lag], axis=1) for lag in range(n_lags + 1)],
        axis=1,
    )
    earlier, later = covariance[:, 1:-1], covariance[:, 2:]
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.sum(earlier * later, axis=1) / np.sum(earlier**2, axis=1)
        strength = covariance[:, 1] / covariance[:, 0]
        decays = -interval / np.log(factor)
    good = np.isfinite(decays) & (factor > 0) & (factor < 1) & (strength > 0)
    if not good.any():
        return None
    order = np.argsort(decays[good])
    weight = np.cumsum(strength[good][order])
    median = decays[good][order][np.searchsorted(weight, weight[-1] / 2)]
    return float(np.clip(median, *DECAY_RANGE))


def _centered(traces: np.ndarray) -> np.ndarray:
    seen = np.isfinite(traces)
    count = np.maximum(seen.sum(axis=1, keepdims=True), 1)
    mean = np.where(seen, traces, 0).sum(axis=1, keepdims=True, dtype=np.float64) / count
    return np.where(seen, traces - mean, 0)
