"""From raw fluorescence to dF/F: neuropil, running baseline, division."""

from __future__ import annotations

import numpy as np

__all__ = ["is_baseline_subtracted", "relative_to_baseline", "running_baseline"]

HOPS = 6
"""The baseline is taken at so many places a window, and interpolated between them."""
LEAST_BASELINE = 0.05
"""A baseline below this share of the ROI's own brightness is no baseline to divide by."""


def running_baseline(traces: np.ndarray, window: int, percentile: float) -> np.ndarray:
    """Take a running percentile of each trace.

    The percentile is taken of windows that are a sixth of their length apart, and interpolated linearly between their
    middles; before the first middle and behind the last it is constant.

    Parameters
    ----------
    traces
        ``(roi, sample)``; NaN where missing.
    window
        Length of the window (samples).
    percentile
        Which percentile, 0-100.

    Returns
    -------
    numpy.ndarray
        ``(roi, sample)`` float32; NaN for a trace without any value. Windows without a value are bridged.
    """
    n_samples = traces.shape[1]
    window = int(np.clip(window, 1, n_samples))
    hop = max(1, window // HOPS)
    firsts = np.unique(np.append(np.arange(0, n_samples - window, hop), n_samples - window))
    levels = np.stack([_percentile(traces[:, first : first + window], percentile) for first in firsts], axis=1)
    middles = firsts + (window - 1) / 2
    for level in levels:
        known = np.isfinite(level)
        if known.any() and not known.all():
            level[~known] = np.interp(middles[~known], middles[known], level[known])
    samples = np.clip(np.arange(n_samples), middles[0], middles[-1])
    right = np.clip(np.searchsorted(middles, samples), 1, max(1, len(middles) - 1))
    if len(middles) == 1:
        return np.repeat(levels, n_samples, axis=1).astype(np.float32)
    share = (samples - middles[right - 1]) / (middles[right] - middles[right - 1])
    return (levels[:, right - 1] * (1 - share) + levels[:, right] * share).astype(np.float32)


def _percentile(values: np.ndarray, percentile: float) -> np.ndarray:
    if np.isnan(values).any():
        result = np.full(len(values), np.nan)
        some = ~np.isnan(values).all(axis=1)
        result[some] = np.nanpercentile(values[some], percentile, axis=1)
        return result
    return np.percentile(values, percentile, axis=1)


def is_baseline_subtracted(traces: np.ndarray) -> bool:
    """Tell whether traces have had their baseline taken away, so that dividing by it would divide by nothing.

    Raw fluorescence stands far above zero in units of its own spread; what is dF/F already lies around it. The traces
    are taken for subtracted if, in most of them, the median is less than one spread (scaled median absolute deviation)
    above zero, or a tenth of the samples is negative.

    Parameters
    ----------
    traces
        ``(roi, sample)``, before any neuropil is taken away.
    """
    traces = traces[np.isfinite(traces).any(axis=1)]
    if not len(traces):
        return False
    median = np.nanmedian(traces, axis=1)
    spread = 1.4826 * np.nanmedian(np.abs(traces - median[:, None]), axis=1)
    negative = (traces < 0).mean(axis=1) > 0.1
    varying = np.nanmax(traces, axis=1) > np.nanmin(traces, axis=1)
    near_zero = median < spread
    # a denoised trace rests at zero exactly: neither its median nor its spread is above it
    resting = (median == 0) & varying
    return bool(np.mean((near_zero | negative | resting)[varying]) > 0.5) if varying.any() else False


def relative_to_baseline(traces: np.ndarray, baseline: np.ndarray, brightness: np.ndarray) -> np.ndarray:
    """dF/F = ``(F - F0) / F0``.

    Parameters
    ----------
    traces
        ``(roi, sample)`` fluorescence F, the neuropil taken away.
    baseline
        ``(roi, sample)`` F0.
    brightness
        ``(roi,)`` median of the ROI before the neuropil was taken away. Where too much of it was, F0 comes close to
        zero; what is divided by is never less than a twentieth of the brightness.

    Returns
    -------
    numpy.ndarray
        ``(roi, sample)`` float32; all zero for an ROI that never leaves zero.
    """
    least = np.maximum(LEAST_BASELINE * np.abs(brightness), np.finfo(np.float32).tiny).astype(np.float32)
    return (traces - baseline) / np.maximum(baseline, least[:, None])
