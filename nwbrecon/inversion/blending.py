"""How far to trust the inverted movie, and how far the linear decoder's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize

__all__ = ["Blend", "fit_blend", "fit_parts"]


class Blend(NamedTuple):
    """Weights of the two movies, and how well they do.

    Attributes
    ----------
    weights
        What the inverted movie and the linear decoder's are multiplied with before they are added, and the grey levels
        that are added to them.
    explained
        Share of the variance of the true movies that their sum explains.
    """

    weights: tuple[float, float, float]
    explained: float


def fit_blend(clips: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], mask: np.ndarray) -> Blend:
    """Weigh inverted and linearly decoded movies by least squares where the truth is known.

    None of the weights is negative (stacked regression, Breiman 1996, Mach. Learn. 24:49-64). An encoder that knows
    little is so kept from doing worse than the linear decoder.

    Parameters
    ----------
    clips
        Inverted, linearly decoded and true movie of each clip, ``(time, height, width)``.
    mask
        ``(height, width)`` pixels that count.
    """
    inverted, decoded, true = (
        np.concatenate([movie[:, mask].ravel() for movie in kind]).astype(float) for kind in zip(*clips, strict=True)
    )
    columns = np.stack([inverted - inverted.mean(), decoded - decoded.mean()], axis=1)
    deviation = true - true.mean()
    weights, residual = optimize.nnls(columns, deviation)
    if not weights.any():
        return Blend((1.0, 0.0, 0.0), 0.0)
    level = true.mean() - weights @ [inverted.mean(), decoded.mean()]
    explained = 1 - residual**2 / max(float(deviation @ deviation), 1e-12)
    return Blend((float(weights[0]), float(weights[1]), float(level)), float(explained))


def fit_parts(clips: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], mask: np.ndarray) -> tuple[Blend, Blend]:
    """Weigh what stands still in the movies, and what changes, apart; see `fit_blend`.

    Responses tell of a picture that stands still for as long as it stands, and of what changes once: how far a movie
    may be trusted in one says little of the other. What stands still is each pixel's mean over its clip.
    """
    still = [tuple(np.broadcast_to(movie.mean(axis=0), movie.shape) for movie in clip) for clip in clips]
    changes = [tuple(movie - movie.mean(axis=0) for movie in clip) for clip in clips]
    return fit_blend(still, mask), fit_blend(changes, mask)  # type: ignore[arg-type]
