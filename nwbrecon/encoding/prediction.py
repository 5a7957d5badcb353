"""What an encoder predicts for trials, beside what was measured."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from nwbrecon.alignment import AlignedSession
from nwbrecon.encoding.device import device_of
from nwbrecon.encoding.encoder import Encoder, look_ahead
from nwbrecon.encoding.observation import Window, observe, window_video
from nwbrecon.metrics import correlation

__all__ = ["nan_correlation", "predict_samples", "single_trial_correlation"]


@torch.no_grad()
def predict_samples(
    encoder: Encoder, aligned: AlignedSession, trials: list[int], *, shown: Callable[[int], Tensor] | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Predict every ROI at its plane's own sample times, beside what was measured.

    Parameters
    ----------
    encoder
        The encoder.
    aligned
        The session.
    trials
        Labels of the trials.
    shown
        Gives the video ``(1, 1, time, height, width)`` to show in a trial instead of its own; asked trial by trial.

    Returns
    -------
    list of (expected, measured)
        One a response group, ``(sample, roi)`` over all trials; NaN where unknown.
    """
    if isinstance(encoder, nn.Module):
        encoder.eval()
    device = device_of(encoder)
    parts: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in aligned.groups]
    for trial in trials:
        window = Window(trial, 0, int(aligned.trials.at[trial, "n_frames"]))
        video, behavior = window_video(aligned, [window], device)
        if shown is not None:
            video = shown(trial).to(device)
        rates = encoder.predict_rates(video, behavior)
        seen_by = observe(aligned, [window], warm_up=encoder.warm_up, look_ahead=look_ahead(encoder), device=device)
        for part, seen in zip(parts, seen_by, strict=True):
            unknown = seen.known[0].cpu().numpy() == 0
            expected = np.where(unknown, np.nan, seen.expected(rates)[0].cpu().numpy())
            part.append((expected, np.where(unknown, np.nan, seen.measured[0].cpu().numpy())))
    return [
        (np.concatenate([expected for expected, _ in part]), np.concatenate([measured for _, measured in part]))
        for part in parts
    ]


def single_trial_correlation(encoder: Encoder, aligned: AlignedSession, trials: list[int]) -> np.ndarray:
    """Correlate predicted and measured activity over all samples of some trials, ``(roi,)``.

    As in the Sensorium competition (Turishcheva et al. 2023, arXiv:2305.19654), but at each plane's own sample times.
    """
    scores = []
    for expected, measured in predict_samples(encoder, aligned, trials):
        rows = np.isfinite(measured).any(axis=1)
        scores.append(nan_correlation(expected[rows], measured[rows]))
    return np.concatenate(scores)


def nan_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlate over the samples ``(sample, roi)`` that both know; NaN where there are fewer than three."""
    if np.isfinite(a).all() and np.isfinite(b).all():
        return correlation(a, b)
    known = np.isfinite(a) & np.isfinite(b)
    return np.array(
        [
            float(correlation(a[rows, roi], b[rows, roi])) if rows.sum() > 2 else np.nan
            for roi, rows in enumerate(known.T)
        ]
    )
