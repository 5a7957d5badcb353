"""``nwbrecon inspect``."""

from __future__ import annotations

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
    frame_size,
    located,
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
    as_json: AsJson = False,
) -> None:
    """Say what a recording holds and if it will do."""
    settings = settings_for(
        RunSettings,
        config,
        assignments,
        alignment__responses__signal=signal,
        alignment__reading__stimulus_folder=stimulus_folder,
        alignment__frame_rate=frame_rate,
        alignment__frame_size=frame_size(size),
    )
    from nwbrecon.pipeline.inspection import inspect as inspected

    with talking(as_json):
        inspection = inspected(located(source, dandi_instance), settings.alignment, measure=measure)
        if plot is not None:
            from nwbrecon.pipeline.timeline import draw_timeline

            draw_timeline(inspection, plot)
        show(inspection, as_json)
