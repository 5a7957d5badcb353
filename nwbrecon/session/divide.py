"""From timelines and tables of intervals to presentations."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np
import pandas as pd

from nwbrecon.session.series import median_interval
from nwbrecon.session.showings import stimulus_kind
from nwbrecon.session.tables import IntervalTable
from nwbrecon.session.timeline import Presentation, Timeline, runs

__all__ = ["divide", "row_notes"]

# equal values of these columns mean equal pictures
_IDENTITY = re.compile(r"(condition|stimulus|stim|movie|clip|video|image)_?hash|hash|clip(_?(id|name))?|movie_clip")
# these say what was shown, but not always all of it
_NAMES = re.compile(r"(stimulus|stim|condition|video|image|movie)(_?(id|name))?|label|name")
_NUMBERS = re.compile(r"(clip|scene|trial_type|image|stimulus|condition)_?(number|index|nr|no)")
_FILM = re.compile(r"(movie|film|video|source_film|source_movie|source_video)(_?name)?")
_SPLIT = re.compile(r"split|tier|fold_name|data_?split|subset")
_SPLITS = (("test", r"test|oracle"), ("validation", r"\bval"), ("train", r"train"))
_STIMULUS_TABLE = re.compile(r"trial|clip|movie|stim|present|video|monet|trippy|scene|image", re.IGNORECASE)
_OTHER_TABLE = re.compile(r"epoch|invalid|lick|running|behavior|sleep|state|ripple|sweep", re.IGNORECASE)

COVERED = 0.8
"""An interval belongs to a timeline if frames were on the screen during at least this share of it."""


def row_notes(table: IntervalTable) -> pd.DataFrame:
    """Collect what each row says of what was shown: ``label``, ``trusted``, ``film``, ``split``, ``kind``."""
    rows = table.rows
    spelled = {str(name): re.sub(r"(?<=[a-z])(?=[A-Z])", "_", str(name)).lower() for name in rows.columns}

    def first(pattern: re.Pattern[str]) -> pd.Series | None:
        columns = (name for name, low in spelled.items() if pattern.fullmatch(low))
        return next((rows[name].map(_word) for name in columns), None)

    nothing = pd.Series("", index=rows.index, dtype=object)
    identity, name, number, film, split = map(first, (_IDENTITY, _NAMES, _NUMBERS, _FILM, _SPLIT))
    if identity is not None:
        label, trusted = identity, True
    elif number is not None and (film is not None or name is not None):
        label, trusted = (film if film is not None else name) + "/" + number, True  # type: ignore[operator]
    else:
        label, trusted = (name if name is not None else nothing), False
    kinds = rows["stimulus_type"].map(_word) if "stimulus_type" in rows else nothing
    return pd.DataFrame(
        {
            "label": label,
            "trusted": trusted,
            # a film that all come from, or a clip's own name, keeps nothing together
            "film": nothing if film is None or film.nunique() == 1 or (trusted and film.equals(label)) else film,
            "split": nothing if split is None else split.map(_split),
            "kind": [stimulus_kind(kind, table.name, unknown="") for kind in kinds],
        },
        index=rows.index,
    )


def divide(timeline: Timeline, tables: Sequence[IntervalTable]) -> list[Presentation]:
    """Cut one timeline into presentations.

    Intervals whose spans lie within the timeline and are filled with frames are presentations, with what their table
    says of them. A movie that merely has a clock is not shown outside such intervals (what it holds there is the blank
    between trials); where there are none, it is cut where its clock pauses. Index into a template is also cut where it
    jumps: an interval over ten showings in a row is ten presentations.
    """
    pieces = runs(timeline)
    begins = [piece.first for piece in pieces]
    ranked = sorted(tables, key=_evidence, reverse=True)
    taken = np.zeros(len(timeline), dtype=bool)
    divided: list[Presentation] = []
    for table in ranked:
        rows = _fitting_rows(timeline, table, pieces, taken) if _evidence(table) > 0 else []
        if not rows:
            continue
        notes = row_notes(table).to_dict(orient="index")
        for row, first, last, filled in rows:
            taken[first:last] = True
            note = notes[row]
            inside = pieces[bisect_right(begins, first) - 1 : bisect_left(begins, last)]
            if len(inside) == 1 or (filled and not timeline.indexed):
                divided.append(Presentation(timeline, first, last, **note))
            else:
                # the row says of several showings together what may not hold for each
                note = {**note, "label": "", "trusted": False}
                divided += [
                    Presentation(timeline, max(piece.first, first), min(piece.last, last), **note) for piece in inside
                ]
    if not divided:
        return pieces
    if timeline.indexed:
        divided += _untaken(pieces, taken)
    return sorted(divided, key=lambda piece: piece.first)


def _evidence(table: IntervalTable) -> float:
    names = [str(name).lower() for name in table.rows.columns]
    score = 2.0 * any(_IDENTITY.fullmatch(name) for name in names)
    score += 1.0 * any(_SPLIT.fullmatch(name) or _FILM.fullmatch(name) for name in names)
    score += 1.0 * any(_NAMES.fullmatch(name) for name in names)
    score += 1.0 * bool(_STIMULUS_TABLE.search(table.name))
    return score - 2.0 * bool(_OTHER_TABLE.search(table.name))


def _fitting_rows(
    timeline: Timeline, table: IntervalTable, pieces: Sequence[Presentation], taken: np.ndarray
) -> list[tuple[int, int, int, bool]]:
    """``(row, first, last, filled)`` for the intervals that hold frames not taken yet.

    Such an interval is filled with frames; or, if it is longer than what was shown in it, it holds whole runs.
    """
    tolerance = (median_interval(timeline.onsets) if len(timeline) > 1 else 0.1) / 2
    starts, stops = (table.rows[name].to_numpy(dtype=float) for name in ("start_time", "stop_time"))
    firsts = np.searchsorted(timeline.onsets, starts - tolerance).tolist()
    lasts = np.searchsorted(timeline.onsets, stops - tolerance).tolist()
    shown = np.concatenate([[0.0], np.cumsum(timeline.ends - timeline.onsets)])
    run_edges = {piece.first for piece in pieces} | {len(timeline)}
    still = len(pieces) > len(timeline) / 2
    rows, busy = [], taken.copy()
    for row, (first, last) in enumerate(zip(firsts, lasts, strict=True)):
        filled = bool(shown[last] - shown[first] >= COVERED * (stops[row] - starts[row]))
        whole = first in run_edges and last in run_edges
        # a row a frame of a movie is a list of flips, not of presentations
        if last - first >= (1 if still else 2) and (filled or whole) and not busy[first:last].any():
            busy[first:last] = True
            rows.append((int(table.rows.index[row]), first, last, filled))
    return rows


def _untaken(pieces: Sequence[Presentation], taken: np.ndarray) -> list[Presentation]:
    free = []
    for piece in pieces:
        edges = np.flatnonzero(np.diff(np.concatenate([[1], taken[piece.first : piece.last], [1]])))
        for first, last in zip(edges[::2], edges[1::2], strict=True):
            free.append(Presentation(piece.timeline, piece.first + int(first), piece.first + int(last)))
    return free


def _split(word: str) -> str:
    return next((split for split, pattern in _SPLITS if re.search(pattern, word.lower())), "")


def _word(value: object) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:g}"
    return str(value)
