"""Core and readout by the names that settings give them."""

from __future__ import annotations

from typing import Any

from nwbrecon.config import EncoderSettings
from nwbrecon.encoding.core import QuadratureCore
from nwbrecon.encoding.factorized import FactorizedCore
from nwbrecon.encoding.masks import MaskReadout
from nwbrecon.encoding.parts import Core, Readout
from nwbrecon.encoding.readout import PointReadout

__all__ = ["make_core", "make_readout"]


def make_core(settings: EncoderSettings, *, frame_rate: float, seed: int = 0) -> Core:
    """Make the core that the settings name.

    Parameters
    ----------
    settings
        Architecture.
    frame_rate
        Frames per second (Hz).
    seed
        Seed of the initial weights.
    """
    memory = max(2, round(settings.memory_seconds * frame_rate))
    ahead = 0 if settings.causal else max(1, round(settings.memory_seconds * frame_rate / 3))
    common: dict[str, Any] = {
        "channels": settings.channels,
        "memory": memory,
        "ahead": ahead,
        "kernel_size": settings.kernel_size,
        "stride": settings.stride,
        "temporal_stride": settings.temporal_stride,
        "frame_rate": frame_rate,
        "seed": seed,
    }
    if settings.core == "factorized":
        return FactorizedCore(**common)
    return QuadratureCore(temporal_kernels=settings.temporal_kernels, **common)


def make_readout(settings: EncoderSettings, core: Core, *, n_rois: int, frame_size: tuple[int, int]) -> Readout:
    """Make the readout that the settings name, for the feature maps of a core.

    Parameters
    ----------
    settings
        Architecture.
    core
        What it reads.
    n_rois
        Number of ROIs.
    frame_size
        Rows and columns of the video (pixels).
    """
    map_size = (-(-frame_size[0] // core.stride), -(-frame_size[1] // core.stride))
    kind = MaskReadout if settings.readout == "factorized" else PointReadout
    return kind(n_rois, core.channels, map_size)
