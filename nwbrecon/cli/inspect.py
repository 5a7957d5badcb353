"""``nwbrecon inspect``."""

from __future__ import annotations

from nwbrecon.cli.options import (
    AsJson,
    Config,
    DandiInstance,
    FrameRate,
    FrameSize,
    Set,
    Signal,
    Source,
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
    frame_rate: FrameRate = None,
    size: FrameSize = None,
    dandi_instance: DandiInstance = None,
    config: Config = None,
    assignments: Set = None,
    as_json: AsJson = False,
) -> None:
    """Say what a recording holds and what would be used."""
    settings = settings_for(
        RunSettings,
        config,
        assignments,
        alignment__responses__signal=signal,
        alignment__frame_rate=frame_rate,
        alignment__frame_size=frame_size(size),
    )
    from nwbrecon.pipeline.inspection import inspect as inspected

    with talking(as_json):
        show(inspected(located(source, dandi_instance), settings.alignment), as_json)
