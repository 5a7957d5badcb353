"""DwiseNeuro as an encoder of one session that can be trained."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from nwbrecon.alignment import AlignedSession
from nwbrecon.config import DwiseNeuroSettings, TrainingSettings
from nwbrecon.encoding.dwiseneuro.encoder import DwiseNeuroEncoder
from nwbrecon.encoding.dwiseneuro.network import DwiseNeuro
from nwbrecon.encoding.guide import guided
from nwbrecon.encoding.initialization import behavior_units, mean_rates
from nwbrecon.encoding.trainable import TrainableEncoder
from nwbrecon.errors import SettingsError

__all__ = ["TrainableDwiseNeuro"]

# grey levels that a standard deviation of behavior is worth: about what pupil, speed and gaze vary by as published
_BEHAVIOR_LEVELS = 16.0
# activity a frame of an ROI that was silent in training
_LEAST_RATE = 1e-3


class TrainableDwiseNeuro(DwiseNeuroEncoder, TrainableEncoder):
    """A `DwiseNeuro` with one readout, for the ROIs of a session.

    Two things are not as published, so that any unit of behavior and of activity will do: behavior is standardized, and
    the network predicts each ROI in units in which its first guess is the ROI's mean rate.

    Parameters
    ----------
    settings
        Architecture; its readout is that of the session, whether it is named or not.
    n_rois
        Number of ROIs.
    frame_size
        Rows and columns of the video (pixels).
    frame_rate
        Frames per second (Hz).
    behavior_names
        Behavioral variables, in the order in which they come. Those that DwiseNeuro has no channel for are not used; a
        channel whose variable was not recorded, or is missing at a moment, has its mean.
    seed
        Seed of the initial weights.

    Raises
    ------
    SettingsError
        If the settings name other readouts than one of the session's ROIs.
    """

    mixes_stretches = True
    behavior_mean: Tensor
    behavior_std: Tensor
    unit: Tensor
    roi_positions: Tensor

    def __init__(
        self,
        settings: DwiseNeuroSettings,
        *,
        n_rois: int,
        frame_size: tuple[int, int],
        frame_rate: float,
        behavior_names: tuple[str, ...] = (),
        seed: int = 0,
    ) -> None:
        if settings.readout_outputs not in ((), (n_rois,)):
            raise SettingsError(
                f"encoder.readout_outputs is {list(settings.readout_outputs)}.",
                f"The session has {n_rois} ROIs, and an encoder is of one session.",
                "Leave readout_outputs out.",
            )
        super().__init__(
            DwiseNeuro(settings.model_copy(update={"readout_outputs": (n_rois,)}), seed=seed),
            behavior_names=behavior_names,
            canvas=settings.canvas or frame_size,
            every_position=settings.every_position,
            fused=False,
        )
        self.settings = settings.model_copy(update={"readout_outputs": ()})
        self.frame_size, self.frame_rate = frame_size, frame_rate
        self.margins(frame_size)
        self.register_buffer("behavior_mean", torch.zeros(len(self.behavior_names)))
        self.register_buffer("behavior_std", torch.ones(len(self.behavior_names)))
        self.register_buffer("unit", torch.ones(n_rois))
        self.register_buffer("roi_positions", torch.zeros(n_rois, 2))

    @property
    def positions(self) -> Tensor:
        """Where a linear fit found the receptive fields: the network itself reads the whole screen."""
        return self.roi_positions

    @property
    def shared(self) -> nn.ModuleDict:
        """Core and cortex."""
        return nn.ModuleDict({"core": self.network.core, "cortex": self.network.cortex})

    def share(self, other: TrainableDwiseNeuro) -> None:
        """Use core and cortex of another encoder."""
        self.network.core, self.network.cortex = other.network.core, other.network.cortex

    @torch.no_grad()
    def initialize(self, aligned: AlignedSession, trials: list[int]) -> np.ndarray:
        """Fix the units of behavior and activity; tell visual ROIs by a linear fit to the filters of our encoder."""
        for buffer, values in zip(
            (self.behavior_mean, self.behavior_std), behavior_units(aligned, trials), strict=True
        ):
            buffer.copy_(torch.from_numpy(values))
        first_guess = math.log(2) / self.settings.softplus_beta
        self.unit.copy_(torch.from_numpy(mean_rates(aligned, trials)).clamp_min(_LEAST_RATE) / first_guess)
        scores, positions = guided(aligned, trials)
        self.roi_positions.copy_(positions)
        return scores

    def penalty(self, settings: TrainingSettings) -> Tensor:
        """None: dropout, stochastic depth and weight decay keep the weights in check."""
        return self.unit.new_zeros(())

    def stack(self, video: Tensor, behavior: Tensor) -> Tensor:
        """Put video and standardized behavior together; see `DwiseNeuroEncoder.stack`."""
        standardized = (behavior - self.behavior_mean) / self.behavior_std
        return super().stack(video, _BEHAVIOR_LEVELS * standardized)

    def predict_stacked(self, inputs: Tensor) -> Tensor:
        """Rates ``(batch, roi, time)`` for the output of `stack`."""
        return super().predict_stacked(inputs) * self.unit[:, None]
