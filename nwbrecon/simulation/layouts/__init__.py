"""A simulated recording, laid out as NWB in one of the ways that recordings are laid out in the wild."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pynwb import NWBHDF5IO

from nwbrecon.errors import SettingsError
from nwbrecon.simulation.layouts import microns, plain, visual_coding
from nwbrecon.simulation.recording import SimulatedRecording
from nwbrecon.storage import atomic_path

__all__ = ["Layout", "write_recording"]

Layout = Literal["microns", "visual-coding", "plain"]


def write_recording(
    recording: SimulatedRecording, path: str | Path, layout: Layout = "microns", *, hidden_stagger: bool = False
) -> None:
    """Write a simulated recording as an NWB file; the truth behind it stays out of it.

    Parameters
    ----------
    recording
        What the rig measured.
    path
        The file, ``.nwb``; it appears when it is complete.
    layout
        ``microns`` (as dandiset 000402), ``visual-coding`` (as dandiset 000728; one plane) or ``plain`` (NWB's best
        practice). See `nwbrecon.simulation.layouts.microns`, ``visual_coding`` and ``plain`` for what each holds.
    hidden_stagger
        With ``microns``: give every plane the clock of the plane that is scanned first, as 000402 does, so that the
        file does not say how much later the others were scanned. By default each plane has its own, true clock.

    Raises
    ------
    SettingsError
        If the layout is unknown, cannot hold the recording, or `path` does not end in ``.nwb``.
    ResultsError
        If the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".nwb":
        raise SettingsError(f"The file name {path.name} does not end in .nwb.", action=f"Call it {path.stem}.nwb.")
    if hidden_stagger and layout != "microns":
        raise SettingsError(f"The layout {layout} cannot hide the stagger of planes.", "Only microns does so.")
    if layout == "microns":
        nwbfile = microns.build(recording, hidden_stagger=hidden_stagger)
    elif layout == "visual-coding":
        nwbfile = visual_coding.build(recording)
    elif layout == "plain":
        nwbfile = plain.build(recording)
    else:
        raise SettingsError(f"There is no layout {layout!r}.", "The layouts are microns, visual-coding and plain.")
    with atomic_path(path) as partial, NWBHDF5IO(partial, mode="w") as io:
        io.write(nwbfile)
