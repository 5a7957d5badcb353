"""A walk through everything that an NWB file holds, by duck typing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Item", "holdings", "walk"]


@dataclass(frozen=True)
class Item:
    """One object of a file.

    Attributes
    ----------
    path
        Where it is, such as ``processing/ophys/Fluorescence/RoiResponseSeries1``.
    content
        The pynwb object.
    """

    path: str
    content: Any

    @property
    def name(self) -> str:
        """The last part of the path."""
        return str(self.content.name)

    @property
    def parents(self) -> tuple[str, ...]:
        """The parts of the path before the name."""
        return tuple(self.path.removesuffix(self.name).strip("/").split("/"))

    @property
    def types(self) -> set[str]:
        """Its neurodata type and all that this one extends, so that a type of an extension counts as its base."""
        return {kind.__name__ for kind in type(self.content).__mro__}

    @property
    def is_series(self) -> bool:
        """Whether it is a time series of some type."""
        return "TimeSeries" in self.types

    @property
    def is_images_over_time(self) -> bool:
        """Whether it is a movie of some type, a recorded one included."""
        return "ImageSeries" in self.types

    @property
    def is_intervals(self) -> bool:
        """Whether it is a table of intervals."""
        return "TimeIntervals" in self.types


def walk(nwbfile: Any) -> Iterator[Item]:
    """Yield every container of a file, tables as wholes, without reading any array."""
    places = {
        "acquisition": nwbfile.acquisition,
        "stimulus/presentation": nwbfile.stimulus,
        "stimulus/templates": nwbfile.stimulus_template,
        "processing": nwbfile.processing,
        "intervals": {table.name: table for table in _intervals(nwbfile)},
        "analysis": nwbfile.analysis,
    }
    for place, members in places.items():
        for member in (members or {}).values():
            yield from _descend(place, member)
    if nwbfile.units is not None:
        yield Item("units", nwbfile.units)


def _intervals(nwbfile: Any) -> list[Any]:
    # a file read from disk lists trials and epochs among its intervals, one made in memory does not
    named = [nwbfile.trials, nwbfile.epochs, nwbfile.invalid_times]
    listed = list(nwbfile.intervals.values())
    return listed + [table for table in named if table is not None and all(table is not other for other in listed)]


def _descend(place: str, content: Any) -> Iterator[Item]:
    item = Item(f"{place}/{content.name}", content)
    if not item.types & {"ProcessingModule"}:
        yield item
    if item.types & {"DynamicTable", "TimeSeries", "Images"}:
        return
    for child in content.children:
        yield from _descend(item.path, child)


def holdings(items: list[Item], most: int = 8) -> str:
    """Say in one sentence what a file holds, for an error."""
    if not items:
        return "It holds no data at all."
    counts = Counter(item.content.neurodata_type for item in items)
    listed = [f"{count} {kind}" for kind, count in counts.most_common(most)]
    series = [item.path for item in items if item.is_series or item.is_intervals][:most]
    examples = f", for example {', '.join(series)}" if series else ""
    return f"It holds {', '.join(listed)}{examples}."
