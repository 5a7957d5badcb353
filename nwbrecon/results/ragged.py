"""Columns of a table whose rows hold arrays of different lengths."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from hdmf.backends.hdf5.h5_utils import H5DataIO
from pynwb.core import VectorData, VectorIndex

__all__ = ["index", "ragged"]

# bytes in a chunk: large enough to compress well, small enough to be looked at piece by piece
_CHUNK = 2**20


def ragged(name: str, description: str, rows: Sequence[np.ndarray]) -> list[VectorData]:
    """Give a column and its index: ``rows`` of one type, each an array along its first axis."""
    flat = np.concatenate(rows)
    size = flat.itemsize * math.prod(flat.shape[1:])
    chunks = (max(1, min(len(flat), _CHUNK // size)), *flat.shape[1:])
    data = VectorData(
        name=name,
        description=description,
        data=H5DataIO(flat, compression="gzip", compression_opts=4, shuffle=True, chunks=chunks),
    )
    return [data, index(name, data, [len(row) for row in rows])]


def index(name: str, target: VectorData, lengths: Sequence[int]) -> VectorIndex:
    """Give the index of a column whose rows are so long."""
    return VectorIndex(name=f"{name}_index", target=target, data=[int(end) for end in np.cumsum(lengths)])
