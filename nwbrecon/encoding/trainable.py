"""What an encoder must be able to do to be trained, beside predicting rates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from nwbrecon.alignment import AlignedSession
from nwbrecon.config import TrainingSettings
from nwbrecon.storage import digest

__all__ = ["Pace", "TrainableEncoder"]


@dataclass(frozen=True)
class Pace:
    """How fast a parameter learns.

    Attributes
    ----------
    factor
        Its learning rate over that of the settings.
    decays
        Whether it is subject to weight decay.
    """

    factor: float = 1.0
    decays: bool = True


class TrainableEncoder(nn.Module, ABC):
    """An `nwbrecon.encoding.encoder.Encoder` of one session that `nwbrecon.encoding.training.Trainer` can train.

    Attributes
    ----------
    settings
        Architecture.
    n_rois
        Number of ROIs.
    frame_size
        Rows and columns of the video (pixels).
    frame_rate
        Frames per second (Hz).
    behavior_names
        Behavioral variables, in the order in which they come; may be empty.
    mixes_stretches
        Whether in training the rates of a stretch also depend on the others of its batch, as batch norms make them.
    """

    mixes_stretches: ClassVar[bool] = False
    settings: Any
    n_rois: int
    frame_size: tuple[int, int]
    frame_rate: float
    behavior_names: tuple[str, ...]

    @property
    @abstractmethod
    def warm_up(self) -> int:
        """Frames at the start of a video for which the prediction lacks its past."""

    @property
    def look_ahead(self) -> int:
        """Frames at the end of a video for which the prediction lacks its future."""
        return 0

    @property
    def plane_delays(self) -> Tensor | None:
        """``(group,)`` what was learned to be added to the clock of each response group (s); ``None`` for nothing."""
        return None

    @property
    def least_frames(self) -> int:
        """Frames of the shortest video that can be predicted."""
        return 1

    @property
    @abstractmethod
    def positions(self) -> Tensor:
        """``(roi, 2)`` row and column of receptive fields from the center of the screen (pixels)."""

    @property
    @abstractmethod
    def shared(self) -> nn.ModuleDict:
        """What belongs to no session: the modules that sessions can have in common."""

    @abstractmethod
    def predict_rates(self, video: Tensor, behavior: Tensor) -> Tensor:
        """Rates ``(batch, roi, time)``; see `nwbrecon.encoding.encoder.Encoder`."""

    def forward(self, video: Tensor, behavior: Tensor) -> Tensor:
        """Rates ``(batch, roi, time)``."""
        return self.predict_rates(video, behavior)

    @abstractmethod
    def share(self, other: Self) -> None:
        """Use the shared modules of another encoder from now on, not a copy of them."""

    @torch.no_grad()
    def copy_core(self, other: Self) -> None:
        """Take over the weights of another encoder's shared modules."""
        self.shared.load_state_dict(other.shared.state_dict())

    def core_digest(self) -> str:
        """SHA-256 of the weights of the shared modules."""
        values = self.shared.state_dict().values()
        return digest([digest(value.contiguous().cpu().numpy().tobytes()) for value in values])

    def initialize_shared(
        self, encoders: Sequence[Self], sessions: Sequence[AlignedSession], trials: Sequence[Sequence[int]]
    ) -> None:
        """Adapt the shared modules to the training trials of all sessions, before any gradient step.

        Parameters
        ----------
        encoders
            The encoders, one a session, that share them; this one is the first.
        sessions
            The sessions.
        trials
            Training trials of each.
        """

    @abstractmethod
    def initialize(self, aligned: AlignedSession, trials: list[int]) -> np.ndarray:
        """Adapt what is the session's own to its training trials, before any gradient step.

        Returns
        -------
        numpy.ndarray
            ``(roi,)`` how well a linear fit predicts activity of training trials that it was not fitted to.
        """

    @abstractmethod
    def penalty(self, settings: TrainingSettings) -> Tensor:
        """Give what is added to the loss of a sample."""

    def pace(self, name: str) -> Pace:
        """How fast the parameter of this name learns."""
        return Pace()

    def freeze(self) -> Self:
        """Be done with learning: evaluation mode, no gradients of weights."""
        return self.eval().requires_grad_(False)
