"""Laid out like the Allen Visual Coding recordings (DANDI:000728).

- ``processing/ophys/Fluorescence/{Corrected,Neuropil,Demixed}``, ``processing/ophys/DfOverF/{DfOverF,DfOverFEvents}``
  for the one plane; ``Corrected`` owns the timestamps, the others share them by links. dF/F and events are what
  `nwbrecon.session.activity` makes of the fluorescence; those of 000728 were made by Allen's own methods.
- ``processing/ophys/ImageSegmentation/PlaneSegmentation``: ``pixel_mask`` and ``global_roi_id``.
- ``stimulus/templates/natural_movie_*``: one `ImageSeries` a clip.
- ``intervals/natural_movie_presentations``: one row a frame shown, with ``stimulus_name`` (the template's name),
  ``frame`` (index into it) and ``stimulus_block`` (running number of the presentation).
- ``processing/behavior``: running speed (cm/s) on the clock of the imaging, pupil area and place on the screen.

000728 itself says when each frame was shown with an `IndexSeries` whose ``indexed_timeseries`` is the template. NWB has
given that link up and pynwb 4 refuses to make it. The form that NWB offers in its place, an `Images` container that the
`IndexSeries` points to, takes an HDF5 data set of its own for each frame, which is slow to write, to open and above all
to stream for the ten thousand frames of a session. Hence the table, which Allen's later recordings have too. A clip
with fewer frames than columns is valid, but nwbinspector takes it for transposed.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from hdmf.common import VectorData
from pynwb import NWBFile, TimeSeries
from pynwb.base import ProcessingModule
from pynwb.behavior import BehavioralTimeSeries, CompassDirection, EyeTracking, PupilTracking, SpatialSeries
from pynwb.epoch import TimeIntervals
from pynwb.image import ImageSeries
from pynwb.ophys import DfOverF, Fluorescence, ImageSegmentation, RoiResponseSeries

from nwbrecon.chunks import compressed
from nwbrecon.errors import SettingsError
from nwbrecon.simulation.layouts.common import (
    GAZE_FRAME,
    corrected,
    delta_f_over_f,
    events,
    imaging_planes,
    new_file,
    object_names,
    roi_pixels,
    roi_region,
    tracked,
)
from nwbrecon.simulation.recording import SimulatedRecording

__all__ = ["build"]

SCREEN_DISTANCE = 0.15
"""Meters from the eye to the screen."""


def build(recording: SimulatedRecording) -> NWBFile:
    """Lay out a recording like 000728; `write_recording` writes it.

    Raises
    ------
    SettingsError
        If the recording does not have exactly one plane.
    """
    if len(recording.planes) != 1:
        raise SettingsError(
            f"The recording has {len(recording.planes)} planes.",
            "The layout visual-coding has one.",
            "Simulate one plane, or choose another layout.",
        )
    nwbfile = new_file(recording, "visual-coding")
    clock = _add_responses(nwbfile, recording)
    _add_stimulus(nwbfile, recording)
    pupil = tracked(recording.pupil)
    if len(recording.running) or len(pupil):
        module = nwbfile.create_processing_module(name="behavior", description="Running, pupil and gaze.")
        if len(recording.running):
            _add_running(module, recording, clock)
        if len(pupil):
            _add_eye(module, pupil)
    return nwbfile


def _add_responses(nwbfile: NWBFile, recording: SimulatedRecording) -> RoiResponseSeries:
    plane = recording.planes[0]
    module = nwbfile.create_processing_module(name="ophys", description="Fluorescence and dF/F of ROIs.")
    segmentation, fluorescence, dff = ImageSegmentation(), Fluorescence(), DfOverF()
    for container in (segmentation, fluorescence, dff):
        module.add(container)
    (imaging_plane,) = imaging_planes(nwbfile, recording, ["imaging_plane"])
    table = segmentation.create_plane_segmentation(
        name="PlaneSegmentation", description="ROIs of the plane.", imaging_plane=imaging_plane
    )
    table.add_column(name="global_roi_id", description="Identity of the cell over sessions.")
    for cell, pixels in zip(plane.cells, roi_pixels(plane), strict=True):
        table.add_roi(pixel_mask=pixels, global_roi_id=int(cell))

    def series(name: str, values: np.ndarray, clock: np.ndarray | TimeSeries, description: str) -> RoiResponseSeries:
        return RoiResponseSeries(
            name=name,
            description=description,
            data=compressed(values, shuffle=True),
            unit="n.a.",
            rois=roi_region(table),
            timestamps=clock,
        )

    clock = series("Corrected", corrected(plane), plane.timestamps, "Fluorescence, neuropil taken away.")
    fluorescence.add_roi_response_series(clock)
    fluorescence.add_roi_response_series(series("Demixed", plane.fluorescence, clock, "Fluorescence as extracted."))
    fluorescence.add_roi_response_series(series("Neuropil", plane.neuropil, clock, "Fluorescence around each ROI."))
    dff.add_roi_response_series(series("DfOverF", delta_f_over_f(plane), clock, "dF/F of the corrected fluorescence."))
    dff.add_roi_response_series(
        series("DfOverFEvents", events(plane), clock, "Deconvolved dF/F: what happened since the sample before.")
    )
    return clock


def _add_stimulus(nwbfile: NWBFile, recording: SimulatedRecording) -> None:
    names = object_names(recording.clips)
    for clip, movie in recording.clips.items():
        nwbfile.add_stimulus_template(
            ImageSeries(
                name=f"natural_movie_{names[clip]}",
                description="Frames of the clip, (frame, row, column), grey level 0-255, row 0 is the top.",
                comments="The rate is that of the clip; when it was shown is said in natural_movie_presentations.",
                data=compressed(movie),
                unit="n.a.",
                format="raw",
                rate=float(recording.frame_rate),
            )
        )
    rows = [
        pd.DataFrame(
            {
                "start_time": row.onset + np.arange(n) / recording.frame_rate,
                "stop_time": row.onset + np.arange(1, n + 1) / recording.frame_rate,
                "stimulus_name": f"natural_movie_{names[row.clip]}",
                "stimulus_block": block,
                "frame": np.arange(n),
            }
        )
        for block, row in enumerate(recording.schedule.sort_values("onset").itertuples())
        if (n := len(recording.clips[row.clip]))
    ]
    table = pd.concat(rows, ignore_index=True)
    descriptions = {
        "start_time": "When the frame appeared (s).",
        "stop_time": "When it was taken away (s).",
        "stimulus_name": "Name of the template in stimulus/templates.",
        "stimulus_block": "Running number of the presentation.",
        "frame": "Index of the frame in the template.",
    }
    columns = [
        VectorData(name=name, description=description, data=table[name].to_numpy().tolist())
        for name, description in descriptions.items()
    ]
    nwbfile.add_time_intervals(
        TimeIntervals(name="natural_movie_presentations", description="Frames shown, one a row.", columns=columns)
    )


def _add_running(module: ProcessingModule, recording: SimulatedRecording, clock: RoiResponseSeries) -> None:
    speed = np.interp(
        recording.planes[0].timestamps,
        recording.running["timestamps"],
        recording.running["speed"],
        left=np.nan,
        right=np.nan,
    )
    module.add(
        BehavioralTimeSeries(
            time_series=TimeSeries(
                name="running_speed",
                description="Running speed, on the clock of the imaging.",
                data=speed,
                unit="cm/s",
                timestamps=clock,
            )
        )
    )


def _add_eye(module: ProcessingModule, pupil: pd.DataFrame) -> None:
    size = TimeSeries(
        name="pupil_size",
        description="Area of the pupil on the eye camera, in square pixels; NaN where it was lost.",
        data=np.pi * pupil["radius"].to_numpy() ** 2,
        unit="pixels",
        timestamps=pupil["timestamps"].to_numpy(),
    )
    module.add(PupilTracking(time_series=size))
    angles = pupil[["gaze_x", "gaze_y"]].to_numpy()
    location = SpatialSeries(
        name="pupil_location",
        description="Where on the screen the mouse looks, x and y; NaN where the pupil was lost.",
        data=SCREEN_DISTANCE * np.tan(np.radians(angles)),
        reference_frame=GAZE_FRAME,
        unit="meters",
        timestamps=size,
    )
    module.add(EyeTracking(spatial_series=location))
    spherical = SpatialSeries(
        name="pupil_location_spherical",
        description="Direction of gaze, azimuth and elevation; NaN where the pupil was lost.",
        data=angles,
        reference_frame=GAZE_FRAME,
        unit="degrees",
        timestamps=size,
    )
    module.add(CompassDirection(spatial_series=spherical))
