"""``nwbrecon report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nwbrecon.cli.options import AsJson, DandiInstance, OriginalSource, Results, located, show, talking

__all__ = ["report"]


def report(
    results: Results,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for report.html.", show_default=False)],
    source: OriginalSource = None,
    dandi_instance: DandiInstance = None,
    as_json: AsJson = False,
) -> None:
    """Make the report of a results file."""
    from nwbrecon.pipeline.stored import report_results

    with talking(as_json):
        show(report_results(results, out, located(source, dandi_instance)), as_json)
