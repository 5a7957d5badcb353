"""One mouse of the Sensorium 2023 competition, as it is released: a folder of NumPy files, a file a trial and variable.

``data/videos/X.npy`` is ``(row, column, time)``, grey level 0-255; ``data/responses/X.npy`` is ``(cell, time)``,
deconvolved; ``data/behavior/X.npy`` is ``(2, time)``, pupil dilation and running speed; ``data/pupil_center/X.npy`` is
``(2, time)``, horizontal and vertical; all of a trial on one clock of 30 Hz, with NaN behind the end of shorter trials.
``meta/trials/tiers.npy`` says for each X what it is for, ``meta/neurons/unit_ids.npy`` and
``cell_motor_coordinates.npy`` (x, y, z in micrometers) name and place the cells. Responses that the competition
withholds are absent, NaN or all zero. The numbers of the trials say nothing about when they took place.

Sources: the README of the data (Turishcheva et al. 2023, arXiv:2305.19654), and the loaders of those who took part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from nwbrecon.errors import SourceError
from nwbrecon.progress import progress
from nwbrecon.storage import digest

__all__ = ["UNUSED", "MouseFolder", "MouseTrial", "read_mouse_folder"]

TRACES = ("behavior", "pupil_center")
NEEDED = ("data/videos", "data/responses", "meta/trials/tiers.npy")
WITH_RESPONSES = ("train", "oracle", "validation")
"""Tiers whose responses are never withheld."""
UNUSED = "none"
"""Tier of trials that the competition does not use."""
_ROWS_AT_ONCE = 256

Value = TypeVar("Value")


@dataclass(frozen=True)
class MouseTrial:
    """One trial.

    Attributes
    ----------
    number
        Name of its files.
    tier
        ``train``, ``oracle``, ``live_test_main``, ..., ``none``.
    n_frames
        Frames of its video; what is padded with NaN does not count.
    clip
        The video's identity, made of its pixels: equal for equal videos, in other mice too.
    recorded
        Whether the folder has its responses.
    """

    number: int
    tier: str
    n_frames: int
    clip: str
    recorded: bool


@dataclass
class MouseFolder:
    """What a folder holds; videos and responses stay on disk.

    Attributes
    ----------
    path
        The folder.
    trials
        In the order of their numbers.
    frame_size
        Rows and columns of the videos.
    levels
        ``uint8`` where all videos hold whole grey levels from 0 to 255, else ``float32``.
    unit_ids
        ``(cell,)`` identity of the cells, from 0 on where the folder does not say.
    coordinates
        ``(cell, 3)`` x, y, z (micrometers), or ``None``.
    behavior, pupil_center
        ``(time, 2)`` of each trial, as long as its video; ``None`` where the folder has none.
    """

    path: Path
    trials: list[MouseTrial]
    frame_size: tuple[int, int]
    levels: np.dtype[Any]
    unit_ids: np.ndarray
    coordinates: np.ndarray | None
    behavior: list[np.ndarray] | None
    pupil_center: list[np.ndarray] | None

    def video(self, trial: MouseTrial) -> np.ndarray:
        """Read ``(time, height, width)`` of one trial."""
        video = _load(_file(self.path, "videos", trial.number))[..., : trial.n_frames]
        return np.ascontiguousarray(np.moveaxis(video, -1, 0), dtype=self.levels)

    def responses(self, trial: MouseTrial) -> np.ndarray:
        """Read ``(time, cell)`` float32 of one trial."""
        responses = _load(_file(self.path, "responses", trial.number))[:, : trial.n_frames]
        return np.ascontiguousarray(responses.T, dtype=np.float32)


def read_mouse_folder(path: str | Path) -> MouseFolder:
    """Look a folder through: every video is read once, responses only as far as needed to see that they are there.

    Raises
    ------
    SourceError
        If it is no folder of one mouse of Sensorium 2023, or its files disagree about trials, frames or cells.
    """
    path = Path(path)
    _require_mouse(path)
    tiers = [str(tier) for tier in _load(path / "meta/trials/tiers.npy").ravel()]
    numbers = _trial_numbers(path, tiers)
    traces: dict[str, list[np.ndarray]] = {name: [] for name in TRACES if (path / "data" / name).is_dir()}
    trials: list[MouseTrial] = []
    sizes, cells, whole = dict[tuple[int, int], int](), dict[int, int](), True
    for number in progress(numbers, label="looking through", unit="trial"):
        video = _load(_file(path, "videos", number))
        n_frames = _length(video, number)
        shown = np.ascontiguousarray(np.moveaxis(video[..., :n_frames], -1, 0), dtype=np.float32)
        sizes.setdefault((shown.shape[1], shown.shape[2]), number)
        whole &= bool(shown.min() >= 0 and shown.max() <= 255 and (shown == np.rint(shown)).all())
        for name, found in traces.items():
            trace = _load(_file(path, name, number))
            _require_shape(name, number, trace, (2, video.shape[-1]))
            found.append(np.array(trace[:, :n_frames].T, dtype=np.float64))
        recorded = _file(path, "responses", number).exists()
        if recorded:
            responses = _load(_file(path, "responses", number), mapped=True)
            _require_shape("responses", number, responses, (None, video.shape[-1]))
            cells.setdefault(len(responses), number)
            recorded = _has_values(responses)
        if not recorded and tiers[number] in WITH_RESPONSES:
            raise SourceError(
                f"Trial {number} has the tier {tiers[number]} and no responses.",
                "Only those of test trials are withheld.",
                "Copy or unzip the folder again.",
            )
        clip = digest(f"{shown.shape}".encode() + shown.tobytes())[:16]
        trials.append(MouseTrial(number, tiers[number], n_frames, clip, recorded))
    frame_size = _same(sizes, "The size of frames (rows, columns)")
    if not any(trial.recorded for trial in trials):
        raise SourceError(f"The responses of all {len(trials)} trials of {path} are absent, NaN or zero.")
    unit_ids, coordinates = _neurons(path, _same(cells, "The number of cells"))
    return MouseFolder(
        path=path,
        trials=trials,
        frame_size=frame_size,
        levels=np.dtype(np.uint8 if whole else np.float32),
        unit_ids=unit_ids,
        coordinates=coordinates,
        behavior=traces.get("behavior"),
        pupil_center=traces.get("pupil_center"),
    )


def _require_mouse(path: Path) -> None:
    if path.is_file():
        raise SourceError(f"{path} is a file.", "The folder of one mouse was expected.", "Unzip it first.")
    if not path.is_dir():
        raise SourceError(f"There is no folder {path}.")
    if (path / "data/images").is_dir() and not (path / "data/videos").is_dir():
        raise SourceError(
            f"{path} holds static images (data/images), as of Sensorium 2022.",
            "These come with one number per cell and image, summed over the time after it appeared, and without a time "
            "course; on a clock of frames that number would have to be made up.",
            "Give a mouse of Sensorium 2023, whose folder has data/videos.",
        )
    lacking = [name for name in NEEDED if not (path / name).exists()]
    if lacking:
        mice = sorted(inner.name for inner in path.iterdir() if all((inner / name).exists() for name in NEEDED))
        raise SourceError(
            f"{path} is not the folder of a Sensorium mouse: it has no {', no '.join(lacking)}.",
            f"A folder with {', '.join(NEEDED)} was expected.",
            f"Give one of the mice in it: {', '.join(mice)}." if mice else "",
        )


def _trial_numbers(path: Path, tiers: Sequence[str]) -> list[int]:
    """Numbers of the trials that have a video; what other files there are must fit them."""
    videos = _numbers(path / "data/videos")
    wanted = {number for number, tier in enumerate(tiers) if tier != UNUSED}
    if not videos:
        raise SourceError(f"{path / 'data/videos'} holds no trial (0.npy, 1.npy, ...).")
    _require_none(
        f"{path} has {len(videos)} videos and {len(tiers)} tiers",
        {"video": wanted - videos, "tier": videos - set(range(len(tiers)))},
    )
    for name in ("responses", *TRACES):
        if not (path / "data" / name).is_dir():
            continue
        found = _numbers(path / "data" / name)
        _require_none(
            f"{path} has {len(videos)} videos and {len(found)} files of {name}",
            # responses may be withheld
            {name: set() if name == "responses" else videos - found, "video": found - videos},
        )
    return sorted(videos)


def _numbers(folder: Path) -> set[int]:
    return {int(file.stem) for file in folder.glob("*.npy") if file.stem.isdecimal()}


def _require_none(found: str, lacking: dict[str, set[int]]) -> None:
    """Refuse a folder in which trials lack something; ``lacking`` has their numbers by what it is."""
    named = []
    for what, numbers in lacking.items():
        if numbers:
            listed = ", ".join(map(str, sorted(numbers)[:5])) + (", ..." if len(numbers) > 5 else "")
            named.append(f"no {what} of trial {listed}")
    if named:
        raise SourceError(
            f"{found}: {' and '.join(named)}.",
            "Each trial has a tier, a video and a file of each other variable; only responses may be withheld.",
            "Copy or unzip the folder again.",
        )


def _file(path: Path, name: str, number: int) -> Path:
    return path / "data" / name / f"{number}.npy"


def _load(path: Path, *, mapped: bool = False) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SourceError(
            f"{path} cannot be read as a NumPy array ({error}).", action="Copy or unzip the folder again."
        ) from error
    if not isinstance(array, np.ndarray):
        raise SourceError(f"{path} holds several arrays.", "One was expected.")
    return array


def _same(found: dict[Value, int], what: str) -> Value:
    """Give the one value that was found; ``found`` has the first trial of each."""
    if len(found) > 1:
        (one, first), (other, second), *_ = found.items()
        raise SourceError(
            f"{what} differs: {one} in trial {first}, {other} in trial {second}.",
            "It is the same in all trials of a mouse.",
        )
    return next(iter(found))


def _require_shape(name: str, number: int, array: np.ndarray, expected: tuple[int | None, int]) -> None:
    fits = array.ndim == 2 and array.shape[1] == expected[1] and expected[0] in (None, array.shape[0])
    if not fits or array.dtype.kind not in "iuf":
        shape = f"({'cell' if expected[0] is None else expected[0]}, {expected[1]})"
        raise SourceError(
            f"data/{name}/{number}.npy has the shape {array.shape} ({array.dtype}).",
            f"Numbers of the shape {shape} were expected, as many in time as the video has frames.",
        )


def _length(video: np.ndarray, number: int) -> int:
    """Frames before the padding."""
    what = f"data/videos/{number}.npy"
    if video.ndim != 3 or 0 in video.shape or video.dtype.kind not in "iuf":
        raise SourceError(
            f"{what} has the shape {video.shape} ({video.dtype}).",
            "A video of rows, columns and frames, in this order, was expected.",
        )
    known = np.isfinite(video)
    filled = np.flatnonzero(known.any(axis=(0, 1)))
    n_frames = int(filled[-1]) + 1 if filled.size else 0
    if n_frames == 0 or not known[..., :n_frames].all():
        raise SourceError(f"{what} lacks pixels before its last frame.", "NaN may stand behind the last frame only.")
    return n_frames


def _has_values(responses: np.ndarray) -> bool:
    # a block of cells at a time, so that as a rule only the first is read
    blocks = (responses[first : first + _ROWS_AT_ONCE] for first in range(0, len(responses), _ROWS_AT_ONCE))
    return any(bool(np.nan_to_num(block).any()) for block in blocks)


def _neurons(path: Path, n_cells: int) -> tuple[np.ndarray, np.ndarray | None]:
    folder = path / "meta/neurons"
    ids, places = folder / "unit_ids.npy", folder / "cell_motor_coordinates.npy"
    unit_ids = _load(ids) if ids.exists() else np.arange(n_cells)
    coordinates = _load(places).astype(np.float64) if places.exists() else None
    for file, array, shape in ((ids, unit_ids, (n_cells,)), (places, coordinates, (n_cells, 3))):
        if array is not None and array.shape != shape:
            raise SourceError(
                f"{file} has the shape {array.shape}.", f"{shape} was expected: the responses are of {n_cells} cells."
            )
    if len(np.unique(unit_ids)) < n_cells:
        raise SourceError(f"{ids} names a cell twice.")
    return unit_ids.astype(np.int64), coordinates
