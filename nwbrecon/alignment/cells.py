"""Which ROIs are one cell: a cell that lies between two imaging planes is seen in both."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from nwbrecon.alignment.model import AlignedSession
from nwbrecon.alignment.views import responses_in_bins

__all__ = ["cells_of_rois"]

# in bins of half a second, ROIs that are one cell correlated by .96 and more on two simulated mice, and others of other
# planes, which share tuning, its noise and neuropil, by at most .84; with a quarter more variance, as noise, by .84 and
# more, and at most .77
_BIN_SECONDS, _LEAST_CORRELATION = 0.5, 0.85
# of fewer bins a correlation says little
_LEAST_BINS = 60


def cells_of_rois(aligned: AlignedSession) -> np.ndarray:
    """Tell which ROIs are one cell, by how alike the activity of ROIs of different planes is.

    Planes are scanned one after the other, and a cell's samples fall at other times in each: activity is compared in
    bins that are much longer than a scan, over training trials. Two ROIs are one cell if their activity correlates by
    .85 or more, and neither has a better match in the other's plane. Where cells are in the field of view is not asked:
    files give positions in units, and from origins, of each plane's own.

    Parameters
    ----------
    aligned
        The session.

    Returns
    -------
    numpy.ndarray
        ``(roi,)`` int, from 0 in the order of ``aligned.rois``: ROIs of one number are one cell.
    """
    edges = []
    for trial in aligned.trials_in("train"):
        row = aligned.trials.loc[trial]
        # whole bins only
        count = int(row["n_frames"] / aligned.frame_rate / _BIN_SECONDS + 1e-6)
        edges.append(row["onset"] + _BIN_SECONDS * np.arange(count + 1))
    alike = sparse.lil_array((aligned.n_rois, aligned.n_rois), dtype=bool)
    if len(aligned.groups) > 1 and sum(len(one) - 1 for one in edges) >= _LEAST_BINS:
        activity = [
            np.concatenate([responses_in_bins(group, one[:-1], one[1:]) for one in edges if len(one) > 1])
            for group in aligned.groups
        ]
        first = np.cumsum([0, *(group.n_rois for group in aligned.groups)])
        for one in range(len(activity)):
            for other in range(one):
                for mine, theirs in _best_matches(activity[one], activity[other]):
                    alike[first[one] + mine, first[other] + theirs] = True
    return sparse.csgraph.connected_components(alike.tocsr(), directed=False)[1]


def _best_matches(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Pairs of columns ``(pair, 2)`` that are each other's best match, and a good one; NaN where missing."""
    (x, seen), (y, known) = _standard(one), _standard(other)
    common = seen.T.astype(np.float32) @ known.astype(np.float32)
    correlation = np.where(common >= _LEAST_BINS, (x.T @ y) / np.maximum(common, 1), 0)
    best = correlation.argmax(axis=1)
    mine = np.flatnonzero(correlation.argmax(axis=0)[best] == np.arange(len(best)))
    pairs = np.stack([mine, best[mine]], axis=1)
    return pairs[correlation[mine, best[mine]] >= _LEAST_CORRELATION]


def _standard(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns of mean zero and variance one over what is known of them, zero elsewhere; and what is known."""
    known = np.isfinite(values)
    count = np.maximum(known.sum(axis=0), 1)
    filled = np.where(known, values, 0)
    filled = np.where(known, filled - filled.sum(axis=0) / count, 0)
    deviation = np.sqrt((filled**2).sum(axis=0) / count)
    return filled / np.where(deviation > 0, deviation, 1), known
