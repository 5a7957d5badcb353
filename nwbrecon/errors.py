"""The one family of exceptions: each says what was found, what was expected and what to do."""

from __future__ import annotations

__all__ = [
    "AlignmentError",
    "EncoderError",
    "InversionError",
    "NwbreconError",
    "ResultsError",
    "SessionError",
    "SettingsError",
    "SourceError",
]


class NwbreconError(Exception):
    """Something that the user can act on went wrong.

    Parameters
    ----------
    found
        What was found, as a sentence.
    expected
        What was expected in its place, as a sentence.
    action
        What the user can do about it, as a sentence.

    Examples
    --------
    >>> raise NwbreconError("mouse.nwb holds no responses.", action="Give a file with ROI responses.")
    Traceback (most recent call last):
    nwbrecon.errors.NwbreconError: mouse.nwb holds no responses. Give a file with ROI responses.
    """

    def __init__(self, found: str, expected: str = "", action: str = "") -> None:
        self.found, self.expected, self.action = found, expected, action
        super().__init__(found, expected, action)

    def __str__(self) -> str:
        return " ".join(part for part in (self.found, self.expected, self.action) if part)


class SettingsError(NwbreconError):
    """A setting is unknown, out of range, or contradicts another."""


class SourceError(NwbreconError):
    """The source cannot be found, opened or read as NWB."""


class SessionError(NwbreconError):
    """The file opens, but what it holds cannot be understood as a recording."""


class AlignmentError(NwbreconError):
    """Responses, stimulus and behavior cannot be put on one clock."""


class EncoderError(NwbreconError):
    """An encoder cannot be trained, loaded or used."""


class InversionError(NwbreconError):
    """A movie cannot be reconstructed."""


class ResultsError(NwbreconError):
    """Results cannot be written, read or shown."""
