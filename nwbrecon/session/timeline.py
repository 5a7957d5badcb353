"""Timelines: which frames of a store were shown when; and how they are cut into presentations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nwbrecon.session.series import median_interval

__all__ = ["Presentation", "Timeline", "cut_at_shared_edges", "frame_ends", "runs"]

GAP_INTERVALS = 4.0
"""A pause of more than so many median frame intervals ends a run of frames."""
MOVIE_SHARE = 0.7
"""An index whose steps are equal in less than this share of cases is a list of images, not a movie."""
EDGE_FRAMES = 2
"""Runs whose first (or last) frames are at most so far apart begin (or end) alike: a frame dropped is no new clip."""


@dataclass
class Timeline:
    """Frames in the order in which they were shown.

    Attributes
    ----------
    path
        The series or table of the file that says so.
    store
        Key of the frame store.
    frames
        ``(shown,)`` indices into the store.
    onsets, ends
        ``(shown,)`` seconds at which each appeared and was taken away.
    indexed
        Whether the indices say what was shown (an index into a template); else frames are merely counted, as in a
        recorded movie of the whole session, where the same picture comes again under another number.
    kind
        ``movie``, ``image``, ``noise``, ``grating`` or ``gray``.
    """

    path: str
    store: str
    frames: np.ndarray
    onsets: np.ndarray
    ends: np.ndarray
    indexed: bool
    kind: str = "movie"

    def __len__(self) -> int:
        return len(self.frames)


@dataclass
class Presentation:
    """One showing of something; a row of `Stimulus.presentations` in the making.

    Attributes
    ----------
    timeline
        Where it comes from.
    first, last
        The frames are ``timeline.frames[first:last]``.
    label, film, split
        What the file says of it, or empty.
    trusted
        Whether equal labels mean equal pictures.
    """

    timeline: Timeline
    first: int
    last: int
    label: str = ""
    film: str = ""
    split: str = ""
    kind: str = ""
    trusted: bool = False

    @property
    def frames(self) -> np.ndarray:
        """Indices into the store."""
        return self.timeline.frames[self.first : self.last]

    @property
    def onset(self) -> float:
        """Seconds at which the first frame appeared."""
        return float(self.timeline.onsets[self.first])

    @property
    def offset(self) -> float:
        """Seconds at which the last frame was taken away."""
        return float(self.timeline.ends[self.last - 1])


def frame_ends(onsets: np.ndarray) -> np.ndarray:
    """When each frame was taken away, where only the onsets are known.

    A frame stays until the next one comes; before a pause, and at the end, for one median interval (NWB has no offset
    for the samples of a series).

    Parameters
    ----------
    onsets
        ``(frame,)`` seconds, increasing.
    """
    if len(onsets) < 2:
        return onsets + 1 / 30
    interval = median_interval(onsets)
    following = np.append(onsets[1:], np.inf)
    return np.where(following - onsets <= GAP_INTERVALS * interval, following, onsets + interval)


def runs(timeline: Timeline) -> list[Presentation]:
    """Cut a timeline where the time pauses, and where an index jumps.

    A movie that is shown ten times in a row has an index that goes back ten times; each showing is a run. Images in no
    order are a run each, however long each stays.
    """
    if len(timeline) == 0:
        return []
    interval = median_interval(timeline.onsets) if len(timeline) > 1 else np.inf
    cut = timeline.onsets[1:] - timeline.ends[:-1] > (GAP_INTERVALS - 1) * interval
    if timeline.indexed:
        steps = np.diff(timeline.frames)
        moving = steps != 0
        strides, counts = np.unique(steps[moving], return_counts=True)
        # within a run the index goes one way by one stride, but for dropped frames
        stride = int(strides[np.argmax(counts)]) if len(strides) else 1
        in_order = (steps * stride >= 0) & (np.abs(steps) <= np.abs(stride) * EDGE_FRAMES)
        if len(strides) and counts.max() < MOVIE_SHARE * counts.sum():
            in_order = ~moving
        cut |= ~in_order
    edges = [0, *(np.flatnonzero(cut) + 1).tolist(), len(timeline)]
    return [Presentation(timeline, first, last) for first, last in pairwise(edges)]


def cut_at_shared_edges(pieces: Sequence[Presentation]) -> list[Presentation]:
    """Cut runs of one store further, so that any two of them show the same frames or none in common.

    Where a movie was shown whole once and in part another time, the part is a clip of its own; a whole that held it
    unseen would leak it from one split into another.
    """
    edges: dict[str, set[int]] = {}
    for piece in pieces:
        if piece.timeline.indexed:
            low, high = int(piece.frames.min()), int(piece.frames.max()) + 1
            edges.setdefault(piece.timeline.store, set()).update((low, high))
    ordered = {store: np.array(sorted(found)) for store, found in edges.items()}
    cut: list[Presentation] = []
    for piece in pieces:
        frames, inside = piece.frames, list[int]()
        if piece.timeline.indexed and (np.diff(frames) >= 0).all():
            span = np.searchsorted(ordered[piece.timeline.store], (frames[0] + EDGE_FRAMES + 1, frames[-1]))
            for edge in ordered[piece.timeline.store][slice(*span)].tolist():
                previous = inside[-1] if inside else int(frames[0])
                if edge - previous > EDGE_FRAMES and int(frames[-1]) + 1 - edge > EDGE_FRAMES:
                    inside.append(edge)
        places = [0, *np.unique(np.searchsorted(frames, inside)).tolist(), len(frames)]
        for first, last in pairwise(places):
            cut.append(
                Presentation(
                    piece.timeline,
                    piece.first + first,
                    piece.first + last,
                    film=piece.film,
                    split=piece.split,
                    kind=piece.kind,
                    label=piece.label if len(places) == 2 else "",
                    trusted=piece.trusted and len(places) == 2,
                )
            )
    return cut
