"""``nwbrecon export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nwbrecon.cli.options import AsJson, DandiInstance, OriginalSource, Results, located, show, talking

__all__ = ["export"]


def export(
    results: Results,
    video: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Video: .mp4, .mkv (lossless) or .gif.", show_default=False)
    ] = None,
    frames: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for single frames (PNG).", show_default=False)
    ] = None,
    arrays: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Arrays: .npz or .zarr.", show_default=False)
    ] = None,
    source: OriginalSource = None,
    dandi_instance: DandiInstance = None,
    as_json: AsJson = False,
) -> None:
    """Export movies as video, pictures or arrays."""
    if not (video or frames or arrays):
        raise typer.BadParameter("give --video, --frames or --arrays")
    from nwbrecon.pipeline.stored import export_results

    with talking(as_json):
        show(
            export_results(results, video=video, frames=frames, arrays=arrays, source=located(source, dandi_instance)),
            as_json,
        )
