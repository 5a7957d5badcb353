"""The nouns of this room: a source, and the open files that it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from nwbrecon.errors import SourceError
from nwbrecon.storage import digest

__all__ = ["ListedSession", "OpenFile", "Source", "SourceFile"]


@dataclass
class OpenFile:
    """One open, read-only NWB file.

    Attributes
    ----------
    nwbfile
        The ``pynwb.NWBFile``; its arrays stay in the file until they are sliced.
    identity
        ``location``, ``identifier``, ``object_id``, ``session_id`` and ``session_start_time`` (ISO 8601).
    close
        Closes the file; does nothing where somebody else opened it.
    notes
        What the user should know of how it was opened, in sentences.
    beside
        ``beside(path)`` gives the file at a path relative to the folder of this one (a movie that is kept outside the
        NWB), as a path or open for reading; ``None`` where there is none inside that folder.
    """

    nwbfile: Any
    identity: dict[str, Any]
    close: Callable[[], None] = field(repr=False)
    notes: tuple[str, ...] = ()
    beside: Callable[[str], Path | BinaryIO | None] = field(default=lambda path: None, repr=False)


class SourceFile(Protocol):
    """One NWB file that can be opened: on disk, at a URL, in a dandiset, or open already."""

    @property
    def location(self) -> str:
        """Where it is, in words that a person can follow."""
        ...

    def open(self) -> OpenFile:
        """Open it for reading."""
        ...

    def digest(self) -> str | None:
        """SHA-256 of its bytes, or ``None`` where there are none on this computer and nobody has said it."""
        ...


@dataclass(frozen=True)
class Source:
    """Where the NWB file of one session is, or the files, where each imaging plane has its own.

    Attributes
    ----------
    location
        Path, URL or DANDI asset.
    files
        The files of the session, in order of their names.
    notes
        What was chosen where there was a choice, in sentences.
    """

    location: str
    files: tuple[SourceFile, ...]
    notes: tuple[str, ...] = ()

    def open(self) -> list[OpenFile]:
        """Open every file of the session for reading.

        Raises
        ------
        SourceError
            If a file cannot be opened or read as NWB, or the files are not of one session. None is left open then.
        """
        opened: list[OpenFile] = []
        with _closing_on_error(opened):
            for file in self.files:
                opened.append(file.open())
            sessions = {_session_of(file): file.identity["location"] for file in opened}
            if len(sessions) > 1:
                names = "; ".join(f"{place} is of {who}" for who, place in sessions.items())
                raise SourceError(
                    f"The files of {self.location} are of different sessions: {names}.",
                    "All files of a source must be of one subject and one session.",
                    "Give the files of one session.",
                )
        return opened

    def digest(self) -> str | None:
        """SHA-256 of the file; of the list of the files' digests, where there are several.

        It reads every byte of local files: call it only where the digest is wanted. ``None`` where a file was never on
        disk, or is remote and its archive does not state it.
        """
        digests = [file.digest() for file in self.files]
        if None in digests:
            return None
        return digests[0] if len(digests) == 1 else digest(digests)


@dataclass(frozen=True)
class ListedSession:
    """One of the sessions that a dandiset or a folder holds.

    Attributes
    ----------
    name
        What to type to open it.
    subject, session
        By the names of its files; empty where these do not say.
    size
        Bytes of all its files.
    n_files
        Number of its files.
    source
        Where it is; None where its files do not make one recording.
    problem
        Why not.
    """

    name: str
    subject: str
    session: str
    size: int
    n_files: int
    source: Source | None = field(repr=False)
    problem: str = ""


def _session_of(file: OpenFile) -> str:
    # each plane's file of an OpenScope session has a session_id of its own, the acquisition's id at its end
    session = str(file.identity["session_id"] or file.identity["session_start_time"]).partition("-acq-")[0]
    subject = getattr(file.nwbfile.subject, "subject_id", None)
    return f"subject {subject}, session {session}"


@contextmanager
def _closing_on_error(opened: list[OpenFile]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for file in opened:
            file.close()
        raise
