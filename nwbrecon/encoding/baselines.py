"""What an encoder is to be compared with: encoders that know only the mean, only behavior, only linear filters.

They are fitted in closed form or by a few steps of a convex problem, within seconds, on training trials alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nwbrecon.alignment import AlignedGroup, AlignedSession
from nwbrecon.encoding.likelihoods import Likelihood, Poisson, likelihood_for
from nwbrecon.encoding.observation import Window, observe, window_video
from nwbrecon.errors import EncoderError
from nwbrecon.metrics import correlation

__all__ = ["FeatureEncoder", "fit_baselines"]

# penalties of the ridge regressions, as shares of the number of samples, for features of about unit variance
_PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
# more data than this would make the regressions slow, and better by little
_MOST_MINUTES = 20
_FOLDS = 4
# activity a frame of an ROI that was silent in training
_LEAST_RATE = 1e-4
# pixels that the linear filters see
_PIXELS = 144
_VIDEO_LAGS = tuple(step / 15 for step in range(7))  # seconds before the response
_BEHAVIOR_LAGS = (-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0, 2.0)

Features = Callable[[Tensor, Tensor], Tensor]


class FeatureEncoder:
    """An encoder whose drive is linear in given features, and whose rate is the softplus of its drive.

    Parameters
    ----------
    features
        Video ``(1, 1, time, height, width)`` and behavior ``(1, time, variable)`` to ``(time, feature)``.
    weights
        ``(feature, roi)``.
    offset
        ``(roi,)``: the drive is ``features @ weights + offset``.
    rectified
        ``(roi,)`` bool: whether the rate is the softplus of the drive, or the drive itself (dF/F).

    Attributes
    ----------
    warm_up, look_ahead
        Frames at the start and at the end of a video that are not to be scored.
    """

    def __init__(self, features: Features, weights: Tensor, offset: Tensor, rectified: Tensor) -> None:
        self.features, self.weights, self.offset, self.rectified = features, weights, offset, rectified
        self.warm_up = self.look_ahead = 0

    def predict_rates(self, video: Tensor, behavior: Tensor) -> Tensor:
        """Rates ``(batch, roi, time)``; see `nwbrecon.encoding.Encoder.predict_rates`."""
        shown = [self.features(video[item : item + 1], behavior[item : item + 1]) for item in range(len(video))]
        drive = torch.stack(shown) @ self.weights + self.offset
        return torch.where(self.rectified, functional.softplus(drive), drive).transpose(1, 2)


def fit_baselines(aligned: AlignedSession, *, warm_up: int = 0, look_ahead: int = 0) -> dict[str, FeatureEncoder]:
    """Fit the baselines on the training trials.

    ``mean`` predicts each ROI's mean rate, always. ``behavior`` is a regression on running, pupil and whatever else is
    known of the animal, from two seconds before to a second after the response; it does not look at the movie.
    ``linear-nonlinear`` is a regression on the movie alone, at a coarse resolution, over the last 0.4 s: one filter an
    ROI and a nonlinearity (Chichilnisky 2001, Network 12:199-213). Both are ridge regressions followed by a softplus.
    The penalty (of a response group) and offset and slope of the softplus (of an ROI, by Poisson likelihood) are those
    that do best where each quarter of the training clips is predicted from the others. dF/F is predicted by the linear
    part alone. Of long sessions, the first 20 minutes of training trials serve.

    Parameters
    ----------
    aligned
        The session.
    warm_up, look_ahead
        Frames at the start and at the end of a trial that are not used: those of the encoder that they stand beside.

    Returns
    -------
    dict
        Encoders by name; without ``behavior`` where the session has none.

    Raises
    ------
    EncoderError
        If a response group measured nothing in the training trials.
    """
    training = _training_data(aligned, warm_up, look_ahead)
    features: dict[str, Features] = {"mean": _nothing}
    if aligned.behavior_names:
        features["behavior"] = _BehaviorFeatures.of(aligned, training)
    features["linear-nonlinear"] = _VideoFeatures.of(aligned, training)
    encoders = {name: _fit(makes, training, aligned.groups) for name, makes in features.items()}
    for encoder in encoders.values():
        encoder.warm_up, encoder.look_ahead = warm_up, look_ahead
    return encoders


@dataclass
class _TrainingTrial:
    """What one training trial has to offer: movie, behavior, and by group samples and the frames that they count.

    ``fold`` says which part of the data the trial belongs to when parts are left out in turn.
    """

    video: Tensor
    behavior: Tensor
    weights: list[Tensor]
    measured: list[Tensor]
    known: list[Tensor]
    fold: int


def _training_data(aligned: AlignedSession, warm_up: int, look_ahead: int) -> list[_TrainingTrial]:
    labels = aligned.trials_in("train")
    seconds = aligned.trials.loc[labels, "n_frames"].cumsum() / aligned.frame_rate
    labels = [label for label in labels if seconds[label] <= _MOST_MINUTES * 60] or labels[:1]
    fold = {clip: place % _FOLDS for place, clip in enumerate(dict.fromkeys(aligned.trials.loc[labels, "clip"]))}
    trials = []
    for label in labels:
        windows = [Window(label, 0, int(aligned.trials.at[label, "n_frames"]))]
        seen = observe(aligned, windows, warm_up=warm_up, look_ahead=look_ahead)
        trials.append(
            _TrainingTrial(
                *window_video(aligned, windows),
                weights=[one.weights[0] for one in seen],
                measured=[one.measured[0] for one in seen],
                known=[one.known[0] for one in seen],
                fold=fold[aligned.trials.at[label, "clip"]],
            )
        )
    return trials


def _nothing(video: Tensor, behavior: Tensor) -> Tensor:
    return video.new_zeros(video.shape[2], 0)


@dataclass
class _VideoFeatures:
    """Coarse pixels at several lags, divided by their standard deviation."""

    size: tuple[int, int]
    lags: list[int]
    mean: float
    deviation: float

    @classmethod
    def of(cls, aligned: AlignedSession, training: list[_TrainingTrial]) -> _VideoFeatures:
        height, width = aligned.frame_size
        shrink = min(1.0, (_PIXELS / (height * width)) ** 0.5)
        size = (max(1, round(height * shrink)), max(1, round(width * shrink)))
        lags = sorted({round(lag * aligned.frame_rate) for lag in _VIDEO_LAGS})
        small = torch.cat([functional.adaptive_avg_pool2d(trial.video[0, 0], size).ravel() for trial in training])
        return cls(size, lags, float(small.mean()), max(float(small.std()), 1e-3))

    def __call__(self, video: Tensor, behavior: Tensor) -> Tensor:
        small = functional.adaptive_avg_pool2d(video[0, 0], self.size).flatten(1)
        return _lagged((small - self.mean) / self.deviation, self.lags)


@dataclass
class _BehaviorFeatures:
    """Standardized behavior at several lags; what is missing is taken for the mean."""

    lags: list[int]
    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, aligned: AlignedSession, training: list[_TrainingTrial]) -> _BehaviorFeatures:
        values = torch.cat([trial.behavior[0] for trial in training]).double()
        known = values.isfinite()
        count = known.sum(dim=0).clamp_min(1)
        mean = torch.where(known, values, 0).sum(dim=0) / count
        deviation = torch.where(known, values - mean, 0).square().sum(dim=0).div(count).sqrt()
        lags = sorted({round(lag * aligned.frame_rate) for lag in _BEHAVIOR_LAGS})
        return cls(lags, mean.float(), torch.where(deviation > 0, deviation, 1).float())

    def __call__(self, video: Tensor, behavior: Tensor) -> Tensor:
        return _lagged(torch.nan_to_num((behavior[0] - self.mean) / self.deviation), self.lags)


def _lagged(values: Tensor, lags: list[int]) -> Tensor:
    """``(time, feature)`` at each lag side by side; before its start and after its end a trial goes on as it was."""
    frames = torch.arange(len(values))
    return torch.cat([values[(frames - lag).clamp(0, len(values) - 1)] for lag in lags], dim=1)


def _fit(makes: Features, training: list[_TrainingTrial], groups: list[AlignedGroup]) -> FeatureEncoder:
    features = [makes(trial.video, trial.behavior) for trial in training]
    weights, offsets, rectified = [], [], []
    for place, group in enumerate(groups):
        samples = _Samples.of(features, training, place)
        if not len(samples.activity):
            raise EncoderError(
                f"{group.name} measured nothing in the training trials.",
                "At least one sample of one ROI was expected.",
                "Leave the plane out, or correct its clock.",
            )
        likelihood = likelihood_for(group.kind)
        filters, drive = samples.ridge()
        offset, slope = samples.nonlinearity(drive, likelihood)
        weights.append(slope * filters)
        offsets.append(offset - slope * (samples.inputs.mean(dim=0) @ filters))
        rectified.append(torch.full((group.n_rois,), isinstance(likelihood, Poisson)))
    return FeatureEncoder(makes, torch.cat(weights, dim=1), torch.cat(offsets), torch.cat(rectified))


@dataclass
class _Samples:
    """The samples of a response group over all training trials.

    ``inputs`` ``(sample, feature)`` are the features averaged over the frames that a sample counts, ``frames``
    ``(sample, 1)`` how many those are, ``fold`` ``(sample,)`` which part of the data the sample is of; unknown activity
    is zero.
    """

    inputs: Tensor
    frames: Tensor
    activity: Tensor
    known: Tensor
    fold: Tensor

    @classmethod
    def of(cls, features: list[Tensor], training: list[_TrainingTrial], group: int) -> _Samples:
        parts = []
        for shown, trial in zip(features, training, strict=True):
            used = trial.known[group].any(dim=1)
            weights = trial.weights[group][used]
            frames = weights.sum(dim=1, keepdim=True)
            fold = torch.full((len(weights),), trial.fold)
            parts.append(
                (weights @ shown / frames, frames, trial.measured[group][used], trial.known[group][used], fold)
            )
        return cls(*(torch.cat(column) for column in zip(*parts, strict=True)))

    @property
    def mean_rate(self) -> Tensor:
        """Activity a frame, ``(roi,)``."""
        return self.activity.sum(dim=0) / (self.frames * self.known).sum(dim=0).clamp_min(1)

    def ridge(self) -> tuple[Tensor, Tensor]:
        """Fit filters ``(feature, roi)``; give with them the drive ``(sample, roi)`` that they were chosen by.

        The drive of a sample is that of filters which were fitted without its fold, of features less their mean.
        """
        inputs = self.inputs - self.inputs.mean(dim=0)
        residual = (self.activity - self.mean_rate * self.frames) * self.known
        rows = [self.fold == fold for fold in range(_FOLDS) if (self.fold == fold).any()]
        grams = [inputs[part].T @ inputs[part] for part in rows]
        crosses = [inputs[part].T @ residual[part] for part in rows]
        gram, cross = torch.stack(grams).sum(dim=0), torch.stack(crosses).sum(dim=0)
        # a single clip cannot be left out
        of_rest = (
            [(gram - a, cross - b) for a, b in zip(grams, crosses, strict=True)] if len(rows) > 1 else [(gram, cross)]
        )
        penalty, drive, score = _PENALTIES[-1], torch.zeros_like(residual), -torch.inf
        for candidate in _PENALTIES:
            predicted = torch.empty_like(residual)
            for part, rest in zip(rows, of_rest, strict=True):
                predicted[part] = inputs[part] @ _solve(*rest, candidate * len(inputs))
            # of ROIs that never change, no prediction is better
            scores = np.nan_to_num(correlation((predicted * self.known).numpy(), residual.numpy()))
            if scores.mean() > score:
                penalty, drive, score = candidate, predicted, scores.mean()
        return _solve(gram, cross, penalty * len(inputs)), drive

    def nonlinearity(self, drive: Tensor, likelihood: Likelihood) -> tuple[Tensor, Tensor]:
        """Offset and slope ``(roi,)`` of greatest likelihood for a drive ``(sample, roi)``."""
        rectified = isinstance(likelihood, Poisson)
        rate = self.mean_rate
        # at first the linear prediction: to first order, the softplus undoes the division by its slope
        offset = torch.log(torch.expm1(rate.clamp_min(_LEAST_RATE))) if rectified else rate.clone()
        slope = (1 / torch.sigmoid(offset) if rectified else torch.ones_like(rate)) / self.frames.mean()
        parameters = torch.stack([offset, slope]).requires_grad_()
        optimizer = torch.optim.LBFGS([parameters], max_iter=50, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            value = parameters[0] + parameters[1] * drive
            expected = self.frames * (functional.softplus(value) if rectified else value)
            total = (likelihood.loss(expected, self.activity) * self.known).sum() / len(drive)
            torch.autograd.backward(total)
            return total

        if drive.any():
            optimizer.step(loss)  # type: ignore[no-untyped-call]
        offset, slope = parameters.detach()
        return offset, slope


def _solve(gram: Tensor, cross: Tensor, penalty: float) -> Tensor:
    return torch.linalg.solve(gram + penalty * torch.eye(len(gram)), cross)
