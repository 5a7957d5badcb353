"""A judge of reconstructions that took no part in them: a linear encoder, of another architecture than any inverted."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nwbrecon.alignment import AlignedSession, responses_on_frames
from nwbrecon.encoding.prediction import single_trial_correlation
from nwbrecon.errors import NwbreconError
from nwbrecon.inversion.ridge import ridge_path
from nwbrecon.progress import progress

__all__ = ["LinearEncoder", "fit_judge"]

# rows and columns that frames are averaged to, at most: as coarse as receptive fields
_GRID = (9, 16)
# how far back a response can look, and the time between lags (s)
_MEMORY, _STEP = 0.4, 0.1
_PENALTIES = 10.0 ** np.arange(1, 6.1, 0.5)
# grey levels: features of about one
_UNIT = 50.0


class LinearEncoder:
    """Rates that are weighted sums of what was on coarse patches of the screen over the last half second.

    Parameters
    ----------
    weights
        ``(lag x patch, roi)``, per 50 grey levels.
    bias
        ``(roi,)``.
    frame_rate
        Frames per second (Hz).
    """

    def __init__(self, weights: Tensor, bias: Tensor, frame_rate: float) -> None:
        self.weights, self.bias, self.frame_rate = weights, bias, frame_rate

    @property
    def warm_up(self) -> int:
        """Frames at the start of a video for which the prediction lacks its past."""
        return _reach(self.frame_rate)

    def predict_rates(self, video: Tensor, behavior: Tensor) -> Tensor:
        """Rates ``(batch, roi, time)``; see `nwbrecon.encoding.encoder.Encoder`. Behavior is not looked at."""
        return torch.stack([(_features(one[0], self.frame_rate) @ self.weights + self.bias).T for one in video])


def fit_judge(aligned: AlignedSession) -> LinearEncoder:
    """Fit a linear encoder to training trials by ridge regression, its penalty chosen on validation trials.

    Parameters
    ----------
    aligned
        The session.

    Raises
    ------
    NwbreconError
        If there are no training or no validation trials.
    """
    train, validation = aligned.trials_in("train"), aligned.trials_in("validation")
    if not train or not validation:
        raise NwbreconError(
            f"There are {len(train)} training and {len(validation)} validation trials.",
            "A linear encoder needs at least one of each.",
        )
    start = _reach(aligned.frame_rate)
    gram = cross = torch.zeros(())
    for trial in progress(train, label="another judge", unit="clip"):
        shown = aligned.trial(trial)
        responses = responses_on_frames(aligned, trial)
        known = np.isfinite(responses)
        # a missing value takes the place of the ROI's mean over the clip
        mean = np.where(known, responses, 0).sum(axis=0) / known.sum(axis=0).clip(1)
        responses = np.where(known, responses, mean).astype(np.float32)
        usable = shown.valid & known.any(axis=1)
        usable[:start] = False
        x = _features(torch.from_numpy(shown.video), aligned.frame_rate)
        x = torch.cat([x, torch.ones(len(x), 1)], dim=1)[torch.from_numpy(usable)]
        gram = gram + (x.T @ x).double()
        cross = cross + (x.T @ torch.from_numpy(responses[usable])).double()
    best: tuple[float, LinearEncoder] | None = None
    for _, weights, mean_x, mean_y in ridge_path(gram, cross, _PENALTIES):
        judge = LinearEncoder(weights.float(), (mean_y - mean_x @ weights).float(), aligned.frame_rate)
        score = float(np.nan_to_num(single_trial_correlation(judge, aligned, validation)).mean())
        if best is None or score > best[0]:
            best = score, judge
    assert best is not None
    return best[1]


def _features(video: Tensor, frame_rate: float) -> Tensor:
    """Means over patches and over the frames of each lag, ``(time, lag x patch)``, of ``(time, height, width)``."""
    grid = min(_GRID[0], video.shape[1]), min(_GRID[1], video.shape[2])
    patches = functional.adaptive_avg_pool2d(video[:, None].float(), grid).flatten(1) / _UNIT
    step, reach = _lag_step(frame_rate), _reach(frame_rate)
    past = torch.cat([patches[:1].expand(reach, -1), patches])
    # row k is the mean over frames k to k + step - 1 of what has the past in front
    means = functional.avg_pool1d(past.T, step, stride=1).T
    last = torch.arange(len(patches)) + reach - step + 1
    return torch.cat([means[last - lag] for lag in range(0, reach - step + 1, step)], dim=1)


def _lag_step(frame_rate: float) -> int:
    return max(1, round(_STEP * frame_rate))


def _reach(frame_rate: float) -> int:
    step = _lag_step(frame_rate)
    return step * (max(1, round(_MEMORY * frame_rate / step)) + 1)
