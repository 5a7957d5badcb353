"""``nwbrecon inspect``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from nwbrecon.cli.options import (
    AsJson,
    Config,
    DandiInstance,
    FrameRate,
    FrameSize,
    Set,
    Signal,
    Source,
    StimulusFolder,
    alignment_options,
    settings_for,
    show,
    talking,
)
from nwbrecon.config import RunSettings

__all__ = ["inspect"]


def inspect(
    source: Source,
    signal: Signal = None,
    stimulus_folder: StimulusFolder = None,
    frame_rate: FrameRate = None,
    size: FrameSize = None,
    dandi_instance: DandiInstance = None,
    config: Config = None,
    assignments: Set = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Read responses and movie: how reliable are the cells, how late?")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw what was shown and recorded when.", show_default=False)
    ] = None,
    most: Annotated[
        int, typer.Option(metavar="N", min=1, help="Of a dandiset or folder with several sessions, open so many.")
    ] = 12,
    as_json: AsJson = False,
) -> None:
    """Say what a recording holds and if it will do.

    Of a dandiset or a folder with several sessions it lists them all, with what each holds.
    """
    settings = settings_for(
        RunSettings,
        config,
        assignments,
        **alignment_options(signal, frame_rate, size, stimulus_folder),
    )
    from nwbrecon.pipeline.survey import Survey, inspect_all

    with talking(as_json):
        found = inspect_all(source, settings.alignment, measure=measure, dandi_instance=dandi_instance, most=most)
        if plot is not None:
            if isinstance(found, Survey):
                logging.getLogger("nwbrecon").warning("Nothing was drawn: --plot is for one recording.")
            else:
                from nwbrecon.pipeline.timeline import draw_timeline

                draw_timeline(found, plot)
        show(found, as_json)
