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
SAMPLED = 32
"""Of each picture, about so many rows and columns are compared."""
SAME_PICTURE = 0.15
"""Pictures that differ by less than this share of their contrast on average are the same, compressed or a flip late."""
LEAST_DIFFERENCE = 2.0
"""Pictures that differ by less than so many grey levels are the same, whatever their contrast."""


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
    named = _named(pieces)
    looks = _by_looks(
        [p for p in pieces if not p.timeline.indexed and p.label not in named and p.kind != "gray"], stores
    )
    ranges: dict[Hashable, dict[tuple[int, int], None]] = defaultdict(dict)
    identities: list[Hashable] = []
    names: dict[Hashable, str] = {}
    for piece in pieces:
        store = stores[piece.timeline.store].name
        identity: Hashable
        if piece.kind == "gray":
            identity = names[identity] = "gray"
        elif piece.timeline.indexed:
            backward = bool(piece.frames[0] > piece.frames[-1])
            first, last = _known(piece, ranges[piece.timeline.store, backward])
            identity = (piece.timeline.store, backward, first, last)
            whole = first == 0 and last == stores[piece.timeline.store].n_frames - 1
            part = "" if whole else f"[{first}]" if first == last else f"[{first}:{last + 1}]"
            names[identity] = store + part + " backward" * backward
        elif piece.label in named:
            identity = piece.label
            names[identity] = piece.label
        else:
            identity = looks[id(piece)]
            names[identity] = f"{piece.label or store} {identity[1] + 1}"
        identities.append(identity)
    return _prefer_labels(pieces, identities, names)


def _named(pieces: Sequence[Presentation]) -> set[str]:
    """Labels that are identities: trusted, and of one length wherever they stand."""
    lengths: dict[str, list[int]] = defaultdict(list)
    for piece in pieces:
        if piece.trusted and piece.label:
            lengths[piece.label].append(len(piece.frames))
    return {label for label, found in lengths.items() if max(found) - min(found) <= EDGE_FRAMES + 0.02 * max(found)}


def _known(piece: Presentation, ranges: dict[tuple[int, int], None]) -> tuple[int, int]:
    """Range of frames, as it was called when it was first met: a frame dropped at an end is no new clip."""
    low, high = int(piece.frames.min()), int(piece.frames.max())
    if (low, high) in ranges:
        return low, high
    if high - low >= 10 * EDGE_FRAMES:
        for known in ranges:
            if abs(known[0] - low) <= EDGE_FRAMES and abs(known[1] - high) <= EDGE_FRAMES:
                return known
    ranges[low, high] = None
    return low, high


def _by_looks(pieces: Sequence[Presentation], stores: Mapping[str, FrameStore]) -> dict[int, tuple[str, int]]:
    lengths = np.array([len(piece.frames) for piece in pieces])
    found: dict[int, tuple[str, int]] = {}
    seen: list[tuple[Presentation, np.ndarray]] = []
    counts: dict[str, int] = defaultdict(int)
    for piece, length in zip(pieces, lengths, strict=True):
        same = None
        near = lengths[np.abs(lengths - length) <= EDGE_FRAMES]
        if len(near) > 1:
            picture = _pictures(piece, stores[piece.timeline.store], int(near.min()))
            for other, seen_picture in seen:
                if abs(len(other.frames) - length) <= EDGE_FRAMES and _alike(seen_picture, picture):
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


def _pictures(piece: Presentation, store: FrameStore, length: int) -> np.ndarray:
    # single pixels, not means over blocks: those of two clips of fine noise would be the same grey
    frames = store.read(piece.frames[np.round(MOMENTS * (length - 1)).astype(int)])
    return frames[:, :: max(1, frames.shape[1] // SAMPLED), :: max(1, frames.shape[2] // SAMPLED)]


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    if one.shape != other.shape:
        return False
    return float(np.abs(one - other).mean()) < max(LEAST_DIFFERENCE, SAME_PICTURE * float(one.std()))


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
