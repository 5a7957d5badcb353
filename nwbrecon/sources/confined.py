"""An NWB file must not make this computer read what lies outside its folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import h5py

from nwbrecon.errors import SourceError

__all__ = ["require_confined"]

LARGE_BYTES, LEAST_SHARE = 2**30, 2000
"""More bytes than this are believed if they are not compressed by more than so much, which no codec can."""


def require_confined(file: h5py.File, location: str, folder: Path | None) -> list[str]:
    """Refuse a file whose links, virtual data sets or external storage lead to files outside its folder.

    HDF5 can take any object or the values of any data set from another file, which it opens without being asked. What
    lies beside the file (raw data, kept apart) may be used; the files there are looked through too.

    Parameters
    ----------
    file
        Open for reading; no array is read.
    location
        What to call it in errors.
    folder
        Where the file is; ``None`` if it is not on this computer: then it may name no file that is.

    Returns
    -------
    list of str
        Which other files are named that are not there, in sentences: what was in them is missing.

    Raises
    ------
    SourceError
        If it leads to a file that exists and is outside of the folder, or claims sizes that cannot be.
    """
    allowed = None if folder is None else folder.resolve()
    seen: set[Path] = set()
    absent: dict[str, str] = {}
    _look_through(file, location, allowed, seen, absent)
    return [f"{place} is kept in {name}, which is not there." for name, place in absent.items()]


def _look_through(
    file: h5py.File, location: str, allowed: Path | None, seen: set[Path], absent: dict[str, str]
) -> None:
    for place, name in _files_named(file, location):
        if name == ".":
            continue
        found = [path for path in _candidates(name, allowed) if path.exists()]
        if not found:
            absent.setdefault(name, place)
        for path in found:
            if allowed is None or not path.is_relative_to(allowed):
                raise SourceError(
                    f"{location} would have {place} read from {name}, which is outside the folder that it is in.",
                    "A file may only use what lies beside it.",
                    "Put that file beside it, if both are yours, and link to it by its name alone.",
                )
            if path not in seen and path.is_file() and h5py.is_hdf5(path):
                seen.add(path)
                with h5py.File(path, "r") as other:
                    _look_through(other, location, allowed, seen, absent)


def _files_named(file: h5py.File, location: str) -> Iterator[tuple[str, str]]:
    """Other files that a file takes something from, and for which object."""
    named: list[tuple[str, str]] = []

    def link(place: str, kind: object) -> None:
        if isinstance(kind, h5py.ExternalLink):
            named.append((place, kind.filename))

    def data(place: str, item: object) -> None:
        if not isinstance(item, h5py.Dataset):
            return
        large = len(item.shape or ()) == 1 and item.nbytes > LARGE_BYTES
        # a clock or a column: pynwb itself would read some of them whole
        if large and item.id.get_storage_size() * LEAST_SHARE < item.nbytes:
            raise SourceError(
                f"{place} of {location} claims {item.nbytes:.3g} bytes, of which next to nothing is there.",
                "A sound NWB file was expected.",
                "The file is damaged or made to do harm.",
            )
        properties = item.id.get_create_plist()
        for number in range(properties.get_external_count()):
            named.append((place, os.fsdecode(properties.get_external(number)[0])))
        if properties.get_layout() == h5py.h5d.VIRTUAL:
            named.extend((place, properties.get_virtual_filename(k)) for k in range(properties.get_virtual_count()))

    file.visititems_links(link)
    file.visititems(data)
    yield from named


def _candidates(name: str, folder: Path | None) -> list[Path]:
    """Everywhere that HDF5 would look for a file of this name."""
    path = Path(name)
    places = [path] if path.is_absolute() else [Path.cwd() / path]
    for prefix in (os.environ.get("HDF5_EXT_PREFIX", ""), os.environ.get("HDF5_VDS_PREFIX", "")):
        places += [Path(part) / name.lstrip("/") for part in prefix.split(":") if part and part != "."]
    if folder is not None:
        places += [folder / path.name if path.is_absolute() else folder / path]
    return [place.resolve() for place in places]
