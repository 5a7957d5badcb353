"""How residuals hang together, in time and between ROIs, estimated on validation clips.

The dispersion says how strong the noise of an ROI is in the long run. Here is what it leaves out: how much of the noise
of a sample is in the next one still, and how much of it all ROIs of a plane have in common, as a gain that they share.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch

from nwbrecon.alignment import AlignedSession
from nwbrecon.encoding.calibration import drawn_to_typical, filled_with_typical
from nwbrecon.encoding.encoder import Encoder
from nwbrecon.encoding.likelihoods import Likelihood
from nwbrecon.encoding.prediction import predict_samples

__all__ = ["ResidualNoise", "fit_noise"]

# share of an ROI's mean variance below which none of its samples' variances is believed to be
_FLOOR = 0.05
# how far an ROI's own estimate is believed, the rest being the typical one's: validation clips are few
_OWN = 0.7
# no ROI is wholly predictable from its own past, or from the others
_LARGEST_AUTOCORRELATION, _LARGEST_LOADING = 0.95, 0.95
_ITERATIONS, _TOLERANCE, _TINY = 30, 1e-5, 1e-12


@dataclass
class ResidualNoise:
    """What is known of the standardized residuals ``(measured - expected) / sqrt(variance + floor)`` of each ROI.

    Attributes
    ----------
    floor
        ``(roi,)`` added to the variance that the likelihood expects: where next to nothing is expected, the signal is
        noisy still.
    variance
        ``(roi,)`` variance of the standardized residuals, sample by sample.
    autocorrelation
        ``(roi,)`` correlation of successive ones.
    loading
        ``(roi,)`` correlation with the one factor that is common to the ROIs of a plane.
    """

    floor: np.ndarray
    variance: np.ndarray
    autocorrelation: np.ndarray
    loading: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """Give all that it holds, by name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


def fit_noise(
    encoder: Encoder, aligned: AlignedSession, trials: list[int], likelihoods: list[Likelihood]
) -> ResidualNoise:
    """Estimate variance, autocorrelation and common factor of the residuals.

    Parameters
    ----------
    encoder
        The encoder.
    aligned
        The session.
    trials
        Validation trials.
    likelihoods
        One a response group.

    Returns
    -------
    ResidualNoise
        Variance and autocorrelation are drawn to those of the typical ROI of the plane.
    """
    # trial by trial, so that no sample is taken for the successor of one of another trial
    predicted = [predict_samples(encoder, aligned, [trial]) for trial in trials]
    parts = []
    for group, likelihood in enumerate(likelihoods):
        expected, measured = (
            [np.asarray(of_trial[group][which], float) for of_trial in predicted] for which in range(2)
        )
        variances = [likelihood.variance(torch.from_numpy(values)).numpy() for values in expected]
        known = np.concatenate([np.isfinite(values) for values in variances])
        total = np.where(known, np.concatenate(variances), 0.0).sum(axis=0)
        floor = _FLOOR * filled_with_typical(total / np.maximum(known.sum(axis=0), 1), total > 0)
        standard = [
            (seen - mean) / np.sqrt(variance + floor)
            for seen, mean, variance in zip(measured, expected, variances, strict=True)
        ]
        variance = _mean_product(standard, standard)
        variance = np.exp(drawn_to_typical(np.log(filled_with_typical(variance, variance > 0)), _OWN))
        now, before = [values[1:] for values in standard], [values[:-1] for values in standard]
        with np.errstate(invalid="ignore", divide="ignore"):
            lagged = _mean_product(now, before) / np.sqrt(_mean_product(now, now) * _mean_product(before, before))
        autocorrelation = drawn_to_typical(filled_with_typical(lagged, np.isfinite(lagged)), _OWN)
        parts.append(
            ResidualNoise(
                floor,
                variance,
                autocorrelation.clip(-_LARGEST_AUTOCORRELATION, _LARGEST_AUTOCORRELATION),
                common_factor(np.concatenate(standard)),
            )
        )
    joined = {item.name: np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(ResidualNoise)}
    return ResidualNoise(**joined)


def common_factor(values: np.ndarray) -> np.ndarray:
    """Correlation of each column with the one factor that explains most of what the columns have in common.

    Factor analysis of one factor by the EM algorithm (Rubin & Thayer 1982, Psychometrika 47:69-76), each column scaled
    to a variance of one, and what is missing left out of both steps.

    Parameters
    ----------
    values
        ``(sample, column)`` of mean zero; NaN where missing.

    Returns
    -------
    numpy.ndarray
        ``(column,)`` between -1 and 1; its sign as a whole is arbitrary, and is such that the sum is not negative. Zero
        where there are fewer than three columns, of which a common factor could not be told.
    """
    if values.shape[1] < 3:
        return np.zeros(values.shape[1])
    known = np.isfinite(values)
    filled, counts = np.where(known, values, 0.0), np.maximum(known.sum(axis=0), 1)
    deviation = np.sqrt((filled**2).sum(axis=0) / counts)
    filled /= np.where(deviation > 0, deviation, 1.0)
    # from the first principal component
    loading = filled.mean(axis=1) @ filled / counts
    size = 0.0
    for _ in range(_ITERATIONS):
        loading = filled.T @ (filled @ loading) / counts
        size = float(np.linalg.norm(loading))
        loading /= max(size, _TINY)
    loading *= np.sqrt(max(size - 1, 0.0))
    for _ in range(10 * _ITERATIONS):
        before = loading = loading.clip(-_LARGEST_LOADING, _LARGEST_LOADING)
        private = 1 - loading**2
        spread = 1 / (1 + known @ (loading**2 / private))
        factor = spread * (filled @ (loading / private))
        loading = filled.T @ factor / np.maximum(known.T @ (factor**2 + spread), _TINY)
        if np.abs(loading - before).max() < _TOLERANCE:
            break
    loading = loading.clip(-_LARGEST_LOADING, _LARGEST_LOADING)
    return np.asarray(loading if loading.sum() >= 0 else -loading)


def _mean_product(one: list[np.ndarray], other: list[np.ndarray]) -> np.ndarray:
    product = np.concatenate(one) * np.concatenate(other)
    known = np.isfinite(product)
    return np.where(known, product, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
