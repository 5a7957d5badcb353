"""How well each ROI repeats itself: what any account of its responses by the movie is up against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nwbrecon.alignment.model import AlignedSession
from nwbrecon.alignment.views import responses_on_frames

__all__ = ["reliability"]


def reliability(aligned: AlignedSession, trials: Sequence[int]) -> np.ndarray:
    """Correlate each showing of a clip with the mean of its other showings, over all clips that were shown again.

    This is the oracle score of the Sensorium competition (Turishcheva et al. 2023, arXiv:2305.19654). Responses are
    compared frame by frame, since showings fall differently on the samples of a plane.

    Parameters
    ----------
    aligned
        The session.
    trials
        Labels of the trials that count.

    Returns
    -------
    numpy.ndarray
        ``(roi,)``, ROIs as in ``aligned.rois``; NaN where no clip was shown twice, or an ROI never changes.
    """
    # sums of 1, a, b, aa, bb, ab over frames that are known in a showing and in another
    sums = np.zeros((6, aligned.n_rois))
    rows = aligned.trials.loc[list(trials)]
    for _, of_clip in rows.groupby(["clip", "n_frames"], sort=False):
        if len(of_clip) < 2:
            continue
        showings = np.stack([responses_on_frames(aligned, int(label)) for label in of_clip.index]).astype(float)
        known = np.isfinite(showings)
        showings = np.nan_to_num(showings)
        total, count = showings.sum(axis=0), known.sum(axis=0)
        for a, here in zip(showings, known, strict=True):
            others = count - here
            both = here & (others > 0)
            a = np.where(both, a, 0.0)
            b = np.where(both, (total - a) / np.maximum(others, 1), 0.0)
            sums += [both.sum(axis=0), *(part.sum(axis=0) for part in (a, b, a * a, b * b, a * b))]
    with np.errstate(invalid="ignore", divide="ignore"):
        n, a, b, aa, bb, ab = sums
        scale = np.sqrt(np.maximum(aa - a * a / n, 0) * np.maximum(bb - b * b / n, 0))
        return np.where(scale > 0, (ab - a * b / n) / scale, np.nan)
