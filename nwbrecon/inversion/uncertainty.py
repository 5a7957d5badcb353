"""The information map: how far the reconstruction may be off at every pixel, given what the responses say.

It is calibrated on clips whose movies are known. What a clip hides from the responses is mostly its own: a picture that
stands still, missed as a whole. Pixels and frames of a clip, and clips of a film, are off together, and a handful of
films say little about the next one. So the shape of the error is drawn to what is typical, intervals are widened by
what films differ in that is not predicted, and films that the encoder has learned from help to tell how much that is.
The map says how much is known of a pixel, and hardly which pixels are wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import fft, ndimage, optimize, stats

from nwbrecon.inversion.smoothing import smoothed

__all__ = ["ErrorModel", "error_features", "fit_error_model", "share_left"]

FEATURE_NAMES = ("constant", "left by the responses", "local contrast", "change over time", "disagreement")

# exponents of the variance of the error, rounded from fits to four simulated mice (two of natural movies, two of made)
_TYPICAL = np.array([0.8, 0.15, 0.3, 0.2])
# how firmly the fit is drawn to them: for the standardized features, over the number of films
_PULL = 3.0
# standard deviation between films of the logarithm of the error that is left, and how many films that is worth
_SPREAD, _SPREAD_FILMS = 0.3, 4
_PIXELS_PER_CLIP = 5000
# by how much the logarithm of the error is lower for films that the encoder has learned from, and the standard
# deviation of that between mice: .19, .20 and .30 on three simulated ones
_OPTIMISM, _OPTIMISM_SPREAD = 0.25, 0.1
# the power of the share of the prior's variance that is left which says how much of a pixel's error is the prior's
_TO_PRIOR = 3
# logarithms of powers that are taken for the same
_ALIKE = 0.05


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
    # of frequencies whose power hardly differs the mean serves
    alike = np.round(np.log(spectrum) / _ALIKE).astype(np.int64)
    alike -= alike.min()
    total, power = np.bincount(alike, weights), np.bincount(alike, weights * spectrum)
    weights, spectrum = total[total > 0] / total.sum(), (power / np.where(total > 0, total, 1))[total > 0]
    grid = np.geomspace(1e-4, 1e8, 128) / spectrum.max()
    left = (weights / (1 + grid[:, None] * spectrum)).sum(axis=1)
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
    left = np.log(share_left(smoothed(information, (6.0, 2.0, 2.0)), covariance))
    nearby = ndimage.uniform_filter(video, (1, 5, 5))
    contrast = np.sqrt(np.clip(ndimage.uniform_filter(video**2, (1, 5, 5)) - nearby**2, 0, None))
    within = (12.0, 1.0, 1.0)
    slow = smoothed(video, within)
    change = np.sqrt(np.clip(smoothed(video**2, within) - slow**2, 0, None))
    apart = np.sqrt(smoothed((inverted - decoded) ** 2, (5.0, 6.0, 6.0)))
    return np.stack([np.ones_like(left), left, np.log(contrast + 1), np.log(change + 2), np.log(apart + 2)]).astype(
        np.float32
    )


@dataclass
class ErrorModel:
    """Log-linear model of the variance of the error, which goes to the prior's where the responses say nothing.

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
    prior_variance
        Variance of a pixel of which the responses say nothing, grey levels squared; ``None`` in models of earlier
        versions, which know no such limit.
    n_learned
        Number of films that helped although the encoder has learned from them.
    covered, rank_correlation
        On validation clips, each film predicted from the others: share of the pixels of the mask at which 95 %
        intervals held the truth, and rank correlation of standard deviation and error within a clip, means over films;
        ``None`` where there were no others.
    """

    weights: np.ndarray
    scale: float
    spread: float
    n_clips: int
    n_films: int
    prior_variance: float | None = None
    n_learned: int = 0
    covered: float | None = None
    rank_correlation: float | None = None

    def std(self, features: np.ndarray) -> np.ndarray:
        """Give the standard deviation, float32 of the shape of a feature ``(feature, ...)``, grey levels."""
        log_variance = np.clip(np.tensordot(self.weights, features, axes=1), -4, 12)
        log_std = 0.5 * log_variance + np.log(self.scale)
        if self.prior_variance is not None:
            own = _own(features[1])
            log_std = own * log_std + (1 - own) * 0.5 * np.log(self.prior_variance)
        return np.exp(log_std).astype(np.float32)

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return vars(self) | {"weights": dict(zip(FEATURE_NAMES, self.weights.tolist(), strict=True))}


def _own(log_left: np.ndarray) -> np.ndarray:
    """Weight of what the features say of the logarithm of the variance; the rest is the prior's."""
    return -np.expm1(_TO_PRIOR * np.minimum(log_left, 0))


@dataclass
class _Clip:
    """Some pixels of a clip: features ``(feature, pixel)``, errors ``(pixel,)``, and how much the features count."""

    features: np.ndarray
    errors: np.ndarray
    own: np.ndarray


@dataclass
class _Film:
    """What the fit needs of a film: weighted features ``(pixel, feature)``, squared errors over the prior's part."""

    x: np.ndarray
    y: np.ndarray
    own: np.ndarray


def fit_error_model(
    features: Sequence[np.ndarray],
    errors: Sequence[np.ndarray],
    mask: np.ndarray,
    films: Sequence[str],
    *,
    prior_variance: float,
    learned: Sequence[bool] | None = None,
) -> ErrorModel:
    """Fit the model on clips whose movies are known, so that intervals hold for films that it has not seen.

    The weights are those of greatest likelihood over validation clips, each film counting the same, drawn to what is
    typical of simulated mice. The level is that of the films, each predicted with the weights of the others; so is the
    scale. Films that the encoder has learned from are reconstructed too well; by how much is known from simulated mice,
    within limits, and so they tell the level a little, and how far films are apart as well as any. With the logarithms
    of the films' levels normally distributed, and a prior worth a few films on their variance, the level of the next
    film follows Student's distribution (Gelman et al. 2013, Bayesian Data Analysis, section 3.2): intervals are wide
    enough to hold 95 % of its pixels on average over that.

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
    prior_variance
        Variance of a pixel of which the responses say nothing, grey levels squared.
    learned
        Whether the encoder has learned from each clip; ``None``: from none. At least one is not.
    """
    learned = [False] * len(films) if learned is None else learned
    validation: dict[str, list[_Clip]] = {}
    training: dict[str, list[_Clip]] = {}
    for feature, error, film, known in zip(features, errors, films, learned, strict=True):
        # neighboring pixels and frames hold much the same: a few thousand are enough, and as good
        step = max(1, error[:, mask].size // _PIXELS_PER_CLIP)
        some = feature[:, :, mask].reshape(len(feature), -1)[:, ::step].astype(float)
        clip = _Clip(some, error[:, mask].ravel()[::step].astype(float), _own(some[1]))
        (training if known else validation).setdefault(film, []).append(clip)
    calibration = _Calibration(list(validation.values()), list(training.values()), prior_variance)
    model = calibration.model()
    judged = [
        np.mean([_judge(calibration.model(without=index), clip) for clip in clips], axis=0)
        for index, clips in enumerate(validation.values())
        if len(validation) > 1 or training
    ]
    if judged:
        model.covered, model.rank_correlation = (float(value) for value in np.mean(judged, axis=0))
    return model


def _judge(model: ErrorModel, clip: _Clip) -> tuple[float, float]:
    """Share of a clip's pixels that intervals hold, and rank correlation of standard deviation and error."""
    size, std = np.abs(clip.errors), model.std(clip.features)
    varies = np.ptp(size) > 0 and np.ptp(std) > 0
    return float(np.mean(size < 1.96 * std)), float(stats.spearmanr(size, std).statistic) if varies else 0.0


class _Calibration:
    """Weights, levels and ratios of all films, each film with the weights of the other validation films."""

    def __init__(
        self, validation: Sequence[list[_Clip]], training: Sequence[list[_Clip]], prior_variance: float
    ) -> None:
        self.prior_variance, self.n_learned = prior_variance, len(training)
        self.n_clips = np.array([len(clips) for clips in validation])
        self.center = np.mean([clip.features[1:].mean(axis=1) for clips in validation for clip in clips], axis=0)
        films = [self._gathered(clips) for clips in validation]
        self.weights = _fit_weights(films)
        self.others = [
            _fit_weights(films[:index] + films[index + 1 :]) if len(films) > 1 else _TYPICAL
            for index in range(len(films))
        ]
        known = [_level(film, weights) for film, weights in zip(films, self.others, strict=True)]
        known += [_level(self._gathered(clips), self.weights) for clips in training]
        self.levels, self.ratios = np.array([level for level, _ in known]), [ratio for _, ratio in known]

    def _gathered(self, clips: list[_Clip]) -> _Film:
        own = np.concatenate([clip.own for clip in clips])
        x = np.concatenate([clip.features[1:].T for clip in clips]) - self.center
        y = np.concatenate([clip.errors for clip in clips]) ** 2 * np.exp((own - 1) * np.log(self.prior_variance))
        return _Film(own[:, None] * x, y, own)

    def model(self, without: int | None = None) -> ErrorModel:
        """Put the model together, from all films or without a validation film."""
        n_films = len(self.n_clips)
        validation = [index for index in range(n_films) if index != without]
        training = list(range(n_films, len(self.levels)))
        weights = self.weights if without is None else self.others[without]
        level, spread, uncertain, freedom = _next_level(self.levels[validation], self.levels[training])
        ratios = [self.ratios[index] for index in validation + training]
        return ErrorModel(
            np.append(2 * level - float(weights @ self.center), weights),
            _predictive_scale(ratios, float(np.hypot(spread, uncertain)), freedom),
            spread,
            int(self.n_clips[validation].sum()),
            len(validation),
            self.prior_variance,
            self.n_learned,
        )


def _level(film: _Film, weights: np.ndarray) -> tuple[float, np.ndarray]:
    """Logarithm of the size of a film's errors that features do not predict, and the errors over their deviation."""
    # a movie that is known to the last bit has a level too
    ratio = 1e-6 + film.y * np.exp(-film.x @ weights)
    level = 0.0
    for _ in range(20):
        level += 0.5 * float(np.log(np.mean(ratio * np.exp(-2 * level * film.own)))) / float(film.own.mean())
    return level, np.sqrt(ratio * np.exp(-2 * level * film.own))


def _next_level(validation: np.ndarray, training: np.ndarray) -> tuple[float, float, float, int]:
    """Level to be expected of the next film, spread between films, uncertainty of the level, and degrees of freedom.

    Parameters
    ----------
    validation, training
        ``(film,)`` levels of films that the encoder has not learned from, and of such as it has.
    """
    groups = [levels for levels in (validation, training) if len(levels)]
    freedom = _SPREAD_FILMS + sum(len(levels) - 1 for levels in groups)
    squares = sum(float(((levels - levels.mean()) ** 2).sum()) for levels in groups)
    spread = float(np.sqrt((_SPREAD_FILMS * _SPREAD**2 + squares) / freedom))
    # two witnesses of one level, each as good as its films are many
    means = [(validation.mean(), spread**2 / len(validation))] if len(validation) else []
    if len(training):
        means.append((training.mean() + _OPTIMISM, spread**2 / len(training) + _OPTIMISM_SPREAD**2))
    precision = sum(1 / variance for _, variance in means)
    level = sum(mean / variance for mean, variance in means) / precision
    return float(level), spread, float(1 / np.sqrt(precision)), freedom


def _fit_weights(films: Sequence[_Film]) -> np.ndarray:
    """Weights ``(feature,)`` of greatest likelihood, given centered features and squared errors of each film."""
    spread = np.sqrt(np.mean([(film.x**2).mean(axis=0) for film in films], axis=0)) + 1e-6
    x = np.concatenate([film.x for film in films]) / spread
    y = np.concatenate([film.y for film in films]) + 1e-6
    own = np.concatenate([film.own for film in films])
    share = np.concatenate([np.full(len(film.y), 1 / (len(film.y) * len(films))) for film in films])
    pull, typical = _PULL / len(films), _TYPICAL * spread

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        level, weights = parameters[0], parameters[1:]
        log_variance = np.clip(level * own + x @ weights, -20, 20)
        # a movie that is known to the last bit has a level too
        ratio = 1e-6 + y * np.exp(-log_variance)
        away = weights - typical
        slope = 0.5 * share * (1 - ratio)
        value = 0.5 * float(share @ (log_variance + ratio)) + 0.5 * pull * float(away @ away)
        return value, np.append(slope @ own, slope @ x + pull * away)

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
