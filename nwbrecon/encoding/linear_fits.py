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
        folds = self._folds.values()
        return torch.stack([fold.cross[0, -1] for fold in folds]).sum(dim=0) / self._sums(slice(0)).count

    def mean_features(self) -> Tensor:
        """``(position, feature)`` mean of the features over the samples."""
        total = self._sums(slice(0))
        return total.gram[:, :-1, -1] / total.count

    def score(self, ridge: float = _RIDGE) -> Tensor:
        """Correlation ``(position, roi)`` of activity with what fits to the other folds predict.

        Where there is but one fold, the fit to that is judged by it.
        """
        n_rois = next(iter(self._folds.values())).cross.shape[2]
        # in parts: each array of positions, features and ROIs is as large as the sums themselves
        parts = [slice(first, first + _ROIS_AT_ONCE) for first in range(0, n_rois, _ROIS_AT_ONCE)]
        products = torch.zeros(3, len(self._sums(slice(0)).gram), n_rois)
        for fold, held_out in self._folds.items():
            but = fold if len(self._folds) > 1 else None
            factor, (gram, _, _) = self._sums(slice(0), but=but).factor(ridge), held_out.of(slice(0)).centered()
            for part in parts:
                weights = torch.cholesky_solve(self._sums(part, but=but).centered()[1], factor)
                _, cross, power = held_out.of(part).centered()
                explained, predicted = (weights * cross).sum(dim=1), (weights * (gram @ weights)).sum(dim=1)
                products[..., part] += torch.stack([explained, predicted, power.expand_as(explained)])
        explained, predicted, power = products
        return explained / torch.sqrt((predicted * power).clamp_min(1e-12))

    def weights(self, positions: Tensor) -> Tensor:
        """``(roi, feature)`` weights of a fit to all that was added, of each ROI at its own position."""
        factor, weights = self._sums(slice(0)).factor(_RIDGE), []
        for first in range(0, len(positions), _ROIS_AT_ONCE):
            at = positions[first : first + _ROIS_AT_ONCE]
            _, cross, _ = self._sums(slice(first, first + len(at))).centered()
            own = cross[at, :, torch.arange(len(at))]
            weights.append(torch.cholesky_solve(own[..., None], factor[at])[..., 0])
        return torch.cat(weights)

    def _sums(self, rois: slice, *, but: int | None = None) -> _Sums:
        """Add up all folds, or all but one, for some ROIs."""
        parts = [fold.of(rois) for index, fold in self._folds.items() if index != but]
        return _Sums(sum(p.gram for p in parts), sum(p.cross for p in parts), sum(p.power for p in parts))  # type: ignore[arg-type]


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

    def of(self, rois: slice) -> _Sums:
        """Give those of some ROIs; they share memory."""
        return _Sums(self.gram, self.cross[..., rois], self.power[rois])

    def centered(self) -> tuple[Tensor, Tensor, Tensor]:
        """Give the sums for deviations from the means, without the 1."""
        count = self.count
        mean_x, mean_y = self.gram[:, :-1, -1] / count, self.cross[0, -1] / count
        gram = self.gram[:, :-1, :-1] - count * mean_x[:, :, None] * mean_x[:, None]
        cross = self.cross[:, :-1] - count * mean_x[:, :, None] * mean_y
        return gram, cross, self.power - count * mean_y**2

    def factor(self, ridge: float) -> Tensor:
        """Cholesky factor of the sums of features with a ridge."""
        gram, _, _ = self.of(slice(0)).centered()
        return torch.linalg.cholesky(gram + ridge * self.count * torch.eye(gram.shape[1]))
