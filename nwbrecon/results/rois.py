"""What a results file says of single ROIs: what the encoder knows of each, and what it predicts for the movies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from hdmf.backends.hdf5.h5_utils import H5DataIO
from pynwb import TimeSeries
from pynwb.base import ProcessingModule
from pynwb.core import DynamicTable, DynamicTableRegion, VectorData, VectorIndex

from nwbrecon.alignment import AlignedSession, reliability
from nwbrecon.encoding import EncoderEnsemble, receptive_fields
from nwbrecon.encoding.observation import samples_seen
from nwbrecon.encoding.prediction import predict_samples
from nwbrecon.inversion import Reconstructions
from nwbrecon.results import layout

__all__ = ["Predicted", "add_rois", "describe_rois", "predict_responses", "read_predicted", "read_rois"]

# bytes in a chunk: large enough to compress well, small enough to be looked at piece by piece
_CHUNK = 2**20
# what a recording may say of its ROIs and a reader of the results wants beside the rest
_FROM_SOURCE = ("area", "depth", "x", "y", "z")


@dataclass(frozen=True)
class Predicted:
    """What the encoder predicts for one response group, had the reconstructed movies been shown.

    Attributes
    ----------
    times
        ``(sample,)`` the group's own sample times within the reconstructed clips (s).
    values
        ``(sample, roi)`` float32 in units of the ROI's ``scale``; NaN where a prediction lacks its past.
    """

    times: np.ndarray
    values: np.ndarray


def describe_rois(encoder: EncoderEnsemble, aligned: AlignedSession) -> pd.DataFrame:
    """Gather what is known of each ROI, one row a ROI in the order of ``aligned.rois``."""
    known = aligned.rois
    table = pd.DataFrame({"group": known["group"].astype(str), "roi_id": known["roi_id"]})
    for name in _FROM_SOURCE:
        if name in known:
            numeric = pd.api.types.is_numeric_dtype(known[name])
            table[name] = known[name] if numeric else known[name].fillna("").astype(str)
    fields = receptive_fields(encoder).add_prefix("receptive_field_")
    return table.join(fields).assign(
        reliability=reliability(aligned, [int(label) for label in aligned.trials.index]),
        validation_correlation=encoder.validation_scores,
        dispersion=encoder.dispersion,
        scale=np.concatenate([group.scale for group in aligned.groups]),
    )


def predict_responses(
    encoder: EncoderEnsemble, aligned: AlignedSession, reconstructions: Reconstructions
) -> dict[str, Predicted]:
    """Predict responses to the reconstructed movies, by group; behavior is that of the trials."""
    times: list[list[np.ndarray]] = [[] for _ in aligned.groups]
    values: list[list[np.ndarray]] = [[] for _ in aligned.groups]
    for item in reconstructions:
        video = torch.from_numpy(np.ascontiguousarray(item.video, dtype=np.float32))[None, None]
        for trial in item.trials:
            onset = float(aligned.trials.at[trial, "onset"])
            stop = onset + int(aligned.trials.at[trial, "n_frames"]) / aligned.frame_rate
            found = predict_samples(encoder, aligned, [trial], videos={trial: video})
            for place, (group, (expected, _)) in enumerate(zip(aligned.groups, found, strict=True)):
                known = np.isfinite(expected).any(axis=1)
                times[place].append(group.timestamps[samples_seen(group, onset, stop)][known])
                values[place].append(expected[known].astype(np.float32))
    predicted = {}
    for group, of_times, of_values in zip(aligned.groups, times, values, strict=True):
        joined = np.concatenate(of_times)
        order = np.argsort(joined, kind="stable")
        predicted[group.name] = Predicted(joined[order], np.concatenate(of_values)[order])
    return predicted


def add_rois(module: ProcessingModule, rois: pd.DataFrame, predicted: Mapping[str, Predicted]) -> None:
    """Put the table of ROIs, the predicted responses, and the table that ties them together into a module."""
    table = DynamicTable(
        name=layout.ROIS,
        description="What the encoder knows of each ROI that it predicts. Positions and sizes are on the screen as the "
        "movies have it.",
        columns=[
            VectorData(name=name, description=f"{layout.describe(name)}.", data=_values(rois[name])) for name in rois
        ],
    )
    module.add(table)
    if not predicted:
        return
    series = {group: _series(group, made) for group, made in predicted.items()}
    for one in series.values():
        module.add(one)
    members = [np.flatnonzero(rois["group"] == group) for group in predicted]
    region = DynamicTableRegion(
        name="rois",
        data=np.concatenate(members).tolist(),
        description=f"{layout.describe('rois')}.",
        table=table,
    )
    module.add(
        DynamicTable(
            name=layout.GROUPS,
            description=f"One row a response group (imaging plane): its predicted responses, and which rows of "
            f"'{layout.ROIS}' their columns are.",
            columns=[
                VectorData(name="group", description=f"{layout.describe('group')}.", data=list(predicted)),
                region,
                VectorIndex(name="rois_index", target=region, data=np.cumsum([len(rows) for rows in members]).tolist()),
                VectorData(
                    name="predicted", description=f"{layout.describe('predicted')}.", data=list(series.values())
                ),
            ],
            colnames=["group", "rois", "predicted"],
        )
    )


def read_rois(module: ProcessingModule) -> pd.DataFrame | None:
    """Read the table of ROIs, where the file has one."""
    if layout.ROIS not in module.data_interfaces:
        return None
    return module[layout.ROIS].to_dataframe().reset_index(drop=True)


def read_predicted(module: ProcessingModule) -> dict[str, Predicted]:
    """Read the predicted responses, where the file has them."""
    if layout.GROUPS not in module.data_interfaces:
        return {}
    return dict(_read_groups(module[layout.GROUPS]))


def _read_groups(table: DynamicTable) -> Iterator[tuple[str, Predicted]]:
    for row, group in enumerate(table["group"][:]):
        series = table["predicted"][row]
        yield str(group), Predicted(series.timestamps[:], series.data[:])


def _series(group: str, made: Predicted) -> TimeSeries:
    n_rois = made.values.shape[1]
    rows = max(1, min(len(made.values), _CHUNK // (4 * n_rois)))
    data = H5DataIO(made.values, compression="gzip", compression_opts=4, shuffle=True, chunks=(rows, n_rois))
    return TimeSeries(
        name=layout.predicted_name(group),
        data=data,
        timestamps=H5DataIO(made.times, compression="gzip", shuffle=True),
        unit="n.a.",
        description=f"Responses of {group} that the encoder predicts for the reconstructed movies, at the group's own "
        f"sample times. Axes: (sample, ROI); column k is the k-th row of '{layout.ROIS}' whose group is {group!r}. In "
        "units of the ROI's 'scale': times it, in units of the signal. NaN where the prediction lacks its past.",
    )


def _values(column: pd.Series) -> Any:
    return column.to_numpy() if pd.api.types.is_numeric_dtype(column) else [str(value) for value in column]
