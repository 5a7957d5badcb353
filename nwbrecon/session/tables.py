"""Columns of NWB tables as plain arrays, and tables of intervals as data frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nwbrecon.session.contents import Item
from nwbrecon.session.series import read_all

__all__ = ["IntervalTable", "column_values", "read_intervals"]


def column_values(column: Any, n_rows: int, widest: int = 1) -> np.ndarray | None:
    """Values of a column that holds one plain value (or a short vector) a row, else ``None``.

    Parameters
    ----------
    column
        A ``VectorData``. Ragged columns, references and regions give ``None``.
    n_rows
        Length of the table.
    widest
        Longest vector a row that is read.

    Returns
    -------
    numpy.ndarray or None
        ``(row,)`` or ``(row, value)``; text as ``str``.
    """
    data = column.data
    shape = tuple(data.shape) if hasattr(data, "shape") else np.shape(data)
    if hasattr(column, "target") or hasattr(column, "table") or shape[:1] != (n_rows,):
        return None
    if len(shape) > 2 or (len(shape) == 2 and shape[1] > widest):
        return None
    values = read_all(data, f"The column {column.name}")
    if hasattr(column, "elements"):
        values = np.asarray(column.elements.data[:], dtype=object)[values]
    if values.dtype.kind in "biuf":
        return values
    if values.size and not all(isinstance(value, str | bytes) for value in values.flat):
        return None
    return np.array(
        [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in values.flat],
        dtype=object,
    ).reshape(values.shape)


@dataclass
class IntervalTable:
    """A table of intervals.

    Attributes
    ----------
    path
        Where it is in the file.
    rows
        One row an interval, in order of ``start_time``: ``start_time``, ``stop_time`` (s) and all columns with one
        plain value a row, named as in the file.
    """

    path: str
    rows: pd.DataFrame

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


def read_intervals(item: Item) -> IntervalTable:
    """Read a ``TimeIntervals`` table; rows without a time or of no length are left out."""
    table = item.content
    columns = {column.name: column_values(column, len(table)) for column in table.columns}
    rows = pd.DataFrame({name: values for name, values in columns.items() if values is not None and values.ndim == 1})
    if not {"start_time", "stop_time"} <= set(rows):
        return IntervalTable(item.path, rows.iloc[:0].reindex(columns=["start_time", "stop_time"]))
    good = np.isfinite(rows["start_time"]) & (rows["stop_time"] > rows["start_time"])
    return IntervalTable(item.path, rows[good].sort_values("start_time", kind="stable").reset_index(drop=True))
