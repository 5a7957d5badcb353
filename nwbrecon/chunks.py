"""Arrays that go into an HDF5 file compressed, and chunk by chunk as they are made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hdmf.data_utils import GenericDataChunkIterator
from numpy.typing import DTypeLike
from pynwb import H5DataIO

__all__ = ["ChunkIterator", "compressed"]

CHUNK_BYTES = 2**19


def compressed(data: Any, **options: Any) -> H5DataIO:
    """Store ``data`` with gzip."""
    return H5DataIO(data, compression="gzip", compression_opts=4, **options)


class ChunkIterator(GenericDataChunkIterator):
    """Hands an array to HDF5 chunk by chunk as it is made, so that it is never in memory as a whole.

    Parameters
    ----------
    read
        ``read(rows) -> array`` with these rows of the array.
    shape
        Shape of the array.
    dtype
        Type of the array.
    """

    def __init__(self, read: Callable[[slice], np.ndarray], shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self.read, self.shape = read, shape
        self._dtype = np.dtype(dtype)
        rows = CHUNK_BYTES // (int(np.prod(shape[1:])) * self._dtype.itemsize)
        chunk = (min(max(rows, 1), shape[0]), *shape[1:])
        super().__init__(chunk_shape=chunk, buffer_shape=chunk)

    def _get_data(self, selection: tuple[slice, ...]) -> np.ndarray:
        return self.read(selection[0])[(slice(None), *selection[1:])]

    def _get_maxshape(self) -> tuple[int, ...]:
        return self.shape

    def _get_dtype(self) -> np.dtype:
        return self._dtype
