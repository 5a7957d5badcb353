"""Scores in a few lines for a person, and whole for a program."""

from __future__ import annotations

from typing import Any

import pandas as pd

from nwbrecon.evaluation import Scores
from nwbrecon.evaluation.controls import CONTROLS
from nwbrecon.results import Results
from nwbrecon.results.tables import by_clip, method_label, methods, metric_label
from nwbrecon.session.describe import text_table

__all__ = ["best_lag", "controls_lines", "controls_to_dict", "encoder_sentence", "scores_table", "scores_to_dict"]

_METRICS = ("pixel_correlation", "dynamic_correlation", "frame_correlation")


def scores_table(scores: Scores, main: str) -> list[str]:
    """Lines of a table: every method beside the main one, with intervals, then chance and the lag of the best match."""
    found = methods(scores, main)
    rows = [
        (metric_label(metric), *(_with_interval(scores, metric, method) for method in found))
        for metric in _METRICS
        if metric in scores.trials
    ]
    lines = text_table([("mean over clips", *map(method_label, found)), *rows])
    notes = [f"95 % intervals over {scores.trials['clip'].nunique()} clips, {scores.mask_fraction:.0%} of the frame"]
    if "chance" in scores.trials:
        notes.append(f"chance {by_clip(scores, 'chance', main)['mean'].mean():.2f} (other clips' movies)")
    lag = best_lag(scores, main)
    if lag is not None:
        notes.append(f"best match at a lag of {lag} frame{'s' * (abs(lag) != 1)}")
    return [*lines, "; ".join(notes)]


def controls_lines(results: Results) -> list[str]:
    """Say which controls were passed in one line, and what was found by those that were not."""
    if results.controls is None:
        return ["", "Controls: none were run."]
    verdicts = results.controls.verdicts
    parts = []
    for verdict in ("passed", "not passed", "left out"):
        names = [CONTROLS[name] for name in verdicts.loc[verdicts["verdict"] == verdict, "control"]]
        if names:
            parts.append(f"{verdict}: {', '.join(names)}")
    said = verdicts.loc[verdicts["verdict"].isin(["not passed", "compare"]), "sentence"]
    return ["", f"Controls {'; '.join(parts)}.", *said]


def controls_to_dict(results: Results) -> dict[str, Any]:
    """Give what JSON holds of the controls; nothing where none were run."""
    return {} if results.controls is None else {"controls": results.controls.to_dict()}


def scores_to_dict(scores: Scores) -> dict[str, Any]:
    """Summary, single trials and lag, as JSON holds them."""
    return {
        "scores": scores.summary.to_dict("records"),
        "trials": scores.trials.to_dict("records"),
        "mask_fraction": scores.mask_fraction,
        "lag": {method: best_lag(scores, method) for method in methods(scores)},
    }


def encoder_sentence(summary: pd.DataFrame) -> str:
    """Say how well the encoder predicts test clips, beside the best of what does without it, and beside the ceiling."""
    rows = summary[summary["metric"] == "single_trial_correlation"].set_index("method")["mean"].dropna()
    beside = {name: rows[name] for name in ("linear-nonlinear", "behavior", "ceiling") if name in rows}
    words = ", ".join(f"{value:.2f} ({name})" for name, value in beside.items())
    return f"On test clips its single-trial correlation is {rows['encoder']:.2f}, beside {words}."


def best_lag(scores: Scores, method: str) -> int | None:
    """Lag (frames) at which a method's reconstructions match the true movies best; positive: they trail."""
    if not len(scores.lags):
        return None
    curve = scores.lags[(scores.lags["method"] == method) & scores.lags["pixel_correlation"].notna()]
    return int(curve.loc[curve["pixel_correlation"].idxmax(), "lag"]) if len(curve) else None


def _with_interval(scores: Scores, metric: str, method: str) -> str:
    row = scores.summary.query("metric == @metric and method == @method and presentations == 'all'").iloc[0]
    interval = f" ({row['low']:.2f} to {row['high']:.2f})" if pd.notna(row["low"]) else ""
    return f"{row['mean']:.2f}{interval}"
