"""CutMix: a box of one stretch of video replaced with that of another, and the responses to both counted by area."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from nwbrecon.encoding.observation import Window

__all__ = ["Patch", "draw_box", "paste", "paste_behavior"]


@dataclass(frozen=True)
class Patch:
    """What is pasted into a stretch.

    Attributes
    ----------
    window
        The stretch that it is from, of the same length.
    rows, columns
        The box, the same in all frames.
    share
        Of the area of the frame.
    """

    window: Window
    rows: slice
    columns: slice
    share: float


def draw_box(order: np.random.Generator, frame_size: tuple[int, int]) -> tuple[slice, slice, float]:
    """Draw a box as CutMix does (Yun et al. 2019, ICCV, section 3.1, with alpha = 1).

    Its area is a uniformly distributed share of the frame, its sides are in the proportion of the frame's, its center
    is anywhere; what reaches beyond the frame is cut off.

    Parameters
    ----------
    order
        Source of randomness.
    frame_size
        Rows and columns of the frame.

    Returns
    -------
    rows, columns : slice
        The box.
    share : float
        Its share of the area, after the cut.
    """
    side = math.sqrt(order.uniform())
    rows, columns = (_span(order, side, length) for length in frame_size)
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return rows, columns, area / math.prod(frame_size)


def paste(video: Tensor, pasted: Tensor, patches: Sequence[Patch | None]) -> None:
    """Replace the boxes of ``video`` ``(batch, 1, time, height, width)`` with those of ``pasted``, in place."""
    for into, source, patch in zip(video, pasted, patches, strict=True):
        if patch is not None:
            into[..., patch.rows, patch.columns] = source[..., patch.rows, patch.columns]


def paste_behavior(behavior: Tensor, pasted: Tensor, patches: Sequence[Patch | None]) -> None:
    """Average behavior ``(batch, time, variable)`` with that of the pasted stretches, by area, in place.

    Where one of them is missing, so is the average.
    """
    for into, source, patch in zip(behavior, pasted, patches, strict=True):
        if patch is not None:
            into.lerp_(source, patch.share)


def _span(order: np.random.Generator, side: float, length: int) -> slice:
    size, center = round(side * length), int(order.integers(length))
    start = center - size // 2
    return slice(max(0, start), min(length, start + size))
