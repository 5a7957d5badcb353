"""Our encoder: core, readout and modulation put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from nwbrecon.alignment import AlignedSession
from nwbrecon.config import EncoderSettings, TrainingSettings
from nwbrecon.encoding.composition import make_core, make_readout
from nwbrecon.encoding.delays import PlaneDelays
from nwbrecon.encoding.initialization import initialize, scale_core
from nwbrecon.encoding.modulation import BehaviorGain, GazeShifter, LearnedSoftplus
from nwbrecon.encoding.parts import Core, Readout
from nwbrecon.encoding.trainable import Pace, TrainableEncoder
from nwbrecon.storage import digest

__all__ = ["Encoder", "VideoEncoder", "look_ahead"]

GAZE_NAMES = ("gaze_x", "gaze_y")


class Encoder(Protocol):
    """Anything that predicts rates from video and behavior, differentiably.

    One whose rates also depend on later frames has a ``look_ahead`` as well: the number of frames at the end of a video
    for which the prediction lacks its future.
    """

    @property
    def warm_up(self) -> int:
        """Frames at the start of a video for which the prediction lacks its past."""
        ...

    def predict_rates(self, video: Tensor, behavior: Tensor) -> Tensor:
        """Rates ``(batch, roi, time)``, per frame and in units of the normalized signal.

        ``video`` is ``(batch, 1, time, height, width)`` grey level 0-255, ``behavior`` ``(batch, time, variable)`` in
        the units of the aligned session, NaN where missing.
        """
        ...


def look_ahead(encoder: Encoder) -> int:
    """Frames at the end of a video for which the prediction lacks its future; none where the encoder does not say."""
    return getattr(encoder, "look_ahead", 0)


class VideoEncoder(TrainableEncoder):
    """Video and behavior in, the rate of every ROI out.

    Parameters
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
    seed
        Seed of the initial weights.
    groups
        Number of ROIs of each response group, for their delays; ``None`` takes all for one.
    core, readout
        Modules of one's own in place of those that the settings name; what is made of them can be kept only as a state
        dict, since no settings describe it.

    Examples
    --------
    >>> settings = EncoderSettings(core="factorized", readout="factorized", channels=8)
    >>> encoder = VideoEncoder(settings, n_rois=3, frame_size=(12, 20), frame_rate=30.0)
    >>> encoder.predict_rates(torch.zeros(1, 1, 45, 12, 20), torch.zeros(1, 45, 0)).shape
    torch.Size([1, 3, 45])

    The same of objects:

    >>> from nwbrecon.encoding import FactorizedCore, MaskReadout
    >>> core = FactorizedCore(channels=8, memory=15, kernel_size=9, stride=2, temporal_stride=2, frame_rate=30.0)
    >>> readout = MaskReadout(3, core.channels, (6, 10))
    >>> composed = VideoEncoder(
    ...     EncoderSettings(), n_rois=3, frame_size=(12, 20), frame_rate=30.0, core=core, readout=readout
    ... )
    >>> composed.load_state_dict(encoder.state_dict())
    <All keys matched successfully>
    """

    video_mean: Tensor
    video_std: Tensor
    behavior_mean: Tensor
    behavior_std: Tensor

    def __init__(
        self,
        settings: EncoderSettings,
        *,
        n_rois: int,
        frame_size: tuple[int, int],
        frame_rate: float,
        behavior_names: tuple[str, ...] = (),
        groups: tuple[int, ...] | None = None,
        seed: int = 0,
        core: Core | None = None,
        readout: Readout | None = None,
    ) -> None:
        super().__init__()
        self.settings, self.frame_size, self.frame_rate = settings, frame_size, frame_rate
        self.n_rois, self.behavior_names = n_rois, tuple(behavior_names)
        self.composed = core is not None or readout is not None
        self.core = make_core(settings, frame_rate=frame_rate, seed=seed) if core is None else core
        self.readout = (
            make_readout(settings, self.core, n_rois=n_rois, frame_size=frame_size) if readout is None else readout
        )
        self.softplus = LearnedSoftplus(n_rois)
        gaze = tuple(self.behavior_names.index(name) for name in GAZE_NAMES if name in self.behavior_names)
        self.shifter: GazeShifter | None = None
        self.gain: BehaviorGain | None = None
        self.delays = PlaneDelays(groups or (n_rois,), frame_rate) if settings.plane_delay else None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if settings.gaze_shift and gaze:
                self.shifter = GazeShifter(gaze)
            if settings.gain and self.behavior_names:
                self.gain = BehaviorGain(len(self.behavior_names), n_rois)
        self.register_buffer("video_mean", torch.tensor(127.5))
        self.register_buffer("video_std", torch.tensor(64.0))
        self.register_buffer("behavior_mean", torch.zeros(len(self.behavior_names)))
        self.register_buffer("behavior_std", torch.ones(len(self.behavior_names)))

    @property
    def warm_up(self) -> int:
        """Frames at the start of a video for which the prediction lacks its past."""
        # the rate of a step that lacks some of its past holds until the next step
        stride = self.core.temporal_stride
        past = self.core.past + (self.delays.reach[0] if self.delays is not None else 0)
        return -(-past // stride) * stride

    @property
    def look_ahead(self) -> int:
        """Frames at the end of a video for which the prediction lacks its future."""
        return self.core.ahead + (self.delays.reach[1] if self.delays is not None else 0)

    @property
    def plane_delays(self) -> Tensor | None:
        """``(group,)`` what was learned to be added to the clock of each response group (s); ``None`` for nothing."""
        return None if self.delays is None else self.delays.seconds

    @property
    def positions(self) -> Tensor:
        """``(roi, 2)`` row and column of receptive fields from the center of the screen (pixels)."""
        stride, position = self.core.stride, self.readout.positions
        # the first feature is centered on the first pixel, and the last need not be on the last
        middle = [
            stride * (cells - 1) / 2 - (pixels - 1) / 2
            for cells, pixels in zip(self.readout.map_size, self.frame_size, strict=True)
        ]
        return position * stride + position.new_tensor(middle)

    @property
    def shared(self) -> nn.ModuleDict:
        """The core."""
        return nn.ModuleDict({"core": self.core})

    def share(self, other: VideoEncoder) -> None:
        """Use the core of another encoder."""
        self.core = other.core

    def standardize_video(self, mean: float, std: float) -> None:
        """Fix the unit of the video, from training trials; it belongs to the core."""
        self.video_mean.fill_(float(mean))
        self.video_std.fill_(float(std))

    def standardize_behavior(self, mean: np.ndarray, std: np.ndarray) -> None:
        """Fix the units of behavior, from the training trials."""
        self.behavior_mean.copy_(torch.as_tensor(mean))
        self.behavior_std.copy_(torch.as_tensor(std).clamp_min(1e-6))

    @torch.no_grad()
    def copy_core(self, other: VideoEncoder) -> None:
        """Take over the weights of another encoder's core and its unit of the video."""
        super().copy_core(other)
        self.standardize_video(float(other.video_mean), float(other.video_std))

    def core_digest(self) -> str:
        """SHA-256 of the core's weights and its unit of the video."""
        unit = [digest(value.cpu().numpy().tobytes()) for value in (self.video_mean, self.video_std)]
        return digest([super().core_digest(), *unit])

    def initialize_shared(
        self, encoders: Sequence[VideoEncoder], sessions: Sequence[AlignedSession], trials: Sequence[Sequence[int]]
    ) -> None:
        """Standardize the video and scale the filters; see `nwbrecon.encoding.initialization.scale_core`."""
        scale_core(encoders, sessions, trials)

    def initialize(self, aligned: AlignedSession, trials: list[int]) -> np.ndarray:
        """Set the readout from a linear fit; see `nwbrecon.encoding.initialization.initialize`."""
        return initialize(self, aligned, trials)

    def pace(self, name: str) -> Pace:
        """As the parts say, all else as the settings do."""
        part, _, own = name.partition(".")
        paced = getattr(self, part)
        return paced.pace(own) if isinstance(paced, Core | Readout | LearnedSoftplus | PlaneDelays) else Pace()

    def penalty(self, settings: TrainingSettings) -> Tensor:
        """Penalties on the readout and on the gain."""
        return settings.readout_penalty * self.readout_size() + settings.gain_penalty * self.gain_size()

    def readout_size(self) -> Tensor:
        """Mean over ROIs of the summed absolute weights that belong to one ROI alone: what little data can overfit."""
        return self.readout.size() / self.n_rois

    def gain_size(self) -> Tensor:
        """Mean over ROIs of the summed squared weights from behavior to gain."""
        if self.gain is None:
            return self.readout.bias.new_zeros(())
        return self.gain.out.weight.square().sum() / self.n_rois

    def features(self, video: Tensor, behavior: Tensor) -> tuple[Tensor, Tensor | None]:
        """Feature maps of the picture on the retina and their suppression; see `Core`."""
        video = (video - self.video_mean) / self.video_std
        if self.shifter is not None:
            video = self.shifter(video, self._standardized(behavior))
        return self.core(video)

    def predict_rates(self, video: Tensor, behavior: Tensor) -> Tensor:
        """Rates ``(batch, roi, time)``; see `Encoder.predict_rates`."""
        rates = self.softplus(self.readout(*self.features(video, behavior)))
        # a step's rate holds until the next step
        rates = rates.repeat_interleave(self.core.temporal_stride, dim=2)[:, :, : video.shape[2]]
        if self.gain is not None:
            rates = rates * self.gain(self._standardized(behavior))
        return rates if self.delays is None else self.delays(rates)

    def _standardized(self, behavior: Tensor) -> Tensor:
        # a missing value says nothing: it takes the place of the mean
        return torch.nan_to_num((behavior - self.behavior_mean) / self.behavior_std)
