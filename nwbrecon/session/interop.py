"""A session as the objects of other packages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from nwbrecon.errors import SessionError

if TYPE_CHECKING:
    from nwbrecon.session.model import Session, Stimulus

__all__ = ["to_pynapple"]

TICK = 1e-6
"""pynapple takes intervals that touch for one; they are made to end so much earlier (s)."""


def to_pynapple(session: Session) -> dict[str, Any]:
    """Responses, behavior, movies and intervals as pynapple objects, by name; see `Session.to_pynapple`."""
    try:
        import pynapple as nap
    except ImportError as error:
        raise SessionError(
            f"pynapple cannot be imported ({error}).", action='Install it with `pip install "nwbrecon[pynapple]"`.'
        ) from error
    found: dict[str, Any] = {}
    for name, group in session.responses.items():
        found[name] = nap.TsdFrame(
            t=group.timestamps + group.delay,
            d=group.signal.read(0, len(group.timestamps)),
            columns=group.rois.index.to_numpy(),
            metadata=_metadata(group.rois, nap.TsdFrame).set_index(group.rois.index.to_numpy()),
        )
    for name, series in session.behavior.items():
        found[_unused(name, found)] = nap.Tsd(t=series.timestamps, d=series.values)
    shown = session.stimulus.shown
    for key, rows in shown.groupby("store", sort=False):
        frames = _ShownFrames(session.stimulus, rows)
        name = _unused(session.stimulus.stores[str(key)].name, found)
        found[name] = nap.TsdTensor(t=frames.onsets, d=frames, load_array=False)
    onsets = shown["onset"].to_numpy()
    found[_unused("presentations", found)] = nap.IntervalSet(
        start=onsets,
        end=np.minimum(shown["offset"].to_numpy(), np.append(onsets[1:], np.inf) - TICK),
        metadata=_metadata(shown.drop(columns=["onset", "offset"]), nap.IntervalSet),
    )
    if len(session.invalid_times):
        found[_unused("invalid_times", found)] = nap.IntervalSet(session.invalid_times)
    return found


def _metadata(table: pd.DataFrame, kind: type) -> pd.DataFrame:
    """Columns that bear the name of a method, such as ``split``, get an underscore behind it."""
    names = {name: f"{name}_" for name in map(str, table.columns) if hasattr(kind, name)}
    return table.reset_index(drop=True).rename(columns=names)


def _unused(name: str, taken: dict[str, Any]) -> str:
    return name if name not in taken else f"{name} ({len(taken)})"


class _ShownFrames:
    """Frames in the order in which they were shown, an array that is read from the file where it is indexed."""

    dtype = np.dtype(np.float32)
    ndim = 3

    def __init__(self, stimulus: Stimulus, rows: pd.DataFrame) -> None:
        clocks = [stimulus.clocks(int(label)) for label in rows.index]
        self._store = stimulus.stores[str(rows["store"].iloc[0])]
        self._frames = np.concatenate([clock.frames for clock in clocks])
        self.onsets = np.concatenate([clock.onsets for clock in clocks])
        self.shape = (len(self._frames), self._store.height, self._store.width)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, place: Any) -> np.ndarray:
        first, *others = place if isinstance(place, tuple) else (place,)
        chosen = self._frames[first]
        frames = self._store.read(np.atleast_1d(chosen))
        return (frames if np.ndim(chosen) else frames[0])[(slice(None), *others) if np.ndim(chosen) else tuple(others)]

    def __iter__(self) -> Any:
        return (self[frame] for frame in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)
