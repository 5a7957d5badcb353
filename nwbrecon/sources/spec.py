"""From what a user types or hands over to a `Source`."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py

from nwbrecon.errors import SourceError
from nwbrecon.sources.handed import HandedBytes, HandedHDF5, HandedNWB
from nwbrecon.sources.local import local_source
from nwbrecon.sources.model import Source, SourceFile

__all__ = ["resolve"]


def resolve(spec: Any) -> Source:
    """Find out where an NWB recording is.

    Parameters
    ----------
    spec
        - a path to an NWB file (HDF5);
        - a folder, or a list of paths, that hold one session in several files (one imaging plane each);
        - an open ``pynwb.NWBFile``, ``h5py.File`` or binary file object, which stays open and is the caller's to close;
        - a `Source`, which is returned as it is.

    Returns
    -------
    Source
        Opened by its ``open()``; nothing but names and sizes has been looked at so far.

    Raises
    ------
    SourceError
        If there is nothing there, or nothing that can be an NWB recording.

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
        if re.match(r"[a-z][a-z0-9+]*://|dandi:", text) or (re.fullmatch(r"\d{6}", text) and not Path(text).exists()):
            raise SourceError(
                f"{text} is not on this computer, and remote files cannot be read yet.",
                "A path was expected.",
                "Download the file (for example with `dandi download`) and give its path.",
            )
        return local_source([_path(text)])
    if isinstance(spec, Sequence) and not isinstance(spec, bytes) and spec:
        if not all(isinstance(item, str | os.PathLike) for item in spec):
            raise _unknown(spec)
        return local_source([_path(os.fspath(item)) for item in spec])
    return _handed(spec)


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
