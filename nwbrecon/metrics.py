"""Measures of how alike two movies, or a prediction and a recording, are: pure functions of arrays.

Videos are ``(time, height, width)``; masks ``(height, width)`` bool, True where a pixel counts.
"""

from __future__ import annotations

import numpy as np

# deviations below this share of the largest value are rounding of single precision, in which encoders compute
_ROUNDING = 1e-6

__all__ = [
    "bootstrap_interval",
    "correlation",
    "dynamic_correlation",
    "frame_correlations",
    "lag_correlations",
    "pixel_correlation",
]


def correlation(a: np.ndarray, b: np.ndarray, axis: int = 0) -> np.ndarray:
    """Pearson correlation along an axis; NaN where either side is constant (to single precision).

    Parameters
    ----------
    a, b
        Arrays of one shape.
    axis
        The axis over which to correlate.

    Returns
    -------
    numpy.ndarray
        The shape of ``a`` without ``axis``, float64.

    Examples
    --------
    >>> a = np.array([[1.0, 2.0], [2.0, 1.0], [3.0, 1.0]])
    >>> correlation(a, a * 2 + 1)
    array([1., 1.])
    """
    a, b = _deviations(a, axis), _deviations(b, axis)
    # roots first: the product of two small powers could underflow
    scale = np.sqrt((a**2).sum(axis=axis)) * np.sqrt((b**2).sum(axis=axis))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 0, (a * b).sum(axis=axis) / scale, np.nan)


def pixel_correlation(a: np.ndarray, b: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Pearson correlation over all pixels and frames together, the measure of Bauer et al. (eLife 2026).

    Examples
    --------
    >>> video = np.arange(24.0).reshape(2, 3, 4)
    >>> pixel_correlation(video, 255 - video)
    -1.0
    """
    a, b = _masked(a, mask), _masked(b, mask)
    return float(correlation(a.ravel(), b.ravel()))


def dynamic_correlation(a: np.ndarray, b: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Pixel correlation after each pixel's mean over time is taken away: what the still picture cannot earn."""
    a, b = _masked(a, mask), _masked(b, mask)
    return float(correlation((a - a.mean(axis=0)).ravel(), (b - b.mean(axis=0)).ravel()))


def frame_correlations(a: np.ndarray, b: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Pearson correlation over the pixels of each frame, ``(time,)``; NaN where a frame is uniform."""
    return correlation(_masked(a, mask), _masked(b, mask), axis=1)


def lag_correlations(
    reconstructed: np.ndarray, true: np.ndarray, lags: np.ndarray, mask: np.ndarray | None = None
) -> np.ndarray:
    """Pixel correlation of frame ``t + lag`` of the reconstruction with frame ``t`` of the true movie, by lag.

    All lags are compared over the same frames of the true movie, so that none is favored by an easier stretch.

    Parameters
    ----------
    reconstructed, true
        Videos of one shape.
    lags
        ``(lag,)`` frames; positive: the reconstruction trails.
    mask
        Pixels that count.

    Returns
    -------
    numpy.ndarray
        ``(lag,)`` float64; NaN where the videos are too short to be compared at all lags.

    Examples
    --------
    >>> true = np.random.default_rng(0).normal(size=(30, 4, 5))
    >>> late = np.roll(true, 2, axis=0)
    >>> lags = np.arange(-3, 4)
    >>> int(lags[lag_correlations(late, true, lags).argmax()])
    2
    """
    first, last = -min(0, int(lags.min())), len(true) - max(0, int(lags.max()))
    if first >= last:
        return np.full(len(lags), np.nan)
    a, b = _masked(reconstructed, mask), _masked(true, mask)[first:last]
    return np.array([float(correlation(a[first + lag : last + lag].ravel(), b.ravel())) for lag in lags])


def bootstrap_interval(
    values: np.ndarray, *, level: float = 0.95, draws: int = 10_000, seed: int = 0
) -> tuple[float, float, float]:
    """Mean and percentile-bootstrap interval of independent values (one a clip).

    Parameters
    ----------
    values
        ``(clip,)``; NaN is left out.
    level
        Share of the resampled means inside the interval.
    draws
        Number of resamples.
    seed
        Seed of the resampling.

    Returns
    -------
    mean, low, high
        NaN without values; ``low`` and ``high`` are NaN for fewer than two.
    """
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return (float(values[0]) if len(values) else np.nan), np.nan, np.nan
    chosen = np.random.default_rng(seed).integers(0, len(values), (draws, len(values)))
    low, high = np.quantile(values[chosen].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(values.mean()), float(low), float(high)


def _deviations(values: np.ndarray, axis: int) -> np.ndarray:
    """Deviations from the mean along an axis, float64; zero where they are no more than rounding."""
    values = np.asarray(values, dtype=float)
    deviations = values - values.mean(axis=axis, keepdims=True)
    real = np.abs(deviations).max(axis=axis, keepdims=True) > _ROUNDING * np.abs(values).max(axis=axis, keepdims=True)
    return np.where(real, deviations, 0.0)


def _masked(video: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """``(time, pixel)`` float64."""
    video = np.asarray(video)
    return (video.reshape(len(video), -1) if mask is None else video[:, mask]).astype(float)
