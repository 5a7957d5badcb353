"""What the figures have in common: colors, axes, images."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["DARK", "LIGHT", "Style", "dress", "image", "legend", "note", "short"]


@dataclass(frozen=True)
class Style:
    """Colors of a figure.

    Attributes
    ----------
    page, ink, muted, grid
        Of the background, of text, of what stands back, of lines behind the data.
    methods
        Of the reconstruction and then of each baseline; apart for the color-blind (Okabe & Ito).
    """

    page: str
    ink: str
    muted: str
    grid: str
    methods: tuple[str, ...]


LIGHT = Style("#ffffff", "#1b1f24", "#626b75", "#d9dee3", ("#0067a5", "#c75300", "#00795c", "#8e4585"))
DARK = Style("#14181d", "#e8ebee", "#9aa4af", "#3b434c", ("#5bb8f0", "#f2a13c", "#3fc79a", "#d394c8"))


def image(axis: Axes, frame: np.ndarray, mask: np.ndarray | None, style: Style, **look: Any) -> Any:
    """Show a frame, with the outline of the mask."""
    shown = axis.imshow(frame, interpolation="none", **look)
    if mask is not None and 0 < mask.mean() < 1:
        axis.contour(mask.astype(float), levels=[0.5], colors=[style.methods[1]], linewidths=0.8)
    axis.set_xticks([])
    axis.set_yticks([])
    for side in axis.spines.values():
        side.set_visible(False)
    return shown


def note(axis: Axes, text: str) -> None:
    """Write a few words into the corner of a frame."""
    axis.text(
        0.97,
        0.05,
        text,
        transform=axis.transAxes,
        ha="right",
        va="bottom",
        fontsize=7,
        color="white",
        bbox={"facecolor": "black", "alpha": 0.55, "edgecolor": "none", "pad": 1.5},
    )


def dress(axis: Axes, style: Style, x: str, y: str) -> None:
    """Label axes and make their lines quiet."""
    axis.patch.set_alpha(0)
    axis.set_xlabel(x, color=style.ink, fontsize=9)
    axis.set_ylabel(y, color=style.ink, fontsize=9)
    axis.tick_params(colors=style.ink, labelsize=8)
    axis.grid(axis="y", color=style.grid, lw=0.6)
    axis.set_axisbelow(True)
    for name, side in axis.spines.items():
        side.set_visible(name in {"left", "bottom"})
        side.set_color(style.muted)


def legend(axis: Axes, style: Style, figure: Figure | None = None, **options: Any) -> None:
    """Name the curves, in the axes or outside of them."""
    owner = figure if figure is not None else axis
    handles, labels = axis.get_legend_handles_labels()
    if handles:
        owner.legend(handles, labels, frameon=False, fontsize=8, labelcolor=style.ink, **options)


def short(name: str, length: int = 18) -> str:
    """Shorten a name; of a hash, the first letters tell it from others.

    Examples
    --------
    >>> short("2307a62b238fd61cdb30"), short("a clip of trees"), short("movies/" + 30 * "x")
    ('2307a62b', 'a clip of trees', 'movies/xxxxxxxxxx…')
    """
    if re.fullmatch(r"[0-9a-f]{16,}", name):
        return name[:8]
    return name if len(name) <= length else name[: length - 1] + "…"
