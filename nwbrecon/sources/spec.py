"""From what a user types or hands over to a `Source`."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py

from nwbrecon.errors import SourceError
from nwbrecon.sources.archive import dandi_sessions, dandi_source, parse_dandi
from nwbrecon.sources.handed import HandedBytes, HandedHDF5, HandedNWB
from nwbrecon.sources.local import LocalFile, local_sessions, local_source
from nwbrecon.sources.model import ListedSession, Source, SourceFile
from nwbrecon.sources.remote import RemoteFile
from nwbrecon.sources.url import Transport, UrlFile
from nwbrecon.sources.zarr import is_zarr

__all__ = ["fetch", "resolve", "sessions_in"]


def resolve(spec: Any, *, dandi_instance: str | None = None, transport: Transport = "requests") -> Source:
    """Find out where an NWB recording is.

    Parameters
    ----------
    spec
        - a path to an NWB file (HDF5);
        - ``dandi:ID[@VERSION][/PATH]``, or the six digits alone: the one session that it names, by streaming;
        - a URL, by streaming;
        - a folder, or a list of any of these, that hold one session in several files (one imaging plane each);
        - an open ``pynwb.NWBFile``, ``h5py.File`` or binary file object, which stays open and is the caller's to close;
        - a `Source`, which is returned as it is.
    dandi_instance
        The DANDI archive: a name such as ``ember-dandi``, or the URL of its API. The environment variable
        ``DANDI_INSTANCE``, or else DANDI itself, by default.
    transport
        What transfers the bytes of a URL: ``requests``, or ``fsspec`` (which serves other schemes in any case).

    Returns
    -------
    Source
        Opened by its ``open()``; nothing but names and sizes has been looked at so far.

    Raises
    ------
    SourceError
        If there is nothing there, nothing that can be an NWB recording, or more than one session.

    Examples
    --------
    >>> resolve("no/such/mouse.nwb")
    Traceback (most recent call last):
    nwbrecon.errors.SourceError: There is no file no/such/mouse.nwb. Check the path.
    """
    if isinstance(spec, Source):
        return spec
    if isinstance(spec, str | os.PathLike):
        text = os.fspath(spec)
        return _remote(text, dandi_instance, transport) or local_source([_path(text)])
    if isinstance(spec, Sequence) and not isinstance(spec, bytes) and spec:
        if not all(isinstance(item, str | os.PathLike) for item in spec):
            raise _unknown(spec)
        texts = [os.fspath(item) for item in spec]
        parts = [_remote(text, dandi_instance, transport) for text in texts]
        if not any(parts):
            return local_source([_path(text) for text in texts])
        sources = [part or local_source([_path(text)]) for part, text in zip(parts, texts, strict=True)]
        return Source(
            ", ".join(source.location for source in sources),
            tuple(file for source in sources for file in source.files),
            tuple(note for source in sources for note in source.notes),
        )
    return _handed(spec)


def sessions_in(spec: Any, *, dandi_instance: str | None = None) -> list[ListedSession]:
    """List the sessions of a dandiset or a folder, by names and sizes alone.

    Parameters
    ----------
    spec
        As for `resolve`, but for the number of sessions.
    dandi_instance
        As for `resolve`.

    Returns
    -------
    list of ListedSession
        In order of their names; empty where something else was named, which can only be one session.

    Raises
    ------
    SourceError
        If there is nothing there.
    """
    if not isinstance(spec, str | os.PathLike):
        return []
    text = os.fspath(spec)
    path = _path(text)
    if path.is_dir() and not is_zarr(path):
        return local_sessions(path)
    dandiset = None if path.exists() else parse_dandi(text)
    return [] if dandiset is None else dandi_sessions(dandiset, dandi_instance)


def fetch(spec: Any, *, dandi_instance: str | None = None) -> list[Path]:
    """Download the files of a session into the cache, so that it can be read without a network from then on.

    A download that was broken off goes on where it ended. What arrived is checked against the archive's digest. Fetched
    files stay until they are cleared (`clear_cache`).

    Parameters
    ----------
    spec
        As for `resolve`.
    dandi_instance
        As for `resolve`.

    Returns
    -------
    list of pathlib.Path
        The files; those that are on this computer anyway are named as they are.

    Raises
    ------
    SourceError
        If a file cannot be had or does not fit, or its digest is not the archive's.
    """
    paths = []
    for file in resolve(spec, dandi_instance=dandi_instance).files:
        if isinstance(file, RemoteFile):
            paths.append(file.fetch())
        elif isinstance(file, LocalFile):
            paths.append(file.path)
        else:
            raise _unknown(spec)
    return paths


def _remote(text: str, dandi_instance: str | None, transport: Transport) -> Source | None:
    """Give a source for a URL or a dandiset, or ``None`` for a path."""
    named = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://|(?i:dandi:)|\d{6}$", text)
    # a folder may be called 000402
    if named is None or Path(text).exists():
        return None
    dandiset = parse_dandi(text)
    if dandiset is not None:
        return dandi_source(dandiset, dandi_instance)
    file = UrlFile(text, transport)
    return Source(file.location, (file,))


def _handed(spec: Any) -> Source:
    file: SourceFile
    if isinstance(spec, h5py.File):
        file = HandedHDF5(spec)
    elif hasattr(spec, "session_start_time") and hasattr(spec, "acquisition"):
        file = HandedNWB(spec)
    elif hasattr(spec, "read") and hasattr(spec, "seek"):
        file = HandedBytes(spec)
    else:
        raise _unknown(spec)
    return Source(file.location, (file,))


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _unknown(spec: Any) -> SourceError:
    return SourceError(
        f"{spec!r} is not something that NWB can be read from.",
        "A path, a folder, a list of paths, or an open NWBFile, h5py.File or binary file was expected.",
    )
