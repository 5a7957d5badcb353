"""Files that somebody else has opened: an NWBFile, an h5py.File or a binary file object."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py

from nwbrecon.sources.beside import inside
from nwbrecon.sources.hdf5 import identity_of, open_hdf5, read_nwb
from nwbrecon.sources.model import OpenFile

__all__ = ["HandedBytes", "HandedHDF5", "HandedNWB"]


def _leave_open() -> None:
    """Who opened a file closes it."""


@dataclass(frozen=True)
class HandedNWB:
    """A ``pynwb.NWBFile``, read from a file or made in memory."""

    nwbfile: Any

    @property
    def location(self) -> str:
        """The file that it was read from, where there is one."""
        return str(self.nwbfile.container_source or f"NWBFile {self.nwbfile.identifier} in memory")

    def open(self) -> OpenFile:
        """Take it as it is."""
        opened = OpenFile(self.nwbfile, identity_of(self.nwbfile, self.location), _leave_open)
        if self.nwbfile.container_source:
            opened.beside = partial(inside, Path(self.nwbfile.container_source))
        return opened

    def digest(self) -> None:
        """Nothing: what is in memory may differ from what is on disk."""
        return


@dataclass(frozen=True)
class HandedHDF5:
    """An open ``h5py.File``."""

    file: h5py.File

    @property
    def location(self) -> str:
        """The name that h5py has for it."""
        return str(self.file.filename)

    def open(self) -> OpenFile:
        """Read it as NWB."""
        opened = read_nwb(self.file, self.location, _leave_open, Path(self.location).parent)
        opened.beside = partial(inside, Path(self.location))
        return opened

    def digest(self) -> None:
        """Nothing: h5py gives no access to the bytes."""
        return


@dataclass(frozen=True)
class HandedBytes:
    """A binary file object that can seek, such as ``open(path, "rb")``, ``io.BytesIO`` or a remote file."""

    file: Any

    @property
    def location(self) -> str:
        """Its name, where it has one."""
        name = getattr(self.file, "name", None)
        return str(name) if isinstance(name, str) else f"{type(self.file).__name__} object"

    def open(self) -> OpenFile:
        """Read it as NWB; the HDF5 layer is closed afterwards, the file object is not."""
        file = open_hdf5(self.file, self.location)
        return read_nwb(file, self.location, file.close)

    def digest(self) -> str:
        """SHA-256 of all bytes."""
        self.file.seek(0)
        return hashlib.file_digest(self.file, "sha256").hexdigest()
