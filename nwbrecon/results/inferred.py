"""What was found of the animal along with the movies: behavior that was sought, trial by trial."""

from __future__ import annotations

import numpy as np
from pynwb.base import ProcessingModule
from pynwb.core import DynamicTable, VectorData

from nwbrecon.inversion import Reconstructions
from nwbrecon.results import layout
from nwbrecon.results.ragged import ragged

__all__ = ["inferred_behavior", "read_inferred_behavior"]

_KEYS = ("reconstruction", "trial")


def inferred_behavior(reconstructions: Reconstructions) -> DynamicTable | None:
    """Give the table of it, one row a trial; ``None`` where none was sought.

    It is a table of ragged columns, not a time series: where repeats were fused, trials of other times and as many
    frames belong to one movie.
    """
    found = [(row, item.trials, item.behavior) for row, item in enumerate(reconstructions) if item.behavior is not None]
    if not found:
        return None
    rows = [(row, trial) for row, trials, _ in found for trial in trials]
    traces = [trace for _, _, behavior in found for trace in behavior]
    names = reconstructions.info.get("behavior_names") or [""] * traces[0].shape[1]
    slugs = [layout.slug(name) for name in names]
    if len({*slugs, *_KEYS, ""}) < len(slugs) + len(_KEYS) + 1:
        slugs = [f"variable_{index}" for index in range(len(names))]
    columns = [
        VectorData(name=key, description=f"{layout.describe(key)}.", data=[row[place] for row in rows])
        for place, key in enumerate(_KEYS)
    ]
    for variable, (name, slug) in enumerate(zip(names, slugs, strict=True)):
        text = (
            f"What was found of {name!r} in each frame, as it was aligned (running in cm/s, all else in the "
            "recording's unit); NaN where it was never recorded."
        )
        columns += ragged(slug, text, [np.asarray(trace[:, variable]) for trace in traces])
    return DynamicTable(
        name=layout.BEHAVIOR,
        description="Behavior that was found along with the movies, as what explains the responses best: the encoder "
        "was not told what the animal did. One row a trial, one value a frame of the movie; of sessions that were "
        "fused, the first one's.",
        columns=columns,
        colnames=[*_KEYS, *slugs],
    )


def read_inferred_behavior(module: ProcessingModule, count: int) -> list[np.ndarray | None]:
    """Read it: ``(trial, time, variable)`` for each of so many reconstructions that has it."""
    behavior: list[np.ndarray | None] = [None] * count
    if layout.BEHAVIOR not in module.data_interfaces:
        return behavior
    table = module[layout.BEHAVIOR]
    names = [name for name in table.colnames if name not in _KEYS]
    owners = np.asarray(table["reconstruction"][:])
    for owner in np.unique(owners):
        trials = [
            np.stack([table[name][int(row)] for name in names], axis=1) for row in np.flatnonzero(owners == owner)
        ]
        behavior[int(owner)] = np.stack(trials)
    return behavior
