"""The verb of this room: a simulated recording as NWB, with the truth behind it beside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nwbrecon.config import SimulationSettings, load_settings
from nwbrecon.errors import SettingsError
from nwbrecon.simulation.layouts import write_recording
from nwbrecon.simulation.session import FRAME_RATE, FRAME_SIZE, simulate_recording
from nwbrecon.simulation.truth import truth_path, write_truth
from nwbrecon.stimuli.files import load_movies

__all__ = ["simulate"]


def simulate(
    path: str | Path, settings: SimulationSettings | None = None, *, overwrite: bool = False, **overrides: Any
) -> Path:
    """Simulate a mouse that watches movies, and write what the rig measured as NWB.

    Parameters
    ----------
    path
        The file, ``.nwb``. The truth (receptive fields, rates, clean movies, delays) goes into ``OUT.truth.npz`` beside
        it and never into the NWB; see `nwbrecon.simulation.truth.read_truth`.
    settings
        Layout, size, length and seed; the defaults where not given.
    overwrite
        Replace files that are there already.
    **overrides
        Single settings by name, such as ``rois=100`` or ``layout="plain"``.

    Returns
    -------
    pathlib.Path
        The NWB file. Same settings and seed give the same recording.

    Raises
    ------
    SettingsError
        If a setting is unknown or out of range, the file exists already, or the movies are too short.
    SourceError
        If the movies cannot be read.
    ResultsError
        If the files cannot be written.

    Examples
    --------
    ::

        simulate("mouse.nwb", rois=100, minutes=4)
    """
    path = Path(path)
    settings = load_settings(SimulationSettings, **{**(settings.model_dump() if settings else {}), **overrides})
    if path.suffix != ".nwb":
        raise SettingsError(f"The file name {path.name} does not end in .nwb.", action=f"Call it {path.stem}.nwb.")
    there = [str(file) for file in (path, truth_path(path)) if file.exists()]
    if there and not overwrite:
        raise SettingsError(
            f"{' and '.join(there)} exist{'s' if len(there) == 1 else ''} already.",
            action="Choose another name, or ask for it to be overwritten.",
        )
    movies = None if settings.movies is None else load_movies(settings.movies, FRAME_RATE, FRAME_SIZE)
    recording = simulate_recording(settings, movies)
    # the truth first: a recording without its truth would look like a real one
    write_truth(recording, path)
    write_recording(recording, path, settings.layout)
    return path
