"""From rates on the frame clock to what each plane measured at its own sample times.

Responses are never resampled: a sample of deconvolved activity counts what happened since the sample before, so it is
compared with the predicted rate summed over just that interval. Planes that are scanned at different times thus keep
their own clocks, and the noise of a sample is not spread over several frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nwbrecon.alignment import AlignedGroup, AlignedSession
from nwbrecon.alignment.resample import interval_weights
from nwbrecon.session import SignalKind

__all__ = ["LONGEST_INTERVAL", "Observation", "Window", "observe", "samples_seen", "window_video"]

LONGEST_INTERVAL = 2.5
"""Intervals between samples longer than this many usual ones are gaps in the recording."""


@dataclass(frozen=True)
class Window:
    """A stretch of a trial.

    Attributes
    ----------
    trial
        Label in the trials table.
    start
        First frame, counted from the trial's onset; negative for frames before it.
    n_frames
        Length (frames); may reach beyond the trial's end.
    """

    trial: int
    start: int
    n_frames: int


@dataclass
class Observation:
    """What one response group measured during a batch of windows, and how to predict it.

    Attributes
    ----------
    rois
        Which columns of the rates are this group's.
    weights
        ``(batch, sample, time)``: expected value of a sample = weights x rates.
    measured
        ``(batch, sample, roi)``; zero where not known.
    known
        ``(batch, sample, roi)`` 1 where measured and predictable, otherwise 0; in between for what counts in part.
    kind
        Kind of signal.
    """

    rois: slice
    weights: Tensor
    measured: Tensor
    known: Tensor
    kind: SignalKind

    def expected(self, rates: Tensor) -> Tensor:
        """Rates ``(batch, roi of all groups, time)`` to expected values ``(batch, sample, roi)``."""
        return torch.einsum("bst,brt->bsr", self.weights, rates[:, self.rois])

    def ending_in(self, frames: slice, n_frames: int) -> Observation:
        """Keep the samples whose last frame is among some, and the first ``n_frames`` frames; of a batch of one."""
        weighs = self.weights[0] > 0
        ends = weighs[:, frames].any(dim=1) & ~weighs[:, frames.stop :].any(dim=1)
        return replace(
            self,
            weights=self.weights[:, ends, :n_frames],
            measured=self.measured[:, ends],
            known=self.known[:, ends],
        )

    def part(self, windows: slice) -> Observation:
        """Give some of the windows."""
        return replace(self, weights=self.weights[windows], measured=self.measured[windows], known=self.known[windows])

    def to(self, device: torch.device | str) -> Observation:
        """Copy on another device."""
        return Observation(
            self.rois, self.weights.to(device), self.measured.to(device), self.known.to(device), self.kind
        )


def observe(
    aligned: AlignedSession,
    windows: Sequence[Window],
    *,
    warm_up: int = 0,
    look_ahead: int = 0,
    device: torch.device | str = "cpu",
) -> list[Observation]:
    """Gather what every response group measured during windows of one length.

    Parameters
    ----------
    aligned
        The session.
    windows
        Windows of equal length.
    warm_up, look_ahead
        Frames at the start and at the end of each window for which no prediction is possible; samples that reach into
        them are not known. So are samples that reach into frames that are not valid.
    device
        Where the tensors are to lie.

    Returns
    -------
    list of Observation
        One a response group.
    """
    observations, first_roi = [], 0
    frame_interval = 1 / aligned.frame_rate
    usable = [_usable_frames(aligned, window, warm_up, look_ahead) for window in windows]
    for group in aligned.groups:
        parts = []
        for window, frames in zip(windows, usable, strict=True):
            times = aligned.trials.at[window.trial, "onset"] + (window.start + np.arange(window.n_frames)) / (
                aligned.frame_rate
            )
            parts.append(_observe_group(group, times, frame_interval, frames))
        n_samples = max(len(measured) for _, measured, _ in parts)
        rois = slice(first_roi, first_roi + group.n_rois)
        first_roi = rois.stop
        weights, measured, known = (
            torch.from_numpy(np.stack([_pad(part[which], n_samples) for part in parts])) for which in range(3)
        )
        observations.append(Observation(rois, weights, measured, known, group.kind).to(device))
    return observations


def window_video(
    aligned: AlignedSession, windows: Sequence[Window], device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Video ``(batch, 1, time, height, width)`` and behavior ``(batch, time, variable)`` of windows inside trials."""
    videos, behaviors = [], []
    for window in windows:
        trial = aligned.trial(window.trial)
        span = slice(window.start, window.start + window.n_frames)
        videos.append(np.asarray(trial.video[span], dtype=np.float32))
        behaviors.append(np.asarray(trial.behavior[span], dtype=np.float32))
    video, behavior = torch.from_numpy(np.stack(videos))[:, None], torch.from_numpy(np.stack(behaviors))
    return video.to(device), behavior.to(device)


def samples_seen(group: AlignedGroup, start: float, stop: float) -> slice:
    """Find the samples that an observation of the window from ``start`` to ``stop`` (s) has, known or not."""
    first = max(int(np.searchsorted(group.timestamps, start, side="right")) - 1, 0)
    return slice(first, int(np.searchsorted(group.timestamps, stop, side="right")))


def _usable_frames(aligned: AlignedSession, window: Window, warm_up: int, look_ahead: int) -> np.ndarray:
    """Frames of a window that may take part in a prediction; those outside the trial count as usable."""
    row = aligned.trials.loc[window.trial]
    usable = np.ones(window.n_frames, dtype=bool)
    inside = np.arange(window.start, window.start + window.n_frames)
    within = (inside >= 0) & (inside < row["n_frames"])
    usable[within] = aligned.valid[int(row["first_frame"]) + inside[within]]
    usable[:warm_up] = False
    usable[max(0, window.n_frames - look_ahead) :] = False
    return usable


def _observe_group(
    group: AlignedGroup, frame_times: np.ndarray, frame_interval: float, usable: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    seen = samples_seen(group, frame_times[0], frame_times[-1] + frame_interval)
    times = group.timestamps[seen]
    if group.kind is SignalKind.DFF:
        weights, covered = _point_weights(frame_times + frame_interval / 2, times)
    else:
        weights, covered = interval_weights(
            frame_times, frame_interval, times, longest=LONGEST_INTERVAL * group.interval
        )
    weights = weights.astype(np.float32)
    covered &= (weights[:, ~usable] <= 1e-6).all(axis=1)
    measured = np.asarray(group.activity[seen], dtype=np.float32)
    known = np.isfinite(measured) & covered[:, None]
    return weights, np.where(known, measured, np.float32(0)), known.astype(np.float32)


def _point_weights(frame_times: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Linear interpolation between the middles of frames: ``(sample, frame)`` and which samples lie between them."""
    weights = np.zeros((len(times), len(frame_times)))
    covered = (times >= frame_times[0]) & (times <= frame_times[-1])
    right = np.clip(np.searchsorted(frame_times, times, side="left"), 1, len(frame_times) - 1)
    share = (times - frame_times[right - 1]) / (frame_times[right] - frame_times[right - 1])
    rows = np.flatnonzero(covered)
    weights[rows, right[rows] - 1] = 1 - share[rows]
    weights[rows, right[rows]] = share[rows]
    return weights, covered


def _pad(array: np.ndarray, n_samples: int) -> np.ndarray:
    return np.pad(array, ((0, n_samples - len(array)), (0, 0)))
