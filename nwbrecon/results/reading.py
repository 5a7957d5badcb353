"""Results read back from NWB: the inverse of writing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pynwb import NWBHDF5IO
from pynwb.base import ProcessingModule

from nwbrecon.errors import ResultsError
from nwbrecon.evaluation import Controls, Scores
from nwbrecon.inversion import Reconstruction, Reconstructions
from nwbrecon.results import layout, provenance
from nwbrecon.results.inferred import read_inferred_behavior
from nwbrecon.results.model import Results
from nwbrecon.results.rois import read_predicted, read_rois
from nwbrecon.results.stored import decode

__all__ = ["read_results"]


def read_results(path: str | Path) -> Results:
    """Read what `write_results` wrote.

    Parameters
    ----------
    path
        A results file, or a source that results were appended to.

    Returns
    -------
    Results
        The same objects that were written, movies as stored, clips in time order.

    Raises
    ------
    ResultsError
        If the file is missing, is not NWB, holds no results, or was written by a newer nwbrecon.
    """
    path = Path(path)
    if not path.is_file():
        raise ResultsError(f"There is no file {path}.", action="Give the path of a results file.")
    try:
        with NWBHDF5IO(path, "r") as io:
            return _results(path, io.read())
    except (OSError, TypeError, KeyError) as error:
        # h5py says OSError of what is not HDF5, pynwb TypeError or KeyError of HDF5 that is not NWB
        raise ResultsError(
            f"{path} cannot be read as NWB ({error}).",
            "A results file is NWB in HDF5.",
            "Give the file that nwbrecon wrote.",
        ) from error


def _results(path: Path, nwb: Any) -> Results:
    module = nwb.processing.get(layout.MODULE)
    if module is None or layout.PROVENANCE not in module.data_interfaces:
        raise ResultsError(
            f"{path} is NWB but holds no nwbrecon results.",
            f"They are in a processing module {layout.MODULE!r}.",
            "Give a file that nwbrecon wrote; `nwbrecon run` makes one from a recording.",
        )
    table = module[layout.PROVENANCE].to_dataframe()
    content = provenance.from_rows(dict(zip(table["path"], table["value"], strict=True)))
    _check_version(path, content.get("schema", {}))
    trials = module[layout.TRIALS].to_dataframe()
    reconstructions = Reconstructions(
        _items(module, trials, content),
        content["method"],
        module[layout.MASKS][layout.MASK].data[:].astype(bool),
        module[layout.MASKS][layout.COVERAGE].data[:],
        settings=content["settings"]["inversion"],
        info=content["info"],
        warnings=content["warnings"],
    )
    scores = _scores(module, trials, content) if "scores" in content else None
    has_true = layout.TRUE in module.data_interfaces
    true_movies = list(_cut(module[layout.TRUE], trials["n_frames"])) if has_true else None
    return Results(
        reconstructions,
        scores,
        content,
        true_movies,
        rois=read_rois(module),
        predicted=read_predicted(module),
        training=_rows(module, layout.TRAINING),
        encoder_summary=_rows(module, layout.ENCODER_SUMMARY),
        controls=_controls(module, content),
    )


def _check_version(path: Path, schema: dict[str, Any]) -> None:
    version = schema.get("version")
    if schema.get("name") != layout.SCHEMA or not isinstance(version, int):
        raise ResultsError(
            f"{path} does not say which form of results it holds.", action="Give a file that nwbrecon wrote."
        )
    if version > layout.SCHEMA_VERSION:
        raise ResultsError(
            f"{path} holds results of form {version}.",
            f"This nwbrecon knows forms up to {layout.SCHEMA_VERSION}.",
            "Install a newer nwbrecon.",
        )


def _cut(series: Any, lengths: Iterable[int]) -> Iterator[np.ndarray]:
    data = series.data[:]
    first = 0
    for length in lengths:
        yield decode(data[first : first + length], step=series.conversion)
        first += length


def _movies(module: ProcessingModule, name: str, lengths: pd.Series, present: list[bool]) -> list[np.ndarray | None]:
    movies = _cut(module[name], lengths[present]) if any(present) and name in module.data_interfaces else iter(())
    return [next(movies, None) if there else None for there in present]


def _items(module: ProcessingModule, trials: pd.DataFrame, content: dict[str, Any]) -> list[Reconstruction]:
    entries, lengths = content["reconstructions"], trials["n_frames"]
    stds = _movies(module, layout.STD, lengths, [entry["has_std"] for entry in entries])
    baselines = {
        name: _movies(module, layout.series_name(name), lengths, [name in entry["baselines"] for entry in entries])
        for name in dict.fromkeys(name for entry in entries for name in entry["baselines"])
    }
    histories = _rows(module, layout.HISTORY)
    snapshots = _snapshots(module, len(trials))
    behavior = read_inferred_behavior(module, len(trials))
    items = []
    for row, video in enumerate(_cut(module[layout.MEAN], lengths)):
        trial = trials.iloc[row]
        history = histories[histories["reconstruction"] == row] if len(histories) else histories
        iterations, movies = snapshots[row]
        items.append(
            Reconstruction(
                clip=trial["clip"],
                trials=tuple(int(number) for number in trial["trials"].split()),
                video=video,
                onset=float(trial["start_time"]),
                frame_rate=float(content["frame_rate"]),
                std=stds[row],
                baselines={name: movie for name, of in baselines.items() if (movie := of[row]) is not None},
                history=history.drop(columns="reconstruction", errors="ignore").reset_index(drop=True),
                snapshots=movies,
                snapshot_iterations=iterations,
                behavior=behavior[row],
                info=entries[row]["info"],
            )
        )
    return items


def _snapshots(module: ProcessingModule, count: int) -> list[tuple[np.ndarray | None, np.ndarray | None]]:
    found: list[tuple[np.ndarray | None, np.ndarray | None]] = [(None, None)] * count
    if layout.SNAPSHOTS in module.data_interfaces:
        table = module[layout.SNAPSHOTS]
        rows, iterations = table["reconstruction"][:], table["iteration"][:]
        for row in np.unique(rows):
            chosen = np.flatnonzero(rows == row)
            found[row] = iterations[chosen], np.stack([table["frames"][int(index)] for index in chosen])
    return found


def _rows(module: ProcessingModule, name: str) -> pd.DataFrame:
    if name not in module.data_interfaces:
        return pd.DataFrame()
    return module[name].to_dataframe().reset_index(drop=True)


def _controls(module: ProcessingModule, content: dict[str, Any]) -> Controls | None:
    if layout.CONTROLS not in module.data_interfaces:
        return None
    return Controls(_rows(module, layout.CONTROLS), _rows(module, layout.VERDICTS), content["controls"])


def _scores(module: ProcessingModule, trials: pd.DataFrame, content: dict[str, Any]) -> Scores:
    described = content["scores"]
    keys = pd.DataFrame(
        {
            "clip": trials["clip"].astype(str),
            "trial": [int(labels.split()[0]) for labels in trials["trials"]],
            "repeat": trials["repeat"],
            "onset": trials["start_time"],
            "n_frames": trials["n_frames"],
        }
    ).reset_index(drop=True)
    return Scores(
        trials=_trial_scores(keys, trials.reset_index(drop=True), described, content["method"]),
        frames=_frame_scores(module, keys, described, content),
        lags=_rows(module, layout.LAGS),
        summary=_rows(module, layout.SUMMARY),
        mask_fraction=described["mask_fraction"],
        info=described["info"],
        frequencies=_rows(module, layout.FREQUENCIES),
    )


def _trial_scores(keys: pd.DataFrame, trials: pd.DataFrame, described: dict[str, Any], main: str) -> pd.DataFrame:
    tables = []
    for method in described["methods"]:
        columns = {metric: layout.score_name(metric, method, main) for metric in described["metrics"]}
        values = pd.DataFrame({metric: trials[name] for metric, name in columns.items() if name in trials})
        tables.append(keys.assign(method=method).join(values)[values.notna().any(axis=1)])
    # as evaluation gives them: reconstruction by reconstruction, methods beside each other
    return pd.concat(tables).sort_index(kind="stable").reset_index(drop=True)


def _frame_scores(
    module: ProcessingModule, keys: pd.DataFrame, described: dict[str, Any], content: dict[str, Any]
) -> pd.DataFrame:
    frames = keys.loc[keys.index.repeat(keys["n_frames"])]
    frame = frames.groupby(level=0).cumcount()
    base = pd.DataFrame(
        {
            "trial": frames["trial"],
            "clip": frames["clip"],
            "frame": frame,
            "time": frames["onset"] + frame / content["frame_rate"],
        }
    )
    tables = []
    for method in described["methods"]:
        names = {metric: layout.score_name(metric, method, content["method"]) for metric in described["frame_metrics"]}
        values = {metric: module[name].data[:] for metric, name in names.items() if name in module.data_interfaces}
        if values:
            tables.append(base.assign(method=method, **values))
    if not tables:
        return base.iloc[:0].assign(method="")
    return pd.concat(tables).sort_index(kind="stable").reset_index(drop=True)
