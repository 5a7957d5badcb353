"""Running, pupil and gaze, wherever a file keeps them, in common units."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from nwbrecon.session.contents import Item
from nwbrecon.session.model import BehaviorSeries
from nwbrecon.session.pupil import find_pupil
from nwbrecon.session.series import sliceable
from nwbrecon.session.traces import Trace, behavior_series, named, read_trace, traces_of, without_blinks

__all__ = ["cm_per_second", "find_behavior"]

Warn = Callable[[str], None]

_RUNNING = re.compile(r"running|treadmill|wheel|locomotion|ball", re.IGNORECASE)
_SPEED = re.compile(r"speed|velocity", re.IGNORECASE)
_NOT_SPEED = re.compile(r"unfiltered|raw|acceleration|angular|end_times|pupil|stim|screen|optic|flow", re.IGNORECASE)
_TRAVELED = re.compile(r"position|distance|displacement|traveled|travelled|odometer", re.IGNORECASE)
_GAZE = re.compile(
    r"gaze|eye_?(position|location|tracking)|pupil_?(position|location|center|centre|tracking)", re.IGNORECASE
)
_NOT_GAZE = re.compile(r"corneal|reflection|blink|eyelid|head|screen", re.IGNORECASE)

_LENGTHS = {"mm": 0.1, "cm": 1.0, "m": 100.0, "in": 2.54}
_SPELLED = {
    "millimeter": "mm", "millimetre": "mm", "centimeter": "cm", "centimetre": "cm",
    "meter": "m", "metre": "m", "inch": "in", "inche": "in",
}  # fmt: skip
LONGEST_STEP = 5.0
"""A position this many usual intervals ago tells no speed."""
TOO_FAST = 300.0
"""No mouse runs faster than this (cm/s); a trace that does is in another unit than the file says."""


def cm_per_second(unit: str) -> float | None:
    """Factor from a unit of speed to cm/s; ``None`` if it is not a speed.

    Examples
    --------
    >>> cm_per_second("m/s"), cm_per_second("centimeters per second"), cm_per_second("mm s^-1"), cm_per_second("a.u.")
    (100.0, 1.0, 0.1, None)
    """
    match = re.fullmatch(
        r"([a-z]+?)s?\s*(?:/|\bper\b|\s|\*|·)\s*(?:s|sec|second|seconds)(?:\s*(?:\^|\*\*)?\s*-\s*1)?",
        unit.strip().lower(),
    )
    if match is None:
        return None
    return _LENGTHS.get(_SPELLED.get(match.group(1), match.group(1)))


def find_behavior(items: Sequence[Item], warn: Warn) -> dict[str, BehaviorSeries]:
    """Find running speed, pupil size and gaze; what is absent is said and left out.

    Parameters
    ----------
    items
        What the file holds.
    warn
        Called with each sentence about something absent, skipped or guessed.

    Returns
    -------
    dict
        ``running_speed``, ``pupil_size``, ``gaze_x``, ``gaze_y``, as far as the file has them.
    """
    traces = traces_of(items)
    found: dict[str, BehaviorSeries] = {}
    for name, finder in (("running", _running), ("pupil", find_pupil), ("gaze", _gaze)):
        variables = finder(traces, warn)
        if not variables:
            warn(f"The file has no {name} that could be recognized; it goes without.")
        found.update({variable.name: variable for variable in variables})
    return found


def _running(traces: Sequence[Item], warn: Warn) -> list[BehaviorSeries]:
    return _speed(traces, warn) or _speed_from_position(traces, warn)


def _speed(traces: Sequence[Item], warn: Warn) -> list[BehaviorSeries]:
    def score(item: Item) -> int:
        told = " ".join(item.parents[1:])
        points = 3 * bool(_SPEED.search(item.name)) + 2 * bool(_RUNNING.search(item.name) or _RUNNING.search(told))
        points += 2 * (cm_per_second(str(item.content.unit)) is not None)
        return points - 4 * bool(_NOT_SPEED.search(item.name)) - 9 * bool(_TRAVELED.search(item.name))

    for item in sorted(traces, key=score, reverse=True):
        if score(item) < 4:
            return []
        trace = read_trace(item, warn)
        if trace is None or trace.values.ndim != 1:
            continue
        unit = str(item.content.unit)
        factor = cm_per_second(unit)
        if factor is None:
            warn(f"{item.path} has the unit {unit!r}, which is no speed that is known; it was kept as it is.")
            return [behavior_series("running_speed", trace, trace.values, unit, "running speed in a unit of its own")]
        speed = trace.values * factor
        fastest = np.nanmax(np.abs(speed), initial=0.0)
        if fastest > TOO_FAST:
            warn(f"{item.path} reaches {fastest:.0f} cm/s; its unit or conversion is probably wrong.")
        return [behavior_series("running_speed", trace, speed, "cm/s", f"running speed, from {unit} to cm/s")]
    return []


def _speed_from_position(traces: Sequence[Item], warn: Warn) -> list[BehaviorSeries]:
    """Differentiate how far the animal has run; what is missing or too long ago gives no speed."""
    for item in traces:
        told = " ".join((*item.parents[1:], item.name))
        if not _TRAVELED.search(item.name) or not _RUNNING.search(told) or _NOT_SPEED.search(item.name):
            continue
        unit = str(item.content.unit)
        factor = cm_per_second(f"{unit}/s")
        trace = read_trace(item, warn)
        if trace is None or trace.values.ndim != 1 or len(trace.values) < 2:
            continue
        steps = np.diff(trace.times)
        speed = np.diff(trace.values) / steps * (factor or 1.0)
        # the belt or wheel began anew, in the unit of the file where that is no length
        jumps = np.abs(speed) > TOO_FAST if factor else np.abs(np.diff(trace.values)) > 0.5 * np.ptp(trace.values)
        if jumps.any():
            warn(f"{item.path} jumps {jumps.sum()} times; there is no running speed there.")
        speed[jumps] = np.nan
        usable = steps <= LONGEST_STEP * np.median(steps)
        between = Trace(item, ((trace.times[1:] + trace.times[:-1]) / 2)[usable], speed[usable])
        if factor is None:
            warn(f"{item.path} has the unit {unit!r}, which is no length that is known; its change per second is used.")
        words = f"running speed, change of position, from {unit} to {'cm/s' if factor else f'{unit}/s'}"
        return [behavior_series("running_speed", between, between.values, "cm/s" if factor else f"{unit}/s", words)]
    return []


def _gaze(traces: Sequence[Item], warn: Warn) -> list[BehaviorSeries]:
    def score(item: Item) -> int:
        points = 2 * bool(_GAZE.search(item.name)) + 2 * ("SpatialSeries" in item.types)
        points += any(_GAZE.search(parent) for parent in item.parents[1:]) + ("deg" in str(item.content.unit).lower())
        points += bool(re.search("pupil|gaze|position", item.name, re.IGNORECASE))
        return points - 9 * bool(_NOT_GAZE.search(item.name))

    for item in sorted(traces, key=score, reverse=True):
        shape = sliceable(item.content.data).shape
        if score(item) < 4 or len(shape) != 2 or not 2 <= shape[1] <= 3:
            continue
        trace = read_trace(item, warn)
        if trace is not None:
            without_blinks(trace, traces, warn)
            unit = str(item.content.unit)
            return [
                behavior_series(f"gaze_{axis}", trace, trace.values[:, column], unit, f"column {column}")
                for column, axis in enumerate("xy")
            ]
    pair = [named(traces, rf"(gaze|(eye|pupil).*(position|location|center)).*_{axis}$") for axis in "xy"]
    pair = pair if None not in pair else [_center(traces, axis) for axis in "xy"]
    read = [None if item is None else read_trace(item, warn) for item in pair]
    gaze = []
    for axis, trace in zip("xy", read, strict=True):
        if trace is not None and trace.values.ndim == 1 and None not in read:
            without_blinks(trace, traces, warn)
            unit = str(trace.item.content.unit)
            gaze.append(behavior_series(f"gaze_{axis}", trace, trace.values, unit, "as stored"))
    return gaze


def _center(traces: Sequence[Item], axis: str) -> Item | None:
    """Column of a table of ellipses fitted to the pupil."""
    return named([item for item in traces if "pupil" in "/".join(item.parents[1:]).lower()], rf"^cent(er|re)_{axis}$")
