"""``nwbrecon train``."""

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
    Members,
    Overwrite,
    Set,
    Signal,
    Sources,
    alignment_options,
    located,
    settings_for,
    show,
    talking,
)
from nwbrecon.config import RunSettings
from nwbrecon.errors import SettingsError

__all__ = ["train"]


def train(
    source: Sources,
    out: Annotated[
        Path,
        typer.Option(
            metavar="ENCODER", help="Folder for the encoder; for a folder each, of several.", show_default=False
        ),
    ],
    core: Annotated[
        Path | None,
        typer.Option(
            metavar="ENCODER", help="An encoder whose core is taken over: only readouts are fitted.", show_default=False
        ),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(
            metavar="ENCODER",
            help="An encoder of the same source, whose predictions are learned from too.",
            show_default=False,
        ),
    ] = None,
    signal: Signal = None,
    frame_rate: FrameRate = None,
    size: FrameSize = None,
    members: Members = None,
    dandi_instance: DandiInstance = None,
    config: Config = None,
    assignments: Set = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Train an encoder: video and behavior to responses.

    Encoders of several sources are trained together and share a core.

    Started again with the same sources and settings, it goes on from where it was stopped.
    """
    settings = settings_for(
        RunSettings,
        config,
        assignments,
        **alignment_options(signal, frame_rate, size),
        training__members=members,
    )
    with talking(as_json):
        if teacher is not None and len(source) > 1:
            raise SettingsError(
                f"A teacher and {len(source)} sources were given.",
                "A teacher teaches an encoder of its own recording.",
                "Train on the sources one by one, or without a teacher.",
            )
        found = [located(one, dandi_instance) for one in source]
        if dry_run:
            from nwbrecon.pipeline.estimate import estimate_together

            show(estimate_together(found, settings, ("alignment", "training")), as_json)
        elif len(found) == 1:
            from nwbrecon.pipeline.single import train_encoder

            made = train_encoder(found[0], out, settings, core=core, teacher=teacher, overwrite=overwrite)
            show(made, as_json)
        else:
            from nwbrecon.pipeline.single import train_encoders

            show(train_encoders(found, out, settings, core=core, overwrite=overwrite), as_json)
