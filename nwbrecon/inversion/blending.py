"""How far to trust each of two movies of a clip: band by band, on clips whose movie is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import linalg, optimize

from nwbrecon.inversion.smoothing import smoothed

__all__ = ["Blend", "fit_blend"]

# Standard deviations of the Gaussians that part coarse from fine, over the rows of the frame, and slow from fast (s).
# What stands still for longer is known much better than what changes.
_SPACE, _TIME = (1 / 4.5, 1 / 12, 1 / 30), 2.0
# weights of a movie that counts in full, and of one that does not
_ALL, _NOTHING = (((weight,) * (len(_SPACE) + 1),) * 2 for weight in (1.0, 0.0))
# how firmly the weights of the bands are drawn to what they would be were they the same for coarse and fine
_PULL = 0.1


@dataclass(frozen=True)
class Blend:
    """Weights of two movies, band by band.

    Bands are differences of Gaussians: a movie is the sum of what it holds in each, slow and fast, from coarse to fine.

    Attributes
    ----------
    weights
        By movie (first, second), pace (slow, fast) and size (from coarse to fine): what a band is multiplied with
        before all are added.
    level
        Grey levels that are added.
    pivot
        Grey level from which both movies are counted.
    frames
        Standard deviation of the Gaussian that parts slow from fast (frames).
    explained
        Share of the variance of the true movies that the sum explains; 0 where there was none to fit it to.
    """

    weights: tuple[tuple[tuple[float, ...], ...], ...]
    level: float
    pivot: float
    frames: float
    explained: float

    @classmethod
    def of_first(cls) -> Blend:
        """Give the first movie as it is."""
        return cls((_ALL, _NOTHING), 0.0, 0.0, 1.0, 0.0)

    @classmethod
    def of_second(cls) -> Blend:
        """Give the second movie as it is."""
        return cls((_NOTHING, _ALL), 0.0, 0.0, 1.0, 0.0)

    @property
    def uses_first(self) -> bool:
        """Whether the first movie counts at all."""
        return any(weight > 0 for pace in self.weights[0] for weight in pace)

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Blend:
        """Take up what `as_dict` gave, from JSON."""
        weights = tuple(tuple(tuple(map(float, bands)) for bands in paces) for paces in plain["weights"])
        return cls(**{**plain, "weights": weights})

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def movie(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Add the two movies up: ``(..., time, height, width)``, grey levels, not clipped."""
        total = np.full(np.broadcast_shapes(first.shape, second.shape), self.pivot + self.level, np.float32)
        parts = [_paces(video - self.pivot, self.frames) for video in (first, second)]
        weights = np.array(self.weights, np.float32)
        for pace, both in enumerate(zip(*parts, strict=True)):
            # what lies between two Gaussians counts by the finer one's weight: each is needed once, of what it is to
            # be of in both movies together
            of_each = weights[:, pace] - np.pad(weights[:, pace, 1:], ((0, 0), (0, 1)))
            for size, of_first, of_second in zip((*_SPACE, None), *of_each, strict=True):
                if of_first or of_second:
                    total += _coarse(of_first * both[0] + of_second * both[1], size)
        return total


def fit_blend(clips: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], mask: np.ndarray, frame_rate: float) -> Blend:
    """Weigh two movies (the inverted and the decoder's, say) by least squares where the truth is known.

    None of the weights is negative (stacked regression, Breiman 1996, Mach. Learn. 24:49-64). An encoder that knows
    little is so kept from doing worse than the decoder, and what noise looks like (all of the picture becoming
    brighter, fast and fine changes) from counting like what was seen. Where neither movie explains anything, the first
    is given as it is, and what it explains is 0.

    Parameters
    ----------
    clips
        Both movies and the true one of each clip, ``(time, height, width)``.
    mask
        ``(height, width)`` pixels that count.
    frame_rate
        Frames per second (Hz).
    """
    pivot = float(np.mean([true[:, mask].mean() for _, _, true in clips]))
    frames = _TIME * frame_rate
    count = 4 * (len(_SPACE) + 1)
    products, sums, total, n_values = np.zeros((count + 1, count + 1)), np.zeros(count + 1), 0.0, 0
    for first, second, true in clips:
        bands = [band[..., mask].ravel() for video in (first, second) for band in _bands(video - pivot, frames)]
        # the last column is the level
        columns = np.stack([*bands, np.ones_like(bands[0])], axis=1).astype(float)
        target = (true[:, mask] - pivot).ravel().astype(float)
        products += columns.T @ columns
        sums += columns.T @ target
        total += float(target @ target)
        n_values += len(target)
    means = products[-1, :-1] / n_values, sums[-1] / n_values
    gram = products[:-1, :-1] - n_values * np.outer(means[0], means[0])
    cross = sums[:-1] - n_values * means[0] * means[1]
    total -= n_values * means[1] ** 2

    # one weight for all sizes first
    alike = np.kron(np.eye(4), np.ones((len(_SPACE) + 1, 1)))
    common = alike @ _nonnegative(alike.T @ gram @ alike, alike.T @ cross)
    pull = _PULL * np.diag(gram)
    weights = _nonnegative(gram + np.diag(pull), cross + pull * common)
    if not weights.any():
        return Blend.of_first()
    missed = total - 2 * weights @ cross + weights @ gram @ weights
    return Blend(
        tuple(tuple(map(tuple, paces)) for paces in weights.reshape(2, 2, -1).tolist()),
        float(means[1] - means[0] @ weights),
        pivot,
        frames,
        float(1 - missed / max(total, 1e-12)),
    )


def _bands(video: np.ndarray, frames: float) -> list[np.ndarray]:
    """Cut a movie ``(..., time, height, width)`` into bands, slow ones first, each from coarse to fine."""
    bands = []
    for part in _paces(video, frames):
        smooth = [_coarse(part, size) for size in _SPACE]
        bands += [smooth[0], *(fine - coarse for coarse, fine in zip(smooth, [*smooth[1:], part], strict=True))]
    return bands


def _paces(video: np.ndarray, frames: float) -> tuple[np.ndarray, np.ndarray]:
    """Part slow from fast."""
    video = video.astype(np.float32)
    slow = smoothed(video, (frames, 0, 0), truncate=3.0)
    return slow, video - slow


def _coarse(video: np.ndarray, size: float | None) -> np.ndarray:
    """Smooth with a Gaussian of this standard deviation, a share of the rows; ``None`` leaves it as it is."""
    if size is None:
        return video
    return smoothed(video, (0, size * video.shape[-2], size * video.shape[-2]), "nearest")


def _nonnegative(gram: np.ndarray, cross: np.ndarray) -> np.ndarray:
    """Least squares without negative weights, given sums of products of columns with columns and with the target."""
    # what a band of constant zero, or one that both movies share, leaves undetermined becomes zero
    floor = 1e-9 * max(float(np.trace(gram)) / len(gram), 1e-12)
    root = linalg.cholesky(gram + floor * np.eye(len(gram)), lower=True)
    weights: np.ndarray = optimize.nnls(root.T, linalg.solve_triangular(root, cross, lower=True))[0]
    return weights
