"""The demonstration: a simulated mouse, and the whole way through."""

from __future__ import annotations

import logging
from pathlib import Path

from nwbrecon.config import RunSettings, SimulationSettings
from nwbrecon.pipeline.run import RunResult, run
from nwbrecon.simulation import simulate

__all__ = ["DEMO", "demo"]

log = logging.getLogger("nwbrecon")

DEMO = SimulationSettings(
    layout="microns", rois=300, planes=3, minutes=6.0, test_clips=6, test_clip_seconds=6.0, test_repeats=5
)
"""The simulated mouse: small enough for a laptop, and like a real one in what makes it hard."""


def demo(
    out: str | Path,
    settings: RunSettings | None = None,
    simulation: SimulationSettings = DEMO,
    *,
    overwrite: bool = False,
    command_line: str = "",
) -> RunResult:
    """Simulate a recording in a folder, unless it is there already, and reconstruct its test clips.

    Parameters
    ----------
    out
        The folder: it gets ``simulated_mouse.nwb`` and its truth, and what `nwbrecon.run` makes.
    settings
        Settings of the run.
    simulation
        The mouse.
    overwrite
        Simulate and run anew.
    command_line
        What was typed, for the provenance.

    Raises
    ------
    NwbreconError
        See `nwbrecon.simulate` and `nwbrecon.run`.
    """
    out = Path(out)
    recording, new = out / "simulated_mouse.nwb", not out.exists()
    if overwrite or not recording.exists():
        log.info("Simulating %d ROIs and %g minutes of movie.", simulation.rois, simulation.minutes)
        try:
            # without its recording, a truth is what an interrupted simulation left
            simulate(recording, simulation, overwrite=True)
        except BaseException:
            if new and out.exists() and not any(out.iterdir()):
                out.rmdir()
            raise
    return run(recording, out, settings, overwrite=overwrite, command_line=command_line)
