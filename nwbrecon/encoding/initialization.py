"""Where each ROI looks: positions and weights from a linear fit, before any gradient step.

At every position of the feature maps the activity of every ROI is regressed on the features there; the position that
best predicts activity which it was not fitted to becomes the ROI's. With minutes of data this finds receptive fields,
those of complex cells too, that gradient descent would be long in finding. Delays of planes and the shift with the gaze
are found likewise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from nwbrecon.alignment import AlignedSession
from nwbrecon.encoding.delays import LONGEST_DELAY
from nwbrecon.encoding.gaze import find_gaze_shift
from nwbrecon.encoding.linear_fits import LinearFit, best_rois, by_step, features_and_samples, fit_everywhere
from nwbrecon.encoding.observation import Window, observe, window_video

if TYPE_CHECKING:
    from nwbrecon.encoding.encoder import VideoEncoder

__all__ = ["behavior_units", "initialize", "mean_rates", "scale_core"]

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
    find_gaze_shift(encoder, aligned, windows)
    fits = fit_everywhere(encoder, aligned, windows)

    readout, scores = encoder.readout, []
    map_size, channels = readout.map_size, encoder.core.channels
    for fit, seen, group in zip(fits, observe(aligned, windows[:1]), aligned.groups, strict=True):
        smooth, best = fit.places(map_size, group)
        rows, columns = best // map_size[1], best % map_size[1]
        center = torch.tensor([(map_size[0] - 1) / 2, (map_size[1] - 1) / 2])
        # from activity per sample to the drive of a rate per frame, linearized at the mean rate
        frames_per_sample = group.interval * aligned.frame_rate
        bias, slope = encoder.softplus.start(seen.rois, (fit.mean_activity() / frames_per_sample).clamp_min(1e-3))
        chosen = fit.weights(best) / (slope * frames_per_sample)[:, None]
        readout.place(
            seen.rois,
            torch.stack([rows, columns], dim=1) - center,
            linear=chosen[:, :channels],
            energy=chosen[:, channels:],
            bias=bias - (chosen * fit.mean_features()[best]).sum(dim=1),
        )
        scores.append(smooth.max(axis=0))
    return np.concatenate(scores)


def _find_delays(encoder: VideoEncoder, aligned: AlignedSession, windows: Sequence[Window]) -> np.ndarray:
    """Delay of each response group (s) at which the linear fit predicts held-out activity best.

    Readouts can make up for some of a delay, so that descent from zero ends halfway. The best ROIs of a group are
    fitted at their positions with one delay after the other, and the peak of their mean score lies on a parabola.
    """
    rate, stride = encoder.frame_rate, encoder.core.temporal_stride
    most = int(LONGEST_DELAY * rate / stride)
    shifts = stride * torch.arange(-most, most + 1)
    found = best_rois(encoder, aligned, windows, _ROIS_FOR_DELAY)
    fits = [[LinearFit() for _ in shifts] for _ in found]
    for fold, local, seen_by in features_and_samples(encoder, aligned, windows):
        for of_group, seen, (chosen, at) in zip(fits, seen_by, found, strict=True):
            for fit, shift in zip(of_group, shifts, strict=True):
                weights = by_step(seen.weights[0], stride, shift)
                measured, known = (values[0][:, chosen] for values in (seen.measured, seen.known))
                fit.add(local[at], weights, measured, known, fold=fold)
    delays = []
    for of_group in fits:
        score = np.array([float(fit.score().diagonal().mean()) for fit in of_group])
        peak = int(score.argmax())
        beside = score[max(0, peak - 1) : peak + 2]
        bend = 2 * beside[1] - beside[0] - beside[2] if len(beside) == 3 and 0 < peak < len(score) - 1 else 0.0
        offset = 0.5 * (beside[2] - beside[0]) / bend if bend > 0 else 0.0
        delays.append((float(shifts[peak]) + stride * offset) / rate)
    return np.array(delays, dtype=np.float32)


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
