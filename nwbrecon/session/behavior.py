"""Running, pupil and gaze, wherever a file keeps them, in common units."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nwbrecon.session.contents import Item
from nwbrecon.session.model import BehaviorSeries
from nwbrecon.session.series import clean_clock, sample_times, sample_values

__all__ = ["cm_per_second", "find_behavior"]

Warn = Callable[[str], None]

_RUNNING = re.compile(r"running|treadmill|wheel|locomotion|ball", re.IGNORECASE)
_SPEED = re.compile(r"speed|velocity", re.IGNORECASE)
_NOT_SPEED = re.compile(r"unfiltered|raw|acceleration|angular|end_times|pupil|stim|screen|optic|flow", re.IGNORECASE)
_PUPIL = re.compile(r"pupil", re.IGNORECASE)
_POSITION = re.compile(r"position|location|center|centre|gaze|_[xy]$", re.IGNORECASE)
_GAZE = re.compile(
    r"gaze|eye_?(position|location|tracking)|pupil_?(position|location|center|centre|tracking)", re.IGNORECASE
)
_NOT_GAZE = re.compile(r"corneal|reflection|blink|eyelid|head|screen", re.IGNORECASE)

_LENGTHS = {"mm": 0.1, "cm": 1.0, "m": 100.0, "in": 2.54}
_SPELLED = {
    "millimeter": "mm", "millimetre": "mm", "centimeter": "cm", "centimetre": "cm",
    "meter": "m", "metre": "m", "inch": "in", "inche": "in",
}  # fmt: skip
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


@dataclass
class _Trace:
    item: Item
    times: np.ndarray
    values: np.ndarray
    notes: str = ""


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
    series = [
        item
        for item in items
        if item.is_series
        and not item.is_images_over_time
        and item.parents[0] in {"acquisition", "processing", "analysis"}
        and getattr(item.content, "rois", None) is None
    ]
    found: dict[str, BehaviorSeries] = {}
    for name, finder in (("running", _running), ("pupil", _pupil), ("gaze", _gaze)):
        traces = finder(series, warn)
        if not traces:
            warn(f"The file has no {name} that could be recognized; it goes without.")
        found.update({trace.name: trace for trace in traces})
    return found


def _running(series: Sequence[Item], warn: Warn) -> list[BehaviorSeries]:
    def score(item: Item) -> int:
        told = " ".join(item.parents[1:])
        points = 3 * bool(_SPEED.search(item.name)) + 2 * bool(_RUNNING.search(item.name) or _RUNNING.search(told))
        points += 2 * (cm_per_second(str(item.content.unit)) is not None)
        return points - 4 * bool(_NOT_SPEED.search(item.name))

    for item in sorted(series, key=score, reverse=True):
        if score(item) < 4:
            return []
        trace = _read(item, warn)
        if trace is None or trace.values.ndim != 1:
            continue
        unit = str(item.content.unit)
        factor = cm_per_second(unit)
        if factor is None:
            warn(f"{item.path} has the unit {unit!r}, which is no speed that is known; it was kept as it is.")
            return [_series("running_speed", trace, trace.values, unit, "running speed in a unit of its own")]
        speed = trace.values * factor
        fastest = np.nanmax(np.abs(speed), initial=0.0)
        if fastest > TOO_FAST:
            warn(f"{item.path} reaches {fastest:.0f} cm/s; its unit or conversion is probably wrong.")
        return [_series("running_speed", trace, speed, "cm/s", f"running speed, from {unit} to cm/s")]
    return []


def _pupil(series: Sequence[Item], warn: Warn) -> list[BehaviorSeries]:
    """Radius of the pupil, or of the circle of its area."""
    pupils = [
        item
        for item in series
        if _PUPIL.search(item.name) or any(_PUPIL.search(parent) for parent in item.parents[1:])
        if not _POSITION.search(item.name)
    ]
    minor, major = (_named(pupils, rf"{which}.*(radius|axis)|(radius|axis).*{which}") for which in ("minor", "major"))
    if minor is not None and major is not None:
        one, other = _read(minor, warn), _read(major, warn)
        if one is not None and other is not None and one.values.shape == other.values.shape and one.values.ndim == 1:
            halved = 2.0 if re.search("axis", minor.name) and not re.search("semi|radius", minor.name) else 1.0
            radius = np.sqrt(np.maximum(one.values, 0) * np.maximum(other.values, 0)) / halved
            one.notes = f" and {major.path}"
            words = "geometric mean of the two radii" if halved == 1 else "half the geometric mean of the two axes"
            return [_series("pupil_size", one, radius, str(minor.content.unit), words)]
    for pattern, factor, words in (
        (r"radius", 1.0, "radius"),
        (r"diameter", 0.5, "half the diameter"),
        (r"area(?!_raw)", None, "radius of the circle of the same area"),
        (r"size|width|pupil$|dilation", 1.0, "a size that the file does not define, as stored"),
    ):
        item = _named(pupils, pattern)
        trace = None if item is None else _read(item, warn)
        if item is not None and trace is not None and trace.values.ndim == 1:
            unit = str(item.content.unit)
            if factor is not None:
                return [_series("pupil_size", trace, trace.values * factor, unit, words)]
            unit = re.sub(r"\s*(\^2|\*\*2|²|2|squared)$|^(square|sq)\s+", "", unit)
            return [_series("pupil_size", trace, _radius_of_area(trace.values), unit, words)]
    return _ellipse(series, warn)


def _radius_of_area(area: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(area, 0) / np.pi)


def _ellipse(series: Sequence[Item], warn: Warn) -> list[BehaviorSeries]:
    """Pupil of an eye-tracking extension: a position series that carries the area of the fitted ellipse."""
    for item in series:
        area = getattr(item.content, "area", None)
        if area is None or not _PUPIL.search(item.name):
            continue
        trace = _read(item, warn)
        values = np.asarray(area[:], dtype=np.float64)
        if trace is not None and values.ndim == 1 and len(values) == len(item.content.data):
            kept = _kept(item, len(values))
            radius = _radius_of_area(values[kept])
            return [_series("pupil_size", trace, radius, str(item.content.unit), "radius of the circle of `area`")]
    return []


def _gaze(series: Sequence[Item], warn: Warn) -> list[BehaviorSeries]:
    def score(item: Item) -> int:
        points = 2 * bool(_GAZE.search(item.name)) + 2 * ("SpatialSeries" in item.types)
        points += any(_GAZE.search(parent) for parent in item.parents[1:]) + ("deg" in str(item.content.unit).lower())
        points += bool(re.search("pupil|gaze|position", item.name, re.IGNORECASE))
        return points - 9 * bool(_NOT_GAZE.search(item.name))

    for item in sorted(series, key=score, reverse=True):
        shape = item.content.data.shape if hasattr(item.content.data, "shape") else np.shape(item.content.data)
        if score(item) < 4 or len(shape) != 2 or not 2 <= shape[1] <= 3:
            continue
        trace = _read(item, warn)
        if trace is not None:
            unit = str(item.content.unit)
            return [
                _series(f"gaze_{axis}", trace, trace.values[:, column], unit, f"column {column}")
                for column, axis in enumerate("xy")
            ]
    pair = [_named(series, rf"(gaze|(eye|pupil).*(position|location)).*_{axis}$") for axis in "xy"]
    traces = [None if item is None else _read(item, warn) for item in pair]
    return [
        _series(f"gaze_{axis}", trace, trace.values, str(trace.item.content.unit), "as stored")
        for axis, trace in zip("xy", traces, strict=True)
        if trace is not None and trace.values.ndim == 1 and None not in traces
    ]


def _named(series: Sequence[Item], pattern: str) -> Item | None:
    return next((item for item in series if re.search(pattern, item.name, re.IGNORECASE)), None)


def _read(item: Item, warn: Warn) -> _Trace | None:
    values = sample_values(item.content)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    times = sample_times(item.content, len(values))
    if times is None or len(values) == 0:
        warn(f"{item.path} was left out: it has no {'values' if len(values) == 0 else 'clock'}.")
        return None
    if len(times) != len(values):
        warn(f"{item.path} has {len(values)} samples and {len(times)} time stamps; the surplus was left out.")
    kept = _kept(item, len(values))
    if len(kept) < min(len(times), len(values)):
        warn(f"{item.path}: {min(len(times), len(values)) - len(kept)} samples with bad time stamps were left out.")
    values = np.where(np.isfinite(values), values, np.nan)
    return _Trace(item, times[kept], values[kept])


def _kept(item: Item, n_samples: int) -> np.ndarray:
    times = sample_times(item.content, n_samples)
    n = min(n_samples, 0 if times is None else len(times))
    rows = None if times is None else clean_clock(times[:n])
    return np.arange(n) if rows is None else rows


def _series(name: str, trace: _Trace, values: np.ndarray, unit: str, words: str) -> BehaviorSeries:
    return BehaviorSeries(name, values, trace.times, unit, f"{words}; {trace.item.path}{trace.notes}")
