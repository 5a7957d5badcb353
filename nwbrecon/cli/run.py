"""``nwbrecon run``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nwbrecon.cli.options import (
    AsJson,
    Config,
    DandiInstance,
    DryRun,
    FrameRate,
    FrameSize,
    IncludeStimulus,
    Members,
    NoControls,
    Overwrite,
    Set,
    Signal,
    Source,
    StimulusFolder,
    alignment_options,
    command_line,
    located,
    settings_for,
    show,
    talking,
)
from nwbrecon.config import RunSettings

__all__ = ["run"]


def run(
    source: Source,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for everything that is made.", show_default=False)],
    signal: Signal = None,
    stimulus_folder: StimulusFolder = None,
    frame_rate: FrameRate = None,
    size: FrameSize = None,
    members: Members = None,
    include_stimulus: IncludeStimulus = False,
    no_controls: NoControls = False,
    dandi_instance: DandiInstance = None,
    config: Config = None,
    assignments: Set = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Do all of it: recording in, results and report out.

    DIR gets the results NWB, the report, a video and the encoder. Started again with the same source and settings, it
    goes on from where it was stopped.
    """
    settings = settings_for(
        RunSettings,
        config,
        assignments,
        **alignment_options(signal, frame_rate, size, stimulus_folder),
        training__members=members,
        results__include_stimulus=include_stimulus or None,
        controls__enabled=False if no_controls else None,
    )
    with talking(as_json):
        if dry_run:
            from nwbrecon.pipeline.estimate import estimate

            show(estimate(located(source, dandi_instance), settings), as_json)
        else:
            from nwbrecon.pipeline.run import run as run_all

            show(
                run_all(
                    located(source, dandi_instance), out, settings, overwrite=overwrite, command_line=command_line()
                ),
                as_json,
            )
