"""``nwbrecon cache``."""

from __future__ import annotations

from typing import Annotated

import typer

from nwbrecon.cli.options import AsJson, DandiInstance, Source, show, talking

__all__ = ["cache"]

cache = typer.Typer(
    help="Manage what is kept of remote recordings.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)


@cache.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the remote files of which something is kept."""
    from nwbrecon.pipeline.caching import Cached
    from nwbrecon.sources import cache_entries

    show(Cached(cache_entries()), as_json)


@cache.command()
def clear(
    location: Annotated[
        str, typer.Argument(metavar="[LOCATION]", help="Only what begins with it, such as dandi:000402.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Delete what is kept."""
    from nwbrecon.pipeline.caching import Cleared
    from nwbrecon.sources import clear_cache

    show(Cleared(clear_cache(location)), as_json)


@cache.command()
def fetch(source: Source, dandi_instance: DandiInstance = None, as_json: AsJson = False) -> None:
    """Download a recording, to be read without a network from then on."""
    from nwbrecon.pipeline.caching import Fetched
    from nwbrecon.sources import fetch as fetched

    with talking(as_json):
        show(Fetched(fetched(source, dandi_instance=dandi_instance)), as_json)
