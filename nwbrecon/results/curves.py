"""Figures of what led to the scores: frequencies, the session's time, single ROIs."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from nwbrecon.evaluation import Controls, Scores
from nwbrecon.inversion import Reconstructions
from nwbrecon.results.drawing import LIGHT, Style, dress, image, legend
from nwbrecon.results.tables import method_label, methods

__all__ = [
    "controls_figure",
    "fields_figure",
    "frequency_figure",
    "prediction_figure",
    "reliability_figure",
    "timeline_figure",
]

# what stands in a row of the figure of controls: its name, what is marked, and by what beside it
_PIXEL = "pixel_correlation"
_MOVIES = [
    ("reconstruction", ("permuted", "reconstruction", _PIXEL), ("permuted", "chance of the reconstruction", _PIXEL)),
    ("with behavior", ("behavior", "with behavior", _PIXEL), None),
    ("brain signals alone", ("behavior", "from brain signals alone", _PIXEL), None),
    ("behavior inferred", ("behavior", "from brain signals alone, behavior inferred", _PIXEL), None),
    ("cells shuffled", ("shuffled", "control", _PIXEL), ("shuffled", "reconstruction", _PIXEL)),
    ("labels permuted", ("permuted", "control", _PIXEL), ("permuted", "chance", _PIXEL)),
    ("behavior alone", ("behavior_alone", "control", _PIXEL), ("behavior_alone", "chance", _PIXEL)),
]
_JUDGED = [
    (name, *(("judge", name, metric) for metric in ("response_correlation", "other_response_correlation")))
    for name in ("true movie", "reconstruction", "wrong clip", "gray screen")
]
_GRAY = [(name, ("gray", name, "deviation"), None) for name in ("true movie", "reconstruction", "gray screen")]

_MOST_FIELDS = 400  # more outlines than these hide one another


def frequency_figure(scores: Scores, *, main: str | None = None, style: Style = LIGHT) -> Figure:
    """Plot correlation with the true movie by frequency band, in time and in space.

    Parameters
    ----------
    scores
        From `evaluate`, with frequencies.
    main
        The method that comes first.
    style
        `LIGHT` or `DARK`.
    """
    figure = Figure(facecolor=style.page, figsize=(4.6, 2.8), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    units = {"time": "Hz", "space": "cycles per pixel"}
    for axis, (domain, unit) in zip(axes, units.items(), strict=True):
        of_domain = scores.frequencies[scores.frequencies["domain"] == domain]
        for index, method in enumerate(methods(scores, main)):
            rows = of_domain[(of_domain["method"] == method) & of_domain["pixel_correlation"].notna()]
            color = style.methods[index % len(style.methods)]
            places = np.arange(len(of_domain))[: len(rows)]
            axis.plot(places, rows["pixel_correlation"], "o-", color=color, lw=1.8, ms=4, label=method_label(method))
            axis.set_xticks(
                places, [f"{edge:.2g}" if edge >= 1 else f"1/{1 / edge:.0f}" for edge in rows["to_frequency"]]
            )
        axis.axhline(0, color=style.muted, lw=1, zorder=0)
        dress(axis, style, f"{domain}: up to ({unit})", "correlation" if domain == "time" else "")
    legend(axes[0], style)
    return figure


def controls_figure(controls: Controls, *, style: Style = LIGHT) -> Figure:
    """Plot what controls measured beside what the reconstruction did: movies, a judge's predictions, a gray screen.

    Parameters
    ----------
    controls
        From `run_controls`.
    style
        `LIGHT` or `DARK`.
    """
    table = controls.summary.set_index(["control", "condition", "metric"])
    panels = [
        (title, found)
        for title, rows in (
            ("pixel correlation", _MOVIES),
            ("correlation with responses", _JUDGED),
            ("standard deviation (gray levels)", _GRAY),
        )
        if (found := [(label, *keys) for label, *keys in rows if keys[0] in table.index])
    ]
    figure = Figure(facecolor=style.page, figsize=(9, 2.3), layout="constrained")
    axes = figure.subplots(1, max(len(panels), 1), squeeze=False)[0]
    for axis, (title, rows) in zip(axes, panels, strict=False):
        for place, (label, main, beside) in enumerate(rows):
            color = style.methods[0 if label == "reconstruction" else 1]
            row = table.loc[main]
            axis.plot([row["low"], row["high"]], [-place, -place], color=color, lw=2)
            axis.plot(row["mean"], -place, "o", color=color, ms=6)
            if beside in table.index:
                axis.plot(table.loc[beside, "mean"], -place, "|", color=style.muted, ms=11, mew=1.8)
        axis.set_yticks(-np.arange(len(rows)), [label for label, *_ in rows])
        axis.set_ylim(-len(rows) + 0.4, 0.6)
        axis.axvline(0, color=style.grid, lw=1, zorder=0)
        dress(axis, style, title, "")
    return figure


def timeline_figure(trials: pd.DataFrame, reconstructed: Reconstructions, *, style: Style = LIGHT) -> Figure:
    """Show when what was shown over the session, by split, and which trials were reconstructed.

    Parameters
    ----------
    trials
        One row a trial: ``onset`` and ``seconds`` (s), and ``split``.
    reconstructed
        The reconstructions, marked below.
    style
        `LIGHT` or `DARK`.
    """
    names = [name for name in ("train", "validation", "test", "") if (trials["split"] == name).any()]
    figure = Figure(facecolor=style.page, figsize=(9, 0.28 * (len(names) + 1) + 0.65), layout="constrained")
    axis = figure.subplots()
    for place, name in enumerate(names):
        rows = trials[trials["split"] == name]
        color = style.methods[(2, 3, 0)[place] if name and place < 3 else 1] if name else style.muted
        spans = list(zip(rows["onset"] / 60, rows["seconds"] / 60, strict=True))
        axis.broken_barh(spans, (-place - 0.36, 0.72), facecolors=color, edgecolors=style.page, linewidth=0.3)
    marks = [item.onset / 60 for item in reconstructed]
    axis.plot(marks, np.full(len(marks), -len(names)), "^", color=style.ink, ms=4, lw=0)
    labels = [*(name or "unused" for name in names), "reconstructed"]
    axis.set_yticks(-np.arange(len(labels)), labels)
    axis.set_ylim(-len(names) - 0.6, 0.6)
    dress(axis, style, "time in the session (min)", "")
    axis.grid(visible=False)
    axis.spines["left"].set_visible(False)
    axis.tick_params(axis="y", length=0)
    return figure


def fields_figure(rois: pd.DataFrame, reconstructions: Reconstructions, *, style: Style = LIGHT) -> Figure:
    """Draw the receptive fields of the ROIs that the encoder predicts best, over their coverage of the screen.

    Parameters
    ----------
    rois
        Table of ROIs, as `nwbrecon.results.Results` has it.
    reconstructions
        They have the coverage and the mask.
    style
        `LIGHT` or `DARK`.
    """
    height, width = reconstructions.mask.shape
    figure = Figure(facecolor=style.page, figsize=(4.6, 4.0 * height / width + 0.5), layout="constrained")
    axis = figure.subplots()
    image(axis, reconstructions.coverage, reconstructions.mask, style, cmap="gray", vmin=0, vmax=2.5)
    best = rois.nlargest(_MOST_FIELDS, "validation_correlation")
    best = best[best["receptive_field_size"].notna()]
    colors = _correlation_colors(best["validation_correlation"].to_numpy())
    # the least correlated first, so that the best lie on top
    for row, color in zip(best.iloc[::-1].itertuples(), colors[::-1], strict=True):
        size = 2 * row.receptive_field_size
        place = (row.receptive_field_column, row.receptive_field_row)
        axis.add_patch(Ellipse(place, size, size, fill=False, edgecolor=color, lw=0.9, alpha=0.85))
    axis.set_xlim(-0.5, width - 0.5)
    axis.set_ylim(height - 0.5, -0.5)
    shown = f"{len(best)} of {len(rois)} ROIs" if len(best) < len(rois) else f"{len(rois)} ROIs"
    axis.set_title(f"receptive fields of {shown}; brighter: predicted better", color=style.ink, fontsize=9)
    return figure


def reliability_figure(rois: pd.DataFrame, *, style: Style = LIGHT) -> Figure:
    """Plot how well each ROI is predicted against how well it repeats itself; on the line, nothing is left to gain.

    Parameters
    ----------
    rois
        Table of ROIs.
    style
        `LIGHT` or `DARK`.
    """
    figure = Figure(facecolor=style.page, figsize=(4.6, 2.8), layout="constrained")
    axis = figure.subplots()
    axis.plot(rois["reliability"], rois["validation_correlation"], ".", color=style.methods[0], ms=4, alpha=0.7)
    finite = rois[["reliability", "validation_correlation"]].to_numpy(dtype=float)
    top = float(np.nanmax(finite, initial=0.1))
    axis.plot([0, top], [0, top], ":", color=style.muted, lw=1)
    dress(axis, style, "reliability (a showing with the others)", "validation correlation")
    return figure


def prediction_figure(rois: pd.DataFrame, *, style: Style = LIGHT) -> Figure:
    """Plot the single-trial correlation of each ROI on test clips, beside the ceiling that repeats set where known.

    ROIs stand in the order of their ceiling; those that have none come last, in the order of their correlation.

    Parameters
    ----------
    rois
        Table of ROIs, with ``single_trial_correlation`` and ``single_trial_ceiling``.
    style
        `LIGHT` or `DARK`.
    """
    figure = Figure(facecolor=style.page, figsize=(4.6, 2.8), layout="constrained")
    axis = figure.subplots()
    ordered = rois.sort_values(["single_trial_ceiling", "single_trial_correlation"], ascending=False)
    ordered = ordered[ordered["single_trial_correlation"].notna()]
    places = np.arange(1, len(ordered) + 1)
    axis.plot(
        places, ordered["single_trial_correlation"], ".", color=style.methods[0], ms=4, alpha=0.7, label="encoder"
    )
    if ordered["single_trial_ceiling"].notna().any():
        axis.plot(places, ordered["single_trial_ceiling"], color=style.methods[1], lw=1.8, label="ceiling")
        legend(axis, style)
    axis.axhline(0, color=style.muted, lw=1, zorder=0)
    dress(axis, style, "ROIs, in the order of their ceiling", "single-trial correlation")
    return figure


def _correlation_colors(values: np.ndarray) -> np.ndarray:
    from matplotlib import colormaps

    top = float(np.nanmax(values, initial=1e-3))
    return colormaps["viridis"](0.15 + 0.85 * np.clip(np.nan_to_num(values) / top, 0, 1))
