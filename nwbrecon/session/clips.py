"""Which presentations show the same clip."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from nwbrecon.session.model import FrameStore
from nwbrecon.session.timeline import EDGE_FRAMES, Presentation

__all__ = ["name_clips"]

MOMENTS = np.array([0.05, 0.3, 0.5, 0.7, 0.95])
"""Share of a presentation at which its pictures are compared with another's."""
COARSE = 8
"""Pictures are compared as means over so many rows and columns of blocks."""
SAME_PICTURE = 2.0
"""Coarse pictures that differ by less than so many grey levels on average are the same."""


def name_clips(pieces: Sequence[Presentation], stores: Mapping[str, FrameStore]) -> list[str]:
    """Name the clip that each presentation shows, equally for repeats and differently otherwise.

    Where an index says which frames of a template were shown, they are the clip's identity. Else it is what the file
    says of the presentation, if that is a hash or the name of a clip. Else it is how the clip looks: five frames are
    read of each presentation that has the length of another.

    Parameters
    ----------
    pieces
        Presentations; indexed ones of one store show the same frames or none in common.
    stores
        Where the pixels are, by key.
    """
    looks = _by_looks([p for p in pieces if not p.timeline.indexed and not (p.trusted and p.label)], stores)
    ranges: dict[Hashable, list[tuple[int, int]]] = defaultdict(list)
    identities: list[Hashable] = []
    names: dict[Hashable, str] = {}
    for piece in pieces:
        store = stores[piece.timeline.store].name
        identity: Hashable
        if piece.timeline.indexed:
            backward = bool(piece.frames[0] > piece.frames[-1])
            first, last = _known(piece, ranges[piece.timeline.store, backward])
            identity = (piece.timeline.store, backward, first, last)
            whole = first == 0 and last == stores[piece.timeline.store].n_frames - 1
            part = "" if whole else f"[{first}]" if first == last else f"[{first}:{last + 1}]"
            names[identity] = store + part + " backward" * backward
        elif piece.trusted and piece.label:
            identity = piece.label
            names[identity] = piece.label
        else:
            identity = looks[id(piece)]
            names[identity] = f"{piece.label or store} {identity[1] + 1}"
        identities.append(identity)
    return _prefer_labels(pieces, identities, names)


def _known(piece: Presentation, ranges: list[tuple[int, int]]) -> tuple[int, int]:
    """Range of frames, as it was called when it was first met: a frame dropped at an end is no new clip."""
    low, high = int(piece.frames.min()), int(piece.frames.max())
    slack = EDGE_FRAMES if high - low >= 10 * EDGE_FRAMES else 0
    for known in ranges:
        if abs(known[0] - low) <= slack and abs(known[1] - high) <= slack:
            return known
    ranges.append((low, high))
    return low, high


def _by_looks(pieces: Sequence[Presentation], stores: Mapping[str, FrameStore]) -> dict[int, tuple[str, int]]:
    lengths = np.array([len(piece.frames) for piece in pieces])
    found: dict[int, tuple[str, int]] = {}
    seen: list[tuple[Presentation, np.ndarray]] = []
    counts: dict[str, int] = defaultdict(int)
    for piece, length in zip(pieces, lengths, strict=True):
        same = None
        if np.count_nonzero(np.abs(lengths - length) <= EDGE_FRAMES) > 1:
            picture = _picture(piece, stores[piece.timeline.store])
            for other, seen_picture in seen:
                close = abs(len(other.frames) - length) <= EDGE_FRAMES and seen_picture.shape == picture.shape
                if close and float(np.abs(seen_picture - picture).mean()) < SAME_PICTURE:
                    same = found[id(other)]
                    break
            else:
                seen.append((piece, picture))
        if same is None:
            name = piece.label or stores[piece.timeline.store].name
            same = (name, counts[name])
            counts[name] += 1
        found[id(piece)] = same
    return found


def _picture(piece: Presentation, store: FrameStore) -> np.ndarray:
    moments = piece.frames[np.round(MOMENTS * (len(piece.frames) - 1)).astype(int)]
    frames = store.read(moments)
    rows, columns = (np.unique(np.linspace(0, size, COARSE, endpoint=False).astype(int)) for size in frames.shape[1:])
    sums = np.add.reduceat(np.add.reduceat(frames, rows, axis=1), columns, axis=2)
    heights = np.diff(np.append(rows, frames.shape[1]))
    widths = np.diff(np.append(columns, frames.shape[2]))
    return sums / np.outer(heights, widths)


def _prefer_labels(
    pieces: Sequence[Presentation], identities: Sequence[Hashable], names: Mapping[Hashable, str]
) -> list[str]:
    """Call a clip what the file calls it, where that name is its alone."""
    labels: dict[Hashable, set[str]] = defaultdict(set)
    owners: dict[str, set[Hashable]] = defaultdict(set)
    for piece, identity in zip(pieces, identities, strict=True):
        labels[identity].add(piece.label)
        owners[piece.label].add(identity)
    final = {}
    for identity, found in labels.items():
        (label, *others) = found
        alone = label and not others and len(owners[label]) == 1
        final[identity] = label if alone else names[identity]
    return [final[identity] for identity in identities]
