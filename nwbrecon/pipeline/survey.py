"""What each of several sessions holds: of a dandiset, by streaming, or of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from nwbrecon.config import AlignmentSettings
from nwbrecon.errors import NwbreconError
from nwbrecon.pipeline.inspection import Inspection, inspect
from nwbrecon.progress import progress
from nwbrecon.session.describe import text_table
from nwbrecon.sources import ListedSession, resolve, sessions_in
from nwbrecon.storage import size_text

__all__ = ["SessionRow", "Survey", "inspect_all", "survey"]

MOST_OPENED = 12
_MOST_LINES = 40


@dataclass
class SessionRow:
    """What one of several sessions holds.

    Attributes
    ----------
    name
        What to type to open it.
    subject, session, size, n_files
        As in `nwbrecon.sources.ListedSession`.
    planes, rois
        How many; None where it was not opened.
    stimuli
        Names of what was shown.
    unique_minutes
        Minutes of stimulus, repeats counted once.
    behavior
        Names of the behavioral variables.
    worth
        The verdict: ``yes``, ``doubtful`` or ``no``; empty where it was not opened.
    problem
        Why it could not be opened; empty where it was, and where it was not tried.
    """

    name: str
    subject: str
    session: str
    size: int
    n_files: int
    planes: int | None = None
    rois: int | None = None
    stimuli: list[str] = field(default_factory=list)
    unique_minutes: float | None = None
    behavior: list[str] = field(default_factory=list)
    worth: str = ""
    problem: str = ""


@dataclass
class Survey:
    """What the sessions of a dandiset or a folder hold.

    Attributes
    ----------
    where
        What was named.
    sessions
        One row a session, in order of their names.
    """

    where: str
    sessions: list[SessionRow]

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON holds it."""
        return asdict(self)

    def __str__(self) -> str:
        size = size_text(sum(row.size for row in self.sessions))
        lines = [f"{self.where} holds {len(self.sessions)} sessions ({size})"]
        rows = [_cells(row) for row in self.sessions[:_MOST_LINES]]
        lines += text_table(
            [("session", "size", "planes", "ROIs", "unique min", "stimulus", "behavior", "worth it"), *rows]
        )
        if len(self.sessions) > _MOST_LINES:
            lines.append(f"... {len(self.sessions) - _MOST_LINES} more (--json lists them all)")
        closed = sum(not row.worth and not row.problem for row in self.sessions)
        if closed:
            lines.append(f"{closed} were not opened; --most {len(self.sessions)} opens all, or name some of them.")
        lines += ["", *(f"- {row.name}: {row.problem}" for row in self.sessions if row.problem)]
        best = max(self.sessions, key=lambda row: (row.worth == "yes", row.rois or 0, row.unique_minutes or 0))
        return "\n".join([*lines, f"Name one to inspect or to run it, such as: nwbrecon run {best.name} --out DIR"])


def inspect_all(
    source: Any,
    settings: AlignmentSettings | None = None,
    *,
    measure: bool = False,
    dandi_instance: str | None = None,
    most: int = MOST_OPENED,
) -> Inspection | Survey:
    """Inspect a recording, or each of the sessions of a dandiset or a folder that holds several.

    Parameters
    ----------
    source, settings, measure
        As for `nwbrecon.pipeline.inspection.inspect`; ``measure`` is for one recording alone.
    dandi_instance
        Name or API URL of the DANDI archive.
    most
        Of several sessions, so many are opened.

    Returns
    -------
    Inspection or Survey

    Raises
    ------
    SourceError
        If there is nothing to open, or it is not NWB.
    SessionError
        If what one recording holds cannot be understood.
    """
    listed = sessions_in(source, dandi_instance=dandi_instance)
    if len(listed) > 1:
        return survey(str(source), listed, settings, most)
    one = listed[0].source if listed else None
    return inspect(one or resolve(source, dandi_instance=dandi_instance), settings, measure=measure)


def survey(
    where: str, listed: Sequence[ListedSession], settings: AlignmentSettings | None = None, most: int = MOST_OPENED
) -> Survey:
    """Open sessions one after the other, reading clocks and tables alone, and say what each holds.

    Parameters
    ----------
    where
        What was named.
    listed
        The sessions.
    settings
        How they would be aligned.
    most
        The first so many are opened; of the others, names and sizes are told.
    """
    rows = [
        SessionRow(one.name, one.subject, one.session, one.size, one.n_files, problem=one.problem) for one in listed
    ]
    opened = [(row, one.source) for row, one in zip(rows, listed, strict=True) if one.source is not None][:most]
    for row, source in progress(opened, label="sessions", unit="session"):
        try:
            _fill(row, inspect(source, settings))
        except NwbreconError as error:
            row.problem = str(error)
    return Survey(where, rows)


def _fill(row: SessionRow, found: Inspection) -> None:
    row.planes, row.rois = len(found.planes), sum(plane["rois"] for plane in found.planes)
    row.stimuli = [stimulus["name"] for stimulus in found.stimuli]
    row.unique_minutes = sum(stimulus["unique_minutes"] for stimulus in found.stimuli)
    row.behavior = [series["name"] for series in found.behavior]
    row.worth = found.verdict.worth


def _cells(row: SessionRow) -> tuple[str, ...]:
    name = " ".join(part for part in (row.subject, row.session) if part) or row.name.rpartition("/")[2]
    size = size_text(row.size) + (f", {row.n_files} files" if row.n_files > 1 else "")
    if not row.worth:
        return (name, size, "", "", "", "", "", "not read" if row.problem else "")
    stimulus = row.stimuli[0] if row.stimuli else "none"
    if len(row.stimuli) > 1:
        stimulus += f" and {len(row.stimuli) - 1} more"
    return (
        name,
        size,
        str(row.planes),
        str(row.rois),
        f"{row.unique_minutes or 0:.1f}",
        stimulus,
        ", ".join(row.behavior) or "none",
        row.worth,
    )
