"""What figures and report both take from scores."""

from __future__ import annotations

import pandas as pd

from nwbrecon.evaluation import Scores

__all__ = ["by_clip", "method_label", "metric_label"]

_METHODS = {"map": "reconstruction", "ridge": "ridge decoder", "bauer2026": "reconstruction (bauer2026)"}


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


def method_label(method: str) -> str:
    """Say a method in words."""
    return _METHODS.get(method, method)


def metric_label(metric: str) -> str:
    """Say a score in words."""
    return metric.replace("_", " ").replace(" full", " (whole frame)")
