"""Where each ROI looks: positions and weights from a linear fit, before any gradient step.

At every position of the feature maps the activity of every ROI is regressed on the features there; the position that
predicts held-out activity best becomes the ROI's. With minutes of data this finds receptive fields, those of complex
cells too, that gradient descent would be long in finding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from nwbrecon.alignment import AlignedGroup, AlignedSession
from nwbrecon.encoding.delays import LONGEST_DELAY, shifted
from nwbrecon.encoding.observation import Observation, Window, observe, window_video
from nwbrecon.encoding.parts import pair_energy
from nwbrecon.errors import EncoderError
from nwbrecon.progress import progress

if TYPE_CHECKING:
    from nwbrecon.encoding.encoder import VideoEncoder

__all__ = ["behavior_units", "initialize", "mean_rates", "scale_core"]

# share of the samples that the ridge penalty weighs as much as, for features of unit variance
_RIDGE = 0.03
# more data than this adds little to where a receptive field is
_MOST_MINUTES = 15
# ROIs of a response group by which its delay is found
_ROIS_FOR_DELAY = 40


@torch.no_grad()
def scale_core(
    encoders: Sequence[VideoEncoder], sessions: Sequence[AlignedSession], trials: Sequence[Sequence[int]]
) -> None:
    """Standardize the video over the training trials of all sessions, and scale the filters of the core they share.

    Parameters
    ----------
    encoders
        The encoders, one a session, with one core.
    sessions
        The sessions.
    trials
        Training trials of each.
    """
    sums = np.zeros(3)
    for aligned, own in zip(sessions, trials, strict=True):
        for trial in own:
            pixels = aligned.trial(trial).video[::5].astype(float)
            sums += pixels.size, pixels.sum(), (pixels**2).sum()
    _, mean, power = sums / sums[0]
    for encoder in encoders:
        encoder.standardize_video(mean, max(power - mean**2, 1.0) ** 0.5)
    first, aligned, trial = encoders[0], sessions[0], trials[0][0]
    video, _ = window_video(aligned, [Window(trial, 0, int(aligned.trials.at[trial, "n_frames"]))])
    first.core.rescale((video - first.video_mean) / first.video_std)


@torch.no_grad()
def initialize(encoder: VideoEncoder, aligned: AlignedSession, trials: list[int]) -> np.ndarray:
    """Standardize the behavior and set the readout from a linear fit.

    Parameters
    ----------
    encoder
        The encoder, with a core that is scaled; its readout is overwritten.
    aligned
        The session.
    trials
        Training trials.

    Returns
    -------
    numpy.ndarray
        ``(roi,)`` correlation of the linear prediction with activity that was held out of the fit.

    Raises
    ------
    EncoderError
        If a response group measured nothing in these trials.
    """
    encoder.standardize_behavior(*behavior_units(aligned, trials))
    budget = _MOST_MINUTES * 60 * aligned.frame_rate
    lengths = aligned.trials.loc[trials, "n_frames"].to_numpy()
    starts = np.cumsum(lengths) - lengths
    trials = [trial for trial, start in zip(trials, starts, strict=True) if start < budget]
    windows = [Window(trial, 0, int(aligned.trials.at[trial, "n_frames"])) for trial in trials]

    encoder.eval()
    if encoder.delays is not None:
        encoder.delays.start(torch.from_numpy(_find_delays(encoder, aligned, windows)))
    fits = _fit_everywhere(encoder, aligned, windows)

    readout, scores = encoder.readout, []
    map_size, channels = readout.map_size, encoder.core.channels
    for fit, seen, group in zip(fits, observe(aligned, windows[:1]), aligned.groups, strict=True):
        smooth, weights, best = fit.places(map_size, group)
        roi = torch.arange(len(best))
        rows, columns = best // map_size[1], best % map_size[1]
        center = torch.tensor([(map_size[0] - 1) / 2, (map_size[1] - 1) / 2])
        # from activity per sample to the drive of a softplus per frame, linearized at the mean rate
        frames_per_sample = group.interval * aligned.frame_rate
        rate = (fit.mean_activity() / frames_per_sample).clamp_min(1e-3)
        bias = torch.log(torch.expm1(rate))
        slope = torch.sigmoid(bias).clamp_min(0.05) * frames_per_sample
        chosen = weights[best, :, roi] / slope[:, None]
        readout.place(
            seen.rois,
            torch.stack([rows, columns], dim=1) - center,
            linear=chosen[:, :channels],
            energy=chosen[:, channels:],
            bias=bias - (chosen * fit.mean_features()[best]).sum(dim=1),
        )
        scores.append(smooth.max(axis=0))
    return np.concatenate(scores)


def _fit_everywhere(encoder: VideoEncoder, aligned: AlignedSession, windows: Sequence[Window]) -> list[_LinearFit]:
    """Regress the activity of every ROI on the features at every position, one fit a response group."""
    fits = [_LinearFit() for _ in aligned.groups]
    shifts = torch.zeros(len(fits)) if encoder.delays is None else encoder.delays.seconds * encoder.frame_rate
    for held_out, local, seen_by in _features_and_samples(encoder, aligned, windows):
        for fit, seen, shift in zip(fits, seen_by, shifts, strict=True):
            fit.add(
                local,
                _by_step(_earlier(seen.weights[0], shift), encoder.core.temporal_stride),
                seen.measured[0],
                seen.known[0],
                held_out=held_out,
            )
    return fits


def _find_delays(encoder: VideoEncoder, aligned: AlignedSession, windows: Sequence[Window]) -> np.ndarray:
    """Delay of each response group (s) at which the linear fit predicts held-out activity best.

    Readouts can make up for some of a delay, so that descent from zero ends halfway. The best ROIs of a group are
    fitted at their positions with one delay after the other, and the peak of their mean score lies on a parabola.
    """
    rate, stride = encoder.frame_rate, encoder.core.temporal_stride
    most = int(LONGEST_DELAY * rate / stride)
    shifts = stride * torch.arange(-most, most + 1)
    places, rois = [], []
    for fit, group in zip(_fit_everywhere(encoder, aligned, windows), aligned.groups, strict=True):
        smooth, _, best = fit.places(encoder.readout.map_size, group)
        chosen = np.sort(np.argsort(-smooth.max(axis=0))[:_ROIS_FOR_DELAY])
        rois.append(chosen)
        places.append(best[chosen])
    fits = [[_LinearFit() for _ in shifts] for _ in places]
    for held_out, local, seen_by in _features_and_samples(encoder, aligned, windows):
        for of_group, seen, at, chosen in zip(fits, seen_by, places, rois, strict=True):
            for fit, shift in zip(of_group, shifts, strict=True):
                weights = _by_step(_earlier(seen.weights[0], shift), stride)
                measured, known = (values[0][:, chosen] for values in (seen.measured, seen.known))
                fit.add(local[at], weights, measured, known, held_out=held_out)
    delays = []
    for of_group in fits:
        score = np.array([float(fit.solve()[0].diagonal().mean()) for fit in of_group])
        peak = int(score.argmax())
        beside = score[max(0, peak - 1) : peak + 2]
        bend = 2 * beside[1] - beside[0] - beside[2] if len(beside) == 3 and 0 < peak < len(score) - 1 else 0.0
        offset = 0.5 * (beside[2] - beside[0]) / bend if bend > 0 else 0.0
        delays.append((float(shifts[peak]) + stride * offset) / rate)
    return np.array(delays, dtype=np.float32)


def _features_and_samples(
    encoder: VideoEncoder, aligned: AlignedSession, windows: Sequence[Window]
) -> Iterator[tuple[bool, Tensor, list[Observation]]]:
    """Whether a clip is held out of the fit, its features ``(position, step, feature)``, and what was measured."""
    every = min(4, len(windows))
    for index, window in enumerate(progress(windows, label="finding receptive fields", unit="clip")):
        features, suppression = encoder.features(*window_video(aligned, [window]))
        # the energies of the pairs beside the features
        local = features[0].permute(2, 3, 0, 1).flatten(0, 1)
        local = torch.cat([local, pair_energy(local)], dim=2)
        if suppression is not None:
            local = local * suppression[0].permute(1, 2, 0).flatten(0, 1)[:, :, None]
        seen_by = observe(aligned, [window], warm_up=encoder.warm_up, look_ahead=encoder.look_ahead)
        # every fourth clip is held out of the fit, or the last of fewer
        yield index > 0 and index % every == every - 1, local, seen_by


def _earlier(weights: Tensor, shift: Tensor) -> Tensor:
    """Weights ``(sample, time)`` of rates that are to be shifted, to those of the rates before that."""
    return shifted(weights, -shift) if shift else weights


def behavior_units(aligned: AlignedSession, trials: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each behavioral variable over some trials, ``(variable,)``; 0 and 1 if unknown."""
    behavior = np.concatenate([aligned.trial(trial).behavior for trial in trials]).astype(float)
    mean, deviation = np.zeros(behavior.shape[1]), np.ones(behavior.shape[1])
    some = np.isfinite(behavior).any(axis=0)
    mean[some], deviation[some] = np.nanmean(behavior[:, some], axis=0), np.nanstd(behavior[:, some], axis=0)
    return mean, np.where(deviation > 0, deviation, 1.0)


def mean_rates(aligned: AlignedSession, trials: list[int]) -> np.ndarray:
    """Mean activity a frame of each ROI over some trials, ``(roi,)``; zero where nothing was measured."""
    activity, frames = np.zeros(aligned.n_rois), np.zeros(aligned.n_rois)
    for trial in trials:
        for seen in observe(aligned, [Window(trial, 0, int(aligned.trials.at[trial, "n_frames"]))]):
            activity[seen.rois] += seen.measured[0].sum(dim=0).numpy()
            frames[seen.rois] += (seen.weights[0].sum(dim=1) @ seen.known[0]).numpy()
    return activity / np.maximum(frames, 1)


def _by_step(weights: Tensor, stride: int) -> Tensor:
    """Weights of frames ``(sample, time)`` to weights of the steps of the core, which hold for ``stride`` frames."""
    padded = functional.pad(weights, (0, -weights.shape[1] % stride))
    return padded.view(len(weights), padded.shape[1] // stride, stride).sum(dim=2)


class _LinearFit:
    """Sums from which ridge regression at every position follows, for fitting and for checking; nothing is stored."""

    def __init__(self) -> None:
        self.sums: dict[bool, list[Tensor]] = {}

    def add(self, local: Tensor, weights: Tensor, measured: Tensor, known: Tensor, *, held_out: bool) -> None:
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
        old = self.sums.get(held_out)
        self.sums[held_out] = new if old is None else [a + b for a, b in zip(old, new, strict=True)]

    def places(self, map_size: tuple[int, int], group: AlignedGroup) -> tuple[np.ndarray, Tensor, Tensor]:
        """Smooth score ``(position, roi)``, weights as of `solve`, and the best position of each ROI.

        Raises
        ------
        EncoderError
            If the group measured nothing.
        """
        if False not in self.sums:
            raise EncoderError(
                f"{group.name} measured nothing in the training trials.",
                "At least one sample of one ROI was expected.",
                "Leave the plane out, or correct its clock.",
            )
        score, weights = self.solve()
        smooth = ndimage.gaussian_filter(score.reshape(*map_size, -1).numpy(), (0.7, 0.7, 0)).reshape(score.shape)
        return smooth, weights, torch.from_numpy(smooth.argmax(axis=0))

    def mean_activity(self) -> Tensor:
        gram, cross, _ = self.sums[False]
        return cross[0, -1] / gram[0, -1, -1]

    def mean_features(self) -> Tensor:
        gram = self.sums[False][0]
        return gram[:, :-1, -1] / gram[0, -1, -1]

    def solve(self) -> tuple[Tensor, Tensor]:
        """Held-out correlation ``(position, roi)`` and weights ``(position, feature, roi)``."""
        gram, cross, _ = self._centered(False)
        n_samples = self.sums[False][0][0, -1, -1]
        penalty = _RIDGE * n_samples * torch.eye(gram.shape[1])
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
