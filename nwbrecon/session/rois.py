"""The ROI table of an imaging plane: what is known of each ROI, and which ROIs are cells."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nwbrecon.session.series import read_all
from nwbrecon.session.tables import column_values

__all__ = ["RoiTable", "read_roi_table"]

_MASKS = {"image_mask", "pixel_mask", "voxel_mask"}
_CELL_FLAGS = ("valid_roi", "is_cell", "iscell", "accepted", "valid")


@dataclass
class RoiTable:
    """What a file says of the ROIs of one plane; masks are not read.

    Attributes
    ----------
    name
        Name of the table.
    plane
        Name of the imaging plane, or of the table where there is none.
    rois
        One row a ROI, indexed by its id.
    cells
        ``(roi,)`` whether the file counts it as a cell.
    reason
        By which column cells were told from the rest, in words.
    imaging_rate
        Samples per second (Hz), where the file has it.
    indicator
        Name of the calcium indicator, or empty.
    """

    name: str
    plane: str
    rois: pd.DataFrame
    cells: np.ndarray
    reason: str
    imaging_rate: float | None
    indicator: str


def read_roi_table(table: Any) -> RoiTable:
    """Read the columns of a ``PlaneSegmentation`` that have one plain value a ROI.

    Parameters
    ----------
    table
        The table that the region ``rois`` of a response series refers to.
    """
    columns: dict[str, np.ndarray] = {}
    for column in table.columns:
        if column.name in _MASKS:
            continue
        values = column_values(column, len(table), widest=3)
        if values is None:
            continue
        if values.ndim == 1:
            columns[column.name] = values
        elif values.shape[1] == 2 and column.name.lower() in {"iscell", "is_cell"}:
            # suite2p stores the decision and its probability side by side
            columns[column.name] = values[:, 0]
        elif re.search(r"centroid|position|location", column.name, re.IGNORECASE):
            columns.update(zip("xyz", values.T, strict=False))
    rois = pd.DataFrame(columns, index=pd.Index(read_all(table.id.data, f"The column id of {table.name}"), name="roi"))
    plane = getattr(table, "imaging_plane", None)
    _add_place(rois, plane)
    cells, reason = _cells(rois)
    rate = getattr(plane, "imaging_rate", None)
    return RoiTable(
        name=table.name,
        plane=table.name if plane is None else plane.name,
        rois=rois,
        cells=cells,
        reason=reason,
        imaging_rate=float(rate) if rate is not None and np.isfinite(rate) and rate > 0 else None,
        indicator=str(getattr(plane, "indicator", "") or ""),
    )


def _add_place(rois: pd.DataFrame, plane: Any) -> None:
    if plane is None:
        return
    location = str(plane.location or "")
    # a list of areas is where the whole field lies, not where any one of its cells does
    if "area" not in rois and re.fullmatch(r"[A-Za-z0-9/_ -]+", location) and location.lower() != "unknown":
        rois["area"] = location
    depth = re.search(r"(\d+(?:\.\d+)?)\s*(?:um|µm|μm|micron|micrometer)", f"{plane.description} {location}")
    if "depth" not in rois and depth:
        rois["depth"] = float(depth.group(1))


def _cells(rois: pd.DataFrame) -> tuple[np.ndarray, str]:
    everything = np.ones(len(rois), dtype=bool)
    for name in rois.columns:
        values = rois[name]
        if name.lower() == "mask_type":
            chosen = values.astype(str).str.contains(r"soma|cell|neuron", case=False).to_numpy()
        elif name.lower() in _CELL_FLAGS and values.isin([0, 1]).all():
            chosen = values.to_numpy().astype(bool)
        elif name.lower() == "rejected" and values.isin([0, 1]).all():
            chosen = ~values.to_numpy().astype(bool)
        else:
            continue
        if chosen.any():
            return chosen, f" by the column {name}"
    return everything, ""
