"""The verb of this room: put what one recording holds on one clock."""

from __future__ import annotations

import math
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nwbrecon.alignment.delays import DelayEstimate, clock_warnings, estimate_delays, stated_delays
from nwbrecon.alignment.gray import gray_periods
from nwbrecon.alignment.latency import population_latency
from nwbrecon.alignment.model import AlignedGroup, AlignedSession
from nwbrecon.alignment.resample import coverage
from nwbrecon.alignment.responses import align_group, response_times
from nwbrecon.alignment.rois import select_rois
from nwbrecon.alignment.splits import choose_split, guard, near_duplicates
from nwbrecon.alignment.trials import make_trials, presentation_clocks
from nwbrecon.alignment.video import fill_video, scale_frames, shape_warnings
from nwbrecon.alignment.views import LONGEST_INTERVAL, covered_frames, sample_behavior
from nwbrecon.config import AlignmentSettings, load_settings
from nwbrecon.errors import AlignmentError
from nwbrecon.progress import progress
from nwbrecon.session.model import BehaviorSeries, FrameClock, ResponseGroup, Session

__all__ = ["TrialPlan", "align", "frame_starts", "plan_trials"]

BEHAVIOR_ORDER = ("running_speed", "pupil_size", "gaze_x", "gaze_y")
THUMBNAIL_SIZE = (12, 20)
THUMBNAIL_SECONDS = 1.0


def align(
    session: Session,
    settings: AlignmentSettings | None = None,
    *,
    cache_dir: str | Path | None = None,
    roi_table: str | Path | pd.DataFrame | None = None,
    **overrides: Any,
) -> AlignedSession:
    """Put stimulus, responses and behavior on one frame clock, cut it into trials and choose the split.

    The frame clock is uniform within a trial and starts anew at each trial's onset. Responses keep their own clocks;
    `nwbrecon.alignment.responses_on_frames` brings a trial's onto the frame clock when asked.

    Parameters
    ----------
    session
        What the recording holds.
    settings
        How to align; the defaults where not given.
    cache_dir
        Folder for video and responses where they are larger than ``memory_gigabytes`` together; by default the system's
        folder for temporary files. What is put there is deleted with the aligned session.
    roi_table
        What the file does not say of its ROIs, such as their brain area (`nwbrecon.alignment.rois.join_rois`): a CSV,
        or a table in memory, which cannot be told again from the settings that travel with results.
    **overrides
        Single settings by name, such as ``frame_rate=15``, ``responses__deconvolve=False``, or the ROIs and the stimuli
        to use: ``rois``, ``areas``, ``depth``, ``snr``, ``stimuli``.

    Returns
    -------
    AlignedSession

    Raises
    ------
    SettingsError
        If a setting is unknown or out of range.
    AlignmentError
        If stimulus and responses never overlap, no clip or no ROI is of use or as asked for, or nothing would be left
        to train on.

    Examples
    --------
    ::

        aligned = align(open_session("mouse.nwb"), frame_rate=30.0, frame_size=(36, 64))
        print(aligned.describe_split())
        aligned = align(session, areas=["VISp"], depth=(150, 300), roi_table="areas.csv")
    """
    table = roi_table if isinstance(roi_table, pd.DataFrame) else None
    if table is None and roi_table is not None:
        overrides["roi_table"] = roi_table
    settings = load_settings(AlignmentSettings, **{**(settings.model_dump() if settings else {}), **overrides})
    plan = plan_trials(session, settings, table)
    times, clocks, trials, warnings, delays = plan.times, plan.clocks, plan.trials, plan.warnings, plan.delays

    starts = frame_starts(trials, settings.frame_rate)
    stops = starts + 1 / settings.frame_rate
    video_shape = (len(starts), *settings.frame_size)
    n_bytes = 2 * math.prod(video_shape) + sum(
        4 * len(times[name]) * group.n_rois for name, group in plan.groups.items()
    )
    store = _ArrayStore(n_bytes > settings.memory_gigabytes * 1e9, cache_dir)
    try:
        # half precision holds a grey level to 1/16 at worst, in half the room of float32
        video = store.empty("video", video_shape, np.float16)
        fill_video(video, session.stimulus, trials, clocks, settings.frame_rate, settings.fit)

        duplicates = near_duplicates(_thumbnails(video, trials, settings), settings.duplicate_correlation)
        split = choose_split(trials, settings.frame_rate, duplicates, settings)
        warnings += split.warnings
        trials["split"] = trials["clip"].map(split.of_clip)
        guarded = guard(trials, settings.frame_rate, settings.guard_seconds)
        unusable = guarded | _within_any(starts, stops, session.invalid_times)

        training = np.repeat(trials["split"].to_numpy() == "train", trials["n_frames"]) & ~unusable
        if not training.any():
            raise AlignmentError(
                f"All {(trials['split'] == 'train').sum()} training trials lie within {settings.guard_seconds:g} s of "
                "another split.",
                "Some must be farther away for an encoder to be trained.",
                "Set guard_seconds lower, or test_share and validation_share.",
            )
        groups: list[AlignedGroup] = []
        for name, group in progress(plan.groups.items(), total=len(times), label="responses", unit="group"):
            aligned_group, notes = align_group(
                group, times[name], (starts[training], stops[training]), settings.responses
            )
            warnings += notes
            if aligned_group is not None:
                aligned_group.activity = store.keep(f"activity-{len(groups)}", aligned_group.activity)
                groups.append(aligned_group)
        if not groups:
            raise AlignmentError(
                f"None of the {sum(group.n_rois for group in plan.groups.values())} ROIs changes during training time.",
                "At least one ROI with responses is needed.",
                "Choose another signal (setting responses.signal), or check the file. " + " ".join(warnings),
            )
        if settings.responses.plane_delays == "estimate":
            found = _estimate(groups, video, trials, settings)
            warnings.append(found.sentence(session.responses))
            for aligned_group in groups:
                delay = found.delays[aligned_group.name] if found.clear else 0.0
                aligned_group.timestamps = aligned_group.timestamps + delay
                delays[aligned_group.name] += delay
        valid = covered_frames(groups, starts, stops) & ~unusable
        # the guard may have taken all of a short trial
        left = np.logical_or.reduceat(valid, trials["first_frame"])
        trials["split"] = trials["split"].where(left, "")
        names, behavior, series, notes = _align_behavior(session.behavior, starts, stops, settings)
        warnings += notes
        aligned = AlignedSession(
            frame_rate=settings.frame_rate,
            trials=trials,
            video=video,
            behavior=behavior,
            behavior_names=names,
            valid=valid,
            groups=groups,
            identity=session.identity,
            subject=session.subject,
            settings=settings.model_dump(mode="json"),
            warnings=[*session.warnings, *warnings],
            behavior_series=series,
            gray=gray_periods(session, settings.monitor_delay_seconds),
            info={
                "split": f"{split.reason} {guarded.sum() / settings.frame_rate:.0f} s within "
                f"{settings.guard_seconds:g} s of another split were dropped.",
                "plane_delays": delays,
            },
        )
        latency = population_latency(aligned)
    except BaseException:
        store.delete()
        raise
    store.delete_with(aligned)
    if latency.warning:
        aligned.warnings.append(latency.warning)
    # JSON knows no NaN
    aligned.info["latency"] = {"seconds": latency.best if np.isfinite(latency.best) else None, "clear": latency.clear}
    return aligned


def _estimate(
    groups: list[AlignedGroup], video: np.ndarray, trials: pd.DataFrame, settings: AlignmentSettings
) -> DelayEstimate:
    training = trials[trials["split"] == "train"].sort_values("onset")
    videos = (video[first : first + n] for first, n in zip(training["first_frame"], training["n_frames"], strict=True))
    return estimate_delays(groups, videos, training["onset"], settings.frame_rate)


@dataclass
class TrialPlan:
    """Which showings will be trials, known from clocks and tables alone.

    Attributes
    ----------
    trials
        As `make_trials` gives them, with ``first_frame``, those without responses left out.
    clocks
        Clock of each presentation that is of use, by row label.
    groups
        The response groups, with the ROIs that are used.
    times
        ``(sample,)`` seconds of each of them, delay included, by name.
    delays
        Seconds that were added to the clock of each group, by name.
    warnings
        What was left out, in sentences.
    """

    trials: pd.DataFrame
    clocks: dict[int, FrameClock]
    groups: dict[str, ResponseGroup]
    times: dict[str, np.ndarray]
    delays: dict[str, float]
    warnings: list[str]


def plan_trials(session: Session, settings: AlignmentSettings, roi_table: pd.DataFrame | None = None) -> TrialPlan:
    """Choose the ROIs and find the trials of a session; no pixel and no response is read.

    Raises
    ------
    AlignmentError
        If stimulus and responses never overlap, or no presentation or no ROI is of use or as asked for.
    """
    if not session.responses:
        raise AlignmentError("The recording holds no responses.", action="Give a file with ROI responses.")
    groups, selected = select_rois(session.responses, settings, roi_table)
    # the delay of a plane may depend on planes that are not used
    delays = stated_delays(session.responses, settings.responses)
    times = {name: response_times(group, delays[name]) for name, group in groups.items()}
    clocks, warnings = presentation_clocks(session.stimulus, settings)
    warnings = [*selected, *warnings]
    trials = make_trials(session.stimulus.presentations, clocks, settings)
    trials, notes = _recorded_trials(trials, times, settings)
    warnings += [*notes, *clock_warnings(session.responses, delays, settings.responses)]
    warnings += shape_warnings(session.stimulus, trials, settings.frame_size, settings.fit)
    return TrialPlan(trials, clocks, groups, times, {name: delays[name] for name in groups}, warnings)


def _recorded_trials(
    trials: pd.DataFrame, times: Mapping[str, np.ndarray], settings: AlignmentSettings
) -> tuple[pd.DataFrame, list[str]]:
    starts = frame_starts(trials, settings.frame_rate)
    covered = np.zeros(len(starts), dtype=bool)
    for own in times.values():
        covered |= coverage(
            own,
            np.ones(len(own), dtype=bool),
            starts,
            starts + 1 / settings.frame_rate,
            longest=LONGEST_INTERVAL * float(np.median(np.diff(own))),
        )
    first = (trials["n_frames"].cumsum() - trials["n_frames"]).to_numpy()
    seconds = np.add.reduceat(covered, first, dtype=int) / settings.frame_rate
    enough = seconds >= np.minimum(settings.min_clip_seconds, 0.9 * trials["n_frames"] / settings.frame_rate)
    if not enough.any():
        stop = (trials["onset"] + trials["n_frames"] / settings.frame_rate).max()
        raise AlignmentError(
            f"Stimulus and responses do not overlap: movies were shown from {trials['onset'].min():.1f} to {stop:.1f} "
            f"s and responses recorded from {min(own[0] for own in times.values()):.1f} to "
            f"{max(own[-1] for own in times.values()):.1f} s.",
            "Responses must cover some of the movies, on the same clock.",
            "Check that the timestamps of both are seconds on the session clock.",
        )
    warnings = []
    if not enough.all():
        warnings.append(f"{(~enough).sum()} of {len(trials)} trials were left out: no responses were recorded then.")
    partly = enough & (seconds < trials["n_frames"] / settings.frame_rate - 1.5 / settings.frame_rate)
    if partly.any():
        warnings.append(f"Responses cover only part of {partly.sum()} trials; the rest of these is marked not valid.")
    kept = trials[enough].reset_index(drop=True)
    kept.insert(kept.columns.get_loc("n_frames"), "first_frame", kept["n_frames"].cumsum() - kept["n_frames"])
    return kept, warnings


def frame_starts(trials: pd.DataFrame, frame_rate: float) -> np.ndarray:
    """``(time,)`` onset of every frame of every trial, seconds on the session clock."""
    return np.concatenate(
        [onset + np.arange(n) / frame_rate for onset, n in zip(trials["onset"], trials["n_frames"], strict=True)]
    )


def _within_any(starts: np.ndarray, stops: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """Which bins touch any of the spans."""
    touched = np.zeros(len(starts), dtype=bool)
    for first, last in spans:
        touched |= (starts < last) & (stops > first)
    return touched


def _thumbnails(video: np.ndarray, trials: pd.DataFrame, settings: AlignmentSettings) -> dict[str, np.ndarray]:
    if settings.duplicate_correlation == 1:
        return {}
    size = (min(THUMBNAIL_SIZE[0], settings.frame_size[0]), min(THUMBNAIL_SIZE[1], settings.frame_size[1]))
    thumbnails = {}
    for clip, showings in trials.groupby("clip", sort=False):
        longest = showings.loc[showings["n_frames"].idxmax()]
        n = int(longest["n_frames"])
        wanted = max(3, round(n / settings.frame_rate / THUMBNAIL_SECONDS))
        frames = int(longest["first_frame"]) + np.linspace(0, n - 1, wanted).round().astype(int)
        thumbnails[str(clip)] = scale_frames(video[frames], size)
    return thumbnails


def _align_behavior(
    behavior: Mapping[str, BehaviorSeries], starts: np.ndarray, stops: np.ndarray, settings: AlignmentSettings
) -> tuple[tuple[str, ...], np.ndarray, dict[str, BehaviorSeries], list[str]]:
    # one order for all sessions, so that an encoder trained on one knows its inputs in another
    ordered = [*(name for name in BEHAVIOR_ORDER if name in behavior), *sorted(set(behavior) - set(BEHAVIOR_ORDER))]
    warnings = []
    columns, kept = [], {}
    for name in ordered:
        series, note = _usable_series(behavior[name])
        warnings += note
        column = sample_behavior(series, starts, stops, settings.behavior_gap_seconds)
        if np.isnan(column).all():
            warnings.append(f"{name} has no samples during the trials and was left out.")
            continue
        columns.append(column)
        kept[name] = series
    values = np.stack(columns, axis=1).astype(np.float32) if columns else np.zeros((len(starts), 0), dtype=np.float32)
    return tuple(kept), values, kept, warnings


def _usable_series(series: BehaviorSeries) -> tuple[BehaviorSeries, list[str]]:
    times = np.asarray(series.timestamps, dtype=float)
    known = np.isfinite(times)
    latest = np.maximum.accumulate(np.where(known, times, -np.inf))
    usable = known & (times > np.concatenate([[-np.inf], latest[:-1]]))
    if usable.all():
        return series, []
    cleaned = replace(series, values=np.asarray(series.values)[usable], timestamps=times[usable])
    return cleaned, [f"{(~usable).sum()} samples of {series.name} whose times do not increase were left out."]


class _ArrayStore:
    """Arrays in memory, or in files of a folder of their own where there is too much."""

    def __init__(self, large: bool, parent: str | Path | None) -> None:
        self.folder = None
        if large:
            if parent is not None:
                Path(parent).mkdir(parents=True, exist_ok=True)
            self.folder = Path(tempfile.mkdtemp(prefix="nwbrecon-", dir=parent))

    def empty(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        if self.folder is None:
            return np.empty(shape, dtype)
        return np.lib.format.open_memmap(self.folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)

    def keep(self, name: str, array: np.ndarray) -> np.ndarray:
        if self.folder is None:
            return array
        stored = self.empty(name, array.shape, array.dtype)
        stored[:] = array
        return stored

    def delete(self) -> None:
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def delete_with(self, owner: Any) -> None:
        if self.folder is not None:
            weakref.finalize(owner, shutil.rmtree, self.folder, ignore_errors=True)
