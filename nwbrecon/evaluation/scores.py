"""The noun of this room: how good reconstructions are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from nwbrecon.display import block, table_html

__all__ = ["Scores"]


@dataclass
class Scores:
    """How well reconstructions match the movies that were shown.

    Attributes
    ----------
    trials
        One row a reconstruction and method (the reconstruction itself and each baseline beside it). Columns: ``clip``,
        ``trial`` (label; of the first where several were fused), ``repeat``, ``onset``, ``n_frames``, ``method``,
        ``pixel_correlation``, ``dynamic_correlation``, ``frame_correlation``, ``lag`` (frames; positive: the
        reconstruction trails), ``chance`` (mean pixel correlation with other test clips), ``ceiling`` (the pixel
        correlation that noise from showing to showing would allow; NaN for a clip shown once), the ends of the 95 %
        intervals of the first three over stretches of the clip with the suffixes ``_low`` and ``_high``, and the same
        figures over the whole frame with the suffix ``_full``.
    frames
        One row a frame of each reconstruction: ``trial``, ``clip``, ``method``, ``frame``, ``time`` (seconds),
        ``frame_correlation``.
    lags
        Pixel correlation by lag: ``method``, ``lag`` (frames), ``pixel_correlation`` (mean over clips).
    summary
        One row a method and metric: ``method``, ``metric``, ``mean``, ``low``, ``high`` (95 % bootstrap over clips),
        ``n_clips``, ``presentations`` (``all``, ``first`` or ``later``).
    mask_fraction
        Share of the frame that the mask keeps.
    info
        Settings and whatever else explains the figures; what JSON can hold.
    frequencies
        Pixel correlation by frequency: ``method``, ``domain`` (``time``, in Hz, or ``space``, in cycles per pixel),
        ``from_frequency``, ``to_frequency``, ``pixel_correlation`` (mean over clips). Empty where it is not known.
    """

    trials: pd.DataFrame
    frames: pd.DataFrame
    lags: pd.DataFrame
    summary: pd.DataFrame
    mask_fraction: float
    info: dict[str, Any] = field(default_factory=dict)
    frequencies: pd.DataFrame = field(default_factory=pd.DataFrame)

    def mean(self, metric: str, method: str, presentations: str = "all") -> float:
        """Mean of a metric over clips, for a method."""
        rows = self.summary.query("metric == @metric and method == @method and presentations == @presentations")
        return float(rows["mean"].iloc[0])

    def _repr_html_(self) -> str:
        table = self.summary[self.summary["presentations"] == "all"]
        found = list(dict.fromkeys(table["method"]))
        rows = [("mean over clips (95 % interval)", *found)]
        for metric, of_metric in table.groupby("metric", sort=False):
            by_method = of_metric.set_index("method")
            cells = [_cell(by_method.loc[method]) if method in by_method.index else "" for method in found]
            rows.append((str(metric).replace("_", " "), *cells))
        clips = self.trials["clip"].nunique()
        return block(f"Scores of {clips} clips over {self.mask_fraction:.0%} of the frame", table_html(rows))


def _cell(row: pd.Series) -> str:
    interval = f" ({row['low']:.2f} to {row['high']:.2f})" if pd.notna(row["low"]) else ""
    return f"{row['mean']:.2f}{interval}" if pd.notna(row["mean"]) else "–"
