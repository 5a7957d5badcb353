"""The noun of scoring: how good an encoder is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from nwbrecon.display import block, table_html

__all__ = ["BASELINES", "CEILINGS", "CONTROLS", "METRICS", "EncoderScores"]

METRICS = ("single_trial_correlation", "correlation_to_average", "normalized_correlation", "bits")
BASELINES = ("linear-nonlinear", "behavior", "mean")
CONTROLS = ("behavior withheld", "gray screen", "wrong clip", "other ROIs")
CEILINGS = ("oracle", "ceiling")


@dataclass(repr=False)
class EncoderScores:
    """How well an encoder predicts, beside baselines, ceilings and controls; see `nwbrecon.score_encoder`.

    Attributes
    ----------
    rois
        One row a ROI and method: ``group``, ``roi_id``, ``method`` (``encoder``, the baselines ``linear-nonlinear``,
        ``behavior`` and ``mean``, the controls ``behavior withheld``, ``gray screen``, ``wrong clip`` and ``other
        ROIs``), ``single_trial_correlation``, ``correlation_to_average``, ``normalized_correlation``, ``bits`` (per
        unit of activity, over the mean rate).
    repeats
        One row a ROI: ``group``, ``roi_id``, ``oracle`` (correlation of a showing with the mean of the others, which
        has noise of its own), ``single_trial_ceiling`` and ``average_ceiling`` (correlation of a showing, and of the
        mean over showings, with what showings have in common), ``signal_power`` and ``noise_power`` (of responses per
        frame, in squared units of the normalized activity). NaN where no clip was shown twice.
    summary
        One row a method and metric: ``method`` (those of `rois`, and ``oracle`` and ``ceiling``), ``metric``, ``mean``
        over ROIs, ``low`` and ``high`` (95 % bootstrap over ROIs, as if they were independent), ``n_rois``.
    info
        ``split``, and how many ``clips``, ``trials``, ``repeated_clips`` and ``seconds`` of it there were.
    """

    rois: pd.DataFrame
    repeats: pd.DataFrame
    summary: pd.DataFrame
    info: dict[str, Any] = field(default_factory=dict)

    def mean(self, metric: str, method: str = "encoder") -> float:
        """Mean of a metric over ROIs, for a method."""
        return float(self.summary.query("metric == @metric and method == @method")["mean"].iloc[0])

    def of(self, method: str) -> pd.DataFrame:
        """Rows of `rois` of one method, in the order of the session's ROIs."""
        return self.rois[self.rois["method"] == method].drop(columns="method").reset_index(drop=True)

    def __repr__(self) -> str:
        rows = [tuple(row) for row in self._table()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
        return "\n".join([f"EncoderScores: {self._title()}", *(f"  {line}" for line in lines)])

    def _repr_html_(self) -> str:
        return block(f"Scores of the encoder: {self._title()}", table_html(self._table()))

    def _title(self) -> str:
        info = self.info
        return f"{len(self.repeats)} ROIs, {info['trials']} {info['split']} trials of {info['clips']} clips"

    def _table(self) -> list[tuple[str, ...]]:
        by_key = self.summary.set_index(["method", "metric"])
        found = set(self.summary["method"])
        rows = [("mean over ROIs (95 % interval)", *(metric.replace("_", " ") for metric in METRICS))]
        for method in ("encoder", *BASELINES, *CONTROLS, *CEILINGS):
            if method in found:
                keys = [(method, metric) for metric in METRICS]
                rows.append((method, *(_cell(by_key.loc[key]) if key in by_key.index else "" for key in keys)))
        return rows


def _cell(row: pd.Series) -> str:
    interval = f" ({row['low']:.2f} to {row['high']:.2f})" if pd.notna(row["low"]) else ""
    return f"{row['mean']:.2f}{interval}" if pd.notna(row["mean"]) else "–"
