"""``nwbrecon export``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from nwbrecon.cli.options import AsJson, DandiInstance, OriginalSource, Results, located, show, talking

__all__ = ["export"]


class FramesKind(StrEnum):
    """How single frames are written."""

    png = "png"
    tiff = "tiff"


def export(
    results: Results,
    video: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Video: .mp4, .mkv (lossless) or .gif.", show_default=False)
    ] = None,
    frames: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for single frames.", show_default=False)
    ] = None,
    frames_kind: Annotated[
        FramesKind, typer.Option(help="A PNG file a frame, or a TIFF stack a movie, which rounds nothing.")
    ] = FramesKind.png,
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
            export_results(
                results,
                video=video,
                frames=frames,
                frames_kind=frames_kind.value,
                arrays=arrays,
                source=located(source, dandi_instance),
            ),
            as_json,
        )
