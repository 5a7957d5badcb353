"""How far the reconstruction may be off at every pixel: calibrated on validation clips, where the truth is known.

What a clip hides from the responses is mostly its own: a picture that stands still, missed as a whole. Pixels and
frames of a clip, and clips of a film, are off together, and a handful of films say little about the next one. So the
shape of the error is drawn to what is typical, and intervals are widened by what films differ in that is not predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import fft, ndimage, optimize, stats

__all__ = ["ErrorModel", "error_features", "fit_error_model", "share_left"]

FEATURE_NAMES = ("constant", "left by the responses", "local contrast", "change over time", "disagreement")

# exponents of the variance of the error, rounded from fits to four simulated mice (two of natural movies, two of made)
_TYPICAL = np.array([0.8, 0.15, 0.3, 0.2])
# how firmly the fit is drawn to them: for the standardized features, over the number of films
_PULL = 3.0
# standard deviation between films of the logarithm of the error that is left, and how many films that is worth
_SPREAD, _SPREAD_FILMS = 0.3, 4
_PIXELS_PER_CLIP = 5000


def share_left(information: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Share of a pixel's prior variance that is left, were information everywhere what it is at this pixel.

    With a stationary prior of power spectrum ``S`` and information ``d`` about every pixel, the error of the Wiener
    filter has the spectrum ``S / (1 + d S)`` (Wiener 1949): coarse and slow components are known sooner.

    Parameters
    ----------
    information
        Fisher information per squared grey level, of any shape.
    covariance
        ``(lag, row, column)`` autocovariance of the prior, grey levels squared.

    Returns
    -------
    numpy.ndarray
        Between 0 and 1, of the shape of ``information``.

    Examples
    --------
    >>> white = np.zeros((4, 5, 6))
    >>> white[0, 0, 0] = 900.0
    >>> share_left(np.array([0.0, 1 / 900]), white).round(3).tolist()
    [1.0, 0.5]
    """
    # the DCT-I of one half is the spectrum of the symmetric whole; inner frequencies stand for two
    spectrum = fft.dctn(covariance, type=1)
    weights = np.ones(spectrum.shape)
    for axis, size in enumerate(spectrum.shape):
        weights *= np.where((np.arange(size) % (size - 1)) == 0, 1.0, 2.0).reshape(
            [-1 if axis == k else 1 for k in range(3)]
        )
    positive = spectrum > 0
    spectrum, weights = spectrum[positive], (weights * spectrum)[positive]
    weights /= weights.sum()
    grid = np.geomspace(1e-4, 1e8, 128) / spectrum.max()
    left = [float((weights / (1 + level * spectrum)).sum()) for level in grid]
    return np.interp(np.log(np.maximum(information, grid[0])), np.log(grid), left)


def error_features(
    video: np.ndarray, inverted: np.ndarray, decoded: np.ndarray, information: np.ndarray, covariance: np.ndarray
) -> np.ndarray:
    """Gather what the error of a reconstruction is predicted from.

    Parameters
    ----------
    video
        ``(time, height, width)`` the reconstruction, grey levels.
    inverted, decoded
        ``(time, height, width)`` the two movies that it is made of: that of the inversion and the linear decoder's.
    information
        ``(time, height, width)`` Fisher information per squared grey level.
    covariance
        ``(lag, row, column)`` autocovariance of the prior.

    Returns
    -------
    numpy.ndarray
        ``(feature, time, height, width)`` float32: one, and logarithms of what the responses leave of the prior's
        variance, of contrast nearby, of change within a second, and of how far the two movies are from each other.
    """
    # random probes leave speckle that no receptive field has
    left = np.log(share_left(ndimage.gaussian_filter(information, (6.0, 2.0, 2.0)), covariance))
    nearby = ndimage.uniform_filter(video, (1, 5, 5))
    contrast = np.sqrt(np.clip(ndimage.uniform_filter(video**2, (1, 5, 5)) - nearby**2, 0, None))
    within = (12.0, 1.0, 1.0)
    slow = ndimage.gaussian_filter(video, within)
    change = np.sqrt(np.clip(ndimage.gaussian_filter(video**2, within) - slow**2, 0, None))
    apart = np.sqrt(ndimage.gaussian_filter((inverted - decoded) ** 2, (5.0, 6.0, 6.0)))
    return np.stack([np.ones_like(left), left, np.log(contrast + 1), np.log(change + 2), np.log(apart + 2)]).astype(
        np.float32
    )


@dataclass
class ErrorModel:
    """Log-linear model of the variance of the error.

    Attributes
    ----------
    weights
        ``(feature,)``: the logarithm of the variance is their product with the features.
    scale
        Factor on the standard deviation that makes 1.96 standard deviations a 95 % interval for a film that is not
        known yet: errors are not normally distributed, and the level of a new film's error is uncertain.
    spread
        Standard deviation between films of the logarithm of the error's size that the features do not predict.
    n_clips, n_films
        Number of validation clips it was fitted on, and of the films that they are from.
    """

    weights: np.ndarray
    scale: float
    spread: float
    n_clips: int
    n_films: int

    def std(self, features: np.ndarray) -> np.ndarray:
        """Give the standard deviation ``(time, height, width)`` float32, grey levels."""
        log_variance = np.tensordot(self.weights, features, axes=1)
        return (self.scale * np.exp(0.5 * np.clip(log_variance, -4, 12))).astype(np.float32)

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "weights": dict(zip(FEATURE_NAMES, self.weights.tolist(), strict=True)),
            "scale": self.scale,
            "spread": self.spread,
            "n_clips": self.n_clips,
            "n_films": self.n_films,
        }


def fit_error_model(
    features: Sequence[np.ndarray], errors: Sequence[np.ndarray], mask: np.ndarray, films: Sequence[str]
) -> ErrorModel:
    """Fit the model on validation clips, so that intervals hold for films that it has not seen.

    The weights are those of greatest likelihood, each film counting the same, drawn to what is typical of simulated
    mice. The level is that of the films, each predicted with the weights of the others; so is the scale. With the
    logarithms of the films' levels normally distributed, and a prior worth a few films on their variance, the level of
    the next film follows Student's distribution (Gelman et al. 2013, Bayesian Data Analysis, section 3.2): intervals
    are wide enough to hold 95 % of its pixels on average over that.

    Parameters
    ----------
    features
        `error_features` of each clip.
    errors
        Reconstruction minus truth of each clip, ``(time, height, width)``.
    mask
        ``(height, width)`` pixels that count.
    films
        What each clip is from: clips of one film are not independent.
    """
    center = np.mean([feature[1:, :, mask].mean(axis=(1, 2)) for feature in features], axis=0)
    pixels: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for feature, error, film in zip(features, errors, films, strict=True):
        # neighboring pixels and frames hold much the same: a few thousand are enough, and as good
        step = max(1, error[:, mask].size // _PIXELS_PER_CLIP)
        x = feature[1:, :, mask].reshape(len(center), -1)[:, ::step].T - center
        pixels.setdefault(film, []).append((x.astype(float), error[:, mask].ravel()[::step].astype(float) ** 2))
    of_films = [
        (np.concatenate([x for x, _ in clips]), np.concatenate([y for _, y in clips])) for clips in pixels.values()
    ]

    weights = _fit_weights(of_films)
    levels, ratios = [], []
    for index, (x, y) in enumerate(of_films):
        others = of_films[:index] + of_films[index + 1 :]
        # a movie that is known to the last bit has a level too
        ratio = 1e-6 + y * np.exp(-x @ (_fit_weights(others) if others else _TYPICAL))
        levels.append(0.5 * float(np.log(ratio.mean())))
        ratios.append(np.sqrt(ratio) / np.exp(levels[-1]))
    level, freedom = float(np.mean(levels)), _SPREAD_FILMS + len(levels) - 1
    spread = float(np.sqrt((_SPREAD_FILMS * _SPREAD**2 + np.sum((np.array(levels) - level) ** 2)) / freedom))
    constant = 2 * level - float(weights @ center)
    return ErrorModel(
        np.append(constant, weights),
        _predictive_scale(ratios, spread * np.sqrt(1 + 1 / len(levels)), freedom),
        spread,
        len(features),
        len(of_films),
    )


def _fit_weights(of_films: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Weights ``(feature,)`` of greatest likelihood, given centered features and squared errors of each film."""
    spread = np.sqrt(np.mean([(x**2).mean(axis=0) for x, _ in of_films], axis=0)) + 1e-6
    x = np.concatenate([x for x, _ in of_films]) / spread
    y = np.concatenate([y for _, y in of_films]) + 1e-6
    share = np.concatenate([np.full(len(y), 1 / (len(y) * len(of_films))) for _, y in of_films])
    pull, typical = _PULL / len(of_films), _TYPICAL * spread

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        level, weights = parameters[0], parameters[1:]
        log_variance = np.clip(level + x @ weights, -20, 20)
        # a movie that is known to the last bit has a level too
        ratio = 1e-6 + y * np.exp(-log_variance)
        away = weights - typical
        slope = 0.5 * share * (1 - ratio)
        value = 0.5 * float(share @ (log_variance + ratio)) + 0.5 * pull * float(away @ away)
        return value, np.append(slope.sum(), slope @ x + pull * away)

    start = np.append(np.log(share @ y), typical)
    weights: np.ndarray = optimize.minimize(loss, start, jac=True, method="L-BFGS-B").x[1:] / spread
    return weights


def _predictive_scale(ratios: Sequence[np.ndarray], spread: float, freedom: int) -> float:
    """Factor on 1.96 that holds 95 % of the next film's errors, on average over its level.

    Parameters
    ----------
    ratios
        Size of the errors over their standard deviation, of each film over its own level.
    spread
        Scale of Student's distribution of the logarithm of the next film's level.
    freedom
        Its degrees of freedom.
    """
    shares = np.linspace(0, 1, 2001)
    # as many of each film
    curve = np.quantile(np.concatenate([np.quantile(ratio, shares) for ratio in ratios]), shares)
    levels = spread * stats.t.ppf((np.arange(200) + 0.5) / 200, freedom)

    def missing(log_bound: float) -> float:
        return 0.95 - float(np.interp(np.exp(log_bound - levels), curve, shares).mean())

    return float(np.exp(optimize.brentq(missing, -5, 10))) / 1.96
