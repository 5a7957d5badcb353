"""NWB in Zarr, in a folder on disk (the ``zarr`` extra)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from nwbrecon.errors import SourceError
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
            If hdmf-zarr is not installed, or cannot read it as NWB.
        """
        try:
            from hdmf_zarr import NWBZarrIO
        except ImportError as error:
            raise SourceError(
                f"{self.path} is NWB in Zarr, for which hdmf-zarr is needed ({error}).",
                "",
                'Install it with `pip install "nwbrecon[zarr]"`, or export the file to HDF5.',
            ) from error
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                store = NWBZarrIO(self.location, mode="r")
                nwbfile = store.read()
        except Exception as error:
            # hdmf and zarr raise whatever their constructors raise
            raise self._unreadable(error) from error
        return OpenFile(nwbfile, identity_of(nwbfile, self.location), store.close)

    def digest(self) -> str:
        """SHA-256 of the names and digests of all its files; reads all of it."""
        files = sorted(path for path in self.path.rglob("*") if path.is_file())
        return digest({str(path.relative_to(self.path)): digest(path) for path in files})

    def _unreadable(self, error: BaseException) -> SourceError:
        below: BaseException | None = error
        while below is not None:
            if type(below).__name__ == "UnsafeDecodeError":
                return SourceError(
                    f"{self.path} holds arrays of Python pickles, which can run any code when they are read.",
                    "Zarr arrays of numbers and text were expected.",
                    "Ask for the recording in HDF5.",
                )
            below = below.__cause__ or below.__context__
        return SourceError(
            f"{self.path} is a Zarr store, but cannot be read as NWB ({error}).",
            "NWB that hdmf-zarr has written (Zarr format 2) was expected.",
            "Export it again with hdmf-zarr, or to HDF5.",
        )
