"""NWB files on disk: one file, or the files of one session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from nwbrecon.errors import SourceError
from nwbrecon.sources.beside import inside
from nwbrecon.sources.choice import Listed, choose_session, is_nwb, list_sessions
from nwbrecon.sources.hdf5 import open_hdf5, read_nwb
from nwbrecon.sources.model import ListedSession, OpenFile, Source, SourceFile
from nwbrecon.sources.zarr import ZarrFolder, is_zarr
from nwbrecon.storage import digest

__all__ = ["LocalFile", "local_sessions", "local_source"]


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
        opened = read_nwb(file, str(self.path), file.close, self.path.parent)
        opened.identity["location"] = self.location
        opened.beside = partial(inside, self.path)
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
        If a path is missing, or a folder holds no NWB file, several sessions, or files that do not belong together.
    """
    for place in places:
        _check(place)
    folders = [place for place in places if place.is_dir() and not is_zarr(place)]
    if folders and len(places) == 1:
        return _session_in(places[0])
    if folders:
        raise SourceError(
            f"{folders[0]} is a folder in a list of files.",
            action="Give one folder, or a list of the files themselves.",
        )
    files = tuple(_file(place) for place in sorted(set(places)))
    return Source(", ".join(file.location for file in files), files)


def local_sessions(folder: Path) -> list[ListedSession]:
    """List the sessions in a folder, in order of their names.

    Raises
    ------
    SourceError
        If it may not be read, or holds no NWB file.
    """
    _check(folder)

    def source_of(chosen: list[Listed], notes: list[str]) -> Source:
        source = _source(folder, chosen, notes)
        return replace(source, location=", ".join(file.location for file in source.files))

    return list_sessions(_listed(folder), str(folder), source_of)


def _session_in(folder: Path) -> Source:
    return _source(folder, *choose_session(_listed(folder), str(folder)))


def _listed(folder: Path) -> list[Listed]:
    listed = [Listed(path.name, _size(path)) for path in folder.glob("*.nwb*") if is_nwb(path.name)]
    if not listed:
        raise _no_nwb(folder)
    return listed


def _source(folder: Path, chosen: list[Listed], notes: list[str]) -> Source:
    files = tuple(_file(folder / one.path) for one in chosen)
    return Source(str(folder.absolute()), files, tuple(notes))


def _file(path: Path) -> SourceFile:
    return ZarrFolder(path) if is_zarr(path) else LocalFile(path)


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path]))


def _no_nwb(folder: Path) -> SourceError:
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
