"""All commands under one name, and what becomes of their errors."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from nwbrecon._version import __version__
from nwbrecon.cli.cache import cache
from nwbrecon.cli.demo import demo
from nwbrecon.cli.evaluate import evaluate
from nwbrecon.cli.export import export
from nwbrecon.cli.import_sensorium import import_sensorium
from nwbrecon.cli.inspect import inspect
from nwbrecon.cli.reconstruct import reconstruct
from nwbrecon.cli.report import report
from nwbrecon.cli.reproduce import reproduce
from nwbrecon.cli.run import run
from nwbrecon.cli.simulate import simulate
from nwbrecon.cli.train import train
from nwbrecon.errors import NwbreconError

__all__ = ["app", "main"]

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it (128 + SIGINT)."""


class Commands(TyperGroup):
    """Commands whose errors are a paragraph and a status, never a traceback, where the user can act on them."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except NwbreconError as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(1) from error
        except KeyboardInterrupt as stop:
            # whoever was interrupted has noted what is kept
            typer.echo("\nStopped. " + " ".join(getattr(stop, "__notes__", ["Nothing was kept."])), err=True)
            raise typer.Exit(INTERRUPTED) from stop


app = typer.Typer(
    name="nwbrecon",
    cls=Commands,
    help="Reconstruct what a mouse saw from two-photon recordings in NWB.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    demo,
    run,
    inspect,
    simulate,
    train,
    reconstruct,
    evaluate,
    report,
    export,
    reproduce,
    import_sensorium,
):
    app.command()(command)
app.add_typer(cache, name="cache")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit()


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Reconstruct what a mouse saw from two-photon recordings in NWB."""


def main() -> None:
    """Run the command line."""
    app()
