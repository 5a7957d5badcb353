"""The size of the pupil, as a radius, from whatever measure of it a file has."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from nwbrecon.session.contents import Item
from nwbrecon.session.model import BehaviorSeries
from nwbrecon.session.traces import Trace, Warn, behavior_series, named, read_trace, without_blinks

__all__ = ["find_pupil"]

_PUPIL = re.compile(r"pupil", re.IGNORECASE)
_NOT_SIZE = re.compile(
    r"position|location|center|centre|gaze|_[xy]$|blink|speed|velocity|corneal|reflection|angle|phi", re.IGNORECASE
)


def find_pupil(traces: Sequence[Item], warn: Warn) -> list[BehaviorSeries]:
    """Radius of the pupil, or of the circle of its area; ``pupil_size``, empty where there is none.

    The measures are looked for in this order: two radii or axes of an ellipse, radius, diameter, area, width and
    height, and at last a size that nobody defines. Blinks are masked, and so is a size of zero: no pupil was found.
    """
    pupils = [
        item
        for item in traces
        if (_PUPIL.search(item.name) or any(_PUPIL.search(parent) for parent in item.parents[1:]))
        and not _NOT_SIZE.search(item.name)
    ]
    for measure in (_two_radii, _radius, _width_and_height, _some_size):
        found = measure(pupils, warn)
        if found is None:
            continue
        trace, values, unit, words = found
        lost = values == 0
        if lost.any() and not (values < 0).any():
            warn(f"{lost.sum()} of {len(values)} samples of {trace.item.path} are 0: no pupil was found then.")
            values = np.where(lost, np.nan, values)
        radius = Trace(trace.item, trace.times, values)
        without_blinks(radius, traces, warn)
        return [behavior_series("pupil_size", radius, radius.values, unit, words)]
    return []


_Found = tuple[Trace, np.ndarray, str, str]


def _two_radii(pupils: Sequence[Item], warn: Warn) -> _Found | None:
    minor, major = (named(pupils, rf"{which}.*(radius|axis)|(radius|axis).*{which}") for which in ("minor", "major"))
    if minor is None or major is None:
        return None
    if re.search("axis", minor.name, re.IGNORECASE) and not re.search("semi|radius", minor.name, re.IGNORECASE):
        return _mean_of_two(minor, major, 2.0, "half the geometric mean of the two axes", warn)
    return _mean_of_two(minor, major, 1.0, "geometric mean of the two radii", warn)


def _width_and_height(pupils: Sequence[Item], warn: Warn) -> _Found | None:
    width, height = named(pupils, "width"), named(pupils, "height")
    if width is None or height is None:
        return None
    return _mean_of_two(width, height, 2.0, "half the geometric mean of width and height", warn)


def _mean_of_two(one: Item, other: Item, parts: float, words: str, warn: Warn) -> _Found | None:
    first, second = read_trace(one, warn), read_trace(other, warn)
    if first is None or second is None or first.values.ndim != 1 or not np.array_equal(first.times, second.times):
        return None
    known = (first.values >= 0) & (second.values >= 0)
    product = np.where(known, first.values * second.values, np.nan)
    return first, np.sqrt(product) / parts, str(one.content.unit), f"{words}; {other.path}"


def _radius(pupils: Sequence[Item], warn: Warn) -> _Found | None:
    for pattern, words in (
        (r"radius", "radius"),
        (r"diameter", "half the diameter"),
        (r"area(?!_?raw)", "radius of the circle of the same area"),
        (r"area", "radius of the circle of the same area"),
    ):
        item = named(pupils, pattern)
        trace = None if item is None else read_trace(item, warn)
        if item is None or trace is None or trace.values.ndim != 1:
            continue
        unit = str(item.content.unit)
        if "area" not in pattern:
            return trace, trace.values * (1.0 if pattern == "radius" else 0.5), unit, words
        unit = re.sub(r"\s*(\^2|\*\*2|²|2|squared)$|^(square|sq)\s+", "", unit)
        area = np.where(trace.values >= 0, trace.values, np.nan)
        return trace, np.sqrt(area / np.pi), unit, words
    return None


def _some_size(pupils: Sequence[Item], warn: Warn) -> _Found | None:
    item = named(pupils, r"size|width|pupil$|dilation")
    trace = None if item is None else read_trace(item, warn)
    if item is None or trace is None or trace.values.ndim != 1:
        return None
    return trace, trace.values, str(item.content.unit), "a size that the file does not define, as stored"
