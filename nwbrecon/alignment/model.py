"""The nouns of this room: everything on one frame clock, and the trials on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pandas as pd

from nwbrecon.display import block, frame_row, list_html, table_html
from nwbrecon.errors import AlignmentError
from nwbrecon.session.model import BehaviorSeries, SignalKind
from nwbrecon.storage import digest

__all__ = ["AlignedGroup", "AlignedSession", "AlignedTrial"]

_CLIPS_SHOWN = 4
TRIAL_COLUMNS = ("clip", "film", "repeat", "onset", "first_frame", "n_frames", "split")


@dataclass
class AlignedGroup:
    """The ROIs of one imaging plane or probe, ready for an encoder, on their own sample clock.

    Attributes
    ----------
    name
        Name of the plane or probe.
    kind
        `SignalKind.EVENTS` or `SignalKind.SPIKES` (non-negative; sample ``k`` counts what happened in
        ``(timestamps[k-1], timestamps[k]]``), or `SignalKind.DFF` (the value at ``timestamps[k]``).
    timestamps
        ``(sample,)`` seconds on the session clock, the plane's delay included.
    activity
        ``(sample, roi)`` float32, divided by `scale`; NaN where invalid. May be a memory map.
    scale
        ``(roi,)`` the factor that `activity` was divided by, in units of the signal; 1 for spike counts.
    rois
        One row a ROI; the index is the ROI's id in the file.
    origin
        How `activity` came from what the file holds, in words.
    """

    name: str
    kind: SignalKind
    timestamps: np.ndarray
    activity: np.ndarray
    scale: np.ndarray
    rois: pd.DataFrame
    origin: str = ""

    @property
    def n_rois(self) -> int:
        """Number of ROIs."""
        return self.activity.shape[1]

    @property
    def interval(self) -> float:
        """Seconds between samples (median)."""
        return float(np.median(np.diff(self.timestamps)))


@dataclass
class AlignedTrial:
    """One presentation on the frame clock; views where the arrays allow it.

    Attributes
    ----------
    times
        ``(time,)`` onset of each frame, seconds on the session clock.
    video
        ``(time, height, width)`` float32, grey level 0-255.
    behavior
        ``(time, variable)`` float32, NaN where missing.
    valid
        ``(time,)`` which frames may be learned from and scored, see `AlignedSession.valid`.
    """

    times: np.ndarray
    video: np.ndarray
    behavior: np.ndarray
    valid: np.ndarray


@dataclass
class AlignedSession:
    """Everything on one frame clock, uniform within a trial and restarting at each trial's onset.

    Attributes
    ----------
    frame_rate
        Frames per second (Hz).
    trials
        One row a trial, with ``clip`` (identity of what was shown), ``film`` (source film or empty), ``repeat``
        (0 for the first showing), ``onset`` (seconds), ``first_frame`` and ``n_frames`` (rows of the arrays below) and
        ``split`` (``train``, ``validation``, ``test``, or empty for what no one may use). Those that `align` makes also
        have ``presentation`` (row of the session's presentations), ``kind``, and, for scenes of a longer movie,
        ``movie`` (identity of the whole, else empty) with ``movie_start`` and ``movie_stop`` (seconds in it).
    video
        ``(time, height, width)`` grey level 0-255, trials one after the other. May be a memory map of another dtype
        (`align` makes float16: rounded by 1/16 of a grey level at most); index it, do not compute on it whole.
    behavior
        ``(time, variable)`` float32, NaN where missing.
    behavior_names
        Names of the variables, such as ``running_speed``; empty where the recording has no behavior.
    valid
        ``(time,)`` bool: at least one response group covers the frame, and it is not within the guard time of another
        split. A frame that is not valid may be shown to an encoder as what came before, but is neither learned from nor
        scored.
    groups
        Response groups on their own clocks.
    identity, subject, settings, warnings
        Carried along for provenance.
    behavior_series
        The behavioral variables on their own clocks, by name, for frames before and after a trial; may be empty.
    gray
        ``(period, 2)`` seconds on the session clock between which the screen is known to have shown nothing.
    info
        How the alignment went, what JSON can hold: ``split`` (in words), ``latency`` (``seconds`` and ``clear``, see
        `nwbrecon.alignment.latency.population_latency`).
    """

    frame_rate: float
    trials: pd.DataFrame
    video: np.ndarray
    behavior: np.ndarray
    behavior_names: tuple[str, ...]
    valid: np.ndarray
    groups: list[AlignedGroup]
    identity: dict[str, Any] = field(default_factory=dict)
    subject: dict[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    behavior_series: Mapping[str, BehaviorSeries] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    gray: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))

    def __post_init__(self) -> None:
        missing = [column for column in TRIAL_COLUMNS if column not in self.trials]
        if missing:
            raise AlignmentError(
                f"The trials table lacks {', '.join(missing)}.", f"It needs the columns {', '.join(TRIAL_COLUMNS)}."
            )
        lengths = {len(self.video), len(self.behavior), len(self.valid)}
        if len(lengths) > 1 or int(self.trials["n_frames"].sum()) not in lengths:
            raise AlignmentError(
                f"Video, behavior, valid and the trials table have {len(self.video)}, {len(self.behavior)}, "
                f"{len(self.valid)} and {int(self.trials['n_frames'].sum())} frames.",
                "They must agree.",
            )

    @property
    def frame_size(self) -> tuple[int, int]:
        """``(height, width)`` in pixels."""
        return self.video.shape[1], self.video.shape[2]

    @property
    def n_rois(self) -> int:
        """Number of ROIs over all groups."""
        return sum(group.n_rois for group in self.groups)

    @property
    def rois(self) -> pd.DataFrame:
        """ROI tables of all groups, one after the other, with ``group`` and ``roi_id``."""
        tables = [
            group.rois.reset_index(names="roi_id").drop(columns="group", errors="ignore").assign(group=group.name)
            for group in self.groups
        ]
        return pd.concat(tables, ignore_index=True)

    def trial(self, trial: int) -> AlignedTrial:
        """Return the trial with this label in `trials`."""
        row = self.trials.loc[trial]
        span = slice(int(row["first_frame"]), int(row["first_frame"] + row["n_frames"]))
        return AlignedTrial(
            times=row["onset"] + np.arange(row["n_frames"]) / self.frame_rate,
            video=np.asarray(self.video[span], dtype=np.float32),
            behavior=self.behavior[span],
            valid=self.valid[span],
        )

    def trials_in(self, split: str, *, repeats: Sequence[int] | None = None) -> list[int]:
        """Labels of the trials of a split, in time order; of these repeats only, where given."""
        chosen = self.trials["split"] == split
        if repeats is not None:
            chosen &= self.trials["repeat"].isin(list(repeats))
        return [int(label) for label in self.trials.index[chosen]]

    def showings_like(self, trial: int) -> list[int]:
        """Labels of the trials that showed what this one did, for as long; itself among them."""
        row = self.trials.loc[trial]
        same = (self.trials["clip"] == row["clip"]) & (self.trials["n_frames"] == row["n_frames"])
        return [int(label) for label in self.trials.index[same]]

    def digest(self) -> str:
        """SHA-256 of what was aligned and how: recording, settings, trials, ROIs."""
        return digest(
            [self.identity, dict(self.settings), self.trials.to_json(), self.rois[["group", "roi_id"]].to_json()]
        )

    def describe_split(self) -> str:
        """Which clips serve for what, how much of each there is, and why, in a few lines."""
        lines = []
        for split in ("train", "validation", "test", ""):
            labels = self.trials_in(split)
            if not labels:
                continue
            rows = self.trials.loc[labels]
            valid = {clip: np.zeros(max(of_clip["n_frames"]), int) for clip, of_clip in rows.groupby("clip")}
            for clip, first, n in zip(rows["clip"], rows["first_frame"], rows["n_frames"], strict=True):
                valid[clip][:n] += self.valid[first : first + n]
            minutes = sum(times.sum() for times in valid.values()) / self.frame_rate / 60
            unique = sum((times > 0).sum() for times in valid.values()) / self.frame_rate / 60
            lines.append(
                f"{split or 'unused':<10} {len(valid):4d} clips {len(rows):5d} trials {minutes:6.1f} min, "
                f"{unique:.1f} min of it unique"
            )
        if "split" in self.info:
            lines.append(str(self.info["split"]))
        return "\n".join(lines)

    def __repr__(self) -> str:
        height, width = self.frame_size
        groups = ", ".join(
            f"{group.name}: {group.n_rois} ({group.kind} every {1000 * group.interval:.0f} ms)"
            for group in self.groups[:4]
        )
        more = f", and {len(self.groups) - 4} groups more" if len(self.groups) > 4 else ""
        return "\n".join(
            [
                f"AlignedSession: {height}x{width} pixels at {self.frame_rate:g} Hz",
                *(f"  {line}" for line in self.describe_split().splitlines()),
                f"  ROIs       {self.n_rois:4d} in {groups}{more}",
                f"  behavior   {', '.join(self.behavior_names) or 'none'}",
                *([f"  warnings   {len(self.warnings):4d}, see .warnings"] if self.warnings else []),
            ]
        )

    def _repr_html_(self) -> str:
        height, width = self.frame_size
        planes = [
            ("plane", "ROIs", "ms between samples", "signal", "made from"),
            *(
                (group.name, str(group.n_rois), f"{1000 * group.interval:.0f}", str(group.kind), group.origin)
                for group in self.groups
            ),
        ]
        some = self.trials.drop_duplicates("clip").head(_CLIPS_SHOWN)
        frames = [
            (f"{row['clip'][:16]} ({row['split'] or 'unused'})", self.video[row["first_frame"] + row["n_frames"] // 2])
            for _, row in some.iterrows()
        ]
        return block(
            f"Aligned session: {height}x{width} pixels at {self.frame_rate:g} Hz, "
            f"behavior: {', '.join(self.behavior_names) or 'none'}",
            list_html(self.describe_split().splitlines()),
            table_html(planes),
            frame_row(frames),
            list_html(f"Warning: {warning}" for warning in self.warnings),
        )

    @classmethod
    def from_arrays(
        cls,
        videos: Sequence[np.ndarray],
        groups: Sequence[AlignedGroup],
        *,
        onsets: Sequence[float],
        clips: Sequence[str],
        splits: Sequence[str],
        frame_rate: float,
        behaviors: Sequence[np.ndarray] | None = None,
        behavior_names: Sequence[str] = (),
    ) -> Self:
        """Build one from arrays that are on one clock already.

        Parameters
        ----------
        videos
            One ``(time, height, width)`` array a trial, grey level 0-255.
        groups
            Response groups; their timestamps are on the clock of `onsets`.
        onsets
            Seconds at which each trial began.
        clips, splits
            Identity of what was shown, and ``train``, ``validation`` or ``test``, one a trial.
        frame_rate
            Frames per second (Hz).
        behaviors
            One ``(time, variable)`` array a trial.
        behavior_names
            Names of the variables.
        """
        lengths = np.array([len(video) for video in videos])
        trials = pd.DataFrame(
            {
                "clip": list(clips),
                "film": "",
                "onset": np.asarray(onsets, dtype=float),
                "first_frame": np.concatenate([[0], np.cumsum(lengths)[:-1]]),
                "n_frames": lengths,
                "split": list(splits),
            }
        )
        trials["repeat"] = trials.groupby("clip").cumcount()
        total = int(lengths.sum())
        behavior = (
            np.concatenate([np.asarray(values, dtype=np.float32) for values in behaviors])
            if behaviors is not None
            else np.zeros((total, 0), dtype=np.float32)
        )
        return cls(
            frame_rate=frame_rate,
            trials=trials,
            video=np.concatenate([np.asarray(video, dtype=np.float32) for video in videos]),
            behavior=behavior,
            behavior_names=tuple(behavior_names),
            valid=np.ones(total, dtype=bool),
            groups=list(groups),
        )
