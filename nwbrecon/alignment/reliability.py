"""How well each ROI repeats itself: what any account of its responses by the movie is up against."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from nwbrecon.alignment.model import AlignedSession
from nwbrecon.alignment.views import responses_on_frames

__all__ = ["leave_one_out_correlation", "reliability"]


def reliability(aligned: AlignedSession, trials: Sequence[int]) -> np.ndarray:
    """Correlate each showing of a clip with the mean of its other showings, over all clips that were shown again.

    Responses are compared frame by frame, since showings fall differently on the samples of a plane; see
    `leave_one_out_correlation`.

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
    rows = aligned.trials.loc[list(trials)]
    showings = (
        np.stack([responses_on_frames(aligned, int(label)) for label in of_clip.index])
        for _, of_clip in rows.groupby(["clip", "n_frames"], sort=False)
        if len(of_clip) > 1
    )
    return leave_one_out_correlation(showings, aligned.n_rois)


def leave_one_out_correlation(showings: Iterable[np.ndarray], n_rois: int) -> np.ndarray:
    """Correlate each showing of a clip with the mean of its other showings, over all clips together.

    This is the oracle score of the Sensorium competition (Turishcheva et al. 2023, arXiv:2305.19654).

    Parameters
    ----------
    showings
        One array a clip, ``(showing, time, roi)``; NaN where unknown.
    n_rois
        Number of ROIs.

    Returns
    -------
    numpy.ndarray
        ``(roi,)``; NaN where no clip was shown twice, or an ROI never changes.
    """
    # sums of 1, a, b, aa, bb, ab over frames that are known in a showing and in another
    sums = np.zeros((6, n_rois))
    for of_clip in showings:
        known = np.isfinite(of_clip)
        responses = np.where(known, of_clip.astype(float), 0.0)
        total, count = responses.sum(axis=0), known.sum(axis=0)
        for a, here in zip(responses, known, strict=True):
            others = count - here
            both = here & (others > 0)
            a = np.where(both, a, 0.0)
            b = np.where(both, (total - a) / np.maximum(others, 1), 0.0)
            sums += [both.sum(axis=0), *(part.sum(axis=0) for part in (a, b, a * a, b * b, a * b))]
    with np.errstate(invalid="ignore", divide="ignore"):
        n, a, b, aa, bb, ab = sums
        scale = np.sqrt(np.maximum(aa - a * a / n, 0) * np.maximum(bb - b * b / n, 0))
        return np.where(scale > 0, (ab - a * b / n) / scale, np.nan)
