"""A session as a small table that a person reads at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nwbrecon.display import block, list_html, table_html
from nwbrecon.session.series import median_interval

if TYPE_CHECKING:
    from nwbrecon.session.model import Session

__all__ = ["describe", "describe_html", "text_table"]


def describe(session: Session) -> str:
    """Planes, stimulus and behavior of a session, a line each, with rates and spans."""
    head, tables = _tables(session)
    lines = [head, *(line for rows in tables for line in text_table(rows))]
    if session.warnings:
        lines.append(f"{len(session.warnings)} warning{'s'[: len(session.warnings) > 1]}, in .warnings")
    return "\n".join(lines)


def describe_html(session: Session) -> str:
    """Give the same as HTML for a notebook, warnings written out."""
    head, tables = _tables(session)
    warnings = [f"Warning: {warning}" for warning in session.warnings]
    return block(head, *map(table_html, tables), list_html(warnings))


def _tables(session: Session) -> tuple[str, list[list[tuple[str, ...]]]]:
    subject = session.subject.get("subject_id", "?")
    head = (
        f"Session {session.identity.get('session_id') or session.identity.get('identifier', '')} of subject {subject}"
    )
    planes = [
        (
            group.name,
            str(group.n_rois),
            f"{group.sampling_rate:.4g}",
            _span(group.timestamps[0], group.timestamps[-1]),
            group.kind.value + (f", delay {group.delay:g} s" if group.delay else ""),
        )
        for group in session.responses.values()
    ]
    behavior = [
        (
            series.name,
            series.unit,
            f"{1 / median_interval(series.timestamps):.4g}" if len(series.timestamps) > 1 else "",
            _span(series.timestamps[0], series.timestamps[-1]),
            f"{np.mean(np.isnan(series.values)):.0%} missing" if np.isnan(series.values).any() else "",
        )
        for series in session.behavior.values()
    ]
    shown = session.stimulus.presentations
    stimulus = []
    for (name, kind), rows in shown.groupby(["store", "kind"], sort=False):
        store = session.stimulus.stores[str(name)]
        first = session.stimulus.clocks(int(rows.index[0])).onsets
        stimulus.append(
            (
                store.name,
                str(len(rows)),
                str(rows["clip"].nunique()),
                f"{1 / median_interval(first):.4g}" if len(first) > 1 else "",
                _span(rows["onset"].iloc[0], rows["offset"].iloc[-1]),
                f"{kind}, {store.height} x {store.width}",
            )
        )
    tables: list[list[tuple[str, ...]]] = [
        [("plane", "ROIs", "Hz", "seconds", "signal"), *planes],
        [("stimulus", "shown", "clips", "Hz", "seconds", "kind, pixels"), *_shortened(stimulus)],
    ]
    if behavior:
        tables.append([("behavior", "unit", "Hz", "seconds", ""), *behavior])
    return head, tables


def _shortened(rows: Sequence[tuple[str, ...]], most: int = 8) -> list[tuple[str, ...]]:
    """Leave out the middle of a long list."""
    if len(rows) <= most:
        return list(rows)
    left_out = (f"... {len(rows) - most + 1} more ...", *[""] * (len(rows[0]) - 1))
    return [*rows[: most // 2], left_out, *rows[len(rows) - most + most // 2 + 1 :]]


def _span(start: float, stop: float) -> str:
    return f"{start:.1f} - {stop:.1f}"


def text_table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines of a table, its first row the heading, with an empty line before it."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return ["", lines[0], "  ".join("-" * width for width in widths), *lines[1:]]
