"""What the report says in words and figures before it shows anything."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nwbrecon.evaluation import Scores
from nwbrecon.evaluation.controls import CONTROLS
from nwbrecon.results.drawing import short
from nwbrecon.results.model import Results
from nwbrecon.results.settled import prior_choice
from nwbrecon.results.tables import by_clip, method_label, methods, metric_label

__all__ = [
    "Bar",
    "Card",
    "cards",
    "controls",
    "gate_card",
    "ingredients",
    "lag_sentence",
    "median_row",
    "predictions",
    "showings",
    "source",
    "title",
    "training",
    "trials",
    "verdict",
]

_CARDS = {
    "pixel_correlation": "over all pixels of the mask and all frames",
    "dynamic_correlation": "what changes: each pixel's mean over time removed",
    "frame_correlation": "frame by frame, then averaged",
}


_BESIDE = (("chance", "chance: other clips", -1), ("ceiling", "ceiling: noise", -2))


@dataclass(frozen=True)
class Bar:
    """One method's score: mean and 95 % interval, and the same as percent of the bar's length."""

    label: str
    text: str
    interval: str
    kind: int
    length: float
    low: float
    high: float


@dataclass(frozen=True)
class Card:
    """One score, for every method; or what else is measured by correlation."""

    label: str
    hint: str
    bars: list[Bar]
    verdict: str = ""


def title(results: Results) -> str:
    """Say whose recording it is."""
    subject = results.provenance.get("subject", {}).get("subject_id")
    session = results.provenance.get("source", {}).get("session_id")
    parts = [f"mouse {subject}" if subject else "", f"session {session}" if session else ""]
    return ", ".join(part for part in parts if part) or "a recording"


def source(results: Results) -> str:
    """Say where the recording came from."""
    identity = results.provenance.get("source", {})
    if identity.get("dandiset"):
        version = f" (version {identity['version']})" if identity.get("version") else ""
        return f"DANDI {identity['dandiset']}{version}, {identity.get('path', '')}".rstrip(", ")
    return str(identity.get("location") or identity.get("identifier") or "source unknown")


def verdict(results: Results) -> list[str]:
    """Say in sentences how good the reconstruction is, against the baselines and chance; plainly where it is not."""
    scores, main = results.scores, results.reconstructions.method
    if scores is None:
        return ["There was no true movie to compare with: nothing here says how faithful the reconstruction is."]
    sentences = []
    label = method_label(main)
    for method in methods(scores, main)[1:]:
        for metric in ("pixel_correlation", "dynamic_correlation"):
            if metric not in scores.trials:
                continue
            own, other = by_clip(scores, metric, main)["mean"], by_clip(scores, metric, method)["mean"]
            own, other = own.align(other, join="inner")
            better = int((own > other).sum())
            word = "beats" if 2 * better > len(own) else "does not beat" if 2 * better < len(own) else "ties with"
            sentences.append(
                f"In {metric_label(metric)} the {label} {word} the {method_label(method)}: it is better on "
                f"{better} of {len(own)} clips ({_number(own.mean())} against {_number(other.mean())})."
            )
    if "chance" in scores.trials:
        own, chance = (by_clip(scores, metric, main)["mean"] for metric in ("pixel_correlation", "chance"))
        above = int((own > chance).sum())
        sentences.append(
            f"It matches the clip that was shown better than other clips on {above} of {len(own)} clips (chance "
            f"{_number(chance.mean())})."
        )
    if len(scores.lags):
        sentences.append(lag_sentence(results))
    return sentences


def lag_sentence(results: Results) -> str:
    """Say at which lag the reconstruction matches best."""
    if results.scores is None:
        return ""
    lags, main = results.scores.lags, results.reconstructions.method
    rows = lags[(lags["method"] == main) & lags["pixel_correlation"].notna()]
    if not len(rows):
        return "At which lag it matches best is not known."
    lag = int(rows.loc[rows["pixel_correlation"].idxmax(), "lag"])
    frames = f"{abs(lag)} frame{'' if abs(lag) == 1 else 's'}"
    if lag == 0:
        return "It matches best at a lag of 0 frames."
    return f"It matches best {frames} {'late' if lag > 0 else 'early'}: the clocks or delays deserve a look."


def cards(results: Results) -> list[Card]:
    """Headline scores with their intervals, the baselines and chance beside them."""
    scores = results.scores
    if scores is None:
        return []
    main = results.reconstructions.method
    made = []
    for metric, hint in _CARDS.items():
        bars = [bar for kind, method in enumerate(methods(scores, main)) if (bar := _bar(scores, metric, method, kind))]
        if metric == "pixel_correlation":
            bars += [
                _plain_bar(words, float(by_clip(scores, name, main)["mean"].mean()), kind)
                for name, words, kind in _BESIDE
                if name in scores.trials and by_clip(scores, name, main)["mean"].notna().any()
            ]
        if bars:
            made.append(Card(metric_label(metric).capitalize(), hint, bars))
    return made


def gate_card(results: Results) -> Card | None:
    """Say whether the encoder sees: how well it predicts responses from the true movie, and from what was not shown."""
    gate = results.reconstructions.info.get("gate")
    if not isinstance(gate, dict) or not {"sees", "true", "wrong", "gray"} <= set(gate):
        return None
    bars = [
        _plain_bar(words, float(gate[name]), kind)
        for name, words, kind in (("true", "true movie", 0), ("wrong", "another clip", -1), ("gray", "gray screen", -1))
    ]
    return Card(
        "Does the encoder see?",
        f"correlation of predicted with recorded responses of {gate.get('n_visual', 'the')} ROIs, validation clips",
        bars,
        "yes" if gate["sees"] else "no",
    )


def controls(results: Results) -> dict[str, Any] | None:
    """Say what the controls found, one row a control, and on how much; None where there were none."""
    found = results.controls
    if found is None:
        return None
    kinds = {"passed": "yes", "not passed": "no"}
    rows = [
        {
            "label": (words := CONTROLS.get(str(row.control), str(row.control)))[:1].upper() + words[1:],
            "verdict": row.verdict,
            "kind": kinds.get(str(row.verdict), "open"),
            "sentence": row.sentence,
        }
        for row in found.verdicts.itertuples()
    ]
    scope = (
        f"The same reconstruction, of {found.info['clips']} of {found.info['reconstructed_clips']} clips, from what "
        "should say less, or nothing. Bars are 95 % intervals over clips; upright strokes mark, where there is one, "
        "chance, for shuffled cells the reconstruction, and for the judge other showings of the clip."
    )
    return {"rows": rows, "scope": scope}


def showings(results: Results) -> str:
    """Say how first showings of a clip fare against later ones, where both were scored."""
    if results.scores is None:
        return ""
    table = results.scores.summary
    chosen = (table["metric"] == "pixel_correlation") & (table["method"] == results.reconstructions.method)
    rows = table[chosen].set_index("presentations")["mean"]
    if not {"first", "later"} <= set(rows.index):
        return ""
    return (
        f"First showings of a clip: pixel correlation {_number(rows['first'])}; later ones: {_number(rows['later'])}."
    )


def ingredients(results: Results) -> list[tuple[str, str]]:
    """Say what went in, in pairs of a word and a phrase."""
    content = results.provenance
    alignment = content.get("alignment", {})
    reconstructions = results.reconstructions
    clips = {item.clip for item in reconstructions}
    height, width = reconstructions.mask.shape
    rows = []
    if alignment:
        groups = alignment["groups"]
        signals = ", ".join(dict.fromkeys(f"{group['signal']}" for group in groups))
        planes = f"{len(groups)} {'plane' if len(groups) == 1 else 'planes'}"
        rows.append(("Responses", f"{alignment['n_rois']} ROIs in {planes} ({signals})"))
        behavior = ", ".join(name.replace("_", " ") for name in alignment["behavior"])
        given = behavior or "none: the file has no running and no pupil"
        if (without := reconstructions.info.get("behavior")) in ("withheld", "inferred"):
            given = f"none; {behavior} {without}{' from the responses' if without == 'inferred' else ''}"
        rows.append(("Behavior given", given))
        seconds = alignment["seconds"]
        trained = seconds.get("train", 0) / 60
        rows.append(("Learned from", f"{trained:.1f} min of movie" if trained else "not known"))
    fused = max(len(item.trials) for item in reconstructions)
    rows += [
        (
            "Reconstructed",
            f"{len(reconstructions)} trials of {len(clips)} clips, "
            + (f"up to {fused} repeats fused" if fused > 1 else "each trial from its own responses alone"),
        ),
        ("Movie", f"{height} × {width} pixels at {reconstructions[0].frame_rate:g} Hz"),
        ("Scored over", f"{reconstructions.mask.mean():.0%} of the frame: the pixels that the recorded cells cover"),
    ]
    if choice := prior_choice(reconstructions.info):
        rows.append(("Prior", choice))
    if gains := reconstructions.info.get("shared_gain"):
        strength = ", ".join(f"{math.exp(gain['loading']):.2g}-fold over {gain['seconds']:g} s" for gain in gains)
        rows.append(("Shared gain", f"found along with the movie; one standard deviation changes rates {strength}"))
    if not content.get("scores", {}).get("of_the_movie_as_stored", True):
        rows.append(("Scores", "of the movie before it was rounded to whole gray levels for storage"))
    return rows


def median_row(results: Results) -> int:
    """Choose the row whose pixel correlation is the median: neither the best clip nor the worst."""
    if results.scores is None:
        return 0
    main = results.reconstructions.method
    rows = results.scores.trials[results.scores.trials["method"] == main]
    by_trial = rows.set_index("trial")["pixel_correlation"]
    values = by_trial.reindex([item.trials[0] for item in results.reconstructions]).to_numpy()
    order = np.argsort(np.nan_to_num(values, nan=-1.0), kind="stable")
    return int(order[len(order) // 2])


def trials(results: Results, playable: set[int]) -> dict[str, Any]:
    """Table of reconstructed trials: headings and rows of (text, value to sort by)."""
    items = results.reconstructions
    headings: list[tuple[str, str]] = [("Clip", "text"), ("Showing", "number"), ("Starts (s)", "number")]
    columns: list[list[tuple[str, Any]]] = []
    if results.scores is not None:
        main = items.method
        table = results.scores.trials.set_index("trial")
        firsts = [item.trials[0] for item in items]
        for metric in (*_CARDS, "lag", "chance", "ceiling"):
            for method in methods(results.scores, main) if metric in _CARDS else [main]:
                if metric in table:
                    name = metric_label(metric).capitalize()
                    headings.append((name if method == main else f"{name}, {method_label(method)}", "number"))
                    values = table.loc[table["method"] == method, metric].reindex(firsts)
                    form = "{:+.0f}" if metric == "lag" else "{:.2f}"
                    columns.append([(_number(value, form), value) for value in values])
    numbers = _showing_numbers(results)
    if all("converged" in item.info for item in items):
        headings.append(("Converged", "text"))
        columns.append([(text := _value(bool(item.info["converged"])), text) for item in items])
    rows = []
    for row, item in enumerate(items):
        cells = [
            (short(item.clip, 32), item.clip),
            (str(numbers[row]), numbers[row]),
            (f"{item.onset:.1f}", item.onset),
            *(column[row] for column in columns),
        ]
        rows.append({"row": row, "playable": row in playable, "cells": cells})
    return {"headings": headings, "rows": rows}


_TRAINING = {
    "member": "Member",
    "epoch": "Epoch",
    "loss": "Loss",
    "validation_correlation": "Validation correlation",
    "mean_correlation": "Mean over sessions",
    "seconds": "Seconds",
}
_PREDICTIONS = {
    "encoder": "encoder",
    "linear-nonlinear": "linear-nonlinear model",
    "behavior": "behavior alone",
    "mean": "mean rate",
    "behavior withheld": "encoder, no behavior",
    "gray screen": "encoder, gray screen",
    "wrong clip": "encoder, another clip",
    "other ROIs": "encoder, other ROIs",
    "oracle": "other showings",
    "ceiling": "ceiling",
}


def predictions(results: Results) -> dict[str, Any]:
    """Table of how well the encoder predicts: headings, rows of label and (text, interval); empty if not scored."""
    table = results.encoder_summary
    if not len(table):
        return {}
    known = table[table["mean"].notna()].set_index(["method", "metric"])
    metrics = [name for name in dict.fromkeys(table["metric"]) if name in known.index.get_level_values("metric")]
    rows = []
    for method in [name for name in _PREDICTIONS if name in known.index]:
        cells = []
        for metric in metrics:
            found = known.loc[(method, metric)] if (method, metric) in known.index else None
            text, interval = ("", "") if found is None else (_number(found["mean"]), _interval(found))
            cells.append((text, interval))
        rows.append((_PREDICTIONS[method], cells))
    scored = results.provenance.get("encoder", {}).get("scored_on", {})
    return {
        "headings": [metric_label(metric).capitalize() for metric in metrics],
        "rows": rows,
        "on": f"{scored['trials']} {scored['split']} trials of {scored['clips']} clips" if scored else "test clips",
    }


def training(results: Results) -> dict[str, Any]:
    """Table of how the encoder's training went: headings, a row an epoch and member; empty if it is not known."""
    table = results.training
    shown = {name: heading for name, heading in _TRAINING.items() if name in table}
    if table.get("member", pd.Series(dtype=int)).nunique() < 2:
        shown.pop("member", None)
    return {
        "headings": list(shown.values()),
        "rows": [
            [_whole_or_number(row[name], whole=name in {"member", "epoch"}) for name in shown]
            for _, row in table.iterrows()
        ],
    }


def _whole_or_number(value: float, *, whole: bool) -> str:
    if np.isnan(value):
        return ""
    return f"{value:.0f}" if whole else f"{value:.4g}".replace("-", "−")


def _showing_numbers(results: Results) -> list[Any]:
    if results.scores is not None:
        repeats = results.scores.trials.drop_duplicates("trial").set_index("trial")["repeat"]
        return [int(repeats.get(item.trials[0], 0)) + 1 for item in results.reconstructions]
    return list(pd.Series([item.clip for item in results.reconstructions]).groupby(lambda _: _).cumcount() + 1)


def _bar(scores: Scores, metric: str, method: str, kind: int) -> Bar | None:
    rows = scores.summary.query("metric == @metric and method == @method and presentations == 'all'")
    if not len(rows):
        return None
    mean, low, high = (float(rows[name].iloc[0]) for name in ("mean", "low", "high"))
    return Bar(
        method_label(method),
        _number(mean),
        _interval(rows.iloc[0]),
        kind,
        _percent(mean),
        _percent(low),
        _percent(high),
    )


def _plain_bar(label: str, value: float, kind: int) -> Bar:
    return Bar(label, _number(value), "", kind, _percent(value), 0, 0)


def _interval(row: pd.Series) -> str:
    return f"{_number(row['low'])} to {_number(row['high'])}" if pd.notna(row["low"]) else ""


def _percent(value: float) -> float:
    return round(float(np.clip(value, 0, 1)) * 100, 2) if np.isfinite(value) else 0.0


def _number(value: float, form: str = "{:.2f}") -> str:
    return form.format(value).replace("-", "−") if pd.notna(value) else "–"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
