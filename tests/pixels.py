"""Sessions whose cells are known exactly: each reads one pixel of the movie."""

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import gaussian_filter

from nwbrecon.alignment import AlignedGroup, AlignedSession
from nwbrecon.session import SignalKind

RATE = 30.0


class PixelEncoder:
    """Each ROI's rate is proportional to one pixel, ``lag`` frames ago."""

    def __init__(self, rows, columns, *, scale=4.0, warm_up=0, lag=0):
        self.rows, self.columns, self.scale, self.warm_up, self.lag = rows, columns, scale, warm_up, lag

    def predict_rates(self, video, behavior):
        rates = 0.1 + self.scale * video[:, 0, :, self.rows, self.columns].transpose(1, 2) / 255
        return torch.cat([rates[..., :1].expand(-1, -1, self.lag), rates[..., : rates.shape[2] - self.lag]], dim=2)


def smooth_movie(seed, n_frames, size):
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(n_frames, *size)), (3, 2, 2))
    return (127.5 + 45 * noise / noise.std()).clip(0, 255).astype(np.float32)


def make_session(encoder, *, n_trials=6, n_frames=50, size=(12, 14), behavior_names=(), seed=0):
    """Trials of smooth movies and, without noise, the rates that the encoder gives for them."""
    videos = [smooth_movie(seed + index, n_frames, size) for index in range(n_trials)]
    onsets = 2.0 + np.arange(n_trials) * (n_frames / RATE + 0.5)
    times, activity = [], []
    for video, onset in zip(videos, onsets, strict=True):
        rates = encoder.predict_rates(torch.from_numpy(video)[None, None], torch.zeros(1, n_frames, 0))[0].T.numpy()
        # a count belongs to the interval before its sample
        times.append(onset + np.arange(n_frames + 1) / RATE)
        activity.append(np.concatenate([rates[:1], rates]))
    group = AlignedGroup(
        "plane",
        SignalKind.EVENTS,
        np.concatenate(times),
        np.concatenate(activity).astype(np.float32),
        np.ones(len(encoder.rows), dtype=np.float32),
        pd.DataFrame(index=np.arange(len(encoder.rows))),
    )
    return AlignedSession.from_arrays(
        videos,
        [group],
        onsets=onsets,
        clips=[f"clip {index}" for index in range(n_trials)],
        splits=["train"] * (n_trials - 1) + ["test"],
        frame_rate=RATE,
        behaviors=[np.zeros((n_frames, len(behavior_names)), np.float32)] * n_trials,
        behavior_names=behavior_names,
    )
