"""What a recording holds and what would be used of it, in a table that is read in ten seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from nwbrecon.alignment.align import align, frame_starts, plan_trials
from nwbrecon.alignment.resample import coverage
from nwbrecon.alignment.splits import choose_split, guard
from nwbrecon.alignment.views import LONGEST_INTERVAL, sample_behavior
from nwbrecon.config import AlignmentSettings
from nwbrecon.errors import AlignmentError
from nwbrecon.pipeline.opening import open_as_set
from nwbrecon.pipeline.verdict import Verdict, judge, reliability
from nwbrecon.session import Session, SignalKind
from nwbrecon.session.describe import text_table
from nwbrecon.session.series import median_interval

__all__ = ["Inspection", "inspect", "inspect_session"]

_SPLITS = ("train", "validation", "test")
_MOST_ROWS = 8
_SKETCH = (18, 32)


@dataclass
class Inspection:
    """What a recording holds and what would be used of it; what JSON can hold.

    Attributes
    ----------
    identity, subject
        As in the session.
    planes
        One entry a response group: ``name``, ``rois``, ``rate`` (Hz), ``start``, ``stop`` (s), ``signal``, ``used_as``,
        ``alternatives``, ``neuropil``, ``indicator``, ``delay`` (s).
    stimuli
        One entry a source of frames: ``name``, ``kinds``, ``clips``, ``showings``, ``minutes``, ``unique_minutes``,
        ``height``, ``width``, ``rate`` (Hz), ``start``, ``stop`` (s).
    repeats
        How often clips were shown: ``times``, ``clips``, ``unique_minutes``, one entry a number of showings.
    behavior
        One entry a variable: ``name``, ``unit``, ``rate`` (Hz), ``start``, ``stop`` (s), ``coverage`` (share of the
        frames of the trials that would be used for which there is a value).
    overlap
        ``stimulus`` and ``responses``: ``[start, stop]`` (s), None where there are none; ``covered``: share of the
        stimulus' time with responses.
    split
        Trials that would be used: ``clips``, ``trials`` and ``unique_minutes`` for ``train``, ``validation`` and
        ``test``; empty where the recording cannot be used.
    reason
        How the split was chosen, or why the recording cannot be used.
    timeline
        One entry a presentation, in time order: ``onset``, ``offset`` (s), ``clip``, ``kind``, ``stimulus``.
    measured
        What responses and movie themselves say, where they were read: ``latency`` (s, of the population's response to
        changes on the screen), ``latency_clear``, ``reliability`` (see `nwbrecon.pipeline.verdict.reliability`).
    verdict
        Whether a reconstruction is worth attempting, and what is missing.
    warnings
        What was skipped, guessed or found wrong, in sentences.
    """

    identity: dict[str, Any]
    subject: dict[str, Any]
    planes: list[dict[str, Any]]
    stimuli: list[dict[str, Any]]
    repeats: list[dict[str, Any]]
    behavior: list[dict[str, Any]]
    overlap: dict[str, Any]
    split: dict[str, dict[str, Any]] = field(default_factory=dict)
    reason: str = ""
    timeline: list[dict[str, Any]] = field(default_factory=list)
    measured: dict[str, Any] | None = None
    verdict: Verdict = field(default_factory=lambda: Verdict("no"))
    warnings: list[str] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        """Whether an encoder could be trained and clips reconstructed."""
        return set(_SPLITS) <= set(self.split)

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON holds it."""
        return {"usable": self.usable, **asdict(self)}

    def __str__(self) -> str:
        return "\n".join([self._head(), *self._planes(), *self._stimuli(), *self._behavior(), "", *self._use()])

    def _head(self) -> str:
        session = self.identity.get("session_id") or self.identity.get("identifier", "")
        subject = ", ".join(str(self.subject[name]) for name in ("subject_id", "species") if name in self.subject)
        return f"{self.identity.get('location', '')}\nsession {session} of subject {subject or 'unknown'}"

    def _planes(self) -> list[str]:
        if not self.planes:
            return ["", "responses: none"]
        rows: list[tuple[str, ...]] = [
            (
                plane["name"],
                str(plane["rois"]),
                f"{plane['rate']:.4g}",
                _span(plane),
                plane["signal"] + (f", delay {plane['delay']:g} s" if plane["delay"] else ""),
                plane["used_as"],
            )
            for plane in self.planes
        ]
        if len(rows) > 1:
            rows = _shortened(rows)
            rows.append(
                (f"{len(self.planes)} planes", str(sum(plane["rois"] for plane in self.planes)), "", "", "", "")
            )
        return text_table([("plane", "ROIs", "Hz", "seconds", "signal", "used as"), *rows])

    def _stimuli(self) -> list[str]:
        if not self.stimuli:
            return ["", "stimulus: none whose frames and times are known"]
        rows = [
            (
                stimulus["name"],
                str(stimulus["clips"]),
                str(stimulus["showings"]),
                f"{stimulus['unique_minutes']:.1f} of {stimulus['minutes']:.1f}",
                f"{stimulus['rate']:.4g}" if stimulus["rate"] else "",
                _span(stimulus),
                f"{', '.join(stimulus['kinds'])}, {stimulus['height']} x {stimulus['width']}",
            )
            for stimulus in self.stimuli
        ]
        shown = ", ".join(
            f"{entry['clips']} clip{'s' * (entry['clips'] > 1)} "
            + ("once" if entry["times"] == 1 else f"{entry['times']} times")
            for entry in self.repeats
        )
        return [
            *text_table(
                [("stimulus", "clips", "shown", "unique min", "Hz", "seconds", "kind, pixels"), *_shortened(rows)]
            ),
            *([f"shown: {shown}"] if shown else []),
        ]

    def _behavior(self) -> list[str]:
        rows = [
            (
                series["name"],
                series["unit"],
                f"{series['rate']:.4g}" if series["rate"] else "",
                _span(series),
                f"{series['coverage']:.0%} of frames" if series["coverage"] is not None else "",
            )
            for series in self.behavior
        ]
        if not rows:
            return ["", "behavior: none; the encoder goes without"]
        return text_table([("behavior", "unit", "Hz", "seconds", "known"), *rows])

    def _use(self) -> list[str]:
        lines = []
        if self.planes and self.stimuli:
            lines.append(f"responses cover {self.overlap['covered']:.0%} of the stimulus' time")
        if self.split:
            rows = [
                (name, str(part["clips"]), str(part["trials"]), f"{part['unique_minutes']:.1f}")
                for name, part in self.split.items()
            ]
            lines += [*text_table([("used for", "clips", "trials", "unique min"), *rows]), self.reason]
        head, *reasons = self.verdict.sentences
        lines += [*self._measured(), "", head, *(f"- {reason}" for reason in reasons)]
        if self.warnings:
            lines += ["", f"{len(self.warnings)} warning{'s'[: len(self.warnings) > 1]}:"]
            lines += [f"- {warning}" for warning in self.warnings]
        return lines

    def _measured(self) -> list[str]:
        if self.measured is None:
            return []
        found = self.measured
        lines = ["the population does not visibly follow changes on the screen: the clocks could not be checked"]
        if found["latency_clear"]:
            lines = [f"the population follows changes on the screen by {1000 * found['latency']:.0f} ms"]
        if found["reliability"]:
            told = found["reliability"]
            lines.append(
                f"{told['reliable']} cells respond to repeats alike (median correlation {told['median']:.2f}, "
                f"{told['clips']} clips, {told['trials']} trials)"
            )
        return lines


def inspect(source: Any, settings: AlignmentSettings | None = None, *, measure: bool = False) -> Inspection:
    """Find out what a recording holds, what would be used of it, and whether it will do.

    Clocks and tables are enough for that, so that it is quick on the largest file; near-duplicates among the clips,
    which `nwbrecon.align` keeps in one split, are therefore not known here. To measure how reliably the cells respond
    and how long after a change on the screen, responses and movie are read too.

    Parameters
    ----------
    source
        As `nwbrecon.open_session` takes it.
    settings
        How it would be aligned; the defaults where not given.
    measure
        Whether responses and movie are read.

    Raises
    ------
    SourceError
        If there is nothing to open, or it is not NWB.
    SessionError
        If what it holds cannot be understood. A file without responses or without a stimulus is described all the same.
    """
    settings = settings or AlignmentSettings()
    with open_as_set(source, settings, incomplete=True) as session:
        return inspect_session(session, settings, measure=measure)


def inspect_session(session: Session, settings: AlignmentSettings, *, measure: bool = False) -> Inspection:
    """As `inspect`, of a session that is open."""
    inspection = Inspection(
        identity=session.identity,
        subject=session.subject,
        planes=_planes(session, settings),
        stimuli=_stimuli(session),
        repeats=_repeats(session.stimulus.shown),
        behavior=[],
        overlap=_overlap(session),
        timeline=_timeline(session),
        warnings=list(session.warnings),
    )
    frames = np.empty(0)
    try:
        if session.lacks:
            raise AlignmentError(" ".join(session.lacks))
        plan = plan_trials(session, settings)
        inspection.warnings += plan.warnings
        used = replace(session, responses=plan.groups)
        inspection.planes, inspection.overlap = _planes(used, settings), _overlap(used)
        for plane in inspection.planes:
            plane["delay"] = plan.delays[plane["name"]]
        frames = frame_starts(plan.trials, settings.frame_rate)
        inspection.split, inspection.reason = _split(plan.trials, settings, inspection.warnings)
        if measure:
            inspection.measured = _measure(session, settings, inspection.warnings)
    except AlignmentError as error:
        inspection.reason = str(error)
    inspection.behavior = _behavior(session, frames, settings)
    inspection.verdict = judge(
        rois=sum(plane["rois"] for plane in inspection.planes),
        split=inspection.split,
        covered=inspection.overlap["covered"],
        behavior=session.behavior,
        reason=inspection.reason,
        measured=inspection.measured,
    )
    return inspection


def _measure(session: Session, settings: AlignmentSettings, warnings: list[str]) -> dict[str, Any]:
    # neither needs more than a sketch of the movie
    size = (min(settings.frame_size[0], _SKETCH[0]), min(settings.frame_size[1], _SKETCH[1]))
    aligned = align(session, settings, frame_size=size)
    known = set(warnings)
    warnings += [
        warning for warning in aligned.warnings if warning not in known and "pixels were scaled" not in warning
    ]
    latency = aligned.info["latency"]
    return {
        "latency": latency["seconds"],
        "latency_clear": latency["clear"],
        "reliability": reliability(aligned),
    }


def _timeline(session: Session) -> list[dict[str, Any]]:
    rows = session.stimulus.presentations
    return [
        {"onset": onset, "offset": offset, "clip": clip, "kind": kind, "stimulus": session.stimulus.stores[store].name}
        for onset, offset, clip, kind, store in zip(
            rows["onset"].tolist(), rows["offset"].tolist(), rows["clip"], rows["kind"], rows["store"], strict=True
        )
    ]


def _planes(session: Session, settings: AlignmentSettings) -> list[dict[str, Any]]:
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


def _stimuli(session: Session) -> list[dict[str, Any]]:
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


def _repeats(shown: pd.DataFrame) -> list[dict[str, Any]]:
    times = shown.groupby("clip")["clip"].transform("size")
    return [
        {"times": int(count), "clips": int(rows["clip"].nunique()), "unique_minutes": _minutes(rows)["unique_minutes"]}
        for count, rows in shown.groupby(times)
    ]


def _overlap(session: Session) -> dict[str, Any]:
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


def _split(
    trials: pd.DataFrame, settings: AlignmentSettings, warnings: list[str]
) -> tuple[dict[str, dict[str, Any]], str]:
    split = choose_split(trials, settings.frame_rate, [], settings)
    warnings += split.warnings
    trials = trials.assign(split=trials["clip"].map(split.of_clip))
    guarded = guard(trials, settings.frame_rate, settings.guard_seconds)
    trials["left"] = trials["n_frames"] - np.add.reduceat(guarded, trials["first_frame"], dtype=int)
    trials = trials[trials["left"] > 0]
    table = {}
    for name in _SPLITS:
        rows = trials[trials["split"] == name]
        if len(rows):
            frames = rows.groupby("clip")["left"].max().sum()
            table[name] = {
                "clips": int(rows["clip"].nunique()),
                "trials": len(rows),
                "unique_minutes": float(frames / settings.frame_rate / 60),
            }
    return table, split.reason


def _behavior(session: Session, frames: np.ndarray, settings: AlignmentSettings) -> list[dict[str, Any]]:
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


def _span(entry: Mapping[str, Any]) -> str:
    return f"{entry['start']:.1f} - {entry['stop']:.1f}"


def _shortened(rows: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    if len(rows) <= _MOST_ROWS:
        return list(rows)
    half = _MOST_ROWS // 2
    left_out = (f"... {len(rows) - 2 * half + 1} more ...", *[""] * (len(rows[0]) - 1))
    return [*rows[:half], left_out, *rows[len(rows) - half + 1 :]]
