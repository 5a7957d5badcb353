"""``nwbrecon reproduce``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nwbrecon.cli.options import AsJson, DandiInstance, Results, located, show, talking

__all__ = ["reproduce"]


def reproduce(
    results: Results,
    source: Annotated[
        str | None,
        typer.Option("--source", help="The recording, where it is not beside the results.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="RESULTS.nwb", help="Keep the new results there.", show_default=False)
    ] = None,
    dandi_instance: DandiInstance = None,
    as_json: AsJson = False,
) -> None:
    """Do again what made a results file, and compare.

    The encoder is trained and the clips are reconstructed anew, with the settings and seeds in the file. Exit status 1
    says that the movies differ by more than rounding explains.
    """
    from nwbrecon.pipeline.reproduce import reproduce as reproduce_results

    with talking(as_json):
        made = reproduce_results(results, located(source, dandi_instance), out=out)
        show(made, as_json)
    if not made.reproduced:
        raise typer.Exit(1)
