"""The parts of an inspection: what a session holds, as JSON can hold it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from nwbrecon.alignment.resample import coverage
from nwbrecon.alignment.splits import choose_split, guard
from nwbrecon.alignment.views import LONGEST_INTERVAL, sample_behavior
from nwbrecon.config import AlignmentSettings
from nwbrecon.session import Session, SignalKind
from nwbrecon.session.series import median_interval

__all__ = [
    "SPLITS",
    "behavior_of",
    "overlap_of",
    "planes_of",
    "repeats_of",
    "split_of",
    "stimuli_of",
    "timeline_of",
]

SPLITS = ("train", "validation", "test")


def timeline_of(session: Session) -> list[dict[str, Any]]:
    """List every presentation, in time order."""
    rows = session.stimulus.presentations
    return [
        {"onset": onset, "offset": offset, "clip": clip, "kind": kind, "stimulus": session.stimulus.stores[store].name}
        for onset, offset, clip, kind, store in zip(
            rows["onset"].tolist(), rows["offset"].tolist(), rows["clip"], rows["kind"], rows["store"], strict=True
        )
    ]


def planes_of(session: Session, settings: AlignmentSettings) -> list[dict[str, Any]]:
    """Describe each response group."""
    return [
        {
            "name": group.name,
            "rois": group.n_rois,
            "rate": group.sampling_rate,
            "start": float(group.timestamps[0]),
            "stop": float(group.timestamps[-1]),
            "signal": group.kind.value,
            "used_as": _used_as(group.kind, deconvolve=settings.responses.deconvolve),
            "path": group.signal.path,
            "alternatives": {path: signal.kind.value for path, signal in group.alternatives.items()},
            "neuropil": group.neuropil.path if group.neuropil is not None else None,
            "indicator": group.indicator,
            "delay": group.delay,
        }
        for group in session.responses.values()
    ]


def _used_as(kind: SignalKind, *, deconvolve: bool) -> str:
    if kind in (SignalKind.EVENTS, SignalKind.SPIKES):
        return "as it is"
    return "deconvolved" if deconvolve else "dF/F"


def stimuli_of(session: Session) -> list[dict[str, Any]]:
    """Describe each source of frames."""
    entries = []
    for key, rows in session.stimulus.shown.groupby("store", sort=False):
        store = session.stimulus.stores[str(key)]
        first = session.stimulus.clocks(int(rows.index[0])).onsets
        entries.append(
            {
                "name": store.name,
                "kinds": sorted(set(rows["kind"])),
                "clips": int(rows["clip"].nunique()),
                "showings": len(rows),
                **_minutes(rows),
                "height": store.height,
                "width": store.width,
                "rate": 1 / median_interval(first) if len(first) > 1 else None,
                "start": float(rows["onset"].min()),
                "stop": float(rows["offset"].max()),
            }
        )
    return entries


def _minutes(rows: pd.DataFrame) -> dict[str, float]:
    seconds = rows["offset"] - rows["onset"]
    return {
        "minutes": float(seconds.sum() / 60),
        "unique_minutes": float(seconds.groupby(rows["clip"]).max().sum() / 60),
    }


def repeats_of(shown: pd.DataFrame) -> list[dict[str, Any]]:
    """Count how often clips were shown."""
    times = shown.groupby("clip")["clip"].transform("size")
    return [
        {"times": int(count), "clips": int(rows["clip"].nunique()), "unique_minutes": _minutes(rows)["unique_minutes"]}
        for count, rows in shown.groupby(times)
    ]


def overlap_of(session: Session) -> dict[str, Any]:
    """Find when there are stimulus and responses, and the share of the stimulus' time with responses."""
    shown = session.stimulus.shown
    onsets, offsets = shown["onset"].to_numpy(), shown["offset"].to_numpy()
    clocks = [group.timestamps + group.delay for group in session.responses.values()]
    stimulus = [float(onsets.min()), float(offsets.max())] if len(shown) else None
    responses = (
        [float(min(clock[0] for clock in clocks)), float(max(clock[-1] for clock in clocks))] if clocks else None
    )
    if stimulus is None or responses is None:
        return {"stimulus": stimulus, "responses": responses, "covered": 0.0}
    # tenths of a second: fine enough for a share, coarse enough for hours of stimulus
    starts = np.concatenate(
        [np.arange(on, max(off - 0.05, on + 1e-3), 0.1) for on, off in zip(onsets, offsets, strict=True)]
    )
    covered = np.zeros(len(starts), dtype=bool)
    for clock in clocks:
        longest = LONGEST_INTERVAL * median_interval(clock)
        covered |= coverage(clock, np.ones(len(clock), dtype=bool), starts, starts + 0.1, longest=longest)
    return {"stimulus": stimulus, "responses": responses, "covered": float(covered.mean())}


def split_of(
    trials: pd.DataFrame, settings: AlignmentSettings, warnings: list[str]
) -> tuple[dict[str, dict[str, Any]], str]:
    """Choose what would be learned from, validated and tested on, and say why; `warnings` are added to."""
    split = choose_split(trials, settings.frame_rate, [], settings)
    warnings += split.warnings
    trials = trials.assign(split=trials["clip"].map(split.of_clip))
    guarded = guard(trials, settings.frame_rate, settings.guard_seconds)
    trials["left"] = trials["n_frames"] - np.add.reduceat(guarded, trials["first_frame"], dtype=int)
    trials = trials[trials["left"] > 0]
    table = {}
    for name in SPLITS:
        rows = trials[trials["split"] == name]
        if len(rows):
            frames = rows.groupby("clip")["left"].max().sum()
            table[name] = {
                "clips": int(rows["clip"].nunique()),
                "trials": len(rows),
                "unique_minutes": float(frames / settings.frame_rate / 60),
            }
    return table, split.reason


def behavior_of(session: Session, frames: np.ndarray, settings: AlignmentSettings) -> list[dict[str, Any]]:
    """Describe each behavioral variable, and for what share of the frames that begin then it is known."""

    def known(name: str) -> float | None:
        if not len(frames):
            return None
        series = session.behavior[name]
        values = sample_behavior(series, frames, frames + 1 / settings.frame_rate, settings.behavior_gap_seconds)
        return float(np.isfinite(values).mean())

    return [
        {
            "name": name,
            "unit": series.unit,
            "rate": 1 / median_interval(series.timestamps) if len(series.timestamps) > 1 else None,
            "start": float(series.timestamps[0]),
            "stop": float(series.timestamps[-1]),
            "origin": series.origin,
            "coverage": known(name),
        }
        for name, series in session.behavior.items()
    ]
