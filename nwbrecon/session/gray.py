"""When the screen showed nothing: between clips, between blocks, and in spontaneous periods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nwbrecon.session.divide import row_notes
from nwbrecon.session.model import FrameStore
from nwbrecon.session.showings import frames_named, stimulus_kind
from nwbrecon.session.tables import IntervalTable
from nwbrecon.session.timeline import Presentation, Timeline

__all__ = ["GRAY", "blank_frames", "gray_periods", "is_gray"]

GRAY = "gray"
"""Clip, kind and key of the store of a screen that shows nothing."""
SHORTEST = 0.1
"""Pauses shorter than this (s) are the jitter of clocks."""
N_PROBES = 3
SAME_LEVEL, BLANK_SHARE = 4.0, 0.95
"""A frame is blank if this share of its pixels is within so many grey levels of their median."""


def is_gray(table: IntervalTable) -> np.ndarray:
    """Which rows of a table say that nothing was shown: ``(row,)`` bool."""
    if stimulus_kind(table.name, unknown="") == GRAY:
        return np.ones(len(table.rows), dtype=bool)
    notes = row_notes(table)
    labels = zip(notes["kind"], notes["label"], notes["film"], strict=True)
    gray = np.array([GRAY in (kind, stimulus_kind(label, film, unknown="")) for kind, label, film in labels], bool)
    # a flip that shows no frame
    return gray if frames_named(table) is None else gray | (table.rows["frame"] < 0).to_numpy()


def blank_frames(
    pieces: Sequence[Presentation], stores: Mapping[str, FrameStore], warn: Callable[[str], None]
) -> list[Presentation]:
    """Find what a movie of the whole session shows between its presentations, if that is nothing.

    Parameters
    ----------
    pieces
        What was shown.
    stores
        Where the pixels are, by key. The middle frames of the longest stretches are read to see whether they are blank.
    warn
        Called with a sentence where they are not.
    """
    blanks: list[Presentation] = []
    by_timeline: dict[int, list[Presentation]] = {}
    for piece in pieces:
        by_timeline.setdefault(id(piece.timeline), []).append(piece)
    for group in by_timeline.values():
        timeline = group[0].timeline
        if timeline.indexed:
            continue
        free = np.ones(len(timeline), dtype=bool)
        for piece in group:
            free[piece.first : piece.last] = False
        edges = np.flatnonzero(np.diff(free.astype(int), prepend=0, append=0)).reshape(-1, 2)
        found = [Presentation(timeline, first, last, kind=GRAY) for first, last in edges.tolist()]
        found = [blank for blank in found if blank.offset - blank.onset >= SHORTEST]
        longest = sorted(found, key=lambda blank: blank.last - blank.first)[-N_PROBES:]
        middles = np.array([blank.frames[len(blank.frames) // 2] for blank in longest], dtype=np.int64)
        if all(_is_blank(frame) for frame in stores[timeline.store].read(middles)):
            blanks += found
        else:
            seconds = sum(blank.offset - blank.onset for blank in found)
            warn(f"{seconds:.0f} s of {timeline.path} lie in no interval and are not blank; they were left out.")
    return blanks


def gray_periods(pieces: Sequence[Presentation], tables: Sequence[IntervalTable]) -> list[Presentation]:
    """Find when the screen was grey, but for what movies of the whole session hold of it.

    That is during intervals that a table calls grey, blank or spontaneous, and between presentations, unless a table
    has an interval there: something was shown then of which the file has no pixels.

    Parameters
    ----------
    pieces
        What was shown.
    tables
        All tables of intervals.

    Returns
    -------
    list of Presentation
        In no order; they show frame 0 of the store ``gray``.
    """
    shown = np.array([(piece.onset, piece.offset) for piece in pieces]).reshape(-1, 2)
    stated, other = [np.empty((0, 2))], [np.empty((0, 2))]
    for table in tables:
        spans = table.rows[["start_time", "stop_time"]].to_numpy(dtype=float)
        gray = is_gray(table)
        begun = np.searchsorted(np.sort(shown[:, 0]), spans[:, 1], side="left")
        ended = np.searchsorted(np.sort(shown[:, 1]), spans[:, 0], side="right")
        stated.append(spans[gray])
        other.append(spans[~gray & (begun == ended)])
    silent = _gaps(np.concatenate([[[-np.inf, -np.inf]], *stated, [[np.inf, np.inf]]]))
    between = _gaps(np.concatenate([shown, *other, *stated]))
    known = np.concatenate([shown, *stated])
    within = (between[:, 0] >= known[:, 0].min()) & (between[:, 1] <= known[:, 1].max())
    periods = np.concatenate([_gaps(np.concatenate([silent, shown])), between[within]])
    return [_gray(start, stop) for start, stop in periods]


def _is_blank(frame: np.ndarray) -> bool:
    return float((np.abs(frame - np.median(frame)) < SAME_LEVEL).mean()) > BLANK_SHARE


def _gray(start: float, stop: float) -> Presentation:
    timeline = Timeline(GRAY, GRAY, np.zeros(1, dtype=np.int64), np.array([start]), np.array([stop]), True, GRAY)
    return Presentation(timeline, 0, 1, kind=GRAY)


def _gaps(spans: np.ndarray) -> np.ndarray:
    """Stretches between the first and the last span that no span covers, jitter left out: ``(gap, 2)``."""
    ordered = spans[np.argsort(spans[:, 0], kind="stable")]
    reached = np.maximum.accumulate(ordered[:, 1])
    gap = ordered[1:, 0] - reached[:-1] >= SHORTEST
    return np.column_stack([reached[:-1][gap], ordered[1:, 0][gap]])
