"""A source opened as the settings say."""

from __future__ import annotations

from typing import Any

from nwbrecon.config import AlignmentSettings
from nwbrecon.session import Session, open_session

__all__ = ["open_as_set"]


def open_as_set(source: Any, settings: AlignmentSettings, *, incomplete: bool = False) -> Session:
    """Open a recording with the signal, the stimulus and the folder of stimuli that the settings name.

    Raises
    ------
    SourceError
        If there is nothing to open, or it is not NWB.
    SessionError
        If the file holds no responses or no stimulus, unless that is welcome (`incomplete`).
    """
    return open_session(
        source,
        signal=settings.responses.signal,
        stimulus=settings.reading.stimulus,
        stimulus_folder=settings.reading.stimulus_folder,
        frame_axes=settings.reading.frame_axes,
        incomplete=incomplete,
    )
