"""Laid out as a lab would write it by hand, following NWB's best practice.

- ``stimulus/presentation/natural_movies``: an `OpticalSeries` of all frames that were shown, in the order of showing,
  each with the time at which it appeared; a grey frame says when the screen turned grey.
- ``trials``: one row a presentation, with ``clip``, ``film`` where films are named, and a reference to its frames. No
  ``split`` column: which clips test is for the analysis to say.
- ``processing/ophys/DfOverF``: dF/F, one series a plane, and ``ImageSegmentation`` with ``image_mask``.
- ``processing/behavior``: running speed in m/s, pupil diameter in pixels, gaze in degrees.

A regular clock is written as starting time and rate, any other as timestamps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from pynwb import NWBFile, TimeSeries
from pynwb.base import ProcessingModule
from pynwb.behavior import BehavioralTimeSeries, EyeTracking, PupilTracking, SpatialSeries
from pynwb.image import OpticalSeries
from pynwb.ophys import DfOverF, ImageSegmentation, RoiResponseSeries

from nwbrecon.chunks import compressed
from nwbrecon.simulation.layouts.common import (
    GAZE_FRAME,
    delta_f_over_f,
    imaging_planes,
    new_file,
    object_names,
    roi_images,
    roi_region,
    screen,
    tracked,
)
from nwbrecon.simulation.recording import SimulatedRecording

__all__ = ["build"]

REGULAR_WITHIN = 1e-6
"""A clock is regular if no sample is further than this from where a constant rate puts it (s)."""


def build(recording: SimulatedRecording) -> NWBFile:
    """Lay out a recording by best practice; `write_recording` writes it."""
    nwbfile = new_file(recording, "plain")
    _add_responses(nwbfile, recording)
    _add_stimulus(nwbfile, recording)
    pupil = tracked(recording.pupil)
    if len(recording.running) or len(pupil):
        module = nwbfile.create_processing_module(name="behavior", description="Running, pupil and gaze.")
        _add_behavior(module, recording.running, pupil)
    return nwbfile


def _add_responses(nwbfile: NWBFile, recording: SimulatedRecording) -> None:
    module = nwbfile.create_processing_module(name="ophys", description="dF/F of ROIs, plane by plane.")
    segmentation, dff = ImageSegmentation(), DfOverF()
    module.add(segmentation)
    module.add(dff)
    names = object_names(plane.name for plane in recording.planes)
    imaged = imaging_planes(nwbfile, recording, names.values())
    for plane, imaging_plane in zip(recording.planes, imaged, strict=True):
        table = segmentation.create_plane_segmentation(
            name=f"PlaneSegmentation_{names[plane.name]}",
            description=f"ROIs of {plane.name}.",
            imaging_plane=imaging_plane,
            id=list(range(len(plane.cells))),
            columns=[roi_images(plane)],
        )
        dff.add_roi_response_series(
            RoiResponseSeries(
                name=f"RoiResponseSeries_{names[plane.name]}",
                description=f"dF/F of {plane.name}, neuropil taken away.",
                data=compressed(delta_f_over_f(plane), shuffle=True),
                unit="n.a.",
                rois=roi_region(table),
                **_clock(plane.timestamps),
            )
        )


def _add_stimulus(nwbfile: NWBFile, recording: SimulatedRecording) -> None:
    shown = screen(recording)
    movies = OpticalSeries(
        name="natural_movies",
        description="Frames shown, (frame, row, column), grey level 0-255; each stayed until the next.",
        data=shown.stored(),
        unit="n.a.",
        format="raw",
        orientation="Row 0 is the top of the screen, column 0 its left, as the mouse sees it.",
        timestamps=shown.timestamps,
    )
    nwbfile.add_stimulus(movies)
    nwbfile.add_trial_column(name="clip", description="Which clip was shown.")
    films = recording.schedule["film"].astype(bool).any()
    if films:
        nwbfile.add_trial_column(name="film", description="Source film of the clip.")
    for row in recording.schedule.sort_values("onset").itertuples():
        nwbfile.add_trial(
            start_time=float(row.onset),
            stop_time=float(row.offset),
            clip=row.clip,
            timeseries=movies,
            **({"film": row.film} if films else {}),
        )


def _add_behavior(module: ProcessingModule, running: pd.DataFrame, pupil: pd.DataFrame) -> None:
    if len(running):
        speed = TimeSeries(
            name="running_speed",
            description="Running speed.",
            data=running["speed"].to_numpy() / 100,
            unit="m/s",
            **_clock(running["timestamps"].to_numpy()),
        )
        module.add(BehavioralTimeSeries(time_series=speed))
    if len(pupil):
        diameter = TimeSeries(
            name="pupil_diameter",
            description="Diameter of the pupil on the eye camera; NaN in blinks.",
            data=2 * pupil["radius"].to_numpy(),
            unit="pixels",
            **_clock(pupil["timestamps"].to_numpy()),
        )
        gaze = SpatialSeries(
            name="gaze",
            description="Direction of gaze, x and y; NaN in blinks.",
            data=pupil[["gaze_x", "gaze_y"]].to_numpy(),
            reference_frame=GAZE_FRAME,
            unit="degrees",
            **_clock(pupil["timestamps"].to_numpy()),
        )
        module.add(PupilTracking(time_series=diameter))
        module.add(EyeTracking(spatial_series=gaze))


def _clock(timestamps: np.ndarray) -> dict[str, Any]:
    start, stop = float(timestamps[0]), float(timestamps[-1])
    if len(timestamps) > 2 and np.abs(timestamps - np.linspace(start, stop, len(timestamps))).max() < REGULAR_WITHIN:
        return {"starting_time": start, "rate": (len(timestamps) - 1) / (stop - start)}
    return {"timestamps": timestamps}
