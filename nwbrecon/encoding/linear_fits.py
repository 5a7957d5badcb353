"""Linear fits of activity to the features at every position: what initialization and its searches go by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


def fit_everywhere(
    encoder: VideoEncoder, aligned: AlignedSession, windows: Sequence[Window], positions: Tensor | slice = slice(None)
) -> list[LinearFit]:
    """Regress the activity of every ROI on the features at every position (or at some), one fit a response group."""
    fits = [LinearFit() for _ in aligned.groups]
    for held_out, local, seen_by in features_and_samples(encoder, aligned, windows, positions):
        for fit, seen, shift in zip(fits, seen_by, group_shifts(encoder, len(fits)), strict=True):
            fit.add(
                local,
                by_step(seen.weights[0], encoder.core.temporal_stride, shift),
                seen.measured[0],
                seen.known[0],
                held_out=held_out,
            )
    return fits


def features_and_samples(
    encoder: VideoEncoder, aligned: AlignedSession, windows: Sequence[Window], positions: Tensor | slice = slice(None)
) -> Iterator[tuple[bool, Tensor, list[Observation]]]:
    """Whether a clip is held out of the fit, its features ``(position, step, feature)``, and what was measured."""
    every = min(4, len(windows))
    for index, window in enumerate(progress(windows, label="finding receptive fields", unit="clip")):
        local = local_features(encoder, *window_video(aligned, [window]), positions)
        seen_by = observe(aligned, [window], warm_up=encoder.warm_up, look_ahead=encoder.look_ahead)
        # every fourth clip is held out of the fit, or the last of fewer
        yield index > 0 and index % every == every - 1, local, seen_by


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
        smooth, _, best = fit.places(encoder.readout.map_size, group)
        chosen = np.sort(np.argsort(-smooth.max(axis=0))[:most])
        found.append((chosen, best[chosen]))
    return found


class LinearFit:
    """Sums from which ridge regression at every position follows, for fitting and for checking; nothing is stored."""

    def __init__(self) -> None:
        self.sums: dict[bool, list[Tensor]] = {}

    def add(self, local: Tensor, weights: Tensor, measured: Tensor, known: Tensor, *, held_out: bool) -> None:
        """Add a stretch of video.

        Parameters
        ----------
        local
            ``(position, step, feature)``.
        weights
            ``(sample, step)`` of each step in a sample.
        measured, known
            ``(sample, roi)`` activity, and 1 where it was measured.
        held_out
            Whether it is for checking.
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
        ones = torch.ones(*x.shape[:2], 1)
        x = torch.cat([x, ones], dim=2)
        y = torch.cat([measured, measured**2], dim=1)
        new = [x.transpose(1, 2) @ x, x.transpose(1, 2) @ measured, y.sum(dim=0)]
        if held_out in self.sums:
            for total, part in zip(self.sums[held_out], new, strict=True):
                total += part
        else:
            self.sums[held_out] = new

    @property
    def fitted(self) -> bool:
        """Whether anything was measured that a fit can be made from."""
        return False in self.sums

    def places(self, map_size: tuple[int, int], group: AlignedGroup) -> tuple[np.ndarray, Tensor, Tensor]:
        """Smooth score ``(position, roi)``, weights as of `solve`, and the best position of each ROI.

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
        score, weights = self.solve()
        smooth = ndimage.gaussian_filter(score.reshape(*map_size, -1).numpy(), (0.7, 0.7, 0)).reshape(score.shape)
        return smooth, weights, torch.from_numpy(smooth.argmax(axis=0))

    def mean_activity(self) -> Tensor:
        """``(roi,)`` mean of the samples."""
        gram, cross, _ = self.sums[False]
        return cross[0, -1] / gram[0, -1, -1]

    def mean_features(self) -> Tensor:
        """``(position, feature)`` mean of the features over the samples."""
        gram = self.sums[False][0]
        return gram[:, :-1, -1] / gram[0, -1, -1]

    def solve(self, ridge: float = _RIDGE) -> tuple[Tensor, Tensor]:
        """Held-out correlation ``(position, roi)`` and weights ``(position, feature, roi)``, for a share of ridge."""
        gram, cross, _ = self._centered(False)
        n_samples = self.sums[False][0][0, -1, -1]
        penalty = ridge * n_samples * torch.eye(gram.shape[1])
        weights = torch.linalg.solve(gram + penalty, cross)
        gram, cross, power = self._centered(True) if True in self.sums else self._centered(False)
        explained = (weights * cross).sum(dim=1)
        predicted = (weights * (gram @ weights)).sum(dim=1)
        score = explained / torch.sqrt((predicted * power).clamp_min(1e-12))
        return score, weights

    def _centered(self, held_out: bool) -> tuple[Tensor, Tensor, Tensor]:
        gram, cross, sums = self.sums[held_out]
        count = gram[0, -1, -1]
        mean_x, mean_y = gram[:, :-1, -1] / count, cross[0, -1] / count
        n_rois = cross.shape[2]
        gram_c = gram[:, :-1, :-1] - count * mean_x[:, :, None] * mean_x[:, None]
        cross_c = cross[:, :-1] - count * mean_x[:, :, None] * mean_y
        return gram_c, cross_c, sums[n_rois:] - count * mean_y**2
