"""Measures of how alike two movies, or a prediction and a recording, are: pure functions of arrays.

Videos are ``(time, height, width)``; masks ``(height, width)`` bool, True where a pixel counts.
"""

from __future__ import annotations

import numpy as np

# deviations below this share of the largest value are rounding of single precision, in which encoders compute
_ROUNDING = 1e-6

__all__ = [
    "block_intervals",
    "bootstrap_interval",
    "correlation",
    "dynamic_correlation",
    "frame_correlations",
    "lag_correlations",
    "pixel_correlation",
    "space_band_correlations",
    "time_band_correlations",
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


def time_band_correlations(
    a: np.ndarray, b: np.ndarray, frame_rate: float, edges: np.ndarray, mask: np.ndarray | None = None
) -> np.ndarray:
    """Correlation of what changes at each temporal frequency: that of the two movies filtered to a band.

    By Parseval's theorem it is the real part of the cross-spectrum, summed over pixels and the frequencies of the band,
    over the root of the product of both powers.

    Parameters
    ----------
    a, b
        Videos of one shape.
    frame_rate
        Frames per second (Hz).
    edges
        ``(band + 1,)`` Hz, ascending; a band has its upper edge, not its lower one.
    mask
        Pixels that count.

    Returns
    -------
    numpy.ndarray
        ``(band,)`` float64; NaN where a movie has nothing in a band.
    """
    one, other = (np.fft.rfft(_deviations(_masked(movie, mask), 0), axis=0) for movie in (a, b))
    frequency = np.fft.rfftfreq(len(a), 1 / frame_rate)
    # all frequencies but the highest of an even number stand for their negative too
    share = np.where(np.isclose(2 * frequency, frame_rate), 1.0, 2.0)[:, None]
    return _band_correlations(one, other, np.broadcast_to(frequency[:, None], one.shape), edges, share)


def space_band_correlations(
    a: np.ndarray, b: np.ndarray, edges: np.ndarray, mask: np.ndarray | None = None
) -> np.ndarray:
    """Correlation of what has each spatial frequency, in any direction; see `time_band_correlations`.

    Each frame's mean over the mask is taken away, and what is outside the mask is zero.

    Parameters
    ----------
    a, b
        Videos of one shape.
    edges
        ``(band + 1,)`` cycles per pixel, ascending.
    mask
        Pixels that count.

    Returns
    -------
    numpy.ndarray
        ``(band,)`` float64; NaN where a movie has nothing in a band.
    """
    mask = np.ones(a.shape[1:], bool) if mask is None else mask
    spectra = []
    for movie in (a, b):
        inside = np.zeros(movie.shape)
        inside[:, mask] = _deviations(_masked(movie, mask), 1)
        spectra.append(np.fft.fft2(inside))
    frequency = np.hypot(np.fft.fftfreq(mask.shape[0])[:, None], np.fft.fftfreq(mask.shape[1]))
    one, other = spectra
    return _band_correlations(one, other, np.broadcast_to(frequency, one.shape), edges, np.ones((1, 1, 1)))


def block_intervals(
    a: np.ndarray,
    b: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    block: int,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Intervals of the scores of one clip, from resampling stretches of it (Künsch 1989, Ann. Stat. 17:1217-1241).

    Successive frames are alike: blocks of them are drawn, not single ones. What remains to be seen is how the score
    varies within the clip; how it varies from clip to clip is for `bootstrap_interval`.

    Parameters
    ----------
    a, b
        Videos of one shape.
    mask
        Pixels that count.
    block
        Frames in a block.
    level
        Share of the resampled scores inside the interval.
    draws
        Number of resamples.
    seed
        Seed of the resampling.

    Returns
    -------
    dict
        ``pixel_correlation``, ``dynamic_correlation`` and ``frame_correlation``, each ``(low, high)``; NaN where the
        clip is shorter than two blocks.
    """
    names = ("pixel_correlation", "dynamic_correlation", "frame_correlation")
    count = len(a)
    if count < 2 * block:
        return dict.fromkeys(names, (np.nan, np.nan))
    x, y = _masked(a, mask), _masked(b, mask)
    random = np.random.default_rng(seed)
    starts = random.integers(0, count - block + 1, (draws, -(-count // block)))
    frames = (starts[:, :, None] + np.arange(block)).reshape(draws, -1)[:, :count]
    drawn = {
        "pixel_correlation": _resampled_correlation(x, y, frames),
        "dynamic_correlation": _resampled_correlation(x - x.mean(axis=0), y - y.mean(axis=0), frames),
    }
    by_frame = correlation(x, y, axis=1)
    known = np.isfinite(by_frame)
    weight = np.maximum(known[frames].sum(axis=1), 1)
    drawn["frame_correlation"] = np.where(known, by_frame, 0.0)[frames].sum(axis=1) / weight
    ends = [(1 - level) / 2, (1 + level) / 2]
    return {name: tuple(np.nanquantile(drawn[name], ends)) if known.any() else (np.nan, np.nan) for name in names}


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


def _resampled_correlation(x: np.ndarray, y: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Correlation over the pixels of each set of frames ``(draw, frame)``, from sums that are made once a frame."""
    x, y = x - x.mean(), y - y.mean()
    sums = np.stack([x.mean(axis=1), y.mean(axis=1), (x * x).mean(axis=1), (y * y).mean(axis=1), (x * y).mean(axis=1)])
    mx, my, xx, yy, xy = sums[:, frames].mean(axis=2)
    scale = np.sqrt(np.maximum(xx - mx**2, 0) * np.maximum(yy - my**2, 0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 0, (xy - mx * my) / scale, np.nan)


def _band_correlations(
    a: np.ndarray, b: np.ndarray, frequency: np.ndarray, edges: np.ndarray, share: np.ndarray
) -> np.ndarray:
    band = np.searchsorted(edges, frequency.ravel(), side="left") - 1
    inside = (band >= 0) & (band < len(edges) - 1)
    cross, power_a, power_b = (
        np.bincount(band[inside], (share * values).ravel()[inside], minlength=len(edges) - 1)
        for values in ((a * b.conj()).real, np.abs(a) ** 2, np.abs(b) ** 2)
    )
    # what rounding leaves in a band that is empty is no signal
    empty = (power_a <= _ROUNDING**2 * power_a.sum()) | (power_b <= _ROUNDING**2 * power_b.sum())
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(empty, np.nan, cross / (np.sqrt(power_a) * np.sqrt(power_b)))


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
