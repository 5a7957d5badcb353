"""The side file: the truth behind a simulated recording, which never goes into the NWB."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from nwbrecon.errors import SourceError
from nwbrecon.simulation.recording import SimulatedRecording
from nwbrecon.storage import atomic_path

__all__ = ["read_truth", "truth_path", "write_truth"]


def truth_path(path: str | Path) -> Path:
    """Where the truth behind a recording is: ``OUT.truth.npz`` beside ``OUT.nwb``.

    Examples
    --------
    >>> truth_path("mouse.nwb").name
    'mouse.truth.npz'
    >>> truth_path("mouse.truth.npz").name
    'mouse.truth.npz'
    """
    path = Path(path)
    return path if path.name.endswith(".truth.npz") else path.with_suffix(".truth.npz")


def write_truth(recording: SimulatedRecording, path: str | Path) -> Path:
    """Write the truth behind a recording beside its NWB file.

    Parameters
    ----------
    recording
        The recording.
    path
        The NWB file, or the side file itself.

    Returns
    -------
    pathlib.Path
        The side file. It holds, with all clocks in seconds on the session clock:

        - ``frame_rate`` (Hz), ``duration`` (s), ``gray`` (grey level of the empty screen), ``imaging_rate`` (Hz);
        - ``clips/NAME``: ``(time, height, width)`` uint8, the clean movie of each clip;
        - ``schedule/onset``, ``schedule/offset``, ``schedule/clip``, ``schedule/film``, ``schedule/repeat``,
          ``schedule/split``: one entry a presentation;
        - ``planes/I/timestamps`` (when plane ``I``, counted from 1 as in the NWB, was really scanned, whatever clock
          the NWB gives it), ``planes/I/cells`` (index of the simulated cell behind each ROI; equal indices in two
          planes are the same cell), ``planes/I/positions`` (row and column, pixels), ``planes/I/depth`` (micrometers);
        - all arrays of `SimulatedRecording.truth` (receptive fields, rates, delays, gain, shift of the picture
          on the retina, ...), by their names.

    Raises
    ------
    ValueError
        If an array holds Python objects, which could not be read back without unpickling, or two have one name.
    ResultsError
        If the file cannot be written.
    """
    arrays = _described(recording)
    clashes = sorted(set(arrays) & set(recording.truth))
    if clashes:
        raise ValueError(f"The truth already has arrays named {', '.join(clashes)}.")
    arrays.update({name: np.asarray(values) for name, values in recording.truth.items()})
    objects = sorted(name for name, values in arrays.items() if values.dtype.hasobject)
    if objects:
        raise ValueError(f"The arrays {', '.join(objects)} hold Python objects.")
    target = truth_path(path)
    with atomic_path(target) as partial:
        np.savez_compressed(partial, allow_pickle=False, **arrays)
    return target


def read_truth(path: str | Path) -> dict[str, np.ndarray]:
    """Read the truth behind a recording; `write_truth` says what it holds.

    Parameters
    ----------
    path
        The NWB file, or the side file itself.

    Raises
    ------
    SourceError
        If there is no such file, or it cannot be read.
    """
    target = truth_path(path)
    try:
        # opened here, since numpy leaves a damaged archive open
        with target.open("rb") as file:
            return dict(np.load(file, allow_pickle=False))
    except FileNotFoundError as error:
        raise SourceError(
            f"There is no {target}.", "It stands beside a simulated recording.", "Simulate the recording anew."
        ) from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise SourceError(f"{target} cannot be read ({error}).", action="Simulate the recording anew.") from error


def _described(recording: SimulatedRecording) -> dict[str, np.ndarray]:
    arrays = {
        "frame_rate": np.array(recording.frame_rate),
        "duration": np.array(recording.duration),
        "gray": np.array(recording.gray),
        "imaging_rate": np.array(recording.imaging_rate),
    }
    arrays.update({f"clips/{name}": clip for name, clip in recording.clips.items()})
    for column in ("onset", "offset", "repeat"):
        arrays[f"schedule/{column}"] = recording.schedule[column].to_numpy()
    for column in ("clip", "film", "split"):
        arrays[f"schedule/{column}"] = recording.schedule[column].to_numpy(dtype=str)
    for number, plane in enumerate(recording.planes, start=1):
        arrays[f"planes/{number}/timestamps"] = plane.timestamps
        arrays[f"planes/{number}/cells"] = plane.cells
        arrays[f"planes/{number}/positions"] = plane.positions
        arrays[f"planes/{number}/depth"] = np.array(plane.depth)
    return arrays
