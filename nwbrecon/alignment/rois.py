"""Which ROIs are used: by id, brain area, depth and signal-to-noise ratio, from the file or from a table beside it."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nwbrecon.config import AlignmentSettings
from nwbrecon.errors import AlignmentError
from nwbrecon.session.model import ResponseGroup

__all__ = ["join_rois", "read_roi_csv", "select_rois"]

ID_COLUMNS = ("roi_id", "roi", "mask_id", "id")
PLANE_COLUMNS = ("plane", "group", "field")
SYNONYMS = {"brain_area": "area", "snr_comp": "snr", "signal_to_noise": "snr"}
_MOST_LISTED = 8


def select_rois(
    groups: Mapping[str, ResponseGroup], settings: AlignmentSettings, table: pd.DataFrame | None = None
) -> tuple[dict[str, ResponseGroup], list[str]]:
    """Keep the ROIs that the settings ask for: those that meet all of ``rois``, ``areas``, ``depth`` and ``snr``.

    An ROI whose area, depth or signal-to-noise ratio is not known does not meet what is asked of it.

    Parameters
    ----------
    groups
        Response groups by name.
    settings
        What is asked for, and ``roi_table``, which is joined first.
    table
        A table to join (`join_rois`) in place of ``roi_table``.

    Returns
    -------
    groups : dict
        The groups with the ROIs that are left, without those that have none left.
    warnings : list of str
        What was left out, in sentences.

    Raises
    ------
    AlignmentError
        If nothing meets what is asked, or an id or an area is not there at all; it lists what is there.
    """
    warnings: list[str] = []
    if table is None and settings.roi_table is not None:
        table = read_roi_csv(settings.roi_table)
    if table is not None:
        groups, warnings = join_rois(groups, table)
    everything = _all_rois(groups)
    met: dict[str, np.ndarray] = {}
    if settings.rois is not None:
        met["by id"] = _by_id(everything, settings.rois)
    if settings.areas is not None:
        met[f"in {' or '.join(settings.areas)}"] = _by_area(everything, settings.areas)
    if settings.depth is not None:
        low, high = settings.depth
        words = f"{low:g} to {high:g} micrometers deep"
        met[words] = _within(everything, "depth", low, high, words)
    if settings.snr is not None:
        words = f"of a signal-to-noise ratio of {settings.snr:g} and more"
        met[words] = _within(everything, "snr", settings.snr, np.inf, words)
    if not met:
        return dict(groups), warnings
    chosen = np.logical_and.reduce(list(met.values()))
    counts = ", ".join(f"{words} ({count.sum()})" for words, count in met.items())
    if not chosen.any():
        raise AlignmentError(
            f"None of the {len(everything)} ROIs is all of these: {counts}.",
            "At least one ROI must be left.",
            "Ask for less.",
        )
    kept = {}
    for name, group in groups.items():
        own = chosen[(everything["group"] == name).to_numpy()]
        if own.any():
            kept[name] = group.only(own)
    return kept, [*warnings, f"{chosen.sum()} of {len(everything)} ROIs were selected: {counts}."]


def read_roi_csv(path: Path) -> pd.DataFrame:
    """Read a table with one row an ROI; commas, semicolons or tabs between its columns.

    Raises
    ------
    AlignmentError
        If the file is not there, or holds no table.
    """
    try:
        return pd.read_csv(path.expanduser(), sep=None, engine="python")
    except (OSError, ValueError, csv.Error) as error:
        raise AlignmentError(
            f"The table of ROIs {path} cannot be read ({error}).",
            "A CSV with a header, and one row an ROI, was expected.",
        ) from error


def join_rois(groups: Mapping[str, ResponseGroup], table: pd.DataFrame) -> tuple[dict[str, ResponseGroup], list[str]]:
    """Add to the ROI tables what another table says, by the ROIs' ids.

    Parameters
    ----------
    groups
        Response groups by name.
    table
        One row an ROI, with its id (``roi_id``, ``roi``, ``mask_id`` or ``id``, or a column that the ROI tables have
        too and whose name ends in ``_id``) and, where planes share ids, the name of the plane (``plane`` or ``group``)
        or its number (``field``: the number at the end of the plane's name). Its other columns are added; they
        win over columns of the same name in the file wherever they have a value. ``brain_area`` is taken for ``area``.

    Returns
    -------
    groups : dict
        The groups, with longer ROI tables.
    warnings : list of str
        How many ROIs the table does not know, in a sentence.

    Raises
    ------
    AlignmentError
        If the table has no id, knows an ROI twice, knows none of the ROIs, or its ids fit several planes.
    """
    everything = _all_rois(groups)
    table = table.reset_index() if table.index.name in ID_COLUMNS else table
    table = table.rename(columns={str(name): _name(str(name)) for name in table.columns})
    key = next((name for name in ID_COLUMNS if name in table), None)
    own = "roi_id"
    if key is None:
        key = own = next((name for name in table if name.endswith("_id") and name in everything), "")
    if not key:
        raise AlignmentError(
            f"The table of ROIs has no column of ids; it has {', '.join(table.columns)}.",
            f"One of {', '.join(ID_COLUMNS)} was expected, or an id that the file has too"
            f" ({', '.join(name for name in everything if name.endswith('_id'))}).",
        )
    ours, theirs = pd.DataFrame({"id": everything[own]}), pd.DataFrame({"id": table[key]})
    plane = next((name for name in PLANE_COLUMNS if name in table), None)
    if plane is not None:
        theirs["plane"] = _planes(table[plane], groups)
        ours["plane"] = everything["group"].to_numpy()
    known = theirs.notna().all(axis=1)
    keys = pd.MultiIndex.from_frame(theirs[known].astype({"id": object}))
    wanted = pd.MultiIndex.from_frame(ours.astype({"id": object}))
    if keys.has_duplicates:
        raise AlignmentError(
            f"The table of ROIs has several rows of {key} {_listed(keys[keys.duplicated()].get_level_values(0))}.",
            "One row an ROI was expected.",
            "Leave the rows of other sessions out"
            + (", or add a column plane with the name of the plane." if plane is None else "."),
        )
    rows = keys.get_indexer(wanted)
    if (rows < 0).all():
        raise AlignmentError(
            f"The table of ROIs knows none of the {len(everything)} ROIs: its {key} are {_listed(theirs['id'])}"
            + (f" of {_listed(table[plane])}" if plane is not None else "")
            + f", the file's are {_listed(everything[own])} of {_listed(everything['group'])}.",
            "Ids, and planes where they are given, must be those of the file.",
        )
    shared = ours["id"][(rows >= 0) & ours["id"].duplicated()] if plane is None else ours["id"][:0]
    if len(shared):
        raise AlignmentError(
            f"Planes share the ids of their ROIs, such as {_listed(shared)}.",
            "The table of ROIs must say the plane of each.",
            f"Add a column plane with one of {_listed(everything['group'])}.",
        )
    added = table[known].drop(columns=[name for name in (key, plane) if name]).reset_index(drop=True)
    joined = {}
    for name, group in groups.items():
        at = rows[(everything["group"] == name).to_numpy()]
        values = added.reindex(at).set_axis(group.rois.index)
        rois = group.rois.copy()
        for column in added:
            rois[column] = values[column].combine_first(rois[column]) if column in rois else values[column]
        joined[name] = replace(group, rois=rois)
    missing = int((rows < 0).sum())
    return joined, [f"The table of ROIs does not know {missing} of {len(everything)} ROIs."] if missing else []


def _name(column: str) -> str:
    lower = column.strip().lower()
    return SYNONYMS.get(lower, lower if lower in {*ID_COLUMNS, *PLANE_COLUMNS, "area", "depth", "snr"} else column)


def _all_rois(groups: Mapping[str, ResponseGroup]) -> pd.DataFrame:
    tables = [
        group.rois.rename(columns={str(column): _name(str(column)) for column in group.rois})
        .drop(columns=["group", "roi_id"], errors="ignore")
        .assign(group=name, roi_id=group.rois.index)
        for name, group in groups.items()
    ]
    return pd.concat(tables, ignore_index=True)


def _planes(column: pd.Series, groups: Mapping[str, ResponseGroup]) -> pd.Series:
    numbered: dict[str, str] = {}
    for name in groups:
        ending = re.search(r"(\d+)$", name)
        if ending:
            numbered.setdefault(str(int(ending[1])), name)
    # a column of numbers with gaps is read as floats
    words = column.map(lambda value: str(int(value)) if isinstance(value, float) and value.is_integer() else str(value))
    return words.map(lambda word: word if word in groups else numbered.get(word))


def _by_id(everything: pd.DataFrame, wanted: Any) -> np.ndarray:
    by_plane = wanted if isinstance(wanted, Mapping) else {None: wanted}
    chosen = np.zeros(len(everything), dtype=bool)
    for plane, ids in by_plane.items():
        own = np.ones(len(everything), dtype=bool) if plane is None else (everything["group"] == plane).to_numpy()
        if not own.any():
            raise AlignmentError(f"There is no plane {plane}.", f"The planes are {_listed(everything['group'])}.")
        there = everything.loc[own, "roi_id"]
        missing = sorted(set(ids) - set(there))
        if missing:
            raise AlignmentError(
                f"There is no ROI {_listed(pd.Series(missing))}{f' in {plane}' if plane else ''}.",
                f"The ids of the ROIs are {_listed(there)}.",
            )
        chosen |= own & everything["roi_id"].isin(ids).to_numpy()
    return chosen


def _by_area(everything: pd.DataFrame, wanted: tuple[str, ...]) -> np.ndarray:
    column = _column(everything, "area", "in a brain area").astype("string").str.strip()
    there = column.str.casefold()
    for area in wanted:
        if area.casefold() not in set(there.dropna()):
            counts = column.value_counts()
            present = ", ".join(f"{name} ({count})" for name, count in counts.items())
            unknown = f" and {column.isna().sum()} ROIs whose area is not known" if column.isna().any() else ""
            raise AlignmentError(f"No ROI lies in {area}.", f"There are {present}{unknown}.", "Name one of these.")
    return there.isin([area.casefold() for area in wanted]).to_numpy(dtype=bool, na_value=False)


def _within(everything: pd.DataFrame, name: str, low: float, high: float, words: str) -> np.ndarray:
    values = pd.to_numeric(_column(everything, name, words), errors="coerce").to_numpy(dtype=float)
    chosen: np.ndarray = (values >= low) & (values <= high)
    if not chosen.any():
        known = values[np.isfinite(values)]
        present = f"from {known.min():g} to {known.max():g}" if len(known) else "not known of any"
        raise AlignmentError(
            f"No ROI is {words}.",
            f"The column {name} goes {present}." if len(known) else f"The column {name} is {present}.",
        )
    return chosen


def _column(everything: pd.DataFrame, name: str, words: str) -> pd.Series:
    if name not in everything or everything[name].isna().all():
        others = [column for column in everything if column not in ("group", "roi_id")]
        raise AlignmentError(
            f"ROIs {words} were asked for, but nothing says the {name} of the ROIs; "
            f"known of them {'are ' + ', '.join(others) if others else 'is nothing'}.",
            f"A column {name} is needed.",
            "Give a CSV with the ROIs' ids and this column (setting roi_table).",
        )
    return everything[name]


def _listed(values: Any) -> str:
    unique = list(dict.fromkeys(pd.Series(values).dropna().tolist()))
    if len(unique) <= _MOST_LISTED:
        return ", ".join(map(str, unique))
    if all(isinstance(value, int) for value in unique):
        return f"{min(unique)} to {max(unique)} ({len(unique)} of them)"
    return ", ".join(map(str, unique[: _MOST_LISTED - 1])) + f" and {len(unique) - _MOST_LISTED + 1} more"
