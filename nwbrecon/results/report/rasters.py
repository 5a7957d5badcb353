"""Responses as pictures that run in step with the movies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy.sparse.linalg import svds

from nwbrecon.alignment import AlignedSession, responses_on_frames
from nwbrecon.display import webp
from nwbrecon.inversion import Reconstruction

__all__ = ["order_together", "response_rasters"]

_MOST_ROWS = 300  # more than fit on a screen; neighbors are averaged


def response_rasters(items: Sequence[Reconstruction], aligned: AlignedSession) -> list[str]:
    """Draw the responses that went into each reconstruction (of its first trial): a row a ROI, a column a frame.

    Each ROI is shown in its own range, brighter where it responds more. ROIs that respond together stand together;
    beyond 300, neighbors are averaged.

    Returns
    -------
    list of str
        An image for each, as data URI.
    """
    spans = []
    for item in items:
        trial = item.trials[0]
        first = round((item.onset - float(aligned.trials.at[trial, "onset"])) * aligned.frame_rate)
        spans.append(responses_on_frames(aligned, trial)[first : first + len(item.video)])
    responses = np.nan_to_num(np.concatenate(spans))
    low, high = np.quantile(responses, [0.05, 0.98], axis=0)
    shown = np.clip((responses - low) / np.maximum(high - low, 1e-6), 0, 1)[:, order_together(responses)]
    bands = np.array_split(np.arange(shown.shape[1]), min(shown.shape[1], _MOST_ROWS))
    rows = np.stack([shown[:, band].mean(axis=1) for band in bands])
    pixels = np.rint(255 * rows).astype(np.uint8)
    ends = np.cumsum([len(span) for span in spans])
    return [webp(Image.fromarray(part)) for part in np.split(pixels, ends[:-1], axis=1)]


def order_together(responses: np.ndarray) -> np.ndarray:
    """Order the columns of ``(time, roi)`` so that ROIs that respond together stand together.

    They are ordered by their angle in the plane of the first two principal components.
    """
    if min(responses.shape) < 4:
        return np.arange(responses.shape[1])
    centered = responses - responses.mean(axis=0)
    centered /= np.maximum(centered.std(axis=0), 1e-6)
    _, _, loadings = svds(centered.astype(np.float64), k=2, v0=np.ones(min(centered.shape)))
    return np.argsort(np.arctan2(loadings[0], loadings[1]))
