"""What the layouts share: the head of the file, imaging planes, ROI masks, and what was on the screen."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from hdmf.common import DynamicTableRegion, VectorData
from pynwb import H5DataIO, NWBFile
from pynwb.file import Subject
from pynwb.ophys import ImagingPlane, OpticalChannel, PlaneSegmentation

from nwbrecon._version import __version__
from nwbrecon.chunks import ChunkIterator, compressed
from nwbrecon.config import ResponseSettings
from nwbrecon.session.activity import activity
from nwbrecon.session.model import ResponseGroup, Signal, SignalKind
from nwbrecon.simulation.recording import SimulatedPlane, SimulatedRecording
from nwbrecon.storage import digest

__all__ = [
    "GAZE_FRAME",
    "Screen",
    "corrected",
    "delta_f_over_f",
    "events",
    "imaging_planes",
    "new_file",
    "object_names",
    "roi_images",
    "roi_pixels",
    "roi_region",
    "screen",
    "tracked",
]

SESSION_START = datetime(2025, 1, 1, 12, tzinfo=UTC)
SOMA_RADIUS = 5
"""Radius of the ROI masks (pixels of the imaging plane)."""
GAZE_FRAME = "(0, 0) is straight ahead; x grows to the right of the screen, y upwards."


def new_file(recording: SimulatedRecording, layout: str) -> NWBFile:
    """Make an NWB file with subject, device and session, which say that all of it is simulated.

    Identifier and subject come from what was measured: the same simulation has the same ones, and the layouts of one
    simulation have the same subject.
    """
    measured = [plane.fluorescence for plane in recording.planes]
    mouse = digest(b"".join(np.ascontiguousarray(values).tobytes() for values in measured))
    nwbfile = NWBFile(
        session_description=(
            "Simulated two-photon recording in the visual cortex of a mouse that watches movies; no animal was used."
        ),
        identifier=f"{layout}-{mouse}",
        session_start_time=SESSION_START,
        session_id=f"simulated-{layout}",
        experimenter=["Simulation, Nwbrecon"],
        lab="nwbrecon",
        institution="none (simulated)",
        experiment_description=f"Made by nwbrecon, laid out as `{layout}`.",
        keywords=["simulation", "two-photon imaging", "visual cortex", "natural movies"],
        was_generated_by=[["nwbrecon", __version__]],
        subject=Subject(
            subject_id=f"sim-{mouse[:8]}",
            species="Mus musculus",
            age="P90D",
            sex="F",
            strain="C57BL/6J",
            description="A simulated mouse.",
        ),
    )
    nwbfile.create_device(name="Microscope", description="Simulated two-photon microscope.")
    return nwbfile


def imaging_planes(nwbfile: NWBFile, recording: SimulatedRecording, names: Iterable[str]) -> list[ImagingPlane]:
    """Add an imaging plane with this name for each plane of the recording, with its depth as third coordinate."""
    return [
        nwbfile.create_imaging_plane(
            name=name,
            description=f"{plane.name}, {plane.depth:g} micrometers below the surface of the brain.",
            optical_channel=OpticalChannel(name="Green", description="GCaMP6s emission.", emission_lambda=515.0),
            device=nwbfile.devices["Microscope"],
            excitation_lambda=920.0,
            imaging_rate=float(recording.imaging_rate),
            indicator="GCaMP6s",
            location="VISp",
            origin_coords=[0.0, 0.0, plane.depth * 1e-6],
            origin_coords_unit="meters",
            reference_frame="x and y from the first pixel of the plane, z is the depth below the surface of the brain.",
        )
        for name, plane in zip(names, recording.planes, strict=True)
    ]


def roi_pixels(plane: SimulatedPlane) -> list[np.ndarray]:
    """Pixels of each ROI, a disc around its position, as ``(pixel, 3)`` arrays of x (column), y (row), weight."""
    rows, columns = plane.image_shape
    disc = np.argwhere(np.ones((2 * SOMA_RADIUS + 1,) * 2)) - SOMA_RADIUS
    disc = disc[(disc**2).sum(axis=1) <= SOMA_RADIUS**2]
    centers = np.clip(np.rint(plane.positions).astype(int), 0, [rows - 1, columns - 1])
    pixels = []
    for center in centers:
        inside = center + disc
        inside = inside[((inside >= 0) & (inside < [rows, columns])).all(axis=1)]
        pixels.append(np.column_stack([inside[:, ::-1], np.ones(len(inside), dtype=int)]))
    return pixels


def roi_images(plane: SimulatedPlane) -> VectorData:
    """Make the column of ROI masks, ``(roi, x, y)`` float32 images; x first, as the NWB schema has it."""
    rows, columns = plane.image_shape
    pixels = roi_pixels(plane)

    def read(rois: slice) -> np.ndarray:
        chosen = pixels[rois]
        masks = np.zeros((len(chosen), columns, rows), dtype=np.float32)
        for mask, (x, y, weight) in zip(masks, (roi.T for roi in chosen), strict=True):
            mask[x, y] = weight
        return masks

    masks = ChunkIterator(read, (len(pixels), columns, rows), np.float32)
    return VectorData(name="image_mask", description="Image mask of each ROI, (x, y).", data=compressed(masks))


def roi_region(segmentation: PlaneSegmentation) -> DynamicTableRegion:
    """Refer to all ROIs of a plane."""
    return segmentation.create_roi_table_region(
        description=f"All ROIs of {segmentation.name}.", region=list(range(len(segmentation)))
    )


def corrected(plane: SimulatedPlane) -> np.ndarray:
    """Fluorescence, the usual share of the neuropil taken away: ``(sample, roi)`` float32."""
    return plane.fluorescence - np.float32(ResponseSettings().neuropil_factor) * plane.neuropil


def delta_f_over_f(plane: SimulatedPlane) -> np.ndarray:
    """dF/F, the neuropil taken away: ``(sample, roi)`` float32."""
    return activity(_response_group(plane), ResponseSettings(deconvolve=False)).values


def events(plane: SimulatedPlane) -> np.ndarray:
    """Deconvolved dF/F: ``(sample, roi)`` float32, non-negative; NaN at the first sample, which has none before it."""
    return activity(_response_group(plane), ResponseSettings()).values


def _response_group(plane: SimulatedPlane) -> ResponseGroup:
    def signal(kind: SignalKind, values: np.ndarray) -> Signal:
        return Signal(kind.value, kind, "n.a.", lambda start, stop: values[start:stop], values.shape)

    return ResponseGroup(
        plane.name,
        signal(SignalKind.RAW, plane.fluorescence),
        plane.timestamps,
        pd.DataFrame(index=range(len(plane.cells))),
        neuropil=signal(SignalKind.NEUROPIL, plane.neuropil),
    )


def tracked(pupil: pd.DataFrame) -> pd.DataFrame:
    """Rows from the first to the last sample at which the pupil was seen; gaps in between stay NaN."""
    seen = np.flatnonzero(pupil["radius"].notna())
    return pupil.iloc[seen[0] : seen[-1] + 1] if len(seen) else pupil.iloc[:0]


def object_names(names: Iterable[str]) -> dict[str, str]:
    """Map each name to one that can stand in NWB, without slashes, colons and blanks, and different from the others.

    Examples
    --------
    >>> object_names(["clip 1", "clip/1", "b"])
    {'clip 1': 'clip_1', 'clip/1': 'clip_1_2', 'b': 'b'}
    """
    safe: dict[str, str] = {}
    for name in names:
        stem = re.sub(r"[^\w.+-]+", "_", name)
        candidate, n = stem, 1
        while candidate in safe.values():
            n += 1
            candidate = f"{stem}_{n}"
        safe[name] = candidate
    return safe


@dataclass(frozen=True)
class Screen:
    """What was on the screen, flip by flip.

    Attributes
    ----------
    timestamps
        ``(flip,)`` seconds on the session clock; each picture stays until the next flip.
    clips
        ``(flip,)`` index into `movies`, -1 for the grey screen.
    frames
        ``(flip,)`` frame of that movie.
    movies
        ``(time, height, width)`` uint8 each, grey level 0-255.
    gray
        Grey level of the screen where no movie runs.
    """

    timestamps: np.ndarray
    clips: np.ndarray
    frames: np.ndarray
    movies: list[np.ndarray]
    gray: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of flips, rows, columns."""
        return len(self.timestamps), *self.movies[0].shape[1:]

    def read(self, flips: slice) -> np.ndarray:
        """Pictures of these flips as ``(flip, height, width)`` uint8."""
        clips, frames = self.clips[flips], self.frames[flips]
        pictures = np.full((len(clips), *self.shape[1:]), self.gray, dtype=np.uint8)
        for clip in np.unique(clips[clips >= 0]):
            pictures[clips == clip] = self.movies[clip][frames[clips == clip]]
        return pictures

    def stored(self, channels: int | None = None) -> H5DataIO:
        """All pictures, to be written; with ``channels``, as ``(flip, height, width, channel)`` of equal channels."""

        def read(flips: slice) -> np.ndarray:
            pictures = self.read(flips)
            return pictures if channels is None else np.repeat(pictures[..., None], channels, axis=3)

        shape = self.shape if channels is None else (*self.shape, channels)
        return compressed(ChunkIterator(read, shape, np.uint8))


def screen(recording: SimulatedRecording, *, flips_per_frame: int = 1, gray_rate: float | None = None) -> Screen:
    """Lay out what was on the screen from the start of the recording to its end.

    Parameters
    ----------
    recording
        The recording.
    flips_per_frame
        How many flips each frame of a clip stays for.
    gray_rate
        Flips per second (Hz) while the screen is grey, evenly spaced between two clips and at most half a flip off that
        rate; ``None`` gives a single flip, when the screen turns grey.
    """
    movies = list(recording.clips.values())
    index = {clip: number for number, clip in enumerate(recording.clips)}
    flip_rate = recording.frame_rate * flips_per_frame
    times, clips, frames = [], [], []

    def turn_gray(start: float, stop: float) -> None:
        n = round((stop - start) * (gray_rate or flip_rate))
        n = n if gray_rate else min(n, 1)
        times.append(start + np.arange(n) * (stop - start) / max(n, 1))
        clips.append(np.full(n, -1))
        frames.append(np.zeros(n, dtype=int))

    end = 0.0
    for row in recording.schedule.sort_values("onset").itertuples():
        turn_gray(end, row.onset)
        n = len(recording.clips[row.clip])
        times.append(row.onset + np.arange(n * flips_per_frame) / flip_rate)
        clips.append(np.full(n * flips_per_frame, index[row.clip]))
        frames.append(np.repeat(np.arange(n), flips_per_frame))
        end = row.offset
    turn_gray(end, recording.duration)
    return Screen(np.concatenate(times), np.concatenate(clips), np.concatenate(frames), movies, recording.gray)
