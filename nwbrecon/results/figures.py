"""Figures of reconstructions and scores: frames, the way to them, comparisons, lag, mask.

Every function gives a `matplotlib.figure.Figure` made without pyplot, so that nothing global changes and no display is
needed; ``figure.savefig("frames.png", dpi=200)`` writes it, and Jupyter shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nwbrecon.errors import ResultsError
from nwbrecon.evaluation import Scores
from nwbrecon.inversion import Reconstruction, Reconstructions
from nwbrecon.results.drawing import DARK, LIGHT, Style, dress, image, legend, note, short
from nwbrecon.results.tables import by_clip, method_label, methods, metric_label

__all__ = [
    "DARK",
    "LIGHT",
    "Style",
    "frame_scores_figure",
    "frames_figure",
    "lag_figure",
    "mask_figure",
    "scores_figure",
    "training_figure",
    "way_figure",
]


_NAMED_CLIPS = 16  # more names than these cannot be read below a figure


def frames_figure(
    item: Reconstruction,
    true: np.ndarray | None = None,
    *,
    mask: np.ndarray | None = None,
    times: Sequence[float] | None = None,
    columns: int = 8,
    frame_scores: np.ndarray | None = None,
    style: Style = LIGHT,
) -> Figure:
    """Show frames at chosen times: true above reconstructed above their difference above the information map.

    Parameters
    ----------
    item
        The reconstructed clip.
    true
        ``(time, height, width)`` the movie that was shown, grey level 0-255.
    mask
        ``(height, width)`` bool, outlined in every frame.
    times
        Seconds from the clip's onset; by default `columns` times evenly spread.
    columns
        How many frames, where `times` are not given.
    frame_scores
        ``(time,)`` correlation of each frame, written below the reconstructed ones.
    style
        `LIGHT` or `DARK`.
    """
    count = len(item.video)
    if times is None:
        chosen = np.linspace(0, count - 1, min(columns, count) + 2).round().astype(int)[1:-1]
    else:
        chosen = np.clip(np.round(np.asarray(times) * item.frame_rate).astype(int), 0, count - 1)
    rows: list[tuple[str, np.ndarray, dict[str, Any]]] = []
    gray = {"cmap": "gray", "vmin": 0, "vmax": 255}
    if true is not None:
        _same_shape(item, true)
        rows.append(("true", true, gray))
    rows.append(("reconstructed", item.video, gray))
    if true is not None:
        rows.append(("difference\n(±128)", item.video - true, {"cmap": "RdBu_r", "vmin": -128, "vmax": 128}))
    if item.std is not None:
        top = float(np.ceil(item.std.max()))
        rows.append((f"information map\n(SD 0–{top:.0f})", item.std, {"cmap": "magma", "vmin": 0, "vmax": top}))
    figure, axes = _image_grid(len(rows), len(chosen), item.video.shape[1:], style)
    for row, (label, movie, look) in enumerate(rows):
        axes[row, 0].set_ylabel(label, color=style.ink, fontsize=9, rotation=0, ha="right", va="center", labelpad=4)
        for column, frame in enumerate(chosen):
            image(axes[row, column], movie[frame], mask, style, **look)
            if row == 0:
                axes[0, column].set_title(f"{frame / item.frame_rate:.1f} s", color=style.ink, fontsize=9, pad=3)
            if label == "reconstructed" and frame_scores is not None and np.isfinite(frame_scores[frame]):
                note(axes[row, column], f"r = {frame_scores[frame]:.2f}")
    return figure


def way_figure(
    item: Reconstruction, *, frame: int | None = None, mask: np.ndarray | None = None, style: Style = LIGHT
) -> Figure:
    """Show one frame on its way from the first guess to the final movie, and the objective on its way down.

    Parameters
    ----------
    item
        The reconstructed clip, with snapshots or a history.
    frame
        Which frame; by default the middle one.
    mask
        ``(height, width)`` bool, outlined.
    style
        `LIGHT` or `DARK`.

    Raises
    ------
    ResultsError
        If the reconstruction has neither snapshots nor history.
    """
    frame = len(item.video) // 2 if frame is None else frame
    has_images = item.snapshots is not None and item.snapshot_iterations is not None and len(item.snapshots) > 0
    if not has_images and not len(item.history):
        raise ResultsError(f"Clip {item.clip!r} has neither snapshots nor a history.", action="Reconstruct it anew.")
    figure = Figure(
        facecolor=style.page,
        figsize=(9, (1.1 if has_images else 0) + (2.2 if len(item.history) else 0)),
        layout="constrained",
    )
    parts = figure.subfigures(2, 1, height_ratios=(1.0, 2.0)) if has_images and len(item.history) else [figure, figure]
    if has_images:
        assert item.snapshots is not None
        assert item.snapshot_iterations is not None
        axes = parts[0].subplots(1, len(item.snapshots), squeeze=False)[0]
        for axis, movie, iteration in zip(axes, item.snapshots, item.snapshot_iterations, strict=True):
            image(axis, movie[frame], mask, style, cmap="gray", vmin=0, vmax=255)
            axis.set_title(f"{iteration}", color=style.ink, fontsize=9, pad=3)
        axes[0].set_ylabel("iteration", color=style.muted, fontsize=8)
    if len(item.history):
        axis = parts[1].subplots()
        curves = [name for name in ("objective", "held_out") if name in item.history]
        for name, color in zip(curves, style.methods, strict=False):
            # only the way down counts: curves are shown from their final value up, each on its own scale
            values = item.history[name].to_numpy(dtype=float)
            span = np.nanmax(values) - np.nanmin(values) or 1.0
            label = {"objective": "objective", "held_out": "misfit of held-out ROIs"}[name]
            axis.plot(item.history["iteration"], (values - np.nanmin(values)) / span, color=color, lw=1.8, label=label)
        dress(axis, style, "iteration", "above its minimum\n(share of range)")
        legend(axis, style)
    return figure


def scores_figure(
    scores: Scores, metric: str = "pixel_correlation", *, main: str | None = None, style: Style = LIGHT
) -> Figure:
    """Compare methods and chance on each clip (mean and range over its showings), and over all (95 % interval).

    Parameters
    ----------
    scores
        From `evaluate`.
    metric
        Which score.
    main
        The method that comes first; by default the first in the table.
    style
        `LIGHT` or `DARK`.
    """
    ranked = methods(scores, main)
    tables = {method: by_clip(scores, metric, method) for method in ranked}
    clips = list(tables[ranked[0]].sort_values("mean", ascending=False).index)
    figure = Figure(
        facecolor=style.page, figsize=(4.6 if len(clips) <= _NAMED_CLIPS else 7.0, 3.0), layout="constrained"
    )
    axis = figure.subplots()
    width = 0.5 / max(len(ranked), 1)
    for index, method in enumerate(ranked):
        table = tables[method].reindex(clips)
        x = np.arange(len(clips)) + (index - (len(ranked) - 1) / 2) * width
        color = style.methods[index % len(style.methods)]
        axis.vlines(x, table["low"], table["high"], color=color, lw=1.6, alpha=0.55)
        axis.plot(x, table["mean"], "os^D"[index % 4], ms=5, color=color, label=method_label(method))
        row = _summary(scores, metric, method)
        if row is not None:
            place = len(clips) + 0.6 + (index - (len(ranked) - 1) / 2) * 2 * width
            axis.errorbar(
                place,
                row["mean"],
                yerr=[[row["mean"] - row["low"]], [row["high"] - row["mean"]]],
                fmt="os^D"[index % 4],
                color=color,
                ms=8,
                lw=2.4,
                capsize=4,
            )
    if metric == "pixel_correlation" and "chance" in scores.trials:
        chance = by_clip(scores, "chance", ranked[0]).reindex(clips)["mean"]
        axis.plot(np.arange(len(clips)), chance, "_", ms=12, mew=1.6, color=style.muted, label="chance (other clips)")
        axis.plot([len(clips) + 0.6], [chance.mean()], "_", ms=18, mew=2, color=style.muted)
    axis.axvline(len(clips) - 0.15, color=style.grid, lw=1)
    named = len(clips) <= _NAMED_CLIPS
    places, names = (list(range(len(clips))), list(map(short, clips))) if named else ([], [])
    axis.set_xticks([*places, len(clips) + 0.6], [*names, "all clips"], rotation=35, ha="right", parse_math=False)
    axis.set_xlim(-0.6, len(clips) + 1.3)
    dress(axis, style, "" if named else f"{len(clips)} clips, best to worst", metric_label(metric))
    axis.axhline(0, color=style.grid, lw=1, zorder=0)
    legend(axis, style, loc="outside upper left", ncols=3, figure=figure)
    return figure


def lag_figure(scores: Scores, *, main: str | None = None, frame_rate: float = 30.0, style: Style = LIGHT) -> Figure:
    """Plot pixel correlation against the lag between reconstruction and true movie; its peak belongs at 0."""
    figure = Figure(facecolor=style.page, figsize=(4.6, 2.8), layout="constrained")
    axis = figure.subplots()
    for index, method in enumerate(methods(scores, main)):
        rows = scores.lags[scores.lags["method"] == method]
        if len(rows) == 0:
            continue
        color = style.methods[index % len(style.methods)]
        best = rows.loc[rows["pixel_correlation"].idxmax()]
        axis.plot(rows["lag"], rows["pixel_correlation"], color=color, lw=2, label=method_label(method))
        axis.plot(best["lag"], best["pixel_correlation"], "o", color=color, ms=6)
    axis.axvline(0, color=style.muted, lw=1, ls=":")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    dress(axis, style, f"lag in frames of {1000 / frame_rate:.0f} ms (right: it trails)", "pixel correlation")
    legend(axis, style)
    return figure


def frame_scores_figure(scores: Scores, trial: int, *, main: str | None = None, style: Style = LIGHT) -> Figure:
    """Plot the correlation of each frame of one reconstructed clip, by method; gaps where it is undefined."""
    figure = Figure(facecolor=style.page, figsize=(4.6, 2.8), layout="constrained")
    axis = figure.subplots()
    for index, method in enumerate(methods(scores, main)):
        rows = scores.frames[(scores.frames["trial"] == trial) & (scores.frames["method"] == method)]
        seconds = rows["time"] - rows["time"].min()
        color = style.methods[index % len(style.methods)]
        axis.plot(seconds, rows["frame_correlation"], color=color, lw=1.6, label=method_label(method))
    axis.axhline(0, color=style.grid, lw=1, zorder=0)
    dress(axis, style, "time in clip (s)", "frame correlation")
    legend(axis, style)
    return figure


def mask_figure(reconstructions: Reconstructions, *, style: Style = LIGHT) -> Figure:
    """Show how well the cells cover each pixel, with the outline of the evaluation mask."""
    height, width = reconstructions.mask.shape
    figure = Figure(facecolor=style.page, figsize=(4.6, 4.0 * height / width + 0.5), layout="constrained")
    axis = figure.subplots()
    shown = image(axis, reconstructions.coverage, reconstructions.mask, style, cmap="viridis", vmin=0, vmax=1)
    bar = figure.colorbar(shown, ax=axis, shrink=0.85)
    bar.set_label("coverage by receptive fields", color=style.ink, fontsize=9)
    bar.ax.tick_params(colors=style.ink, labelsize=8)
    bar.outline.set_edgecolor(style.muted)
    axis.set_title(
        f"scored: {reconstructions.mask.mean():.0%} of the frame (inside the line)", color=style.ink, fontsize=9
    )
    return figure


def training_figure(history: pd.DataFrame, *, style: Style = LIGHT) -> Figure:
    """Plot an encoder's training: each numeric column against ``epoch``, losses and correlations on axes of their own.

    Parameters
    ----------
    history
        One row an epoch (and member), with a column ``epoch``.
    style
        `LIGHT` or `DARK`.
    """
    names = [name for name in history.select_dtypes("number") if name not in {"epoch", "member", "seconds"}]
    panels = [
        (label, chosen)
        for label, chosen in (
            ("loss", [name for name in names if "loss" in name]),
            ("correlation", [name for name in names if "correlation" in name]),
        )
        if chosen
    ]
    if "epoch" not in history or not panels:
        raise ResultsError(
            f"The training history has the columns {', '.join(map(str, history.columns))}.",
            "It needs epoch and a loss or correlation.",
        )
    figure = Figure(facecolor=style.page, figsize=(4.6, 1.25 * len(panels) + 0.4), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
    members = history.groupby("member") if "member" in history else [(0, history)]
    for axis, (label, chosen) in zip(axes, panels, strict=True):
        for number, (_, rows) in enumerate(members):
            for name, color in zip(chosen, style.methods, strict=False):
                text = name.replace("_", " ") if number == 0 else None
                axis.plot(rows["epoch"], rows[name], color=color, lw=1.6, label=text)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        dress(axis, style, "epoch" if axis is axes[-1] else "", label)
        legend(axis, style)
    return figure


def _summary(scores: Scores, metric: str, method: str) -> pd.Series | None:
    rows = scores.summary.query("metric == @metric and method == @method and presentations == 'all'")
    return rows.iloc[0] if len(rows) else None


def _same_shape(item: Reconstruction, true: np.ndarray) -> None:
    if true.shape != item.video.shape:
        raise ResultsError(
            f"The true movie of clip {item.clip!r} has the shape {true.shape}, its reconstruction {item.video.shape}.",
            "They must have the same frames and pixels.",
        )


def _image_grid(rows: int, columns: int, size: tuple[int, ...], style: Style) -> tuple[Figure, np.ndarray]:
    width = 1.2
    figure = Figure(
        facecolor=style.page,
        figsize=(1.0 + columns * (width + 0.05), 0.25 + rows * (width * size[0] / size[1] + 0.06)),
        layout="constrained",
    )
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    return figure, figure.subplots(rows, columns, squeeze=False)
