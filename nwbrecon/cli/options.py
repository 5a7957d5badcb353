"""What the commands have in common: their options, their settings, and how they show what they made."""

from __future__ import annotations

import json
import logging
import math
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

import typer

from nwbrecon.config import Settings, load_settings
from nwbrecon.errors import SettingsError
from nwbrecon.progress import progress_shown

__all__ = [
    "AsJson",
    "Config",
    "DandiInstance",
    "DryRun",
    "FrameRate",
    "FrameSize",
    "IncludeStimulus",
    "Members",
    "NoControls",
    "OriginalSource",
    "Overwrite",
    "Results",
    "Set",
    "Signal",
    "Source",
    "Sources",
    "StimulusFolder",
    "alignment_options",
    "command_line",
    "frame_size",
    "located",
    "settings_for",
    "show",
    "talking",
]

_SOURCE = "An NWB file, a folder with the files of one session, a URL, or dandi:ID[@VERSION][/PATH]."
Source = Annotated[str, typer.Argument(metavar="SOURCE", help=_SOURCE, show_default=False)]
Sources = Annotated[list[str], typer.Argument(metavar="SOURCE...", help=_SOURCE, show_default=False)]
Results = Annotated[Path, typer.Argument(metavar="RESULTS.nwb", help="What `run` or `reconstruct` wrote.")]
OriginalSource = Annotated[
    str | None,
    typer.Option("--source", help="The recording, where the true movie is not in the results.", show_default=False),
]
DandiInstance = Annotated[
    str | None,
    typer.Option(
        "--dandi-instance", metavar="NAME|URL", help="DANDI archive, where it is not DANDI itself.", show_default=False
    ),
]
Config = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings as YAML.", show_default=False)]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Any setting by its name, such as training.members=3; may be repeated.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would take (time, memory), and end.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
FrameRate = Annotated[
    float | None, typer.Option(metavar="HZ", help="Frames per second of the movie.", show_default=False)
]
FrameSize = Annotated[
    str | None,
    typer.Option("--frame-size", metavar="ROWSxCOLUMNS", help="Size of the movie (pixels).", show_default=False),
]
Signal = Annotated[
    str | None,
    typer.Option(help="Stored signal to use: auto, events, dff, corrected or raw.", show_default=False),
]
StimulusFolder = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Where the movies and pictures are that the file only names.", show_default=False),
]
Members = Annotated[int | None, typer.Option(help="Number of encoders that are averaged.", show_default=False)]
IncludeStimulus = Annotated[
    bool, typer.Option("--include-stimulus", help="Store the true movie beside the reconstruction.")
]

NoControls = Annotated[
    bool, typer.Option("--no-controls", help="Leave out the controls that tell whether to trust the reconstruction.")
]

Model = TypeVar("Model", bound=Settings)


class Shown(Protocol):
    """What a command made: words for people, a dictionary for programs."""

    def to_dict(self) -> dict[str, Any]:
        """Give what JSON can hold."""
        ...


def settings_for(model: type[Model], config: Path | None, assignments: list[str] | None, **options: Any) -> Model:
    """Read settings from a file, with options and ``NAME=VALUE`` on top, and validate them."""
    import yaml

    for assignment in assignments or ():
        name, equals, text = assignment.partition("=")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise SettingsError(f"The value in --set {assignment} cannot be read ({error}).") from error
        if not equals or not name:
            raise SettingsError(f"--set {assignment} names no setting and value.", "NAME=VALUE was expected.")
        options[name.strip().replace(".", "__")] = value
    return load_settings(model, config, **options)


def alignment_options(
    signal: str | None, rate: float | None, size: str | None, stimulus_folder: Path | None = None
) -> dict[str, Any]:
    """Name the settings that the options of their own stand for."""
    return {
        "alignment__responses__signal": signal,
        "alignment__reading__stimulus_folder": stimulus_folder,
        "alignment__frame_rate": rate,
        "alignment__frame_size": frame_size(size),
    }


def located(source: str | None, dandi_instance: str | None) -> Any:
    """Give what a verb opens: the text as it is, unless it is in an archive of one's own."""
    if source is None or dandi_instance is None:
        return source
    from nwbrecon.sources import resolve

    return resolve(source, dandi_instance=dandi_instance)


def frame_size(text: str | None) -> list[int] | None:
    """Rows and columns, from ``36x64``."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise SettingsError(f"The frame size is {text}.", "Rows and columns were expected, such as 36x64.")
    return [int(part) for part in parts]


def show(made: Shown, as_json: bool) -> None:
    """Print what was made."""
    typer.echo(json.dumps(_strict(made.to_dict()), indent=2, ensure_ascii=False) if as_json else str(made))


@contextmanager
def talking(as_json: bool) -> Iterator[None]:
    """Let the work say on standard error what it does; for programs, let it be silent."""
    logger = logging.getLogger("nwbrecon")
    handler = _Handler(logging.WARNING if as_json else logging.INFO)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with progress_shown(not as_json):
            yield
    finally:
        logger.removeHandler(handler)


def command_line() -> str:
    """Give the command as it was typed."""
    return shlex.join(["nwbrecon", *sys.argv[1:]])


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        # above the progress bars, not through them
        tqdm.write(record.getMessage(), file=sys.stderr)


def _strict(value: Any) -> Any:
    """JSON has neither NaN nor NumPy."""
    if isinstance(value, dict):
        return {str(key): _strict(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(inner) for inner in value]
    if hasattr(value, "tolist"):
        return _strict(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool | None) else str(value)
