"""The noun of this room: a simulated recording, before it is laid out as NWB."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

__all__ = ["SimulatedPlane", "SimulatedRecording"]


@dataclass
class SimulatedPlane:
    """What one imaging plane measured.

    Attributes
    ----------
    name
        ``plane 1``, ``plane 2``, ...
    timestamps
        ``(sample,)`` seconds at which the plane was really scanned.
    fluorescence
        ``(sample, roi)`` float32, raw fluorescence, neuropil contamination included (arbitrary units).
    neuropil
        ``(sample, roi)`` float32, fluorescence around each ROI (arbitrary units).
    cells
        ``(roi,)`` index into the simulated cells; a cell seen in two planes stands in both.
    positions
        ``(roi, 2)`` row and column of each ROI in the image (pixels).
    depth
        Depth below the surface (micrometers).
    image_shape
        Rows and columns of the image (pixels).
    """

    name: str
    timestamps: np.ndarray
    fluorescence: np.ndarray
    neuropil: np.ndarray
    cells: np.ndarray
    positions: np.ndarray
    depth: float
    image_shape: tuple[int, int]


@dataclass
class SimulatedRecording:
    """What the rig measured, and the truth behind it.

    Attributes
    ----------
    schedule
        One row a presentation: ``onset``, ``offset`` (seconds), ``clip`` (key into `clips`), ``film``, ``repeat``,
        ``split`` (``train`` or ``test``).
    clips
        ``(time, height, width)`` uint8, grey level 0-255, by identity.
    frame_rate
        Frames per second of the clips (Hz).
    duration
        Length of the recording (s).
    planes
        Imaging planes.
    imaging_rate
        Samples per second and plane (Hz).
    running
        ``timestamps`` (s) and ``speed`` (cm/s).
    pupil
        ``timestamps`` (s), ``radius`` (pixels of the eye camera, NaN in blinks), ``gaze_x`` (to the right), ``gaze_y``
        (up) (degrees, as the eye camera measured them, NaN in blinks).
    gray
        Grey level (0-255) of the screen while no clip is shown: before, between and after clips.
    truth
        Arrays for the side file: receptive fields, rates, delays, gaze, gain, ... Never written into the NWB.
    """

    schedule: pd.DataFrame
    clips: dict[str, np.ndarray]
    frame_rate: float
    duration: float
    planes: list[SimulatedPlane]
    imaging_rate: float
    running: pd.DataFrame
    pupil: pd.DataFrame
    gray: int = 127
    truth: dict[str, np.ndarray] = field(default_factory=dict)
