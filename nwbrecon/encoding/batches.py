"""What a session gives to learn from, a batch of short stretches at a time."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nwbrecon.alignment import AlignedSession
from nwbrecon.config import TrainingSettings
from nwbrecon.encoding.encoder import Encoder
from nwbrecon.encoding.likelihoods import Likelihood, fit_likelihoods
from nwbrecon.encoding.observation import Observation, Window, observe, window_video
from nwbrecon.errors import EncoderError

__all__ = ["Batches", "turns"]


class Batches:
    """The training trials of one session, cut into windows at random.

    Parameters
    ----------
    aligned
        The session.
    settings
        Length and number of the windows, and the likelihood.
    warm_up
        Frames at the start of a window that the encoder does not predict.
    least_frames
        Frames of the shortest window that it can predict.

    Raises
    ------
    EncoderError
        If there is nothing to train or validate on.
    SettingsError
        If the likelihood does not fit the kind of signal.
    """

    def __init__(
        self, aligned: AlignedSession, settings: TrainingSettings, warm_up: int, least_frames: int = 1
    ) -> None:
        self.aligned, self.settings = aligned, settings
        self.train_trials, self.validation_trials = aligned.trials_in("train"), aligned.trials_in("validation")
        if not self.train_trials or not self.validation_trials:
            raise EncoderError(
                f"There are {len(self.train_trials)} training and {len(self.validation_trials)} validation trials.",
                "An encoder needs at least one of each.",
                "Check the split, or give a recording with more clips.",
            )
        self.likelihoods = fit_likelihoods(aligned, self.train_trials, settings.likelihood)
        lengths = aligned.trials.loc[self.train_trials, "n_frames"].to_numpy()
        shortest = max(2 * warm_up, least_frames)
        if lengths.max() < shortest:
            raise EncoderError(
                f"The longest training trial has {lengths.max()} frames.",
                f"At least {shortest} are needed for a memory of {warm_up + 1} frames."
                if warm_up
                else f"The encoder predicts at least {shortest} at a time.",
                "Shorten memory_seconds or use longer clips." if warm_up else "Use longer clips.",
            )
        window = max(warm_up + round(settings.window_seconds * aligned.frame_rate), least_frames)
        self.window = min(window, int(lengths.max()))
        # trials are learned from in proportion to their length, but for those that end before much can be predicted
        self.lengths, chance = lengths, np.where(lengths < shortest, 0, lengths)
        self.chance = chance / chance.sum()
        self.n_steps = max(1, round(lengths.sum() / (self.window - warm_up) / settings.batch_windows))

    def draw(self, order: np.random.Generator) -> list[Window]:
        """Draw the windows of a batch, which are of one length."""
        picked = order.choice(len(self.lengths), self.settings.batch_windows, p=self.chance)
        window = min(self.window, int(self.lengths[picked].min()))
        return [
            Window(self.train_trials[index], int(order.integers(0, self.lengths[index] - window + 1)), window)
            for index in picked
        ]

    def loss(self, encoder: Encoder, windows: list[Window], device: torch.device) -> Tensor:
        """Mean over known samples of the negative log-likelihood of what was measured."""
        rates = encoder.predict_rates(*window_video(self.aligned, windows, device))
        return _loss(rates, observe(self.aligned, windows, warm_up=encoder.warm_up, device=device), self.likelihoods)


def turns(n_steps: list[int]) -> list[int]:
    """Order in which sessions take their steps of an epoch, each spread over it as evenly as can be.

    Examples
    --------
    >>> turns([4, 2])
    [0, 1, 0, 0, 1, 0]
    """
    places = [((step + 0.5) / count, session) for session, count in enumerate(n_steps) for step in range(count)]
    return [session for _, session in sorted(places)]


def _loss(rates: Tensor, observations: list[Observation], likelihoods: list[Likelihood]) -> Tensor:
    total = sum(
        ((likelihood.loss(seen.expected(rates), seen.measured) * seen.known).sum())
        for seen, likelihood in zip(observations, likelihoods, strict=True)
    )
    return torch.as_tensor(total) / sum(seen.known.sum() for seen in observations).clamp_min(1)  # type: ignore[union-attr]
