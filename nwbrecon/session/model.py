"""The nouns of this room: what one recording holds, on its own clocks, lazily."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd

from nwbrecon.errors import SessionError
from nwbrecon.sources.model import Source

__all__ = [
    "PREFERENCE",
    "BehaviorSeries",
    "FrameClock",
    "FrameStore",
    "ResponseGroup",
    "ScreenGeometry",
    "Session",
    "Signal",
    "SignalKind",
    "Stimulus",
]


class SignalKind(StrEnum):
    """What the values of a response signal are."""

    EVENTS = "events"
    """Deconvolved activity, non-negative, in arbitrary units; a sample counts what happened since the one before."""
    SPIKES = "spikes"
    """Spike counts per sample, or spike times binned on a clock."""
    DFF = "dF/F"
    """Fluorescence over its baseline, the baseline subtracted already."""
    CORRECTED = "corrected fluorescence"
    """Raw fluorescence from which the neuropil has been taken away."""
    RAW = "raw fluorescence"
    """Fluorescence as extracted from the movie."""
    NEUROPIL = "neuropil"
    """Fluorescence around the cell; never a response, but used to correct one."""


PREFERENCE = (SignalKind.SPIKES, SignalKind.EVENTS, SignalKind.DFF, SignalKind.CORRECTED, SignalKind.RAW)
"""Of several signals of the same ROIs, which to use: the one that the fewest steps lead from to activity."""


_VALUES_AT_ONCE = 2**25


@dataclass
class Signal:
    """One stored signal of a group of ROIs, unread.

    Attributes
    ----------
    path
        Where it is in the file, such as ``processing/ophys/Fluorescence/RoiResponseSeries1``.
    kind
        What its values are.
    unit
        Unit after conversion, as the file names it.
    read
        ``read(start, stop) -> (sample, roi) float32``, with conversion and offset applied, transposed if need be.
    shape
        ``(sample, roi)``.
    """

    path: str
    kind: SignalKind
    unit: str
    read: Callable[[int, int], np.ndarray]
    shape: tuple[int, int]


@dataclass
class ResponseGroup:
    """The ROIs that share a clock (an imaging plane, a probe).

    Attributes
    ----------
    name
        The plane's or probe's name.
    signal
        The signal in use.
    timestamps
        ``(sample,)`` seconds on the session clock, increasing, free of NaN, ``delay`` not included.
    rois
        One row a ROI in the order of the signal's columns; the index is the ROI's id in the file. Columns are what the
        file has, among them where known ``x``, ``y`` (pixels), ``depth`` (micrometers), ``area`` (brain area).
    delay
        Seconds to add to `timestamps`: the plane's scan started that much later than its clock says.
    neuropil
        The neuropil signal of the same ROIs, where the file has one.
    indicator
        Name of the calcium indicator, where the file has it.
    alternatives
        Other signals of the same ROIs, by path.
    """

    name: str
    signal: Signal
    timestamps: np.ndarray
    rois: pd.DataFrame
    delay: float = 0.0
    neuropil: Signal | None = None
    indicator: str = ""
    alternatives: dict[str, Signal] = field(default_factory=dict)

    @property
    def kind(self) -> SignalKind:
        """What the values of the signal in use are."""
        return self.signal.kind

    @property
    def n_rois(self) -> int:
        """Number of ROIs."""
        return len(self.rois)

    @property
    def sampling_rate(self) -> float:
        """Samples per second (Hz), from the median interval."""
        return float(1 / np.median(np.diff(self.timestamps)))

    def using(self, signal: str) -> ResponseGroup:
        """Return the group with another of its stored signals in use.

        Parameters
        ----------
        signal
            ``spikes``, ``events``, ``dff``, ``corrected`` or ``raw``; ``auto`` prefers them in this order. Or the path
            of a series, or the end of its path.

        Raises
        ------
        SessionError
            If the file has no such signal of these ROIs.
        """
        stored = {self.signal.path: self.signal, **self.alternatives}
        asked = [SignalKind[signal.upper()]] if signal.upper() in SignalKind.__members__ else []
        kinds = list(PREFERENCE) if signal == "auto" else asked
        chosen = min(
            (one for one in stored.values() if one.kind in kinds), key=lambda one: kinds.index(one.kind), default=None
        )
        if chosen is None:
            named = [one for path, one in stored.items() if f"/{path}".endswith(f"/{signal.strip('/')}")]
            chosen = named[0] if len(named) == 1 else None
        if chosen is None:
            listed = ", ".join(f"{one.path} ({one.kind.value})" for one in stored.values())
            raise SessionError(f"{self.name} has no signal {signal}; it has {listed}.", action="Choose one of these.")
        del stored[chosen.path]
        return replace(self, signal=chosen, alternatives=stored)

    def only(self, chosen: np.ndarray) -> ResponseGroup:
        """Return the group with some of its ROIs, in their order.

        Parameters
        ----------
        chosen
            ``(roi,)`` bool.
        """
        columns = np.flatnonzero(chosen)
        return replace(
            self,
            rois=self.rois.iloc[columns],
            signal=_columns_of(self.signal, columns),
            neuropil=None if self.neuropil is None else _columns_of(self.neuropil, columns),
            alternatives={path: _columns_of(signal, columns) for path, signal in self.alternatives.items()},
        )


def _columns_of(signal: Signal, columns: np.ndarray) -> Signal:
    # a file is read in whole rows, so that a piece which is small after the selection may be large before
    step = max(1, _VALUES_AT_ONCE // max(1, signal.shape[1]))

    def read(start: int, stop: int) -> np.ndarray:
        values = np.empty((max(0, min(stop, signal.shape[0]) - start), len(columns)), dtype=np.float32)
        for first in range(0, len(values), step):
            last = min(first + step, len(values))
            values[first:last] = signal.read(start + first, start + last)[:, columns]
        return values

    return replace(signal, read=read, shape=(signal.shape[0], len(columns)))


class FrameStore(Protocol):
    """Where the pixels of a stimulus are.

    Attributes
    ----------
    name
        Name of the template, acquisition series or video file.
    n_frames, height, width
        Size; ``height`` counts rows, row 0 is the top of the screen.
    """

    name: str
    n_frames: int
    height: int
    width: int

    def read(self, frames: np.ndarray) -> np.ndarray:
        """Read ``frames`` (indices, any order, repeats allowed) as ``(time, height, width)`` float32 grey, 0-255."""
        ...


@dataclass
class FrameClock:
    """When each frame of a presentation was on the screen.

    Attributes
    ----------
    frames
        ``(frame,)`` indices into the store.
    onsets
        ``(frame,)`` seconds on the session clock at which each frame appeared, increasing.
    end
        Seconds at which the last frame was taken away.
    """

    frames: np.ndarray
    onsets: np.ndarray
    end: float


@dataclass(frozen=True)
class ScreenGeometry:
    """Where a flat screen stood that the mouse faces at its middle.

    Attributes
    ----------
    distance
        From the eye to the middle of the screen (cm).
    height, width
        Of what is shown on it (cm).

    Examples
    --------
    >>> ScreenGeometry(distance=15, height=30, width=52).degrees
    (90.0, 120.0)
    """

    distance: float
    height: float
    width: float

    def __post_init__(self) -> None:
        if not all(math.isfinite(length) and length > 0 for length in (self.distance, self.height, self.width)):
            raise SessionError(f"{self} has a length that is no length.", "Distance, height and width are in cm.")

    @property
    def degrees(self) -> tuple[float, float]:
        """Height and width as the mouse sees them (degrees of visual angle)."""
        high, wide = (2 * math.degrees(math.atan2(size / 2, self.distance)) for size in (self.height, self.width))
        return round(high, 1), round(wide, 1)


@dataclass
class Stimulus:
    """What was shown and when.

    Attributes
    ----------
    presentations
        One row a presentation, in time order, with the columns

        - ``onset``, ``offset``: seconds on the session clock;
        - ``clip``: identity of what was shown; equal for repeats of the same clip and different otherwise;
        - ``film``: the source film, where the file names one (clips of one film must not be split), else empty;
        - ``store``: key into `stores`;
        - ``kind``: ``movie``, ``image``, ``noise``, ``grating``, ``gray``;
        - ``split``: ``train``, ``validation`` or ``test`` where the file says so, else empty;
        - ``n_frames``: number of frames shown.
    stores
        Where the pixels are, by key.
    clocks
        ``clocks(presentation) -> FrameClock``, for a row label of `presentations`.
    screens
        Where the screen stood, by key of the store; empty where nobody says so.
    """

    presentations: pd.DataFrame
    stores: Mapping[str, FrameStore]
    clocks: Callable[[int], FrameClock]
    screens: Mapping[str, ScreenGeometry] = field(default_factory=dict)

    @classmethod
    def nothing(cls) -> Stimulus:
        """Make the stimulus of a recording that holds none."""
        columns = {"onset": float, "offset": float, "n_frames": int}
        columns |= dict.fromkeys(("clip", "film", "store", "kind", "split"), object)
        table = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in columns.items()})
        clocks: dict[int, FrameClock] = {}
        return cls(table, {}, clocks.__getitem__)

    @property
    def shown(self) -> pd.DataFrame:
        """The presentations, those of a gray screen left out."""
        return self.presentations[self.presentations["kind"] != "gray"]

    def read(self, presentation: int, frames: slice = slice(None)) -> np.ndarray:
        """Frames of one presentation as ``(time, height, width)`` float32 grey, 0-255, at the stored size."""
        clock = self.clocks(presentation)
        return self.stores[self.presentations.at[presentation, "store"]].read(clock.frames[frames])


@dataclass
class BehaviorSeries:
    """One behavioral variable on its own clock.

    Attributes
    ----------
    name
        ``running_speed`` (cm/s), ``pupil_size`` (see `unit`), ``gaze_x``, ``gaze_y`` (see `unit`).
    values
        ``(sample,)`` float64; NaN where missing (blinks, lost tracking).
    timestamps
        ``(sample,)`` seconds on the session clock, increasing.
    unit
        Unit of `values`.
    origin
        Where it came from and how it was converted, in words.
    held
        Whether each value stands until the next sample (NWB's continuity ``step``); else it is a point on a line.
    """

    name: str
    values: np.ndarray
    timestamps: np.ndarray
    unit: str
    origin: str
    held: bool = False

    @cached_property
    def interval(self) -> float:
        """Usual time between samples (s); 0 where there are fewer than two."""
        return float(np.median(np.diff(self.timestamps))) if len(self.timestamps) > 1 else 0.0


@dataclass(repr=False)
class Session:
    """What one recording holds; arrays stay in the file until they are asked for.

    Attributes
    ----------
    identity
        ``identifier``, ``object_id``, ``session_id``, ``session_start_time`` (ISO 8601) and where the file came from
        (``location``; for DANDI also ``dandiset``, ``version``, ``asset_id``, ``path``, ``digest``, ``etag`` and
        ``dandi_instance``; for other URLs also ``etag``).
    subject
        ``subject_id``, ``species``, ``sex``, ``age``, ... as in the file.
    responses
        Response groups by name.
    stimulus
        Presentations and frames.
    behavior
        Behavioral variables by name; empty where the file has none.
    warnings
        What was skipped, guessed or found wrong, in sentences.
    invalid_times
        ``(interval, 2)`` seconds on the session clock between which the file says that its data are not to be used.
    source
        What it was opened from; ``source.digest()`` gives the SHA-256 of the file, at the price of reading all of it.
    lacks
        Why it has no responses or no stimulus, in sentences; empty where it has both (`open_session` gives no other,
        unless asked to).
    """

    identity: dict[str, Any]
    subject: dict[str, Any]
    responses: dict[str, ResponseGroup]
    stimulus: Stimulus
    behavior: dict[str, BehaviorSeries]
    warnings: list[str] = field(default_factory=list)
    invalid_times: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))
    closers: list[Callable[[], None]] = field(default_factory=list)
    source: Source | None = None
    lacks: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        from nwbrecon.session.describe import describe

        return describe(self)

    def _repr_html_(self) -> str:
        from nwbrecon.session.describe import describe_html

        return describe_html(self)

    @property
    def n_rois(self) -> int:
        """Number of ROIs over all groups."""
        return sum(group.n_rois for group in self.responses.values())

    def to_pynapple(self) -> dict[str, Any]:
        """Give the session to pynapple (the ``pynapple`` extra).

        Returns
        -------
        dict
            By name: each response group a ``TsdFrame`` (its columns are the ids of its ROIs, its metadata the ROI
            table, its clock delayed by `ResponseGroup.delay`), which is read now; each behavioral variable a ``Tsd``;
            each movie or set of images a ``TsdTensor`` of grey levels 0-255, frames in the order shown, which is read
            where it is indexed, as long as the session is open; ``presentations`` and, where the file has them,
            ``invalid_times`` an ``IntervalSet``. Metadata that has the name of a method has an underscore behind it
            (``split_``).

        Raises
        ------
        SessionError
            If pynapple is not installed.
        """
        from nwbrecon.session.interop import to_pynapple

        return to_pynapple(self)

    def close(self) -> None:
        """Close the files behind the session."""
        while self.closers:
            self.closers.pop()()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
