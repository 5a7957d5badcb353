"""What a recording holds and what would be used of it, in a table that is read in ten seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from nwbrecon.alignment.align import align, frame_starts, plan_trials
from nwbrecon.config import AlignmentSettings
from nwbrecon.errors import AlignmentError
from nwbrecon.pipeline.opening import open_as_set
from nwbrecon.pipeline.parts import (
    SPLITS,
    behavior_of,
    overlap_of,
    planes_of,
    repeats_of,
    split_of,
    stimuli_of,
    timeline_of,
)
from nwbrecon.pipeline.verdict import Verdict, judge, reliability
from nwbrecon.session import Session
from nwbrecon.session.describe import text_table

__all__ = ["Inspection", "inspect", "inspect_session"]

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
        return set(SPLITS) <= set(self.split)

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
        planes=planes_of(session, settings),
        stimuli=stimuli_of(session),
        repeats=repeats_of(session.stimulus.shown),
        behavior=[],
        overlap=overlap_of(session),
        timeline=timeline_of(session),
        warnings=list(session.warnings),
    )
    frames = np.empty(0)
    try:
        if session.lacks:
            raise AlignmentError(" ".join(session.lacks))
        plan = plan_trials(session, settings)
        inspection.warnings += plan.warnings
        used = replace(session, responses=plan.groups)
        inspection.planes, inspection.overlap = planes_of(used, settings), overlap_of(used)
        for plane in inspection.planes:
            plane["delay"] = plan.delays[plane["name"]]
        frames = frame_starts(plan.trials, settings.frame_rate)
        inspection.split, inspection.reason = split_of(plan.trials, settings, inspection.warnings)
        if measure:
            inspection.measured = _measure(session, settings, inspection.warnings)
    except AlignmentError as error:
        inspection.reason = str(error)
    inspection.behavior = behavior_of(session, frames, settings)
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


def _span(entry: Mapping[str, Any]) -> str:
    return f"{entry['start']:.1f} - {entry['stop']:.1f}"


def _shortened(rows: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    if len(rows) <= _MOST_ROWS:
        return list(rows)
    half = _MOST_ROWS // 2
    left_out = (f"... {len(rows) - 2 * half + 1} more ...", *[""] * (len(rows[0]) - 1))
    return [*rows[:half], left_out, *rows[len(rows) - half + 1 :]]
