"""``nwbrecon import-sensorium``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from nwbrecon.cli.options import AsJson, Overwrite, show, talking

__all__ = ["import_sensorium"]


class Oracle(StrEnum):
    """What the oracle trials are for."""

    auto = "auto"
    test = "test"
    validation = "validation"


def import_sensorium(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="The unzipped folder of one mouse (data, meta).", show_default=False),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT.nwb", help="The file to write.", show_default=False)],
    oracle: Annotated[
        Oracle,
        typer.Option(help="What oracle trials are for; auto: test, unless there are responses of test trials."),
    ] = Oracle.auto,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Turn a mouse of the Sensorium 2023 competition into NWB.

    You need your own copy of the data; their license is printed.
    """
    from nwbrecon.converters import import_sensorium as convert

    with talking(as_json):
        show(convert(folder, out, oracle=oracle.value, overwrite=overwrite), as_json)
