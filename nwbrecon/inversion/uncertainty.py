"""How far the reconstruction may be off at every pixel: calibrated on validation clips, where the truth is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage, optimize

__all__ = ["ErrorModel", "error_features", "fit_error_model"]

FEATURE_NAMES = ("constant", "information", "local contrast", "local motion", "distance from the mean")


def error_features(video: np.ndarray, information: np.ndarray, prior_variance: float, mean: float) -> np.ndarray:
    """Gather what the error of a reconstruction is predicted from.

    Parameters
    ----------
    video
        ``(time, height, width)`` the reconstruction, grey levels.
    information
        ``(time, height, width)`` Fisher information per squared grey level.
    prior_variance
        Variance of a pixel under the prior (grey levels squared).
    mean
        Mean grey level of the training movies.

    Returns
    -------
    numpy.ndarray
        ``(feature, time, height, width)`` float32: logarithms of what the responses leave of the prior's variance, of
        contrast and of change nearby, and of the distance from the mean grey level.
    """
    # a pixel's neighbors in space and time say something about it too
    pooled = ndimage.gaussian_filter(information, (2.0, 1.5, 1.5)) * (2.0 * 1.5 * 1.5 * (2 * np.pi) ** 1.5)
    left = -np.log1p(prior_variance * pooled)
    local = ndimage.uniform_filter(video, (1, 5, 5))
    contrast = np.sqrt(np.clip(ndimage.uniform_filter(video**2, (1, 5, 5)) - local**2, 0, None))
    motion = ndimage.uniform_filter(np.abs(np.gradient(video, axis=0)), (5, 3, 3))
    return np.stack(
        [np.ones_like(left), left, np.log(contrast + 1), np.log(motion + 0.5), np.log(np.abs(video - mean) + 4)]
    ).astype(np.float32)


@dataclass
class ErrorModel:
    """Log-linear model of the variance of the error.

    Attributes
    ----------
    weights
        ``(feature,)``: the logarithm of the variance is their product with the features.
    scale
        Factor on the standard deviation that gives 95 % intervals (1.96 standard deviations) their coverage on the
        validation clips: errors are not normally distributed.
    n_clips
        Number of validation clips it was fitted on.
    """

    weights: np.ndarray
    scale: float
    n_clips: int

    def std(self, features: np.ndarray) -> np.ndarray:
        """Give the standard deviation ``(time, height, width)`` float32, grey levels."""
        log_variance = np.tensordot(self.weights, features, axes=1)
        return (self.scale * np.exp(0.5 * np.clip(log_variance, -4, 12))).astype(np.float32)

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "weights": dict(zip(FEATURE_NAMES, self.weights.tolist(), strict=True)),
            "scale": self.scale,
            "n_clips": self.n_clips,
        }


def fit_error_model(features: list[np.ndarray], errors: list[np.ndarray], mask: np.ndarray) -> ErrorModel:
    """Fit the model by maximum likelihood on validation clips.

    Parameters
    ----------
    features
        `error_features` of each clip.
    errors
        Reconstruction minus truth of each clip, ``(time, height, width)``.
    mask
        ``(height, width)`` pixels that count.
    """
    # neighboring pixels and frames hold much the same: a few thousand are enough, and as good
    step = max(1, sum(error.shape[0] for error in errors) * int(mask.sum()) // 40_000)
    x = np.concatenate([feature[:, :, mask].reshape(len(feature), -1)[:, ::step].T for feature in features])
    y = np.concatenate([error[:, mask].ravel()[::step] for error in errors]).astype(float) ** 2
    center, spread = x.mean(axis=0), x.std(axis=0)
    center[0], spread[0] = 0.0, 1.0
    spread[spread < 1e-6] = 1.0
    z = (x - center) / spread

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        log_variance = np.clip(z @ weights, -10, 20)
        ratio = y * np.exp(-log_variance)
        # a weak pull to zero keeps features that hardly vary from running off
        pull = 1e-3 * weights[1:]
        value = 0.5 * float((log_variance + ratio).mean()) + 0.5 * float((pull * weights[1:]).sum())
        return value, 0.5 * ((1 - ratio) @ z) / len(z) + np.append(0.0, pull)

    start = np.append(np.log(y.mean() + 1e-6), np.zeros(z.shape[1] - 1))
    weights = optimize.minimize(loss, start, jac=True, method="L-BFGS-B").x
    weights = weights / spread
    weights[0] -= float(weights[1:] @ center[1:])
    deviation = np.exp(0.5 * np.clip(x @ weights, -4, 12))
    scale = float(np.quantile(np.sqrt(y) / deviation, 0.95) / 1.96)
    return ErrorModel(weights, scale, len(features))
