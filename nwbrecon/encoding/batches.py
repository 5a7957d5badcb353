"""What a session gives to learn from, a batch of short stretches at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nwbrecon.alignment import AlignedSession
from nwbrecon.config import TrainingSettings
from nwbrecon.encoding.cutmix import Patch, draw_box, paste, paste_behavior
from nwbrecon.encoding.likelihoods import Likelihood, fit_likelihoods
from nwbrecon.encoding.observation import Observation, Window, observe, window_video
from nwbrecon.errors import EncoderError

__all__ = ["Batch", "Batches", "Stretch", "turns"]


@dataclass(frozen=True)
class Stretch:
    """What is learned from at a time.

    Attributes
    ----------
    window
        Where it is in the session.
    patch
        What is pasted into its picture; ``None`` leaves it as it was shown.
    """

    window: Window
    patch: Patch | None = None


@dataclass
class Batch:
    """Stretches of one length: what was shown, and what the cells did.

    Attributes
    ----------
    video, behavior
        As an encoder takes them.
    targets
        What was measured during the stretches, one a response group; and, where something was pasted, what was
        measured during the stretches that this is from. ``known`` is the share of the picture that a sample belongs to.
    """

    video: Tensor
    behavior: Tensor
    targets: list[list[Observation]]

    def __len__(self) -> int:
        return len(self.video)

    @property
    def n_known(self) -> Tensor:
        """Number of samples known, by their share of the picture."""
        return torch.stack([seen.known.sum() for target in self.targets for seen in target]).sum()

    def part(self, rows: slice, device: torch.device) -> Batch:
        """Give some of the stretches, on a device."""
        targets = [[seen.part(rows).to(device) for seen in target] for target in self.targets]
        return Batch(self.video[rows].to(device), self.behavior[rows].to(device), targets)

    def loss(self, rates: Tensor, likelihoods: Sequence[Likelihood], teacher: Tensor | None = None) -> Tensor:
        """Sum over known samples of the negative log-likelihood.

        Parameters
        ----------
        rates
            ``(batch, roi, time)``, as predicted.
        likelihoods
            One a response group.
        teacher
            Rates that take the place of what was measured.
        """
        losses = [
            likelihood.loss(seen.expected(rates), seen.measured if teacher is None else seen.expected(teacher))
            * seen.known
            for target in self.targets
            for seen, likelihood in zip(target, likelihoods, strict=True)
        ]
        return torch.stack([loss.sum() for loss in losses]).sum()


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
    look_ahead
        Frames at the end of a window that it does not predict.

    Raises
    ------
    EncoderError
        If there is nothing to train or validate on.
    SettingsError
        If the likelihood does not fit the kind of signal.
    """

    def __init__(
        self,
        aligned: AlignedSession,
        settings: TrainingSettings,
        warm_up: int,
        least_frames: int = 1,
        look_ahead: int = 0,
    ) -> None:
        self.aligned, self.settings = aligned, settings
        self.warm_up, self.look_ahead = warm_up, look_ahead
        self.train_trials, self.validation_trials = aligned.trials_in("train"), aligned.trials_in("validation")
        if not self.train_trials or not self.validation_trials:
            raise EncoderError(
                f"There are {len(self.train_trials)} training and {len(self.validation_trials)} validation trials.",
                "An encoder needs at least one of each.",
                "Check the split, or give a recording with more clips.",
            )
        self.likelihoods = fit_likelihoods(aligned, self.train_trials, settings.likelihood)
        lengths = aligned.trials.loc[self.train_trials, "n_frames"].to_numpy()
        unpredicted = warm_up + look_ahead
        shortest = max(warm_up + unpredicted, least_frames)
        if lengths.max() < shortest:
            raise EncoderError(
                f"The longest training trial has {lengths.max()} frames.",
                f"An encoder predicts at least {least_frames} at a time."
                if least_frames == shortest
                else f"At least {shortest} are needed for a memory of {unpredicted + 1} frames.",
                "Use longer clips." if least_frames == shortest else "Shorten memory_seconds or use longer clips.",
            )
        window = max(unpredicted + round(settings.window_seconds * aligned.frame_rate), least_frames)
        self.window = min(window, int(lengths.max()))
        # trials are learned from in proportion to their length, but for those that end before much can be predicted
        self.lengths, chance = lengths, np.where(lengths < shortest, 0, lengths)
        self.chance = chance / chance.sum()
        self.n_steps = max(1, round(lengths.sum() / (self.window - unpredicted) / settings.batch_windows))

    def draw(self, order: np.random.Generator) -> list[Stretch]:
        """Draw the stretches of a batch, which are of one length."""
        settings = self.settings
        picked = order.choice(len(self.lengths), settings.batch_windows, p=self.chance)
        n_frames = min(self.window, int(self.lengths[picked].min()))
        windows = [self._draw_window(order, int(index), n_frames) for index in picked]
        if not settings.cutmix:
            return [Stretch(window) for window in windows]
        mixed = order.random(len(windows)) < settings.cutmix
        return [
            Stretch(window, self._draw_patch(order, n_frames) if mix else None)
            for window, mix in zip(windows, mixed, strict=True)
        ]

    def load(self, stretches: Sequence[Stretch]) -> Batch:
        """Read what stretches of one length hold."""
        windows, patches = [one.window for one in stretches], [one.patch for one in stretches]
        video, behavior = window_video(self.aligned, windows)
        seen = self._observe(windows)
        if not any(patches):
            return Batch(video, behavior, [seen])
        sources = [window if patch is None else patch.window for window, patch in zip(windows, patches, strict=True)]
        pasted_video, pasted_behavior = window_video(self.aligned, sources)
        paste(video, pasted_video, patches)
        paste_behavior(behavior, pasted_behavior, patches)
        pasted = self._observe(sources)
        share = torch.tensor([0.0 if patch is None else patch.share for patch in patches])[:, None, None]
        for group in seen:
            group.known *= 1 - share
        for group in pasted:
            group.known *= share
        return Batch(video, behavior, [seen, pasted])

    def _observe(self, windows: Sequence[Window]) -> list[Observation]:
        return observe(self.aligned, windows, warm_up=self.warm_up, look_ahead=self.look_ahead)

    def _draw_window(self, order: np.random.Generator, index: int, n_frames: int) -> Window:
        return Window(self.train_trials[index], int(order.integers(0, self.lengths[index] - n_frames + 1)), n_frames)

    def _draw_patch(self, order: np.random.Generator, n_frames: int) -> Patch:
        chance = np.where(self.lengths < n_frames, 0, self.chance)
        index = int(order.choice(len(self.lengths), p=chance / chance.sum()))
        return Patch(self._draw_window(order, index, n_frames), *draw_box(order, self.aligned.frame_size))


def turns(n_steps: list[int]) -> list[int]:
    """Order in which sessions take their steps of an epoch, each spread over it as evenly as can be.

    Examples
    --------
    >>> turns([4, 2])
    [0, 1, 0, 0, 1, 0]
    """
    places = [((step + 0.5) / count, session) for session, count in enumerate(n_steps) for step in range(count)]
    return [session for _, session in sorted(places)]
