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
    Source,
    alignment_options,
    located,
    settings_for,
    show,
    talking,
)
from nwbrecon.config import RunSettings

__all__ = ["train"]


def train(
    source: Source,
    out: Annotated[Path, typer.Option(metavar="ENCODER", help="Folder for the encoder.", show_default=False)],
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

    Started again with the same source and settings, it goes on from where it was stopped.
    """
    settings = settings_for(
        RunSettings,
        config,
        assignments,
        **alignment_options(signal, frame_rate, size),
        training__members=members,
    )
    with talking(as_json):
        if dry_run:
            from nwbrecon.pipeline.estimate import estimate

            show(estimate(located(source, dandi_instance), settings, ("alignment", "training")), as_json)
        else:
            from nwbrecon.pipeline.single import train_encoder

            show(train_encoder(located(source, dandi_instance), out, settings, overwrite=overwrite), as_json)
