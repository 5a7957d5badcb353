"""What goes into the processing module of a results file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from hdmf.backends.hdf5.h5_utils import H5DataIO
from pynwb import TimeSeries
from pynwb.base import Images, ProcessingModule
from pynwb.core import DynamicTable, VectorData
from pynwb.epoch import TimeIntervals
from pynwb.image import GrayscaleImage, ImageSeries

from nwbrecon.alignment import AlignedSession
from nwbrecon.evaluation import Scores
from nwbrecon.inversion import Reconstructions
from nwbrecon.results import layout, provenance
from nwbrecon.results.inferred import inferred_behavior
from nwbrecon.results.preparing import Prepared
from nwbrecon.results.ragged import ragged
from nwbrecon.results.rois import add_rois
from nwbrecon.results.settled import information_map
from nwbrecon.results.stored import STD_STEP, encode

__all__ = ["fill_module"]

_FRAMES_PER_CHUNK = 60


def fill_module(module: ProcessingModule, prepared: Prepared) -> None:
    """Put reconstructions, scores and provenance into a processing module."""
    reconstructions, scores, settings = prepared.reconstructions, prepared.scores, prepared.settings
    clock = _Clock.of(reconstructions)
    gray = f"Gray level, 0 (black) to 255 (white). {layout.AXES}"
    main = clock.movie(
        layout.MEAN,
        [item.video for item in reconstructions],
        settings.movie_dtype,
        f"The movie that the responses tell of, mean of the estimate ({reconstructions.method}). {gray}",
    )
    module.add(main)
    if any(item.std is not None for item in reconstructions):
        module.add(
            clock.movie(
                layout.STD,
                [item.std for item in reconstructions],
                settings.movie_dtype,
                f"{information_map(reconstructions.info)} Gray levels once multiplied by 'conversion'. {layout.AXES}",
                step=STD_STEP,
            )
        )
    if prepared.true_movies is not None:
        text = f"The movie that was shown, at the resolution and on the clock of the reconstruction. {gray}"
        module.add(clock.movie(layout.TRUE, prepared.true_movies, settings.movie_dtype, text))
    if settings.include_baselines:
        for name in dict.fromkeys(name for item in reconstructions for name in item.baselines):
            movies = [item.baselines.get(name) for item in reconstructions]
            text = f"The same clips reconstructed by the baseline method {name!r}, to compare with. {gray}"
            module.add(clock.movie(layout.series_name(name), movies, settings.movie_dtype, text))
    module.add(_masks(reconstructions))
    module.add(_trials(reconstructions, scores, prepared.aligned))
    for table in _score_tables(scores):
        module.add(table)
    if scores is not None:
        for series in _frame_scores(clock, reconstructions, scores):
            module.add(series)
    if prepared.controls is not None:
        text = "What the controls measured that tell whether to trust the reconstructions, clip by clip."
        module.add(_table(layout.CONTROLS, text, prepared.controls.table))
        text = "What the controls come to, one row a control."
        module.add(_table(layout.VERDICTS, text, prepared.controls.verdicts))
    histories = [item.history.assign(reconstruction=row) for row, item in enumerate(reconstructions)]
    history = pd.concat([frame for frame in histories if len(frame)]) if any(map(len, histories)) else None
    if history is not None:
        columns = ["reconstruction", *history.columns.drop("reconstruction")]
        module.add(_table(layout.HISTORY, "How the optimization went, iteration by iteration.", history[columns]))
    if settings.include_snapshots and any(
        item.snapshots is not None and len(item.snapshots) for item in reconstructions
    ):
        module.add(_snapshots(reconstructions))
    if (behavior := inferred_behavior(reconstructions)) is not None:
        module.add(behavior)
    if prepared.rois is not None:
        add_rois(module, prepared.rois, prepared.predicted)
    if len(prepared.training):
        module.add(
            _table(layout.TRAINING, "How the encoder was trained, one row an epoch and member.", prepared.training)
        )
    if len(prepared.encoder_summary):
        text = (
            "How well the encoder predicts: means over ROIs with their 95 % bootstrap intervals, by method and score."
        )
        module.add(_table(layout.ENCODER_SUMMARY, text, prepared.encoder_summary))
    rows = pd.DataFrame(provenance.to_rows(prepared.content), columns=["path", "value"])
    text = "Everything needed to reproduce or refute these results: one value a row, nested content spread over paths."
    module.add(_table(layout.PROVENANCE, text, rows))


@dataclass
class _Clock:
    """When each frame of the reconstructed clips was shown; series of all clips share one array of timestamps."""

    times: list[np.ndarray]
    frame_rate: float
    shared: TimeSeries | None = None

    @classmethod
    def of(cls, reconstructions: Reconstructions) -> _Clock:
        return cls([item.times for item in reconstructions], reconstructions[0].frame_rate)

    def timing(self, times: np.ndarray, *, shared: bool) -> dict[str, Any]:
        # a regular clock is stored as rate and start; one that pauses between clips needs its timestamps
        if np.allclose(times, times[0] + np.arange(len(times)) / self.frame_rate, rtol=0, atol=1e-9):
            return {"starting_time": float(times[0]), "rate": float(self.frame_rate)}
        if shared and self.shared is not None:
            return {"timestamps": self.shared}
        return {"timestamps": H5DataIO(times, compression="gzip", shuffle=True)}

    def movie(
        self, name: str, movies: Sequence[np.ndarray | None], dtype: str, description: str, *, step: float = 1.0
    ) -> ImageSeries:
        present = [movie for movie in movies if movie is not None]
        times = [time for time, movie in zip(self.times, movies, strict=True) if movie is not None]
        complete = len(present) == len(movies)
        if not complete:
            description += f" {len(present)} of {len(movies)} clips have it; the timestamps say which."
        data = np.concatenate([encode(movie, dtype, step=step) for movie in present])
        height, width = data.shape[1:]
        series = ImageSeries(
            name=name,
            data=_packed(data, chunks=(min(_FRAMES_PER_CHUNK, len(data)), height, width)),
            unit="gray level",
            format="raw",
            dimension=[width, height],
            conversion=step if dtype == "uint8" else 1.0,
            description=description,
            **self.timing(np.concatenate(times), shared=complete),
        )
        if complete and self.shared is None:
            self.shared = series
        return series


def _packed(data: np.ndarray, chunks: tuple[int, ...] | bool = True) -> H5DataIO:
    return H5DataIO(data, compression="gzip", compression_opts=4, shuffle=True, chunks=chunks)


def _masks(reconstructions: Reconstructions) -> Images:
    axes = "Axes: (row from the top, column from the left)."
    return Images(
        name=layout.MASKS,
        description="Which pixels the recorded cells see.",
        images=[
            GrayscaleImage(
                name=layout.MASK,
                data=reconstructions.mask.astype(np.uint8),
                description="1 where the recorded cells cover the pixel, 0 elsewhere: scores are over the pixels at 1. "
                f"It was fixed for the recording before anything was scored. {axes}",
            ),
            GrayscaleImage(
                name=layout.COVERAGE,
                data=np.asarray(reconstructions.coverage, dtype=np.float32),
                description="How well the receptive fields of the recorded cells cover each pixel, 0 (not at all) to "
                f"1. The evaluation mask is where it passes a threshold. {axes}",
            ),
        ],
    )


def _trials(reconstructions: Reconstructions, scores: Scores | None, aligned: AlignedSession | None) -> TimeIntervals:
    lengths = np.array([len(item.video) for item in reconstructions])
    firsts = [item.trials[0] for item in reconstructions]
    table = pd.DataFrame(
        {
            "start_time": [item.onset for item in reconstructions],
            "stop_time": [item.onset + len(item.video) / item.frame_rate for item in reconstructions],
            "clip": [item.clip for item in reconstructions],
            "trials": [" ".join(map(str, item.trials)) for item in reconstructions],
            "first_frame": np.concatenate([[0], np.cumsum(lengths)[:-1]]),
            "n_frames": lengths,
        }
    )
    methods = {name: f"{layout.describe(name)}." for name in table}
    if aligned is not None:
        table["split"] = aligned.trials["split"].reindex(firsts).fillna("").astype(str).to_numpy()
        table["repeat"] = aligned.trials["repeat"].reindex(firsts, fill_value=-1).to_numpy()
    if scores is not None:
        by_trial = scores.trials.set_index("trial")
        if "repeat" not in table:
            repeats = by_trial["repeat"].groupby("trial").first()
            table["repeat"] = repeats.reindex(firsts, fill_value=-1).to_numpy()
        for method, rows in by_trial.groupby("method", sort=False):
            for metric in layout.metrics(rows):
                name = layout.score_name(metric, str(method), reconstructions.method)
                table[name] = rows[metric].reindex(firsts).to_numpy()
                methods[name] = f"{layout.describe(metric)}, of method {method!r}."
    intervals = TimeIntervals(
        name=layout.TRIALS,
        description="One row a reconstructed clip, in the order of the movies, with its scores.",
    )
    for key, name in layout.CONVERGENCE.items():
        # columns that only some clips could fill would need a value for "not known"
        if all(isinstance(item.info.get(key), bool | int | float | str) for item in reconstructions):
            table[name] = [item.info[key] for item in reconstructions]
    for column in table.columns[2:]:
        intervals.add_column(column, methods.get(column, f"{layout.describe(column)}."))
    for row in table.to_dict("records"):
        intervals.add_interval(**row)
    return intervals


def _score_tables(scores: Scores | None) -> Iterator[DynamicTable]:
    if scores is None:
        return
    if len(scores.summary):
        text = "Means over clips with their 95 % bootstrap intervals, by method and score."
        yield _table(layout.SUMMARY, text, scores.summary)
    if len(scores.lags):
        text = "Pixel correlation with the true movie shifted in time; a sound reconstruction has its peak at lag 0."
        yield _table(layout.LAGS, text, scores.lags)
    if len(scores.frequencies):
        text = "Correlation with the true movie by frequency band, in time and in space, mean over clips."
        yield _table(layout.FREQUENCIES, text, scores.frequencies)


def _frame_scores(clock: _Clock, reconstructions: Reconstructions, scores: Scores) -> Iterator[TimeSeries]:
    lengths = [len(item.video) for item in reconstructions]
    starts = dict(zip((item.trials[0] for item in reconstructions), np.cumsum([0, *lengths[:-1]]), strict=True))
    for method, rows in scores.frames[scores.frames["trial"].isin(list(starts))].groupby("method", sort=False):
        for metric in layout.metrics(rows):
            values = np.full(sum(lengths), np.nan, dtype=np.float32)
            values[rows["trial"].map(starts).to_numpy() + rows["frame"].to_numpy()] = rows[metric]
            yield TimeSeries(
                name=layout.score_name(metric, str(method), reconstructions.method),
                data=_packed(values),
                unit="n.a.",
                description=f"{layout.describe(metric)}, frame by frame, of method {method!r}. NaN where it is "
                "undefined, as in a frame of one gray.",
                **clock.timing(np.concatenate(clock.times), shared=True),
            )


def _snapshots(reconstructions: Reconstructions) -> DynamicTable:
    rows, iterations, movies = [], [], []
    for row, item in enumerate(reconstructions):
        if item.snapshots is not None and item.snapshot_iterations is not None:
            rows += [row] * len(item.snapshots)
            iterations += [int(iteration) for iteration in item.snapshot_iterations]
            movies += list(item.snapshots)
    return DynamicTable(
        name=layout.SNAPSHOTS,
        description="The way from the first guess to the reconstructed movie, one movie a row.",
        columns=[
            VectorData(name="reconstruction", description=f"{layout.describe('reconstruction')}.", data=rows),
            VectorData(name="iteration", description=f"{layout.describe('iteration')}.", data=iterations),
            *ragged("frames", layout.describe("frames"), movies),
        ],
        colnames=["reconstruction", "iteration", "frames"],
    )


def _table(name: str, description: str, frame: pd.DataFrame) -> DynamicTable:
    columns = [
        VectorData(name=column, description=f"{layout.describe(column)}.", data=_values(frame[column]))
        for column in frame
    ]
    return DynamicTable(name=name, description=description, columns=columns)


def _values(column: pd.Series) -> Any:
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return column.to_numpy()
    return ["" if pd.isna(value) else str(value) for value in column]
