"""What has been read from remote files, kept on disk: blocks of them, and whole files that were fetched on purpose.

One folder a remote file, named by its *content* (not by its address: signed links change). In it,

- ``about.json``: where it is, its size, what is known of it;
- ``START-STOP.block``: the bytes from START to before STOP, and their CRC-32;
- ``whole.nwb``: all of it, checked.

Every file is written under another name and renamed, and a block whose length or checksum is wrong is not there: any
number of processes may read, write and evict at once, and be stopped at any moment.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import shutil
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import platformdirs

from nwbrecon.errors import SettingsError
from nwbrecon.storage import digest

__all__ = ["Cache", "CacheEntry", "Shelf", "cache_entries", "clear_cache", "default_cache"]

LIMIT = 50e9
"""Bytes that the cache may hold, unless ``NWBRECON_CACHE_GIGABYTES`` says otherwise."""
RESERVE = 2e9
"""Bytes that the cache leaves free on the disk, whatever its limit."""
_SLACK = 0.05
_STALE = 86_400.0
_BLOCK = re.compile(r"(\d+)-(\d+)\.block")
_SHELF = re.compile(r"[0-9a-f]{40}")
_OURS = re.compile(r"\d+-\d+\.block|\..*\.partial|whole\.(nwb|partial|lock)|about\.json")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CacheEntry:
    """What the cache holds of one remote file.

    Attributes
    ----------
    location
        Where the file is.
    size
        Its bytes.
    cached
        Bytes of it that are on this disk.
    whole
        Whether it was fetched as a whole, so that eviction leaves it alone.
    last_used
        When it was last read (UTC).
    about
        All that is known of it.
    """

    location: str
    size: int
    cached: int
    whole: bool
    last_used: datetime
    about: dict[str, Any] = field(repr=False)


@dataclass
class Shelf:
    """The folder of one remote file.

    Attributes
    ----------
    folder
        Made when the first block comes.
    about
        ``location``, ``size``, ``identity``, ``digests``.
    """

    folder: Path
    about: dict[str, Any]
    cache: Cache = field(repr=False)

    @property
    def whole(self) -> Path | None:
        """The whole file, where it was fetched."""
        path = self.folder / "whole.nwb"
        if not path.exists():
            return None
        _touch(path)
        return path

    def has(self, start: int, stop: int) -> bool:
        """Say whether a block is there, without reading it."""
        return self._block(start, stop).exists()

    def get(self, start: int, stop: int) -> bytes | None:
        """Read a block, or ``None`` where it is not there or not sound."""
        path = self._block(start, stop)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        data = content[:-4]
        if len(data) != stop - start or zlib.crc32(data).to_bytes(4, "little") != content[-4:]:
            path.unlink(missing_ok=True)
            return None
        _touch(path)
        return data

    def put(self, start: int, data: bytes) -> None:
        """Keep a block. Where that is impossible (a full disk, say) the block is not kept, which is said once."""
        self.cache.keep(self, self._block(start, start + len(data)), data + zlib.crc32(data).to_bytes(4, "little"))

    def describe(self) -> None:
        """Write down what is known of the file, where that is news and something of the file is there."""
        if self.folder.exists() and _about(self.folder) != self.about:
            with suppress(OSError):  # a cache that may only be read serves all the same
                self.write_about()

    def write_about(self) -> None:
        """Write down what is known of the file."""
        _write(self.folder / "about.json", json.dumps(self.about, indent=2).encode())

    def _block(self, start: int, stop: int) -> Path:
        return self.folder / f"{start}-{stop}.block"


@dataclass
class Cache:
    """A folder of what has been read from remote files, of limited size.

    Attributes
    ----------
    folder
        Where it is.
    limit
        Bytes that it may hold; blocks that were used least recently go first. 0 keeps no blocks.
    """

    folder: Path
    limit: float = LIMIT
    _since_sweep: float = field(default=float("inf"), init=False, repr=False)
    _off: bool = field(default=False, init=False, repr=False)

    def shelf(self, key: str, about: dict[str, Any]) -> Shelf:
        """Give the folder of a remote file.

        Parameters
        ----------
        key
            What tells its content from any other.
        about
            ``location`` and ``size`` at least.
        """
        return Shelf(self.folder / digest(key.encode())[:40], about, self)

    def shelves(self) -> list[Shelf]:
        """Give the folders of all remote files of which something is there."""
        folders = [path for path in sorted(_children(self.folder)) if _SHELF.fullmatch(path.name)]
        return [Shelf(path, _about(path), self) for path in folders]

    def entries(self) -> list[CacheEntry]:
        """List what is there, the most recently used first."""
        entries = [entry for shelf in self.shelves() if (entry := _entry(shelf)).cached]
        return sorted(entries, key=lambda entry: entry.last_used, reverse=True)

    def clear(self, location: str = "") -> int:
        """Delete what is there of files whose location begins with ``location``, and return the bytes that it freed."""
        freed = 0
        for shelf in self.shelves():
            if shelf.about.get("location", "").startswith(location):
                freed += _entry(shelf).cached
                _remove(shelf.folder)
        return freed

    def keep(self, shelf: Shelf, path: Path, content: bytes) -> None:
        """Write a file of ``shelf``, whole or not at all, and evict others where the limit is passed."""
        if self._off or self.limit <= 0:
            return
        try:
            if not (shelf.folder / "about.json").exists():
                shelf.folder.mkdir(parents=True, exist_ok=True)
                shelf.write_about()
            _write(path, content)
        except FileNotFoundError:
            return  # another process is clearing the cache
        except OSError as error:
            self._off = True
            _logger.warning("Nothing more is kept in the cache %s: %s", self.folder, error.strerror or error)
            return
        self._since_sweep += len(content)
        if self._since_sweep > _SLACK * self.limit:
            self.sweep()

    def room(self) -> float:
        """Count the bytes that fetched files may still take: the limit, less those that are there."""
        return self.limit - sum(status.st_size for path, status in self._held() if path.name.startswith("whole."))

    def sweep(self, needed: float = 0.0) -> None:
        """Delete the blocks that were used least recently until limit and disk leave room for ``needed`` bytes."""
        self._since_sweep = 0.0
        blocks, emptied, total, now = [], set(), 0, time.time()
        for path, status in self._held():
            total += status.st_size
            if _BLOCK.fullmatch(path.name):
                blocks.append((status.st_mtime, status.st_size, path))
            elif path.name.startswith(".") and now - status.st_mtime > _STALE:
                path.unlink(missing_ok=True)
        free = shutil.disk_usage(self.folder).free if self.folder.exists() else float("inf")
        allowed = min((1 - _SLACK) * self.limit, total + free - RESERVE) - needed
        for _, size, path in sorted(blocks, key=lambda block: block[0]):
            if total <= allowed:
                break
            path.unlink(missing_ok=True)
            total -= size
            emptied.add(path.parent)
        for folder in emptied:
            if {path.name for path, _ in _files(folder)} <= {"about.json"}:
                _remove(folder)

    def _held(self) -> Iterator[tuple[Path, os.stat_result]]:
        for shelf in self.shelves():
            yield from _files(shelf.folder)


def default_cache() -> Cache:
    """Give the cache of this computer: ``NWBRECON_CACHE``, or else the platform's folder for caches.

    Raises
    ------
    SettingsError
        If ``NWBRECON_CACHE_GIGABYTES`` is no number.
    """
    folder = os.environ.get("NWBRECON_CACHE") or platformdirs.user_cache_dir("nwbrecon", appauthor=False)
    gigabytes = os.environ.get("NWBRECON_CACHE_GIGABYTES", "")
    try:
        limit = float(gigabytes) * 1e9 if gigabytes else LIMIT
    except ValueError:
        raise SettingsError(
            f"NWBRECON_CACHE_GIGABYTES is {gigabytes!r}.", "A number of gigabytes was expected, such as 20."
        ) from None
    return _cache(Path(folder).expanduser() / "remote", limit)


@cache
def _cache(folder: Path, limit: float) -> Cache:
    return Cache(folder, limit)


def cache_entries() -> list[CacheEntry]:
    """List the remote files of which the cache holds something, the most recently used first."""
    return default_cache().entries()


def clear_cache(location: str = "") -> int:
    """Delete what the cache holds.

    Parameters
    ----------
    location
        Only of files whose location begins with it, such as ``dandi:000402``; all by default.

    Returns
    -------
    int
        Bytes that it freed.
    """
    return default_cache().clear(location)


def _entry(shelf: Shelf) -> CacheEntry:
    cached, last, whole = 0, 0.0, False
    for path, status in _files(shelf.folder):
        if path.name != "about.json":
            last = max(last, status.st_mtime)
            cached += status.st_size
            whole = whole or path.name == "whole.nwb"
    about = shelf.about
    return CacheEntry(
        about.get("location", ""), about.get("size", 0), cached, whole, datetime.fromtimestamp(last, UTC), about
    )


def _touch(path: Path) -> None:
    # the time of change is what eviction goes by; times of access are often not kept
    with suppress(OSError):  # a cache that may only be read serves all the same
        os.utime(path)


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """List what this module wrote: a cache folder that was set by mistake holds other things too."""
    for path in _children(folder):
        if _OURS.fullmatch(path.name):
            try:
                status = path.stat()
            except OSError:  # another process took it away
                continue
            yield path, status


def _children(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _about(folder: Path) -> dict[str, Any]:
    try:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _write(path: Path, content: bytes) -> None:
    # not synchronized with the disk, which would cost more than the transfer: a checksum tells what is sound
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        with suppress(OSError):  # renamed, as it should be
            partial.unlink()


def _remove(folder: Path) -> None:
    for path, _ in _files(folder):
        path.unlink(missing_ok=True)
    with suppress(OSError):  # another process is writing to it
        folder.rmdir()
