"""Which files of a dandiset or a folder make one session, and which of a session's files to take, by their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath

from nwbrecon.errors import SourceError
from nwbrecon.sources.model import ListedSession, Source
from nwbrecon.storage import size_text

__all__ = ["Listed", "choose_session", "is_nwb", "label_of", "list_sessions", "session_key", "sessions_of"]

_LISTED = 5


@dataclass(frozen=True)
class Listed:
    """A file as its archive or folder lists it.

    Attributes
    ----------
    path
        Its path in the dandiset or the folder.
    size
        Bytes.
    """

    path: str
    size: int


def is_nwb(path: str) -> bool:
    """Say whether a path names a recording in NWB; results that were written back to the archive are none.

    Examples
    --------
    >>> is_nwb("sub-1/sub-1_ses-2_ophys.nwb"), is_nwb("sub-1/sub-1_desc-reconstruction_image.nwb"), is_nwb("a.mp4")
    (True, False, False)
    """
    return path.endswith((".nwb", ".nwb.zarr")) and "_desc-reconstruction" not in path


def session_key(path: PurePath) -> str:
    """Subject and session, from the name of a file.

    Planes of one session are told apart by what follows ``-acq-`` (or ``_acq-``), which is left out.

    Examples
    --------
    >>> session_key(PurePath("sub-656228_ses-1245548523-acq-1245937736_image+ophys.nwb"))
    'sub-656228_ses-1245548523'
    >>> session_key(PurePath("sub-17797_ses-4-scan-7_behavior+image+ophys.nwb"))
    'sub-17797_ses-4-scan-7'
    >>> session_key(PurePath("tuesday.nwb"))
    'tuesday'
    """
    stem = re.split(r"[-_]acq-", _bare(path))[0]
    parts = [part for part in stem.split("_") if part.startswith(("sub-", "ses-"))]
    return "_".join(parts) or stem


def label_of(path: str, kind: str) -> str:
    """Subject (``sub``) or session (``ses``) in the name of a file; empty where it has none.

    Examples
    --------
    >>> path = "sub-17797/sub-17797_ses-4-scan-7_behavior+image+ophys.nwb"
    >>> label_of(path, "sub"), label_of(path, "ses"), label_of("tuesday.nwb", "ses")
    ('17797', '4-scan-7', '')
    """
    parts = session_key(PurePosixPath(path)).split("_")
    return next((part.removeprefix(f"{kind}-") for part in parts if part.startswith(f"{kind}-")), "")


def sessions_of(files: Iterable[Listed]) -> dict[str, list[Listed]]:
    """Group files by folder, subject and session, in order of their names."""
    sessions: dict[str, list[Listed]] = {}
    for file in sorted(files, key=lambda file: file.path):
        path = PurePosixPath(file.path)
        sessions.setdefault(str(path.parent / session_key(path)), []).append(file)
    return sessions


def choose_session(files: list[Listed], where: str) -> tuple[list[Listed], list[str]]:
    """Choose the files of the one session that there is.

    Files that have ``-acq-`` in their names are planes of it and belong together. Of files whose names differ in what
    they hold (``_behavior+image+ophys`` and ``_ophys``), the one that holds what all others do, and more, is taken: the
    other is the raw movie.

    Parameters
    ----------
    files
        What fits what the user named.
    where
        What the user named, for the error.

    Returns
    -------
    tuple
        The files, and what was left out in sentences.

    Raises
    ------
    SourceError
        If there are several sessions, or several files of one of which none holds more than the others. It lists them.
    """
    sessions = sessions_of(files)
    if len(sessions) > 1:
        raise _several(where, len(files), sessions)
    planes = _by_plane(files)
    if len(planes) > 1 and "" in planes:
        raise _alternatives(where, files)
    chosen, notes = [], []
    for variants in planes.values():
        best = max(variants, key=lambda file: len(_modalities(file.path)))
        others = [file for file in variants if file is not best]
        if any(not _modalities(file.path) < _modalities(best.path) for file in others):
            raise _alternatives(where, variants)
        chosen.append(best)
        notes += [
            f"Of the session's files {PurePosixPath(best.path).name} ({size_text(best.size)}) is used; "
            f"{PurePosixPath(file.path).name} ({size_text(file.size)}) holds less of what is needed (raw data, by its "
            "name)."
            for file in others
        ]
    return sorted(chosen, key=lambda file: file.path), notes


def list_sessions(
    files: list[Listed], where: str, source_of: Callable[[list[Listed], list[str]], Source]
) -> list[ListedSession]:
    """Say of each session that there is how to name it, how large it is, and where.

    Parameters
    ----------
    files
        What fits what the user named.
    where
        The dandiset and its version, or the folder.
    source_of
        ``source_of(chosen, notes)`` makes a source of the files that `choose_session` gives.
    """
    sessions = []
    for key, own in sessions_of(files).items():
        source, problem = None, ""
        try:
            source = source_of(*choose_session(own, where))
        except SourceError as error:
            problem = str(error)
        sessions.append(
            ListedSession(
                name=_named(where, key, own),
                subject=label_of(own[0].path, "sub"),
                session=label_of(own[0].path, "ses"),
                size=sum(file.size for file in own),
                n_files=len(own),
                source=source,
                problem=problem,
            )
        )
    return sessions


def _named(where: str, key: str, files: list[Listed]) -> str:
    base = re.match(r"dandi:\d{6}(@[^/]+)?", where)
    return f"{base[0] if base else where}/{files[0].path if len(files) == 1 else f'{key}*'}"


def _by_plane(files: list[Listed]) -> dict[str, list[Listed]]:
    planes: dict[str, list[Listed]] = {}
    for file in files:
        found = re.search(r"[-_]acq-([^_]+)", _bare(PurePosixPath(file.path)))
        planes.setdefault(found[1] if found else "", []).append(file)
    return planes


def _bare(path: PurePath) -> str:
    return re.sub(r"\.nwb(\.zarr)?$", "", path.name)


def _modalities(path: str) -> frozenset[str]:
    # the last part of a name says what is in the file; sub-1_ses-2.nwb has none
    last = _bare(PurePosixPath(path)).rpartition("_")[2]
    return frozenset() if re.match(r"[a-z]+-", last) else frozenset(last.split("+"))


def _several(where: str, n_files: int, sessions: dict[str, list[Listed]]) -> SourceError:
    listed = [
        f"{key} ({size_text(sum(file.size for file in files))}"
        + (f" in {len(files)} files)" if len(files) > 1 else ")")
        for key, files in list(sessions.items())[:_LISTED]
    ]
    more = f", and {len(sessions) - _LISTED} more" if len(sessions) > _LISTED else ""
    key, first = next(iter(sessions.items()))
    return SourceError(
        f"{where} holds {len(sessions)} sessions ({n_files} files): {', '.join(listed)}{more}.",
        "One session was expected.",
        f"Name one, such as {_named(where, key, first)} (`nwbrecon inspect {where}` says what each holds).",
    )


def _alternatives(where: str, files: list[Listed]) -> SourceError:
    listed = ", ".join(f"{file.path} ({size_text(file.size)})" for file in files)
    return SourceError(
        f"{where} holds {len(files)} files of one session which by their names are not its imaging planes: {listed}.",
        "One file was expected, or the session's planes with `-acq-` in each name.",
        "Name the file that holds responses and stimulus, or the files that belong together.",
    )
