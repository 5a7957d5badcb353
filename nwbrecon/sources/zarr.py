"""NWB in Zarr, in a folder on disk (the ``zarr`` extra)."""

from __future__ import annotations

import json
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nwbrecon.errors import SourceError
from nwbrecon.sources.beside import inside
from nwbrecon.sources.hdf5 import identity_of
from nwbrecon.sources.model import OpenFile
from nwbrecon.storage import digest

__all__ = ["ZarrFolder", "is_zarr"]


def is_zarr(path: Path) -> bool:
    """Say whether a path is a Zarr store (a folder with the metadata of its root group)."""
    return any((path / name).is_file() for name in (".zgroup", "zarr.json"))


@dataclass(frozen=True)
class ZarrFolder:
    """NWB in a Zarr store on disk."""

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
            If hdmf-zarr is not installed or cannot read it as NWB, or an array holds pickles.
        """
        try:
            from hdmf_zarr import NWBZarrIO
        except ImportError as error:
            raise SourceError(
                f"{self.path} is NWB in Zarr, for which hdmf-zarr is needed ({error}).",
                "",
                'Install it with `pip install "nwbrecon[zarr]"`, or export the file to HDF5.',
            ) from error
        if _holds_pickles(self.path):
            raise SourceError(
                f"{self.path} holds arrays of Python pickles, which can run any code when they are read.",
                "Zarr arrays of numbers and text were expected.",
                "Ask for the recording in HDF5.",
            )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                store = NWBZarrIO(self.location, mode="r")
                nwbfile = store.read()
        except Exception as error:
            # hdmf and zarr raise whatever their constructors raise
            raise SourceError(
                f"{self.path} is a Zarr store, but cannot be read as NWB ({error}).",
                "NWB that hdmf-zarr has written (Zarr format 2) was expected.",
                "Export it again with hdmf-zarr, or to HDF5.",
            ) from error
        return OpenFile(nwbfile, identity_of(nwbfile, self.location), store.close, beside=partial(inside, self.path))

    def digest(self) -> str:
        """SHA-256 of the names and digests of all its files; reads all of it."""
        files = sorted(path for path in self.path.rglob("*") if path.is_file())
        return digest({str(path.relative_to(self.path)): digest(path) for path in files})


def _holds_pickles(folder: Path) -> bool:
    # told from the metadata, before anything is decoded: not every numcodecs refuses to unpickle
    codecs: set[object] = set()

    def note(content: dict[str, object]) -> dict[str, object]:
        name = content.get("id")
        codecs.update({name} if isinstance(name, str) else ())
        return content

    for name in (".zarray", ".zmetadata"):
        for path in folder.rglob(name):
            # damaged metadata is whoever opens the store to complain of
            with suppress(ValueError):
                json.loads(path.read_bytes(), object_hook=note)
    return "pickle" in codecs
