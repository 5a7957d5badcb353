"""What a results file says of single ROIs: what the encoder knows of each, and what it predicts for the movies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from pynwb.base import ProcessingModule
from pynwb.core import DynamicTable, DynamicTableRegion, VectorData

from nwbrecon.alignment import AlignedSession, reliability
from nwbrecon.encoding import EncoderEnsemble, EncoderScores, receptive_fields
from nwbrecon.encoding.observation import samples_seen
from nwbrecon.encoding.prediction import predict_samples
from nwbrecon.encoding.scores import METRICS
from nwbrecon.errors import ResultsError
from nwbrecon.inversion import Reconstructions
from nwbrecon.results import layout
from nwbrecon.results.ragged import index, ragged

__all__ = ["Predicted", "add_rois", "describe_rois", "predict_responses", "read_predicted", "read_rois"]

# what a recording may say of its ROIs and a reader of the results wants beside the rest
_FROM_SOURCE = ("area", "depth", "x", "y", "z")
_CEILINGS = ("oracle", "single_trial_ceiling", "average_ceiling")


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


def describe_rois(
    encoder: EncoderEnsemble, aligned: AlignedSession, scores: EncoderScores | None = None
) -> pd.DataFrame:
    """Gather what is known of each ROI, one row a ROI in the order of ``aligned.rois``.

    Raises
    ------
    ResultsError
        If the scores are of an encoder of other ROIs.
    """
    known = aligned.rois
    table = pd.DataFrame({"group": known["group"].astype(str), "roi_id": known["roi_id"]})
    for name in _FROM_SOURCE:
        if name in known:
            numeric = pd.api.types.is_numeric_dtype(known[name])
            table[name] = known[name] if numeric else known[name].fillna("").astype(str)
    fields = receptive_fields(encoder).add_prefix("receptive_field_")
    table = table.join(fields).assign(
        reliability=reliability(aligned, [int(label) for label in aligned.trials.index]),
        validation_correlation=encoder.validation_scores,
        dispersion=encoder.dispersion,
        scale=np.concatenate([group.scale for group in aligned.groups]),
    )
    if scores is None:
        return table
    if not scores.repeats[["group", "roi_id"]].equals(known[["group", "roi_id"]]):
        raise ResultsError(
            f"The scores are of an encoder of {len(scores.repeats)} ROIs, other than the {len(known)} of the session.",
            action="Score the encoder that is given on the session that is given.",
        )
    return table.join(scores.of("encoder")[list(METRICS)]).join(scores.repeats[list(_CEILINGS)])


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
            found = predict_samples(encoder, aligned, [trial], shown={trial: video}.__getitem__)
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
    """Put the table of ROIs, with its predictions, and the table of their groups into a module.

    Predictions are a ragged column, not a time series: many recordings have more ROIs than reconstructed samples, and
    NWB's inspector takes that for a series on its side.
    """
    columns = [
        VectorData(name=name, description=f"{layout.describe(name)}.", data=_values(rois[name])) for name in rois
    ]
    names = [str(name) for name in rois]
    if predicted:
        traces = [predicted[group].values[:, at] for group, at in _places(rois)]
        columns += ragged("predicted", f"{layout.describe('predicted')}.", traces)
        names.append("predicted")
    table = DynamicTable(
        name=layout.ROIS,
        description="What the encoder knows of each ROI that it predicts. Positions and sizes are on the screen as the "
        "movies have it.",
        columns=columns,
        colnames=names,
    )
    module.add(table)
    if not predicted:
        return
    members = [np.flatnonzero(rois["group"] == group) for group in predicted]
    region = DynamicTableRegion(
        name="rois", data=np.concatenate(members).tolist(), description=f"{layout.describe('rois')}.", table=table
    )
    module.add(
        DynamicTable(
            name=layout.GROUPS,
            description=f"One row a response group (imaging plane): which rows of '{layout.ROIS}' are its ROIs, and "
            "when each of their predicted samples was taken.",
            columns=[
                VectorData(name="group", description=f"{layout.describe('group')}.", data=list(predicted)),
                region,
                index("rois", region, [len(rows) for rows in members]),
                *ragged(
                    "sampled_at",
                    f"{layout.describe('sampled_at')}.",
                    [made.times for made in predicted.values()],
                ),
            ],
            colnames=["group", "rois", "sampled_at"],
        )
    )


def read_rois(module: ProcessingModule) -> pd.DataFrame | None:
    """Read the table of ROIs, where the file has one."""
    if layout.ROIS not in module.data_interfaces:
        return None
    table = module[layout.ROIS]
    return pd.DataFrame({name: table[name][:] for name in table.colnames if name != "predicted"})


def read_predicted(module: ProcessingModule) -> dict[str, Predicted]:
    """Read the predicted responses, where the file has them."""
    if layout.GROUPS not in module.data_interfaces:
        return {}
    groups, table = module[layout.GROUPS], module[layout.ROIS]
    flat, ends = table["predicted"].target.data[:], np.asarray(table["predicted"].data[:], dtype=int)
    traces = np.split(flat, ends[:-1])
    members = np.split(groups["rois"].target.data[:], np.asarray(groups["rois"].data[:], dtype=int)[:-1])
    return {
        str(group): Predicted(groups["sampled_at"][row], np.stack([traces[roi] for roi in members[row]], axis=1))
        for row, group in enumerate(groups["group"][:])
    }


def _places(rois: pd.DataFrame) -> Iterator[tuple[str, int]]:
    """Group of each ROI, and the how-many-eth of it the ROI is."""
    yield from zip(rois["group"], rois.groupby("group").cumcount(), strict=True)


def _values(column: pd.Series) -> Any:
    return column.to_numpy() if pd.api.types.is_numeric_dtype(column) else [str(value) for value in column]
