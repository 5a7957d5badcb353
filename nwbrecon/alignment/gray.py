"""When the screen showed nothing, as stretches that can be treated like trials."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from nwbrecon.alignment.model import AlignedSession
from nwbrecon.alignment.views import covered_frames, sample_behavior
from nwbrecon.session.model import Session

__all__ = ["gray_periods", "gray_session"]

# responses to what was shown before last so long, and responses to what comes after are looked at so early (s)
_AFTER, _BEFORE = 0.5, 0.6
# a stretch that is shorter tells of little but its ends (s)
_SHORTEST = 1.5


def gray_periods(session: Session, monitor_delay: float = 0.0) -> np.ndarray:
    """When the screen is known to have shown nothing, invalid times left out.

    Parameters
    ----------
    session
        What the recording holds.
    monitor_delay
        By how much the screen lags the clocks (s).

    Returns
    -------
    numpy.ndarray
        ``(period, 2)`` seconds on the session clock, in time order.
    """
    rows = session.stimulus.presentations
    periods = rows.loc[rows["kind"] == "gray", ["onset", "offset"]].to_numpy(dtype=float).reshape(-1, 2) + monitor_delay
    for start, stop in session.invalid_times:
        before = np.column_stack([periods[:, 0], np.minimum(periods[:, 1], start)])
        after = np.column_stack([np.maximum(periods[:, 0], stop), periods[:, 1]])
        periods = np.concatenate([before, after])
        periods = periods[periods[:, 1] > periods[:, 0]]
    return periods[np.argsort(periods[:, 0], kind="stable")]


def gray_session(aligned: AlignedSession, *, stretches: int, seconds: float) -> AlignedSession | None:
    """Give the same recording with stretches of gray screen for trials.

    The ends of each period are left out: there responses tell of what was shown before, or comes after.

    Parameters
    ----------
    aligned
        The session.
    stretches
        How many trials to make, at most; they are spread over the session.
    seconds
        Length of a stretch (s), at most; none is shorter than 1.5 s.

    Returns
    -------
    AlignedSession or None
        Its video is NaN, since nobody says which gray it was, and its trials are of no split. None if the screen was
        never gray for as long while responses were recorded.
    """
    least, most = (round(length * aligned.frame_rate) for length in (_SHORTEST, seconds))
    onsets, lengths = [], []
    for start, stop in aligned.gray:
        left = int((stop - _BEFORE - start - _AFTER) * aligned.frame_rate + 1e-6)
        onset = start + _AFTER
        while left >= least:
            n_frames = min(left, most)
            edges = onset + np.arange(n_frames + 1) / aligned.frame_rate
            if covered_frames(aligned.groups, edges[:-1], edges[1:]).all():
                onsets.append(onset)
                lengths.append(n_frames)
            left, onset = left - n_frames, float(edges[-1])
    if not onsets:
        return None
    chosen = np.unique(np.linspace(0, len(onsets) - 1, stretches).round().astype(int))
    onset, n_frames = np.array(onsets)[chosen], np.array(lengths)[chosen]
    starts = np.concatenate(
        [first + np.arange(count) / aligned.frame_rate for first, count in zip(onset, n_frames, strict=True)]
    )
    longest = float(aligned.settings.get("behavior_gap_seconds", np.inf))
    behavior = np.full((len(starts), len(aligned.behavior_names)), np.nan, dtype=np.float32)
    for column, name in enumerate(aligned.behavior_names):
        if name in aligned.behavior_series:
            behavior[:, column] = sample_behavior(
                aligned.behavior_series[name], starts, starts + 1 / aligned.frame_rate, longest
            )
    trials = pd.DataFrame(
        {
            "clip": [f"gray at {first:.1f} s" for first in onset],
            "film": "",
            "repeat": 0,
            "onset": onset,
            "first_frame": np.cumsum(n_frames) - n_frames,
            "n_frames": n_frames,
            "split": "",
        }
    )
    return replace(
        aligned,
        trials=trials,
        video=np.full((len(starts), *aligned.frame_size), np.nan, dtype=np.float32),
        behavior=behavior,
        valid=np.ones(len(starts), dtype=bool),
        gray=np.empty((0, 2)),
    )
