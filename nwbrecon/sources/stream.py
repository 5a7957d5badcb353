"""A remote file as a binary file object: blocks that are kept in memory and on disk, and read ahead in a row."""

from __future__ import annotations

import atexit
import io
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import h5py
from h5py import h5f, h5i

from nwbrecon.sources.cache import Shelf

__all__ = ["BLOCK", "Stream"]

BLOCK = 256 * 1024
"""Bytes of a block, the least that is transferred: what a request costs in waiting buys about as much transfer."""
LONGEST_RUN = 128
"""Blocks of the longest single request (32 MiB)."""
LONGEST_AHEAD = 32
"""Blocks (8 MiB) that are read ahead at most: more would be transferred in vain at the end of every clip."""
MEMORY = 256
"""Blocks that are kept in memory (64 MiB)."""
PLACES = 8
"""Places in a file that are read in a row at the same time (index and data of an array, several planes)."""

_alive: weakref.WeakSet[Stream] = weakref.WeakSet()


class Stream(io.RawIOBase):
    """Read a remote file block by block.

    A read takes the blocks that it needs; each one that goes on where the last transfer ended takes twice as many ahead
    as the one before.

    Parameters
    ----------
    read
        ``read(start, stop) -> bytes``.
    size
        Bytes of the file.
    shelf
        Where blocks are kept on disk; ``None`` keeps them in memory only.
    name
        What to call it.
    """

    def __init__(
        self, read: Callable[[int, int], bytes], size: int, shelf: Shelf | None = None, name: str = ""
    ) -> None:
        super().__init__()
        self.size, self.name = size, name
        self._read, self._shelf = read, shelf
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._position = 0
        self._runs: OrderedDict[int, int] = OrderedDict()
        _alive.add(self)

    def __repr__(self) -> str:
        # h5py names the file by this, as far as it is ASCII
        return f"<stream {id(self):x} of {self.name}>".encode("ascii", "replace").decode()

    def readable(self) -> bool:
        """Return ``True``."""
        return True

    def seekable(self) -> bool:
        """Return ``True``."""
        return True

    def tell(self) -> int:
        """Give the position (bytes from the start)."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to ``offset`` from the start, the position or the end."""
        position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        if position < 0:
            raise ValueError(f"position {position} is before the start")
        self._position = position
        return position

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer``, as far as the file goes.

        Raises
        ------
        SourceError
            If the bytes cannot be had.
        """
        target = memoryview(buffer).cast("B")
        start = self._position
        stop = max(start, min(start + len(target), self.size))
        for index in range(start // BLOCK, -(-stop // BLOCK) if stop > start else 0):
            block = self._block(index, last=(stop - 1) // BLOCK)
            offset = index * BLOCK
            low, high = max(start, offset), min(stop, offset + len(block))
            target[low - start : high - start] = block[low - offset : high - offset]
        self._position = stop
        return stop - start

    def _block(self, index: int, last: int) -> bytes:
        """Block ``index`` of a read that needs the blocks up to ``last``."""
        if index in self._blocks:
            self._blocks.move_to_end(index)
            return self._blocks[index]
        kept = self._shelf.get(*self._bounds(index)) if self._shelf else None
        if kept is not None:
            self._keep(index, kept)
            return kept
        return self._transfer(index, last)

    def _transfer(self, index: int, last: int) -> bytes:
        ahead = min(2 * self._runs.pop(index, 0) or 1, LONGEST_AHEAD)
        run = min(max(last - index + 1, ahead), LONGEST_RUN)
        end = next((one for one in range(index + 1, index + run) if self._here(one)), index + run)
        start, stop = index * BLOCK, min(end * BLOCK, self.size)
        data = self._read(start, stop)
        self._runs[end] = ahead
        if len(self._runs) > PLACES:
            self._runs.popitem(last=False)
        # the first block last, so that it is the newest in memory however long the run
        for one in reversed(range(index, -(-stop // BLOCK))):
            low, high = self._bounds(one)
            block = data[low - start : high - start]
            if self._shelf:
                self._shelf.put(low, block)
            self._keep(one, block)
        return self._blocks[index]

    def _here(self, index: int) -> bool:
        return index in self._blocks or (self._shelf is not None and self._shelf.has(*self._bounds(index)))

    def _keep(self, index: int, block: bytes) -> None:
        self._blocks[index] = block
        self._blocks.move_to_end(index)
        while len(self._blocks) > MEMORY:
            self._blocks.popitem(last=False)

    def _bounds(self, index: int) -> tuple[int, int]:
        return index * BLOCK, min((index + 1) * BLOCK, self.size)


@atexit.register
def _close_files() -> None:
    # HDF5 closes what is still open after Python has ended, and would call this file object then
    names = {repr(stream) for stream in _alive}
    for one in h5f.get_obj_ids(h5f.OBJ_ALL, h5f.OBJ_FILE | h5f.OBJ_GROUP | h5f.OBJ_DATASET) if names else ():
        if one.valid and (file := h5py.File(h5i.get_file_id(one))).filename in names:
            file.close()
