"""Do the clocks agree? How long after a change on the screen the population responds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter1d

from nwbrecon.alignment.model import AlignedGroup, AlignedSession
from nwbrecon.alignment.resample import COVERED, overlaps
from nwbrecon.alignment.views import LONGEST_INTERVAL
from nwbrecon.progress import progress
from nwbrecon.session.model import SignalKind

__all__ = ["Latency", "population_latency"]

LONGEST_PLAUSIBLE = 0.5
"""Seconds. Spikes in V1 come 50 to 150 ms after a change; that cells integrate over time, that the indicator rises
slowly and that scanning is slow puts the peak of the correlation up to some 0.3 s later (in simulations with true
latencies of 40 to 110 ms it lies at 0.25 to 0.32 s)."""

ROWS_AT_ONCE = 4096
N_SHIFTS = 50
CLEAR = 5.0
"""A peak this many standard deviations above chance is clear; the highest of some hundred lags reaches 3 by chance."""


@dataclass
class Latency:
    """How population activity follows changes on the screen.

    Attributes
    ----------
    lags
        ``(lag,)`` seconds; positive: the responses come after the change.
    correlation
        ``(lag,)`` correlation of population activity with the change on the screen that much earlier.
    best
        Lag of the highest correlation (s), refined by a parabola through its neighbors.
    clear
        Whether the peak stands out from what is found when the movie is shifted against the responses at random.
    """

    lags: np.ndarray
    correlation: np.ndarray
    best: float
    clear: bool

    @property
    def warning(self) -> str:
        """What the user should know about the clocks, as a sentence; empty where all is well."""
        if not self.clear:
            return (
                "The population's response to changes on the screen is too weak to check the clocks of stimulus and "
                "responses against each other."
            )
        if 0 < self.best <= LONGEST_PLAUSIBLE:
            return ""
        return (
            f"Population activity follows changes on the screen by {1000 * self.best:.0f} ms, where between 0 "
            f"and {1000 * LONGEST_PLAUSIBLE:.0f} ms is expected: the clocks of stimulus and responses may not agree. "
            "Check the timestamps, or set plane_delays."
        )


def population_latency(aligned: AlignedSession, longest: float = 1.5, smooth: float = 5.0) -> Latency:
    """Cross-correlate population activity with the change on the screen.

    The change at a frame is the mean absolute difference from the frame before (from the last frame of the trial before
    where that one ended just then, from uniform gray otherwise). It is averaged over the interval that each sample
    counts, moved back by the lag, on each group's own clock, so that neither slow nor staggered sampling moves the
    peak. For dF/F, the rise since the sample before stands in for activity.

    Parameters
    ----------
    aligned
        The session; all trials are used, and all samples that they cover.
    longest
        Lags up to this, either way (s).
    smooth
        Fluctuations slower than this (s) are taken out of both.

    Returns
    -------
    Latency
    """
    starts, change = _screen_change(aligned)
    interval = 1 / aligned.frame_rate
    steps = int(np.ceil(longest * aligned.frame_rate))
    lags = np.arange(-steps, steps + 1) * interval
    # random, so that no multiple of the time after which a movie is shown again is met by rule
    shifts = np.random.default_rng(0).integers(0, len(change), N_SHIFTS)
    total = np.zeros(len(lags) + N_SHIFTS)
    weight = 0
    for group in progress(aligned.groups, label="latency", unit="group"):
        curve = _group_curve(group, starts, change, interval, lags, shifts, smooth)
        if curve is not None:
            total += group.n_rois * curve
            weight += group.n_rois
    if not weight:
        return Latency(lags, np.full(len(lags), np.nan), np.nan, clear=False)
    correlation, chance = np.split(total / weight, [len(lags)])
    peak = int(np.argmax(correlation))
    if peak in (0, len(lags) - 1):
        return Latency(lags, correlation, float(lags[peak]), clear=False)
    before, at, after = correlation[peak - 1 : peak + 2]
    bend = before - 2 * at + after
    best = lags[peak] + (interval * (before - after) / (2 * bend) if bend < 0 else 0)
    return Latency(lags, correlation, float(best), clear=bool(at > CLEAR * 1.4826 * np.median(np.abs(chance))))


def _screen_change(aligned: AlignedSession) -> tuple[np.ndarray, np.ndarray]:
    starts, changes = [], []
    last, last_end = np.zeros((1, *aligned.frame_size)), -np.inf
    for label in aligned.trials.sort_values("onset").index:
        trial = aligned.trial(label)
        adjacent = abs(trial.times[0] - last_end) < 1.5 / aligned.frame_rate
        before = last if adjacent else np.full_like(trial.video[:1], trial.video[0].mean())
        change = np.abs(np.diff(trial.video, axis=0, prepend=before)).mean(axis=(1, 2))
        starts.append(trial.times)
        changes.append(change)
        last, last_end = trial.video[-1:], trial.times[-1] + 1 / aligned.frame_rate
    return np.concatenate(starts), np.concatenate(changes)


def _group_curve(
    group: AlignedGroup,
    starts: np.ndarray,
    change: np.ndarray,
    interval: float,
    lags: np.ndarray,
    shifts: np.ndarray,
    smooth: float,
) -> np.ndarray | None:
    # the correlation at each lag, and at lag 0 with the movie moved around by each shift
    activity = _population(group)
    usual = group.interval
    begin, end = group.timestamps[:-1], group.timestamps[1:]
    kept = np.isfinite(activity) & (end - begin <= LONGEST_INTERVAL * usual)
    begin, end, activity = begin[kept], end[kept], activity[kept]
    window = max(round(smooth / usual), 3)
    stops = np.minimum(starts + interval, np.append(starts[1:], np.inf))
    curve = np.zeros(len(lags) + len(shifts))
    for index, (lag, shift) in enumerate([*((lag, 0) for lag in lags), *((0.0, shift) for shift in shifts)]):
        if index <= len(lags):
            shared = overlaps(begin - lag, end - lag, starts, stops)
            covered = np.asarray(shared.sum(axis=1)) >= COVERED * (end - begin)
            if covered.sum() < window:
                return None
        seen = (shared @ np.roll(change, shift))[covered] / (end - begin)[covered]
        curve[index] = _correlation(_without_slow(seen, window), _without_slow(activity[covered], window))
    return curve


def _population(group: AlignedGroup) -> np.ndarray:
    total = np.zeros(len(group.activity))
    known = np.zeros(len(group.activity))
    for first in range(0, len(group.activity), ROWS_AT_ONCE):
        rows = group.activity[first : first + ROWS_AT_ONCE]
        total[first : first + ROWS_AT_ONCE] = np.nansum(rows, axis=1, dtype=float)
        known[first : first + ROWS_AT_ONCE] = np.isfinite(rows).sum(axis=1)
    mean = np.divide(total, known, out=np.full(len(total), np.nan), where=known > 0)
    return np.diff(mean) if group.kind is SignalKind.DFF else mean[1:]


def _without_slow(values: np.ndarray, window: int) -> np.ndarray:
    return values - uniform_filter1d(values, window, mode="nearest")


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else 0.0
