"""Linear fits of activity to the features at every position: what initialization and its searches go by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from nwbrecon.alignment import AlignedGroup, AlignedSession
from nwbrecon.encoding.delays import shifted
from nwbrecon.encoding.observation import Observation, Window, observe, window_video
from nwbrecon.encoding.parts import pair_energy
from nwbrecon.errors import EncoderError
from nwbrecon.progress import progress

if TYPE_CHECKING:
    from nwbrecon.encoding.encoder import VideoEncoder

__all__ = [
    "LinearFit",
    "best_rois",
    "by_step",
    "features_and_samples",
    "fit_everywhere",
    "group_shifts",
    "local_features",
]

# share of the samples that the ridge penalty weighs as much as, for features of unit variance
_RIDGE = 0.3
_FOLDS = 4
_ROIS_AT_ONCE = 500


def fit_everywhere(
    encoder: VideoEncoder, aligned: AlignedSession, windows: Sequence[Window], positions: Tensor | slice = slice(None)
) -> list[LinearFit]:
    """Regress the activity of every ROI on the features at every position (or at some), one fit a response group."""
    fits = [LinearFit() for _ in aligned.groups]
    for fold, local, seen_by in features_and_samples(encoder, aligned, windows, positions):
        for fit, seen, shift in zip(fits, seen_by, group_shifts(encoder, len(fits)), strict=True):
            fit.add(
                local,
                by_step(seen.weights[0], encoder.core.temporal_stride, shift),
                seen.measured[0],
                seen.known[0],
                fold=fold,
            )
    return fits


def features_and_samples(
    encoder: VideoEncoder, aligned: AlignedSession, windows: Sequence[Window], positions: Tensor | slice = slice(None)
) -> Iterator[tuple[int, Tensor, list[Observation]]]:
    """Fold that a clip belongs to, its features ``(position, step, feature)``, and what was measured."""
    for index, window in enumerate(progress(windows, label="finding receptive fields", unit="clip")):
        local = local_features(encoder, *window_video(aligned, [window]), positions)
        yield index % _FOLDS, local, observe(aligned, [window], warm_up=encoder.warm_up, look_ahead=encoder.look_ahead)


def local_features(
    encoder: VideoEncoder, video: Tensor, behavior: Tensor, positions: Tensor | slice = slice(None)
) -> Tensor:
    """Features of one stretch of video and energies of their pairs at some positions, ``(position, step, feature)``."""
    features, suppression = encoder.features(video, behavior)
    local = features[0].permute(2, 3, 0, 1).flatten(0, 1)[positions]
    local = torch.cat([local, pair_energy(local)], dim=2)
    return local if suppression is None else local * suppression[0].permute(1, 2, 0).flatten(0, 1)[positions][..., None]


def group_shifts(encoder: VideoEncoder, n_groups: int) -> Tensor:
    """``(group,)`` frames by which the rates of each response group are to be shifted."""
    return torch.zeros(n_groups) if encoder.delays is None else encoder.delays.seconds * encoder.frame_rate


def by_step(weights: Tensor, stride: int, shift: Tensor) -> Tensor:
    """Weights of frames ``(sample, time)`` to weights of the steps of the core, which hold for ``stride`` frames.

    The rates are to be shifted by some frames first, if not by 0; the weights are those of the rates before that.
    """
    weights = shifted(weights, -shift) if shift else weights
    padded = functional.pad(weights, (0, -weights.shape[1] % stride))
    return padded.view(len(weights), padded.shape[1] // stride, stride).sum(dim=2)


def best_rois(
    encoder: VideoEncoder, aligned: AlignedSession, windows: Sequence[Window], most: int
) -> list[tuple[np.ndarray, Tensor]]:
    """ROIs of each response group that a linear fit predicts best, ``most`` at most, and their positions."""
    found = []
    for fit, group in zip(fit_everywhere(encoder, aligned, windows), aligned.groups, strict=True):
        smooth, best = fit.places(encoder.readout.map_size, group)
        chosen = np.sort(np.argsort(-smooth.max(axis=0))[:most])
        found.append((chosen, best[chosen]))
    return found


class LinearFit:
    """Sums from which ridge regression at every position follows; nothing else is stored.

    Clips belong to folds: a fit is judged by each fold as fitted to the others, and then made from all.
    """

    def __init__(self) -> None:
        self._folds: dict[int, _Sums] = {}

    def add(self, local: Tensor, weights: Tensor, measured: Tensor, known: Tensor, *, fold: int) -> None:
        """Add a stretch of video.

        Parameters
        ----------
        local
            ``(position, step, feature)``.
        weights
            ``(sample, step)`` of each step in a sample.
        measured, known
            ``(sample, roi)`` activity, and 1 where it was measured.
        fold
            What it belongs to.
        """
        some = known.any(dim=1)
        if not some.any():
            return
        weights, measured, known = weights[some], measured[some], known[some]
        # a missing value takes the place of the ROI's mean over the clip
        mean = measured.sum(dim=0) / known.sum(dim=0).clamp_min(1)
        measured = torch.where(known > 0, measured, mean)
        # mean of the features over the interval of each sample: (position, sample, feature)
        x = (weights / weights.sum(dim=1, keepdim=True)) @ local
        x = torch.cat([x, torch.ones(*x.shape[:2], 1)], dim=2)
        new = _Sums(x.transpose(1, 2) @ x, x.transpose(1, 2) @ measured, (measured**2).sum(dim=0))
        if fold in self._folds:
            self._folds[fold].add(new)
        else:
            self._folds[fold] = new

    @property
    def fitted(self) -> bool:
        """Whether anything was measured that a fit can be made from."""
        return bool(self._folds)

    def places(self, map_size: tuple[int, int], group: AlignedGroup) -> tuple[np.ndarray, Tensor]:
        """Smooth score ``(position, roi)`` and the best position of each ROI.

        Raises
        ------
        EncoderError
            If the group measured nothing.
        """
        if not self.fitted:
            raise EncoderError(
                f"{group.name} measured nothing in the training trials.",
                "At least one sample of one ROI was expected.",
                "Leave the plane out, or correct its clock.",
            )
        score = self.score()
        smooth = ndimage.gaussian_filter(score.reshape(*map_size, -1).numpy(), (0.7, 0.7, 0)).reshape(score.shape)
        return smooth, torch.from_numpy(smooth.argmax(axis=0))

    def mean_activity(self) -> Tensor:
        """``(roi,)`` mean of the samples."""
        total = self._total()
        return total.cross[0, -1] / total.count

    def mean_features(self) -> Tensor:
        """``(position, feature)`` mean of the features over the samples."""
        total = self._total()
        return total.gram[:, :-1, -1] / total.count

    def score(self, ridge: float = _RIDGE) -> Tensor:
        """Correlation ``(position, roi)`` of activity with what fits to the other folds predict.

        Where there is but one fold, the fit to that is judged by it.
        """
        total = self._total()
        explained_and_predicted, power = torch.zeros(()), torch.zeros(())
        for held_out in self._folds.values():
            fitted = total.without(held_out) if len(self._folds) > 1 else total
            factor, cross = fitted.regularized(ridge)
            gram_held, cross_held, power_held = held_out.centered()
            # in parts: each array of positions, features and ROIs is as large as the sums themselves
            parts = zip(torch.split(cross, _ROIS_AT_ONCE, 2), torch.split(cross_held, _ROIS_AT_ONCE, 2), strict=True)
            of_parts = []
            for part, part_held in parts:
                weights = torch.cholesky_solve(part, factor)
                quadratic = weights * (gram_held @ weights)
                of_parts.append(torch.stack([(weights * part_held).sum(dim=1), quadratic.sum(dim=1)]))
            explained_and_predicted = explained_and_predicted + torch.cat(of_parts, dim=2)
            power = power + power_held
        explained, predicted = explained_and_predicted
        return explained / torch.sqrt((predicted * power).clamp_min(1e-12))

    def weights(self, positions: Tensor) -> Tensor:
        """``(roi, feature)`` weights of a fit to all that was added, of each ROI at its own position."""
        factor, cross = self._total().regularized(_RIDGE)
        rois = torch.arange(len(positions))
        return torch.cholesky_solve(cross[positions, :, rois][..., None], factor[positions])[..., 0]

    def _total(self) -> _Sums:
        first, *others = self._folds.values()
        total = _Sums(first.gram.clone(), first.cross.clone(), first.power.clone())
        for other in others:
            total.add(other)
        return total


@dataclass
class _Sums:
    """Sums of products over samples: of features and 1, of these and what was measured, and of that with itself."""

    gram: Tensor
    cross: Tensor
    power: Tensor

    @property
    def count(self) -> Tensor:
        """Number of samples."""
        return self.gram[0, -1, -1]

    def add(self, other: _Sums) -> None:
        self.gram += other.gram
        self.cross += other.cross
        self.power += other.power

    def without(self, part: _Sums) -> _Sums:
        return _Sums(self.gram - part.gram, self.cross - part.cross, self.power - part.power)

    def centered(self) -> tuple[Tensor, Tensor, Tensor]:
        """Give the sums for deviations from the means, without the 1."""
        count = self.count
        mean_x, mean_y = self.gram[:, :-1, -1] / count, self.cross[0, -1] / count
        gram = self.gram[:, :-1, :-1] - count * mean_x[:, :, None] * mean_x[:, None]
        cross = self.cross[:, :-1] - count * mean_x[:, :, None] * mean_y
        return gram, cross, self.power - count * mean_y**2

    def regularized(self, ridge: float) -> tuple[Tensor, Tensor]:
        """Cholesky factor of the sums of features with a ridge, and their sums with what was measured."""
        gram, cross, _ = self.centered()
        return torch.linalg.cholesky(gram + ridge * self.count * torch.eye(gram.shape[1])), cross
