"""Laid out like the MICrONS functional recordings (DANDI:000402).

- ``processing/ophys/Fluorescence/RoiResponseSeries{i}``: raw fluorescence, one series a plane. As in 000402 there is
  no neuropil signal and no dF/F: the contamination is in the traces, and nothing in the file lets a reader undo it.
- ``processing/ophys/ImageSegmentation/PlaneSegmentation{i}``: ``image_mask`` ``(roi, x, y)`` and ``mask_type``.
- ``acquisition/stimulus_video``: all that was on the screen, RGB with equal channels, one picture a flip of a screen
  that flips twice a frame (60 Hz for clips of 30 Hz), the grey screen between clips included.
- ``intervals/Clip``: one row a presentation, with ``condition_hash`` (equal for what is pixel by pixel equal).
- ``acquisition/treadmill_velocity``: stored in cm/s, with unit m/s and conversion 0.01.
- ``acquisition/PupilTracking/pupil_{minor,major}_radius`` and ``acquisition/EyeTracking/eye_position``, in pixels of
  the eye camera, NaN where the pupil was lost; the major radius shares the timestamps of the minor one by a link.

Two things differ from 000402, where NWB has moved on: the video's name has no colon, and the imaging rate is a number.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from hdmf.common import VectorData
from pynwb import NWBFile, TimeSeries
from pynwb.behavior import EyeTracking, PupilTracking, SpatialSeries
from pynwb.epoch import TimeIntervals
from pynwb.image import ImageSeries
from pynwb.ophys import Fluorescence, ImageSegmentation, RoiResponseSeries

from nwbrecon.chunks import compressed
from nwbrecon.simulation.layouts.common import (
    imaging_planes,
    new_file,
    roi_images,
    roi_region,
    screen,
    tracked,
)
from nwbrecon.simulation.recording import SimulatedRecording
from nwbrecon.storage import digest

__all__ = ["build"]

FLIPS_PER_FRAME = 2
PIXELS_PER_DEGREE = 3.0
"""Pixels that the pupil moves on the eye camera for each degree of gaze."""
EYE_CENTER = (160.0, 120.0)
"""Where the pupil is on the eye camera when the mouse looks straight ahead (pixels)."""
MINOR_OVER_MAJOR = float(np.cos(np.radians(20)))
"""A round pupil that is filmed from 20 degrees off its axis is an ellipse with this ratio of radii."""


def build(recording: SimulatedRecording, *, hidden_stagger: bool = False) -> NWBFile:
    """Lay out a recording like 000402; `write_recording` writes it.

    Parameters
    ----------
    recording
        What the rig measured.
    hidden_stagger
        Give every plane the clock of the plane that is scanned first, as 000402 does.
    """
    nwbfile = new_file(recording, "microns")
    _add_responses(nwbfile, recording, hidden_stagger)
    _add_video(nwbfile, recording)
    nwbfile.add_time_intervals(_clip_table(recording))
    if len(recording.running):
        _add_treadmill(nwbfile, recording.running)
    pupil = tracked(recording.pupil)
    if len(pupil):
        _add_eye(nwbfile, pupil)
    return nwbfile


def _add_responses(nwbfile: NWBFile, recording: SimulatedRecording, hidden_stagger: bool) -> None:
    module = nwbfile.create_processing_module(name="ophys", description="Fluorescence of ROIs, plane by plane.")
    segmentation, fluorescence = ImageSegmentation(), Fluorescence()
    module.add(segmentation)
    module.add(fluorescence)
    clocks = [plane.timestamps for plane in recording.planes]
    if hidden_stagger:
        samples = min(len(clock) for clock in clocks)
        clocks = [min(clocks, key=lambda clock: clock[0])[:samples]] * len(clocks)
    names = [f"ImagingPlane{i}" for i in range(1, len(recording.planes) + 1)]
    imaged = imaging_planes(nwbfile, recording, names)
    for i, (plane, imaging_plane, clock) in enumerate(zip(recording.planes, imaged, clocks, strict=True), start=1):
        table = segmentation.create_plane_segmentation(
            name=f"PlaneSegmentation{i}",
            description=f"ROIs of {plane.name}.",
            imaging_plane=imaging_plane,
            id=list(range(len(plane.cells))),
            columns=[
                roi_images(plane),
                VectorData(name="mask_type", description="soma or artifact", data=["soma"] * len(plane.cells)),
            ],
        )
        fluorescence.add_roi_response_series(
            RoiResponseSeries(
                name=f"RoiResponseSeries{i}",
                description=f"Raw fluorescence of {plane.name}, neuropil not taken away.",
                data=compressed(plane.fluorescence[: len(clock)], shuffle=True),
                unit="n.a.",
                rois=roi_region(table),
                timestamps=clock,
            )
        )


def _add_video(nwbfile: NWBFile, recording: SimulatedRecording) -> None:
    shown = screen(recording, flips_per_frame=FLIPS_PER_FRAME, gray_rate=FLIPS_PER_FRAME * recording.frame_rate)
    nwbfile.add_acquisition(
        ImageSeries(
            name="stimulus_video",
            description="All that was on the screen, flip by flip: (flip, row, column, RGB), row 0 is the top.",
            data=shown.stored(channels=3),
            unit="Frames",
            format="raw",
            timestamps=shown.timestamps,
        )
    )


def _clip_table(recording: SimulatedRecording) -> TimeIntervals:
    table = TimeIntervals(name="Clip", description="Presentations of movie clips.")
    for name, description in {
        "stimulus_type": "Kind of stimulus.",
        "condition_hash": "Identity of what was shown; presentations of the same pixels have the same hash.",
        "movie_name": "Source film of the clip.",
        "short_movie_name": "Kind of source film.",
        "duration": "Length of the clip (s).",
    }.items():
        table.add_column(name=name, description=description)
    hashes = {name: digest(np.ascontiguousarray(clip).tobytes())[:20] for name, clip in recording.clips.items()}
    for number, row in enumerate(recording.schedule.sort_values("onset").itertuples()):
        table.add_interval(
            id=number,
            start_time=float(row.onset),
            stop_time=float(row.offset),
            stimulus_type="stimulus.Clip",
            condition_hash=hashes[row.clip],
            movie_name=row.film or row.clip,
            short_movie_name="rendered",
            duration=float(row.offset - row.onset),
        )
    return table


def _add_treadmill(nwbfile: NWBFile, running: pd.DataFrame) -> None:
    nwbfile.add_acquisition(
        TimeSeries(
            name="treadmill_velocity",
            description="Velocity of the treadmill; stored in cm/s, and the conversion gives m/s.",
            data=running["speed"].to_numpy(),
            unit="m/s",
            conversion=0.01,
            timestamps=running["timestamps"].to_numpy(),
        )
    )


def _add_eye(nwbfile: NWBFile, pupil: pd.DataFrame) -> None:
    major = pupil["radius"].to_numpy()
    minor_series = TimeSeries(
        name="pupil_minor_radius",
        description="Minor radius of the pupil; NaN where it was lost.",
        data=major * MINOR_OVER_MAJOR,
        unit="px",
        timestamps=pupil["timestamps"].to_numpy(),
    )
    major_series = TimeSeries(
        name="pupil_major_radius",
        description="Major radius of the pupil; NaN where it was lost.",
        data=major,
        unit="px",
        timestamps=minor_series,
    )
    nwbfile.add_acquisition(PupilTracking(time_series=[minor_series, major_series]))
    position = SpatialSeries(
        name="eye_position",
        description="Center of the pupil on the eye camera, x and y; NaN where it was lost.",
        data=pupil[["gaze_x", "gaze_y"]].to_numpy() * (PIXELS_PER_DEGREE, -PIXELS_PER_DEGREE) + EYE_CENTER,
        reference_frame="(0, 0) is the top left pixel of the eye camera, y grows downwards.",
        unit="px",
        timestamps=minor_series,
    )
    nwbfile.add_acquisition(EyeTracking(spatial_series=position))
