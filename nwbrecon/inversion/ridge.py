"""The linear decoder: the floor that every reconstruction stands beside, and where the inversion begins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from nwbrecon.alignment import AlignedSession, responses_on_frames
from nwbrecon.errors import InversionError
from nwbrecon.metrics import dynamic_correlation
from nwbrecon.progress import progress

__all__ = ["RidgeDecoder", "fit_ridge", "ridge_path"]

# features (ROIs x lags) beyond which responses are reduced to their principal components first
_MOST_FEATURES = 6000
# time between lags (s), at least
_SHORTEST_LAG = 0.1
_PENALTIES = 10.0 ** np.arange(1.5, 6.1, 0.5)


@dataclass
class RidgeDecoder:
    """Ridge regression from the responses around a frame to its pixels.

    Attributes
    ----------
    lags
        ``(lag,)`` frames from the picture to the responses that are looked at.
    components
        ``(roi, component)`` principal components of the responses, or the identity where there are few ROIs.
    weights
        ``(lag x component, pixel)``.
    mean_responses, mean_video
        ``(lag x component,)`` and ``(pixel,)``.
    penalty
        The penalty that was chosen on validation clips.
    """

    lags: np.ndarray
    components: np.ndarray
    weights: np.ndarray
    mean_responses: np.ndarray
    mean_video: np.ndarray
    penalty: float

    def predict(self, aligned: AlignedSession, trial: int, without: np.ndarray | None = None) -> np.ndarray:
        """Reconstruct a trial: ``(time, height, width)`` float32, grey levels, not clipped.

        Parameters
        ----------
        aligned
            The session.
        trial
            Label of the trial.
        without
            ``(roi,)`` bool: ROIs whose responses are not looked at, but taken for average; ``None`` looks at all.
        """
        usual = None
        if without is not None:
            by_lag = self.mean_responses.reshape(len(self.lags), -1)
            usual = np.where(without, self.components @ by_lag.mean(axis=0), np.nan)
        design = _design(aligned, trial, self.lags, self.components, usual)
        video = (design - self.mean_responses) @ self.weights + self.mean_video
        return video.reshape(-1, *aligned.frame_size).astype(np.float32)


def fit_ridge(aligned: AlignedSession, *, past_seconds: float = 0.1, future_seconds: float = 0.55) -> RidgeDecoder:
    """Fit the decoder on training trials; its penalty is the one that decodes validation trials best.

    Parameters
    ----------
    aligned
        The session.
    past_seconds, future_seconds
        Responses from so long before a frame to so long after it are looked at (s). Those before it tell, by what was
        shown then, as much as those long after it: without them the movie would run ahead.

    Raises
    ------
    InversionError
        If there are no training or no validation trials.
    """
    train, validation = aligned.trials_in("train"), aligned.trials_in("validation")
    if not train or not validation:
        raise InversionError(
            f"There are {len(train)} training and {len(validation)} validation trials.",
            "The linear decoder needs at least one of each.",
        )
    # a lag a sample; of planes that are scanned faster, the mean over what is between lags
    interval = max(_SHORTEST_LAG, min(group.interval for group in aligned.groups))
    step = max(1, round(interval * aligned.frame_rate))
    lags = np.arange(-round(past_seconds * aligned.frame_rate), round(future_seconds * aligned.frame_rate) + 1, step)
    components = _components(aligned, train, max(1, _MOST_FEATURES // len(lags)))

    n_features, n_pixels = len(lags) * components.shape[1], int(np.prod(aligned.frame_size))
    gram = torch.zeros(n_features + 1, n_features + 1, dtype=torch.float64)
    cross = torch.zeros(n_features + 1, n_pixels, dtype=torch.float64)
    for trial in progress(train, label="linear decoder", unit="clip"):
        valid = aligned.trial(trial).valid
        x = np.append(_design(aligned, trial, lags, components), np.ones((len(valid), 1), np.float32), axis=1)[valid]
        y = aligned.trial(trial).video.reshape(len(valid), -1)[valid]
        x, y = torch.from_numpy(x), torch.from_numpy(y)
        gram += x.T @ x
        cross += x.T @ y
    best: tuple[float, RidgeDecoder] | None = None
    for penalty, weights, mean_x, mean_y in ridge_path(gram, cross, _PENALTIES):
        decoder = RidgeDecoder(
            lags=lags,
            components=components,
            weights=weights.float().numpy(),
            mean_responses=mean_x.float().numpy(),
            mean_video=mean_y.float().numpy(),
            penalty=penalty,
        )
        score = float(
            np.nanmean(
                [
                    dynamic_correlation(decoder.predict(aligned, trial), aligned.trial(trial).video)
                    for trial in validation
                ]
            )
        )
        if best is None or score > best[0]:
            best = score, decoder
    assert best is not None
    return best[1]


def ridge_path(
    gram: Tensor, cross: Tensor, penalties: Iterable[float]
) -> Iterator[tuple[float, Tensor, Tensor, Tensor]]:
    """Solve a ridge regression under several penalties, at the price of one.

    Parameters
    ----------
    gram, cross
        ``(feature + 1, feature + 1)`` and ``(feature + 1, target)``: sums of products of features with features and
        with targets, float64; the last feature is one throughout, and is not penalized.
    penalties
        What is added to the eigenvalues of the centered features' products.

    Yields
    ------
    penalty, weights, mean_x, mean_y
        Weights ``(feature, target)``, and the means of features and targets that they are to be used between.
    """
    count = gram[-1, -1].clamp_min(1)
    mean_x, mean_y = gram[-1, :-1] / count, cross[-1] / count
    eigenvalues, vectors = torch.linalg.eigh(gram[:-1, :-1] - count * torch.outer(mean_x, mean_x))
    rotated = vectors.T @ (cross[:-1] - count * torch.outer(mean_x, mean_y))
    for penalty in penalties:
        yield float(penalty), vectors @ (rotated / (eigenvalues.clamp_min(0) + penalty)[:, None]), mean_x, mean_y


def _design(
    aligned: AlignedSession, trial: int, lags: np.ndarray, components: np.ndarray, usual: np.ndarray | None = None
) -> np.ndarray:
    """Responses of each frame at all lags, each the mean over frames up to the next: ``(time, lag x component)``.

    ``usual`` ``(roi,)``, where it is not NaN, takes the place of an ROI's responses.
    """
    step = int(lags[1] - lags[0]) if len(lags) > 1 else 1
    # what the mean over a lag's frames reaches for
    lead, tail = max(0, -int(lags.min())) + step, max(0, int(lags.max())) + step
    # a missing response says nothing; the mean would too, but is not known before the fit
    responses = np.nan_to_num(responses_on_frames(aligned, trial, lead, tail))
    if usual is not None:
        responses = np.where(np.isfinite(usual), usual, responses)
    responses = responses @ components
    responses = ndimage.uniform_filter1d(responses, step, axis=0)
    n_frames = len(responses) - lead - tail
    return np.concatenate([responses[lead + lag : lead + lag + n_frames] for lag in lags], axis=1)


def _components(aligned: AlignedSession, trials: list[int], most: int) -> np.ndarray:
    """Principal components of the responses where there are more ROIs than ``most`` (randomized range finding).

    Halko, Martinsson & Tropp 2011, SIAM Rev. 53:217-288.
    """
    if aligned.n_rois <= most:
        return np.eye(aligned.n_rois, dtype=np.float32)
    responses = torch.from_numpy(
        np.concatenate([np.nan_to_num(responses_on_frames(aligned, trial)) for trial in trials])
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _, _, components = torch.svd_lowrank(responses - responses.mean(dim=0), q=most, niter=2)
    return components.numpy()
