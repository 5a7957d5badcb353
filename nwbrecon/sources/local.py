"""NWB files on disk: one file, or the files of one session."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from nwbrecon.errors import SourceError
from nwbrecon.sources.hdf5 import open_hdf5, read_nwb
from nwbrecon.sources.model import OpenFile, Source
from nwbrecon.storage import digest

__all__ = ["LocalFile", "local_source", "session_key"]


@dataclass(frozen=True)
class LocalFile:
    """An NWB file (HDF5) on disk."""

    path: Path

    @property
    def location(self) -> str:
        """Its absolute path."""
        return str(self.path.absolute())

    def open(self) -> OpenFile:
        """Open it for reading.

        Raises
        ------
        SourceError
            If it is missing, empty, may not be read, is cut short, or is no NWB file.
        """
        _check(self.path)
        file = open_hdf5(self.path, str(self.path))
        opened = read_nwb(file, str(self.path), file.close)
        opened.identity["location"] = self.location
        return opened

    def digest(self) -> str:
        """SHA-256 of the file; reads all of it."""
        return digest(self.path)


def local_source(places: Sequence[Path]) -> Source:
    """Make a source of a file, of a folder that holds one session, or of the files of one session.

    Parameters
    ----------
    places
        One path, or the paths of several files.

    Raises
    ------
    SourceError
        If a path is missing, or a folder holds no NWB file or several sessions.
    """
    for place in places:
        _check(place)
    if len(places) == 1 and places[0].is_dir():
        return Source(str(places[0].absolute()), tuple(map(LocalFile, _files_in(places[0]))))
    folders = [place for place in places if place.is_dir()]
    if folders:
        raise SourceError(
            f"{folders[0]} is a folder in a list of files.",
            action="Give one folder, or a list of the files themselves.",
        )
    files = tuple(LocalFile(place) for place in sorted(set(places)))
    return Source(", ".join(file.location for file in files), files)


def session_key(path: PurePath) -> str:
    """Subject and session, from the name of a file.

    Planes of one session are told apart by what follows ``-acq-`` (or ``_acq-``), which is left out.

    Examples
    --------
    >>> session_key(Path("sub-656228_ses-1245548523-acq-1245937736_image+ophys.nwb"))
    'sub-656228_ses-1245548523'
    >>> session_key(Path("sub-17797_ses-4-scan-7_behavior+image+ophys.nwb"))
    'sub-17797_ses-4-scan-7'
    >>> session_key(Path("tuesday.nwb"))
    'tuesday'
    """
    stem = re.split(r"[-_]acq-", path.stem)[0]
    parts = [part for part in stem.split("_") if part.startswith(("sub-", "ses-"))]
    return "_".join(parts) or stem


def _files_in(folder: Path) -> list[Path]:
    # results that were written beside their source are no part of the recording
    files = [path for path in sorted(folder.glob("*.nwb")) if "_desc-reconstruction" not in path.name]
    if not files:
        raise _no_nwb(folder)
    sessions: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        sessions[session_key(path)].append(path)
    if len(sessions) > 1:
        listed = "; ".join(f"{key} ({len(paths)} file{'s'[: len(paths) > 1]})" for key, paths in sessions.items())
        raise SourceError(
            f"{folder} holds {len(sessions)} sessions: {listed}.",
            "One session was expected.",
            "Give the file, or the list of files, of one of them.",
        )
    if len(files) > 1 and not all(re.search(r"[-_]acq-", path.name) for path in files):
        raise SourceError(
            f"{folder} holds {len(files)} files of one session which by their names are not its imaging planes: "
            f"{', '.join(path.name for path in files)}.",
            "Files of one session each have `-acq-` and the plane's id in their name.",
            "Give the file that holds responses and stimulus, or the list of files that belong together.",
        )
    return files


def _no_nwb(folder: Path) -> SourceError:
    if any((folder / name).exists() for name in (".zgroup", "zarr.json")):
        return SourceError(
            f"{folder} is a Zarr store.", "NWB in HDF5 was expected.", "Export it to HDF5 with hdmf-zarr first."
        )
    deeper = sorted(path.relative_to(folder) for path in folder.glob("*/*.nwb"))
    if deeper:
        named = ", ".join(map(str, deeper[:3])) + (f" and {len(deeper) - 3} more" if len(deeper) > 3 else "")
        return SourceError(
            f"{folder} holds no NWB file itself, but its folders do: {named}.", action="Give one of these."
        )
    return SourceError(f"{folder} holds no NWB file.", "A folder with the *.nwb of one session was expected.")


def _check(path: Path) -> None:
    try:
        if path.is_dir():
            return
        if not path.exists():
            raise SourceError(f"There is no file {path}.", action="Check the path.")
        if not path.is_file():
            raise SourceError(f"{path} is neither a file nor a folder.", "An NWB file was expected.")
        if path.stat().st_size == 0:
            raise SourceError(f"{path} is empty (0 bytes).", "An NWB file was expected.", "Copy or download it again.")
    except PermissionError as error:
        raise SourceError(
            f"{path} may not be read (permission denied).", action="Ask its owner for leave to read it."
        ) from error
