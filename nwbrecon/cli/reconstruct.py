"""``nwbrecon reconstruct``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nwbrecon.cli.options import (
    AsJson,
    Config,
    DandiInstance,
    DryRun,
    IncludeStimulus,
    NoControls,
    Overwrite,
    Set,
    Source,
    command_line,
    located,
    settings_for,
    show,
    talking,
)
from nwbrecon.config import RunSettings

__all__ = ["reconstruct"]


def reconstruct(
    source: Source,
    encoder: Annotated[Path, typer.Option(metavar="ENCODER", help="What `train` made.", show_default=False)],
    out: Annotated[Path, typer.Option(metavar="RESULTS.nwb", help="The file to write.", show_default=False)],
    trials: Annotated[
        str, typer.Option(help="Trials to reconstruct: test, validation, train, or numbers such as 3,5,8.")
    ] = "test",
    include_stimulus: IncludeStimulus = False,
    no_controls: NoControls = False,
    dandi_instance: DandiInstance = None,
    config: Config = None,
    assignments: Set = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Reconstruct clips with an encoder trained before.

    Started again with the same source and settings, it goes on from where it was stopped.
    """
    settings = settings_for(
        RunSettings,
        config,
        assignments,
        results__include_stimulus=include_stimulus or None,
        controls__enabled=False if no_controls else None,
    )
    with talking(as_json):
        if dry_run:
            from nwbrecon.pipeline.estimate import estimate

            show(
                estimate(located(source, dandi_instance), settings, ("alignment", "reconstruction", "writing")), as_json
            )
        else:
            from nwbrecon.pipeline.single import reconstruct_recording

            show(
                reconstruct_recording(
                    located(source, dandi_instance),
                    encoder,
                    out,
                    settings,
                    trials=trials,
                    overwrite=overwrite,
                    command_line=command_line(),
                ),
                as_json,
            )
