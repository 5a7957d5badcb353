"""``nwbrecon demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nwbrecon.cli.options import (
    AsJson,
    Config,
    NoControls,
    Overwrite,
    Set,
    command_line,
    settings_for,
    show,
    talking,
)
from nwbrecon.config import RunSettings

__all__ = ["demo"]


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for everything that is made.")] = Path("demo"),
    no_controls: NoControls = False,
    config: Config = None,
    assignments: Set = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Simulate a mouse, then reconstruct what it saw."""
    settings = settings_for(
        RunSettings,
        config,
        assignments,
        results__include_stimulus=True,
        controls__enabled=False if no_controls else None,
    )
    from nwbrecon.pipeline.demo import demo as run_demo

    with talking(as_json):
        show(run_demo(out, settings, overwrite=overwrite, command_line=command_line()), as_json)
