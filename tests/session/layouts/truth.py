"""What a file of a known layout holds, told by whoever wrote it."""

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Plane:
    """One response group: where its preferred signal is, and its values of the ROIs that are cells."""

    path: str
    kind: str
    times: np.ndarray
    values: np.ndarray
    area: str = ""


@dataclass
class Truth:
    """A recording as written.

    ``shown`` has ``(onset, offset, frames)`` for each presentation in time order, frames as grey levels 0-255;
    ``behavior`` has ``(times, values, unit)``; ``said`` are words that the warnings must have.
    """

    source: object
    planes: dict
    shown: list
    behavior: dict
    options: dict = field(default_factory=dict)
    said: tuple = ()
    rate: float = 30.0
    invalid: list = field(default_factory=list)


def clip(number, n_frames=45, height=12, width=20):
    """Frames of a clip, all different, bytes."""
    return np.random.default_rng([7, number]).integers(0, 256, (n_frames, height, width), dtype=np.uint8)


def traces(number, n_samples, n_rois):
    """Responses of a plane."""
    return np.random.default_rng([8, number]).gamma(1.0, 1.0, (n_samples, n_rois)).astype(np.float32)


def trace(number, n_samples, low=1.0, high=9.0):
    """One behavioral variable."""
    return np.random.default_rng([9, number]).uniform(low, high, n_samples)
