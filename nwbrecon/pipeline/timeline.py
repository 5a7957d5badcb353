"""What was shown and recorded when, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from nwbrecon.errors import SessionError, SettingsError
from nwbrecon.pipeline.inspection import Inspection
from nwbrecon.storage import atomic_path

__all__ = ["draw_timeline", "timeline_figure"]

_SUFFIXES = (".png", ".svg", ".pdf")
_COLORS = {"movie": "tab:blue", "image": "tab:orange", "noise": "tab:purple", "grating": "tab:red", "gray": "0.75"}
_SECONDS_IN_MINUTES = 180.0
"""Recordings longer than this are drawn in minutes."""


def timeline_figure(inspection: Inspection) -> Figure:
    """Draw one lane a clip that was repeated, one for all others, and one for each plane and behavioral variable.

    Parameters
    ----------
    inspection
        As `nwbrecon.pipeline.inspection.inspect` gives it.

    Returns
    -------
    matplotlib.figure.Figure
        Made without pyplot: ``savefig`` writes it.

    Raises
    ------
    SessionError
        If the recording holds nothing that has a time.
    """
    lanes = _lanes(inspection)
    if not lanes:
        raise SessionError("The recording holds neither responses nor stimulus nor behavior that could be drawn.")
    stop = max(span[1] for _, spans, _ in lanes for span in spans)
    unit, scale = ("min", 1 / 60) if stop > _SECONDS_IN_MINUTES else ("s", 1.0)
    figure = Figure(figsize=(10, 1.2 + 0.28 * len(lanes)), layout="constrained")
    axes = figure.subplots()
    for place, (_, spans, color) in enumerate(lanes):
        bars = [(scale * first, scale * (last - first)) for first, last in spans]
        axes.broken_barh(bars, (place - 0.4, 0.8), facecolors=color)
    axes.set_yticks(range(len(lanes)), [name for name, _, _ in lanes])
    axes.invert_yaxis()
    axes.set_xlabel(f"time on the session clock ({unit})")
    axes.set_title(f"session {inspection.identity.get('session_id') or inspection.identity.get('identifier', '')}")
    return figure


def draw_timeline(inspection: Inspection, path: Path) -> None:
    """Write the figure; what kind of picture it is, the name says.

    Raises
    ------
    SettingsError
        If the name does not end in ``.png``, ``.svg`` or ``.pdf``.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise SettingsError(f"{path} does not say what kind of picture it is.", f"{', '.join(_SUFFIXES)} are known.")
    with atomic_path(path) as temporary:
        timeline_figure(inspection).savefig(temporary, format=path.suffix[1:].lower())


def _lanes(inspection: Inspection, most: int = 12) -> list[tuple[str, list[tuple[float, float]], Any]]:
    """``(name, [(start, stop)], color)`` from top to bottom."""
    by_kind: dict[str, list[tuple[float, float]]] = {}
    by_clip: dict[str, list[tuple[float, float]]] = {}
    kinds: dict[str, str] = {}
    for shown in inspection.timeline:
        by_clip.setdefault(shown["clip"], []).append((shown["onset"], shown["offset"]))
        kinds[shown["clip"]] = shown["kind"]
    repeated = [clip for clip, spans in by_clip.items() if len(spans) > 1 and kinds[clip] != "gray"]
    alone = sorted(repeated, key=lambda clip: -len(by_clip[clip]))[:most]
    for clip, spans in by_clip.items():
        if clip not in alone:
            by_kind.setdefault(kinds[clip], []).extend(spans)
    lanes = [(f"{kind}{'s' * (kind != 'gray')}", spans, _COLORS.get(kind, "0.5")) for kind, spans in by_kind.items()]
    lanes += [
        (_short(f"{clip} ({len(by_clip[clip])} x)"), by_clip[clip], _COLORS.get(kinds[clip], "0.5")) for clip in alone
    ]
    lanes += [
        (_short(plane["name"]), [(plane["start"], plane["stop"])], "tab:green") for plane in inspection.planes[:most]
    ]
    return lanes + [(one["name"], [(one["start"], one["stop"])], "tab:brown") for one in inspection.behavior]


def _short(name: str, most: int = 32) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
