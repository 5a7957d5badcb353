"""What showing a clip again tells: how much of a response is signal, and how far any prediction of it could go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Powers", "mean_over_showings", "response_powers"]


@dataclass(frozen=True)
class Powers:
    """Variances over the frames of repeated clips, ``(roi,)`` each; NaN where no clip was shown twice.

    Attributes
    ----------
    signal
        Of what all showings have in common: the mean over infinitely many showings. An unbiased estimate, so that it
        may come out negative for an ROI that hardly responds.
    noise
        Of what differs from showing to showing, within one showing.
    of_mean
        Of the mean over the showings at hand: the signal, and what is left of the noise.
    """

    signal: np.ndarray
    noise: np.ndarray
    of_mean: np.ndarray

    @property
    def single_trial_ceiling(self) -> np.ndarray:
        """Correlation of a single showing with its signal; NaN where the signal power is not positive."""
        return _root_share(self.signal, self.signal + self.noise)

    @property
    def mean_ceiling(self) -> np.ndarray:
        """Correlation of the mean over showings with the signal, CCmax of Schoppe et al. (2016)."""
        return _root_share(self.signal, self.of_mean)


def response_powers(showings: Sequence[np.ndarray], n_rois: int) -> Powers:
    """Divide the variance of responses to repeated clips into signal and noise.

    Signal power is the covariance of two showings, averaged over all pairs; where all clips were shown equally often,
    this is the estimate of Sahani & Linden (2003, Advances in Neural Information Processing Systems 15), which Schoppe
    et al. (2016, Front. Comput. Neurosci. 10:10) build upon. Clips that were shown more often weigh no more: the mean
    over pairs is taken in each frame, and then the mean over frames.

    Parameters
    ----------
    showings
        One array a clip, ``(showing, time, roi)``; NaN where unknown. Frames of an ROI that fewer than two showings
        know do not count.
    n_rois
        Number of ROIs.

    Returns
    -------
    Powers
        In squared units of the responses.
    """
    most = max((len(of_clip) for of_clip in showings), default=0)
    # the n-th showings of all clips are one run through them: each run has its own mean taken away
    sums, counts = np.zeros((2, most, n_rois))
    for of_clip in showings:
        for run, (responses, known) in enumerate(zip(of_clip, _usable(of_clip), strict=True)):
            sums[run] += np.where(known, responses, 0.0).sum(axis=0, dtype=float)
            counts[run] += known.sum(axis=0)
    means = sums / np.maximum(counts, 1)

    pairs, power, mean_sum, mean_square, frames = np.zeros((5, n_rois))
    for of_clip in showings:
        known = _usable(of_clip)
        deviations = np.where(known, of_clip - means[: len(of_clip), None], 0.0)
        count = np.maximum(known.sum(axis=0), 1)
        squares = (deviations**2).sum(axis=0)
        pairs += ((deviations.sum(axis=0) ** 2 - squares) / np.maximum(count * (count - 1), 1)).sum(axis=0)
        power += (squares / count).sum(axis=0)
        mean = np.where(known, of_clip, 0.0).sum(axis=0, dtype=float) / count
        mean_sum += mean.sum(axis=0)
        mean_square += (mean**2).sum(axis=0)
        frames += known.any(axis=0).sum(axis=0)
    frames = np.where(frames > 0, frames, np.nan)
    signal = pairs / frames
    return Powers(signal, power / frames - signal, mean_square / frames - (mean_sum / frames) ** 2)


def mean_over_showings(of_clip: np.ndarray) -> np.ndarray:
    """Average ``(showing, time, roi)`` over known showings, ``(time, roi)``; NaN where fewer than two are known."""
    known = _usable(of_clip)
    count = known.sum(axis=0)
    total = np.where(known, of_clip, 0.0).sum(axis=0, dtype=float)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _usable(of_clip: np.ndarray) -> np.ndarray:
    known = np.isfinite(of_clip)
    return known & (known.sum(axis=0) > 1)


def _root_share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(part > 0, np.sqrt(np.maximum(part, 0) / whole), np.nan)
