"""Files that are elsewhere: what a remote file is, whichever server it is on, and how it is opened and fetched."""

from __future__ import annotations

import hashlib
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, cast

import h5py
from filelock import FileLock, Timeout

from nwbrecon.errors import SourceError
from nwbrecon.progress import progress
from nwbrecon.sources.cache import RESERVE, CacheEntry, Shelf, default_cache
from nwbrecon.sources.hdf5 import open_hdf5, read_nwb
from nwbrecon.sources.model import OpenFile
from nwbrecon.sources.stream import Stream
from nwbrecon.storage import size_text

__all__ = ["RemoteContent", "RemoteFile", "from_cache", "zarr_elsewhere"]

_PIECE = 32 * 1024**2


@dataclass(frozen=True)
class RemoteContent:
    """One version of a remote file, as its server describes it.

    Attributes
    ----------
    location
        Where it is, without anything secret.
    size
        Bytes.
    key
        What tells this content from any other, also from what the file held before or will hold. ``None`` where the
        server says nothing that would: it is then not kept on disk.
    read
        ``read(start, stop) -> bytes``.
    digests
        ``sha2-256`` and ``dandi-etag``, where they are known.
    identity
        What its archive knows it by; goes into `Session.identity`.
    notes
        What the user should know of it, in sentences.
    """

    location: str
    size: int
    key: str | None
    read: Callable[[int, int], bytes] = field(repr=False)
    digests: dict[str, str] = field(default_factory=dict)
    identity: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def shelf(self) -> Shelf | None:
        """Give its folder in the cache."""
        if self.key is None:
            return None
        about = {
            "location": self.location,
            "size": self.size,
            "key": self.key,
            "digests": self.digests,
            "identity": self.identity,
        }
        return default_cache().shelf(self.key, about)

    def stream(self) -> Stream:
        """Make a file object that transfers what is read of it."""
        return Stream(self.read, self.size, self.shelf(), self.location)


class RemoteFile(ABC):
    """An NWB file (HDF5) on a server, read there by ranges."""

    @property
    @abstractmethod
    def location(self) -> str:
        """Where it is, without anything secret."""

    @abstractmethod
    def describe(self) -> RemoteContent:
        """Ask the server what the file is.

        Raises
        ------
        SourceError
            If it has no such file, refuses, or does not answer and the cache holds nothing of it.
        """

    @cached_property
    def content(self) -> RemoteContent:
        """What the server says that the file is; asked once."""
        return self.describe()

    def open(self) -> OpenFile:
        """Open it for reading: only what is looked at is transferred, and nothing that the cache has.

        Raises
        ------
        SourceError
            If it cannot be had, or is no NWB file.
        """
        content, shelf = self.content, self.content.shelf()
        whole = shelf.whole if shelf else None
        if shelf:
            shelf.describe()
        file = open_hdf5(whole or content.stream(), content.location)
        try:
            _refuse_strays(file, content.location)
        except BaseException:
            file.close()
            raise
        opened = read_nwb(file, content.location, file.close)
        opened.identity.update(content.identity)
        opened.notes += content.notes
        opened.beside = self._read_beside
        return opened

    def beside(self, path: str) -> RemoteFile | None:
        """Find the file at a path relative to the folder of this one; ``None`` where its server has none there."""
        return None

    def _read_beside(self, path: str) -> Path | BinaryIO | None:
        other = self.beside(path)
        if other is None:
            return None
        shelf = other.content.shelf()
        if shelf:
            shelf.describe()
        return (shelf.whole if shelf else None) or cast(BinaryIO, other.content.stream())

    def digest(self) -> str | None:
        """SHA-256 as the archive states it; no byte of the file is transferred for it."""
        return self.content.digests.get("sha2-256")

    def fetch(self) -> Path:
        """Download all of it into the cache, or what is missing where a download was broken off, and check it.

        Returns
        -------
        pathlib.Path
            The file; opening the remote file reads it from now on.

        Raises
        ------
        SourceError
            If it cannot be had, does not fit, changes meanwhile, or its digest is not what the archive states.
        """
        content, shelf = self.content, self.content.shelf()
        if shelf is None:
            raise SourceError(
                f"The server of {content.location} gives neither ETag nor Last-Modified.",
                "One of them was expected, to know later on whether the file is still the same.",
                "Download the file by other means and give its path.",
            )
        if shelf.whole is None:
            try:
                shelf.folder.mkdir(parents=True, exist_ok=True)
                with FileLock(shelf.folder / "whole.lock", timeout=0):
                    _download(content, shelf)
            except Timeout:
                raise SourceError(
                    f"Another process is fetching {content.location}.", "", "Wait until it is done."
                ) from None
            except OSError as error:
                raise SourceError(
                    f"The cache {shelf.cache.folder} could not be written to ({error.strerror or error}).",
                    "",
                    "Set NWBRECON_CACHE to a folder that can be written to and has room.",
                ) from error
        return shelf.folder / "whole.nwb"


def zarr_elsewhere(location: str) -> SourceError:
    """Refuse a Zarr store that is not on this computer."""
    return SourceError(
        f"{location} is a Zarr store on a server.",
        "NWB in Zarr is read from a folder on this computer; what can be read from a server is NWB in HDF5.",
        "Download the store (from an archive with `dandi download`) and give its folder.",
    )


def from_cache(entry: CacheEntry, failure: SourceError) -> RemoteContent:
    """Describe a remote file by what the cache knows of it, where its server does not answer."""

    def read(start: int, stop: int) -> bytes:
        raise SourceError(
            f"The cache does not hold the bytes {start}-{stop - 1} of {entry.location}.",
            f"Its server does not answer: {failure.found}",
            "Connect and start again; `nwbrecon cache fetch` beforehand makes all of it available offline.",
        ) from failure

    note = f"{entry.location} is read from the cache: its server does not answer. {failure.found}"
    about = entry.about
    return RemoteContent(
        entry.location, entry.size, about["key"], read, about["digests"], about["identity"], notes=(note,)
    )


def _refuse_strays(file: h5py.File, location: str) -> None:
    """Refuse a file from elsewhere that would read other files of this computer."""

    def elsewhere(name: str, link: Any) -> str | None:
        if isinstance(link, h5py.ExternalLink):
            return f"{name} -> {link.filename}"
        # asking HDF5 for the kind of an object makes it read the indices of all arrays, which opening it does not
        item = (
            h5py.h5o.open(file.id, name.encode(errors="surrogateescape")) if isinstance(link, h5py.HardLink) else None
        )
        if isinstance(item, h5py.h5d.DatasetID) and (storage := item.get_create_plist()).get_external_count():
            return f"{name} -> {storage.get_external(0)[0].decode(errors='replace')}"
        return None

    stray = file.visititems_links(elsewhere)
    if stray:
        raise SourceError(
            f"{location} refers to another file ({stray}).",
            "All data of a file on a server were expected inside it.",
            "If you trust it, download both files and open them from disk.",
        )


def _download(content: RemoteContent, shelf: Shelf) -> None:
    partial, whole = shelf.folder / "whole.partial", shelf.folder / "whole.nwb"
    if whole.exists():
        return
    shelf.describe()
    done = partial.stat().st_size if partial.exists() else 0
    _make_room(content, shelf, content.size - done)
    with partial.open("ab") as file, progress(total=content.size, label=content.location, unit="B") as bar:
        bar.update(done)
        for start in range(done, content.size, _PIECE):
            piece = content.read(start, min(start + _PIECE, content.size))
            file.write(piece)
            bar.update(len(piece))
    _check(content, partial)
    partial.replace(whole)
    for block in shelf.folder.glob("*.block"):
        block.unlink(missing_ok=True)


def _make_room(content: RemoteContent, shelf: Shelf, missing: int) -> None:
    room = shelf.cache.room()
    if missing > room:
        raise SourceError(
            f"{content.location} has {size_text(content.size)}, and files that were fetched may take "
            f"{size_text(max(room, 0))} more in {shelf.cache.folder}.",
            "",
            "Clear what is no longer needed (`nwbrecon cache clear`), or set NWBRECON_CACHE_GIGABYTES to more.",
        )
    shelf.cache.sweep(missing)
    free = shutil.disk_usage(shelf.folder).free
    if missing > free - RESERVE:
        raise SourceError(
            f"{content.location} has {size_text(content.size)}, and the disk of {shelf.cache.folder} has "
            f"{size_text(free)} free.",
            "",
            "Make room, or set NWBRECON_CACHE to a folder on another disk.",
        )


def _check(content: RemoteContent, path: Path) -> None:
    if "sha2-256" in content.digests:
        expected = content.digests["sha2-256"]
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    elif "dandi-etag" in content.digests:
        from dandischema.digests.dandietag import DandiETag

        expected, found = content.digests["dandi-etag"], DandiETag.from_file(path).as_str()
    else:
        return
    if found != expected:
        path.unlink()
        raise SourceError(
            f"What arrived of {content.location} is not what its archive describes ({found[:16]}…).",
            f"The digest {expected[:16]}… was expected.",
            "Fetch it again; if that fails too, tell the archive.",
        )
