"""From settings to an encoder."""

from __future__ import annotations

from typing import Any

from nwbrecon.config import DwiseNeuroSettings, EncoderSettings
from nwbrecon.encoding.dwiseneuro.training import TrainableDwiseNeuro
from nwbrecon.encoding.encoder import VideoEncoder
from nwbrecon.encoding.trainable import TrainableEncoder

__all__ = ["make_encoder"]


def make_encoder(
    settings: EncoderSettings | DwiseNeuroSettings,
    *,
    n_rois: int,
    frame_size: tuple[int, int],
    frame_rate: float,
    behavior_names: tuple[str, ...],
    groups: tuple[int, ...] | None = None,
    seed: int = 0,
) -> TrainableEncoder:
    """Make an encoder that has learned nothing yet.

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
    groups
        Number of ROIs of each response group; ``None`` takes all for one.
    seed
        Seed of the initial weights.

    Raises
    ------
    SettingsError
        If the settings are for other ROIs.
    EncoderError
        If the video does not fit the encoder.
    """
    common: dict[str, Any] = {
        "n_rois": n_rois,
        "frame_size": (frame_size[0], frame_size[1]),
        "frame_rate": frame_rate,
        "behavior_names": tuple(behavior_names),
        "seed": seed,
    }
    if isinstance(settings, EncoderSettings):
        return VideoEncoder(settings, groups=groups, **common)
    return TrainableDwiseNeuro(settings, **common)
