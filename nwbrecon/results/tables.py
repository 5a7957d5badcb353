"""What figures and report both take from scores."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nwbrecon.evaluation import Scores
from nwbrecon.inversion import Reconstructions

__all__ = ["by_clip", "by_frame", "method_label", "methods", "metric_label", "told"]

_METHODS = {
    "map": "reconstruction",
    "fast": "reconstruction (fast)",
    "ridge": "ridge decoder",
    "amortized": "amortized decoder",
    "bauer2026": "published method",
    "bauer2026-text": "published method (by its text)",
}


def by_clip(scores: Scores, metric: str, method: str) -> pd.DataFrame:
    """Mean, ``low`` and ``high`` (least and greatest over showings) of a score, one row a clip.

    Examples
    --------
    >>> trials = pd.DataFrame({"clip": ["a", "a"], "method": ["map", "map"], "lag": [1.0, 3.0]})
    >>> by_clip(Scores(trials, *[pd.DataFrame()] * 3, 1.0), "lag", "map").loc["a"].tolist()
    [2.0, 1.0, 3.0]
    """
    rows = scores.trials[scores.trials["method"] == method]
    return rows.groupby("clip")[metric].agg(mean="mean", low="min", high="max")


def by_frame(scores: Scores, trial: int, method: str, n_frames: int) -> np.ndarray:
    """Correlation of each frame of a trial, ``(frame,)``; NaN where it is undefined or was not scored."""
    table = scores.frames
    rows = table[(table["trial"] == trial) & (table["method"] == method)]
    values = np.full(n_frames, np.nan)
    values[rows["frame"].to_numpy(dtype=int)] = rows["frame_correlation"]
    return values


def methods(scores: Scores, main: str | None = None) -> list[str]:
    """Methods that were scored, the main one first."""
    found = [str(method) for method in dict.fromkeys(scores.trials["method"])]
    return sorted(found, key=lambda method: method != main) if main is not None else found


def method_label(method: str) -> str:
    """Say a method in words."""
    return _METHODS.get(method, method)


def told(reconstructions: Reconstructions) -> str:
    """Say whether behavior took part in reconstructions; empty where it is not known."""
    if reconstructions.method == "ridge":
        return "from brain signals alone"
    alone = "from brain signals alone"
    words = {"given": "with behavior", "withheld": alone, "absent": alone, "inferred": f"{alone}, behavior inferred"}
    return words.get(str(reconstructions.info.get("behavior", "")), "")


def metric_label(metric: str) -> str:
    """Say a score in words."""
    return metric.replace("_", " ").replace(" full", " (whole frame)")
