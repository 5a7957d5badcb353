"""``nwbrecon simulate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nwbrecon.cli.options import AsJson, Config, Overwrite, Set, settings_for, show, talking
from nwbrecon.config import SimulationSettings

__all__ = ["simulate"]


def simulate(
    out: Annotated[Path, typer.Argument(metavar="OUT.nwb", help="The file to write.", show_default=False)],
    layout: Annotated[
        str | None, typer.Option(help="microns (default), visual-coding or plain.", show_default=False)
    ] = None,
    rois: Annotated[int | None, typer.Option(help="Number of ROIs over all planes (300).", show_default=False)] = None,
    planes: Annotated[int | None, typer.Option(help="Number of imaging planes (3).", show_default=False)] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Minutes of unique training movie (6).", show_default=False)
    ] = None,
    movies: Annotated[
        Path | None,
        typer.Option(help="Your own movies: an npz of arrays, or a folder of video files.", show_default=False),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random (0).", show_default=False)] = None,
    config: Config = None,
    assignments: Set = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Simulate a recording, with the truth beside it.

    The truth (receptive fields, rates, clean movies, delays) goes into OUT.truth.npz.
    """
    settings = settings_for(
        SimulationSettings,
        config,
        assignments,
        layout=layout,
        rois=rois,
        planes=planes,
        minutes=minutes,
        movies=movies,
        seed=seed,
    )
    from nwbrecon.pipeline.written import Written
    from nwbrecon.simulation import simulate as simulate_recording
    from nwbrecon.simulation.truth import truth_path

    with talking(as_json):
        recording = simulate_recording(out, settings, overwrite=overwrite)
        show(Written({"recording": recording, "truth": truth_path(recording)}), as_json)
