"""How a mouse of the Sensorium 2023 competition is laid out as NWB.

- ``stimulus/presentation/movies``: an `OpticalSeries` of the videos of all trials, one after the other, each frame with
  the time at which it appeared.
- ``trials``: one row a trial, with ``split`` (train, validation, test, none), ``tier`` (as released), ``clip`` (equal
  for equal videos) and ``trial_number`` (name of its files).
- ``processing/ophys/deconvolved``: responses of the trials that have them. The competition withholds those of its test
  trials; the series has no samples then.
- ``processing/behavior``: pupil dilation, running speed and the pupil's center, on the clock of the frames; each value
  stands for its frame (continuity ``step``).
- ``intervals/between_trials``: where nothing is known.
- ``invalid_times``: trials of tier ``none``.

The release does not say when a trial took place. Trials follow each other in the order of their numbers, `GAP_SECONDS`
apart. Values are as released, in single precision (behavior: double).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np
from hdmf.common import VectorData
from pynwb import NWBFile, TimeSeries
from pynwb.behavior import BehavioralTimeSeries
from pynwb.epoch import TimeIntervals
from pynwb.file import Subject
from pynwb.image import OpticalSeries
from pynwb.ophys import ImageSegmentation, OpticalChannel, RoiResponseSeries

from nwbrecon._version import __version__
from nwbrecon.chunks import ChunkIterator, compressed
from nwbrecon.converters.mouse_folder import UNUSED, MouseFolder, MouseTrial
from nwbrecon.storage import digest

__all__ = ["FRAME_RATE", "GAP_SECONDS", "LICENSE", "build"]

FRAME_RATE = 30.0
"""Everything is released on one clock of this rate (Hz)."""
GAP_SECONDS = 3.0
"""Between trials: longer than the guard time around a split (`AlignmentSettings.guard_seconds`), since what came before
a trial is not known."""
NO_DATE = datetime(1970, 1, 1, tzinfo=UTC)
LICENSE = (
    "The data of the Sensorium competition are licensed CC BY-NC-ND 4.0 "
    "(https://creativecommons.org/licenses/by-nc-nd/4.0/). Their authors ask to be contacted before the data are used "
    "in research, and for permission before a new analysis of them is published. A file made of them is under the same "
    "terms; do not pass it on."
)
_RELEASED = re.compile(r"dynamic(?P<animal>\d+)-(?P<session>\d+)-(?P<scan>\d+)(-|$)")


def build(mouse: MouseFolder, splits: Sequence[str], loaded: Callable[[], object]) -> NWBFile:
    """Lay out a mouse as NWB; videos and responses are read while the file is written.

    Parameters
    ----------
    mouse
        The folder.
    splits
        ``train``, ``validation``, ``test`` or ``none``, for each trial.
    loaded
        Called each time that the video or the responses of a trial were read.
    """
    nwbfile = _new_file(mouse)
    gap = round(GAP_SECONDS * FRAME_RATE)
    lengths = [trial.n_frames for trial in mouse.trials]
    # whole frames, so that rounding does not add up
    onsets = np.cumsum([gap, *(n + gap for n in lengths[:-1])]) / FRAME_RATE
    times = [onset + np.arange(n + 1) / FRAME_RATE for onset, n in zip(onsets, lengths, strict=True)]
    frame_times = np.concatenate([own[:-1] for own in times])
    read_video = _InTurn(mouse.video, mouse.trials, lengths, loaded)
    movies = OpticalSeries(
        name="movies",
        description="Videos of all trials, one after the other, (frame, row, column), grey level 0-255.",
        comments="Each frame stayed until the next; the order of the trials and the pauses between them are made up.",
        data=compressed(ChunkIterator(read_video, (len(frame_times), *mouse.frame_size), mouse.levels), shuffle=True),
        unit="n.a.",
        format="raw",
        orientation="As released; row 0 is taken to be the top of the screen, column 0 its left.",
        timestamps=compressed(frame_times, shuffle=True),
    )
    nwbfile.add_stimulus(movies)
    _add_trials(nwbfile, mouse, splits, times)
    _add_responses(nwbfile, mouse, times, loaded)
    if mouse.behavior is not None or mouse.pupil_center is not None:
        _add_behavior(nwbfile, mouse, movies)
    return nwbfile


def _new_file(mouse: MouseFolder) -> NWBFile:
    name = mouse.path.resolve().name
    released = _RELEASED.match(name)
    identity = digest([name, *(f"{trial.number} {trial.tier} {trial.clip}" for trial in mouse.trials)])
    return NWBFile(
        session_description=(
            "A mouse watches movies; converted from the format of the Sensorium 2023 competition, which does not say "
            "when the session and its trials took place: the date is a placeholder, and trials follow each other in "
            f"the order of their numbers, {GAP_SECONDS:g} s apart. What happened between them is not known."
        ),
        identifier=f"{name}-{identity[:16]}",
        session_start_time=NO_DATE,
        session_id=f"{released['session']}-scan-{released['scan']}" if released else name,
        notes=LICENSE,
        keywords=["Sensorium", "two-photon imaging", "visual cortex", "natural movies"],
        experiment_description="Converted from a folder of the Sensorium 2023 format.",
        related_publications=["https://doi.org/10.48550/arXiv.2305.19654"],
        was_generated_by=[["nwbrecon", __version__]],
        subject=Subject(
            subject_id=released["animal"] if released else name,
            species="Mus musculus",
            sex="U",
            age="P0D/",
            description="Age and sex are not in the release.",
        ),
    )


def _add_trials(nwbfile: NWBFile, mouse: MouseFolder, splits: Sequence[str], times: Sequence[np.ndarray]) -> None:
    columns = {
        "split": "What the trial is for, by its tier.",
        "tier": "What the competition has the trial for.",
        "clip": "Which video was shown: equal for videos that are equal pixel by pixel, in other mice too.",
        "trial_number": "Name of the trial's files in the release.",
    }
    for name, description in columns.items():
        nwbfile.add_trial_column(name=name, description=description)
    for trial, split, own in zip(mouse.trials, splits, times, strict=True):
        span = {"start_time": float(own[0]), "stop_time": float(own[-1])}
        nwbfile.add_trial(**span, split=split, tier=trial.tier, clip=trial.clip, trial_number=trial.number)
        if split == UNUSED:
            nwbfile.add_invalid_time_interval(**span, tags=["tier none: not used in the competition"])
    if len(times) > 1:
        nwbfile.add_time_intervals(_pauses(times))


def _pauses(times: Sequence[np.ndarray]) -> TimeIntervals:
    """Table of the times between trials; without it a reader would take the screen to have been blank then."""
    # a frame shorter than they are, so that rounding makes none touch a trial
    edges = {
        "start_time": ("When it begins (s).", [float(own[-1] + 1 / FRAME_RATE) for own in times[:-1]]),
        "stop_time": ("When it ends (s).", [float(own[0] - 1 / FRAME_RATE) for own in times[1:]]),
    }
    return TimeIntervals(
        name="between_trials",
        description="Pauses that were put between the trials; what was on the screen then is not known.",
        columns=[VectorData(name=name, description=words, data=data) for name, (words, data) in edges.items()],
    )


def _add_responses(
    nwbfile: NWBFile, mouse: MouseFolder, times: Sequence[np.ndarray], loaded: Callable[[], object]
) -> None:
    recorded = [(trial, own) for trial, own in zip(mouse.trials, times, strict=True) if trial.recorded]
    released = _RELEASED.match(mouse.path.resolve().name)
    plane = nwbfile.create_imaging_plane(
        name="all_planes",
        description="All planes of the recording; the release has their cells together, on one clock.",
        optical_channel=OpticalChannel(
            name="Green", description="Not described in the release.", emission_lambda=float("nan")
        ),
        excitation_lambda=float("nan"),
        device=nwbfile.create_device(name="Microscope", description="Two-photon microscope."),
        # so for all mice of the competition
        indicator="GCaMP6s" if released else "unknown",
        location="VISp" if released else "unknown",
    )
    module = nwbfile.create_processing_module(name="ophys", description="Deconvolved responses, as released.")
    segmentation = ImageSegmentation()
    module.add(segmentation)
    names = {
        "motor_x": "x of the cell in the microscope's motor coordinates (micrometers).",
        "motor_y": "y of the cell in the microscope's motor coordinates (micrometers).",
        "depth": "z of the cell in the microscope's motor coordinates (micrometers), taken to be its depth.",
    }
    places = [] if mouse.coordinates is None else zip(names.items(), mouse.coordinates.T, strict=True)
    # NWB asks for a column of masks; in these no pixel is the cell's
    masks = VectorData(
        name="image_mask",
        description="All zero: no masks are in the release.",
        data=np.zeros((len(mouse.unit_ids), 1, 1), dtype=np.float32),
    )
    cells = segmentation.create_plane_segmentation(
        name="cells",
        description="The cells, by their unit_ids in the release.",
        imaging_plane=plane,
        id=mouse.unit_ids.tolist(),
        columns=[
            masks,
            *(VectorData(name=name, description=words, data=place) for (name, words), place in places),
        ],
    )

    def read(trial: MouseTrial) -> np.ndarray:
        responses = mouse.responses(trial)
        # a sample counts what happened since the one before it, and the first has none before it
        return np.concatenate([np.full((1, responses.shape[1]), np.nan, np.float32), responses])

    lengths = [len(own) for _, own in recorded]
    values = _InTurn(read, [trial for trial, _ in recorded], lengths, loaded)
    module.add(
        RoiResponseSeries(
            name="deconvolved",
            description="Deconvolved calcium traces, as released: on the clock of the movie's frames, not normalized.",
            comments=(
                "A sample stands for the time since the sample before it, which is that of one frame. The first of "
                "each trial is NaN and only says when the trial began. Trials whose responses are withheld have none."
            ),
            data=compressed(ChunkIterator(values, (sum(lengths), len(mouse.unit_ids)), np.float32), shuffle=True),
            unit="n.a.",
            rois=cells.create_roi_table_region(description="All cells.", region=list(range(len(cells)))),
            timestamps=compressed(np.concatenate([own for _, own in recorded]), shuffle=True),
        )
    )


def _add_behavior(nwbfile: NWBFile, mouse: MouseFolder, movies: OpticalSeries) -> None:
    module = nwbfile.create_processing_module(name="behavior", description="Running, pupil and gaze, as released.")
    container = BehavioralTimeSeries()
    module.add(container)
    for found, named in (
        (mouse.behavior, {"pupil_dilation": "Pupil dilation.", "running_speed": "Running speed."}),
        # not a SpatialSeries: pynwb does not read the continuity of one
        (
            mouse.pupil_center,
            {
                "pupil_center_x": "Center of the pupil in the picture of the eye camera, horizontal.",
                "pupil_center_y": "Center of the pupil in the picture of the eye camera, vertical.",
            },
        ),
    ):
        if found is None:
            continue
        for (name, description), values in zip(named.items(), np.concatenate(found).T, strict=True):
            container.add_timeseries(
                TimeSeries(
                    name=name,
                    description=description,
                    comments="On the clock of the movie's frames; the release does not name the unit.",
                    data=compressed(values, shuffle=True),
                    unit="n.a.",
                    continuity="step",
                    timestamps=movies,
                )
            )


class _InTurn:
    """Rows of an array that is made trial by trial; one is kept, since chunks do not end where trials do.

    Parameters
    ----------
    read
        ``read(trial) -> (row, ...)``.
    trials
        In the order of their rows.
    lengths
        Rows of each.
    loaded
        Called for each trial that was read.
    """

    def __init__(
        self,
        read: Callable[[MouseTrial], np.ndarray],
        trials: Sequence[MouseTrial],
        lengths: Sequence[int],
        loaded: Callable[[], object],
    ) -> None:
        self.read, self.trials, self.loaded = read, trials, loaded
        self.edges = np.cumsum([0, *lengths])
        self.kept: tuple[int, np.ndarray] | None = None

    def __call__(self, rows: slice) -> np.ndarray:
        first, last = np.searchsorted(self.edges, [rows.start, rows.stop - 1], side="right") - 1
        pieces = []
        for index in range(first, last + 1):
            start = self.edges[index]
            pieces.append(self._trial(index)[max(rows.start - start, 0) : rows.stop - start])
        return np.concatenate(pieces)

    def _trial(self, index: int) -> np.ndarray:
        if self.kept is None or self.kept[0] != index:
            self.kept = index, self.read(self.trials[index])
            self.loaded()
        return self.kept[1]
