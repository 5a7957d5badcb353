"""Responses and behavior of a trial on the frame clock, made when asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nwbrecon.alignment.model import AlignedGroup, AlignedSession
from nwbrecon.alignment.resample import bin_averages, bin_counts, coverage, held_averages
from nwbrecon.session.model import BehaviorSeries, SignalKind

__all__ = [
    "behavior_on_frames",
    "covered_frames",
    "responses_in_bins",
    "responses_on_frames",
    "sample_behavior",
    "samples_in",
]

LONGEST_INTERVAL = 2.5
"""Intervals between samples longer than this many usual ones are gaps: one lost sample is bridged, two are not."""


def responses_on_frames(aligned: AlignedSession, trial: int, lead: int = 0, tail: int = 0) -> np.ndarray:
    """Responses of every ROI on the frame clock of a trial.

    Deconvolved events and spikes, which count what happened since the sample before, are resampled so that their area
    is kept: a frame holds the counts that fall to it, which is less than a sample holds where frames are shorter. dF/F
    is averaged over the frame along the straight lines between samples.

    Parameters
    ----------
    aligned
        The session.
    trial
        Label in ``aligned.trials``.
    lead, tail
        Frames to add before the onset and after the end.

    Returns
    -------
    numpy.ndarray
        ``(lead + time + tail, roi)`` float32, groups one after the other as in ``aligned.rois``; NaN where a group's
        samples do not cover a frame.
    """
    starts, stops = _frame_bins(aligned, trial, lead, tail)
    return np.concatenate([responses_in_bins(group, starts, stops) for group in aligned.groups], axis=1)


def behavior_on_frames(aligned: AlignedSession, trial: int, lead: int = 0, tail: int = 0) -> np.ndarray:
    """Behavior on the frame clock of a trial, beyond its ends too.

    Parameters
    ----------
    aligned
        The session.
    trial
        Label in ``aligned.trials``.
    lead, tail
        Frames to add before the onset and after the end.

    Returns
    -------
    numpy.ndarray
        ``(lead + time + tail, variable)`` float32; NaN where missing.
    """
    starts, stops = _frame_bins(aligned, trial, lead, tail)
    longest = float(aligned.settings.get("behavior_gap_seconds", np.inf))
    inside = slice(lead, len(starts) - tail)
    behavior = np.full((len(starts), len(aligned.behavior_names)), np.nan, dtype=np.float32)
    if lead or tail:
        for column, name in enumerate(aligned.behavior_names):
            if name in aligned.behavior_series:
                behavior[:, column] = sample_behavior(aligned.behavior_series[name], starts, stops, longest)
    behavior[inside] = aligned.trial(trial).behavior
    return behavior


def samples_in(group: AlignedGroup, start: float, stop: float) -> slice:
    """Find the samples of a group that belong to a stretch of time.

    Parameters
    ----------
    group
        The group.
    start, stop
        Seconds on the session clock.

    Returns
    -------
    slice
        Of the group's samples. For counts, those whose preceding interval ``(t[k-1], t[k]]`` lies within
        ``[start, stop]``; for dF/F, those with ``start <= t[k] < stop``.

    Examples
    --------
    >>> import pandas as pd
    >>> times = np.arange(6.0)
    >>> group = AlignedGroup("plane", SignalKind.EVENTS, times, np.ones((6, 1)), np.ones(1), pd.DataFrame(index=[1]))
    >>> samples_in(group, 1.0, 4.0)
    slice(2, 5, None)
    """
    first = int(np.searchsorted(group.timestamps, start, side="left"))
    if group.kind is SignalKind.DFF:
        return slice(first, int(np.searchsorted(group.timestamps, stop, side="left")))
    return slice(first + 1, max(int(np.searchsorted(group.timestamps, stop, side="right")), first + 1))


def covered_frames(groups: Sequence[AlignedGroup], starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Whether the samples of at least one group cover each bin.

    Parameters
    ----------
    groups
        Response groups.
    starts, stops
        ``(bin,)`` seconds.

    Returns
    -------
    numpy.ndarray
        ``(bin,)`` bool.
    """
    covered = np.zeros(len(starts), dtype=bool)
    for group in groups:
        present = np.isfinite(group.activity).any(axis=1)
        if group.kind is SignalKind.DFF:
            present[1:] &= present[:-1].copy()
        covered |= coverage(group.timestamps, present, starts, stops, longest=LONGEST_INTERVAL * group.interval)
    return covered


def sample_behavior(series: BehaviorSeries, starts: np.ndarray, stops: np.ndarray, longest: float) -> np.ndarray:
    """Average a behavioral variable over bins, bridging gaps up to ``longest`` seconds; ``(bin,)``, NaN where missing.

    Missing samples are taken out first, so that a blink shorter than ``longest`` is bridged, by a straight line or, in
    a series whose values are held, by the value before it.
    """
    known = np.isfinite(series.values)
    times, values = series.timestamps[known], series.values[known]
    # the bins and, on either side, the sample that a line or a held value comes from or goes to
    near = slice(
        max(0, int(np.searchsorted(times, starts.min(initial=np.inf))) - 1),
        int(np.searchsorted(times, stops.max(initial=-np.inf))) + 2,
    )
    times, values = times[near], values[near]
    # a variable that is sampled more slowly than the limit has no gaps for that
    longest = max(longest, 1.5 * series.interval)
    if series.held:
        return held_averages(times, values, starts, stops, longest=longest, usual=series.interval)
    return bin_averages(times, values, starts, stops, longest=longest)


def responses_in_bins(group: AlignedGroup, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Responses of a group's ROIs in bins of any length; see `responses_on_frames`.

    Parameters
    ----------
    group
        The group.
    starts, stops
        ``(bin,)`` seconds on the session clock, in time order.

    Returns
    -------
    numpy.ndarray
        ``(bin, roi)`` float32; NaN where the group's samples do not cover a bin.
    """
    first = max(int(np.searchsorted(group.timestamps, starts[0], side="right")) - 1, 0)
    last = int(np.searchsorted(group.timestamps, stops[-1], side="left")) + 1
    resample = bin_averages if group.kind is SignalKind.DFF else bin_counts
    values = resample(
        group.timestamps[first:last],
        group.activity[first:last],
        starts,
        stops,
        longest=LONGEST_INTERVAL * group.interval,
    )
    return values.astype(np.float32)


def _frame_bins(aligned: AlignedSession, trial: int, lead: int, tail: int) -> tuple[np.ndarray, np.ndarray]:
    row = aligned.trials.loc[trial]
    edges = row["onset"] + np.arange(-lead, row["n_frames"] + tail + 1) / aligned.frame_rate
    return edges[:-1], edges[1:]
