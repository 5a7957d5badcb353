"""Response groups made ready for an encoder: activity on the group's own clock, normalized by training time."""

from __future__ import annotations

import numpy as np

from nwbrecon.alignment.model import AlignedGroup
from nwbrecon.alignment.resample import COVERED, overlaps
from nwbrecon.config import ResponseSettings
from nwbrecon.errors import AlignmentError
from nwbrecon.session.activity import activity
from nwbrecon.session.model import ResponseGroup, SignalKind

__all__ = ["align_group", "response_times"]

LEAST_SCALE = 0.1
"""Least scale of an ROI, as a share of the group's median: nearly silent ROIs must not become loud."""


def response_times(group: ResponseGroup, delay: float) -> np.ndarray:
    """Sample times of a group, delayed.

    Raises
    ------
    AlignmentError
        If the times are too few, not finite, or do not increase.
    """
    times = np.asarray(group.timestamps, dtype=float) + delay
    if len(times) < 2 or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise AlignmentError(
            f"The {len(times)} sample times of {group.name} do not increase, are not finite, or are too few.",
            "At least two times were expected, each later than the one before.",
            "Correct the timestamps in the file.",
        )
    return times


def align_group(
    group: ResponseGroup,
    times: np.ndarray,
    training: tuple[np.ndarray, np.ndarray],
    settings: ResponseSettings,
) -> tuple[AlignedGroup | None, list[str]]:
    """Activity of a group, each ROI divided by its standard deviation over training time.

    ROIs without finite values, and ROIs that never change in training time, can neither be predicted nor tell anything;
    they are left out. Spike counts stay counts.

    Parameters
    ----------
    group
        The responses as the file holds them.
    times
        ``(sample,)`` seconds, delay included.
    training
        ``(bin,)`` starts and stops of the frames in training time (s), in time order.
    settings
        Which signal, and how it is processed.

    Returns
    -------
    group : AlignedGroup or None
        None if no ROI is left.
    warnings : list of str
        What was left out, in sentences.

    Raises
    ------
    AlignmentError
        If there are not as many samples as times or as many columns as ROIs.
    """
    found = activity(group, settings)
    values = np.asarray(found.values, dtype=np.float32)
    if values.shape != (len(times), group.n_rois):
        raise AlignmentError(
            f"The activity of {group.name} has the shape {values.shape} for {len(times)} sample times and "
            f"{group.n_rois} ROIs.",
            "One row a time and one column an ROI were expected.",
        )
    warnings = []
    inside = np.zeros(len(times), dtype=bool)
    shared = overlaps(times[:-1], times[1:], *training)
    inside[1:] = np.asarray(shared.sum(axis=1)) >= COVERED * np.diff(times)
    spread = _spread(values, inside)
    missing = np.isnan(spread)
    silent = ~missing & (spread == 0)
    usable = ~missing & ~silent
    if not usable.all():
        warnings.append(
            f"{(~usable).sum()} of {group.n_rois} ROIs in {group.name} were left out: {missing.sum()} without data in "
            f"training time, {silent.sum()} that never change in it."
        )
    if not usable.any():
        return None, warnings
    scale = np.ones(group.n_rois)
    if found.kind is not SignalKind.SPIKES:
        scale = np.maximum(spread, LEAST_SCALE * np.median(spread[usable]))
    scale = scale[usable].astype(np.float32)
    # a copy of ten thousand ROIs is a gigabyte
    scaled = values if usable.all() else values[:, usable]
    scaled /= scale
    return AlignedGroup(group.name, found.kind, times, scaled, scale, group.rois.loc[usable], found.origin), warnings


def _spread(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    # standard deviation over the finite samples, NaN where there are fewer than two; a block of ROIs at a time, and in
    # float64, since a large baseline would otherwise drown small fluctuations
    spread = np.full(values.shape[1], np.nan)
    for first in range(0, values.shape[1], 128):
        block = values[inside, first : first + 128].astype(float)
        known = np.isfinite(block)
        enough = known.sum(axis=0) > 1
        spread[first : first + 128][enough] = np.nanstd(block[:, enough], axis=0)
    return spread
