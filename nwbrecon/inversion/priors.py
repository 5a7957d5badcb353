"""What natural movies look like: the prior that an inversion starts from, and the coordinates in which it is white."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor

from nwbrecon.inversion.optimizers import Evaluation

__all__ = ["MoviePrior", "Prior", "autocovariance", "multiplicity"]

# eigenvalues below this share of the mean are estimation noise; the floor keeps every coordinate usable
_FLOOR = 1e-4


def autocovariance(
    videos: Sequence[np.ndarray], max_lags: tuple[int, int, int], mean: float | None = None
) -> np.ndarray:
    """Mean product of pixels by their distance in time and space, over all clips.

    Parameters
    ----------
    videos
        ``(time, height, width)`` clips, of any length; deviations, or movies from which ``mean`` is taken away.
    max_lags
        Largest lag in frames, rows and columns. Lags that no clip is long enough for repeat the last known one.
    mean
        What is taken away from every pixel; ``None`` for nothing.

    Returns
    -------
    numpy.ndarray
        ``(lag + 1, row + 1, column + 1)`` float64, symmetric lags averaged.
    """
    shape = [size + 1 for size in max_lags]
    products, counts = np.zeros(shape), np.zeros(shape)
    for video in videos:
        deviation = np.asarray(video, dtype=np.float64) - (mean or 0.0)
        # twice the size in each direction, so that the circular products do not wrap
        padded = [size + min(size, lag + 1) for size, lag in zip(deviation.shape, max_lags, strict=True)]
        power = np.abs(np.fft.rfftn(deviation, padded, axes=(0, 1, 2))) ** 2
        circular = np.fft.irfftn(power, padded, axes=(0, 1, 2))
        last = [min(size, lag + 1) for size, lag in zip(deviation.shape, max_lags, strict=True)]
        window = tuple(slice(0, size) for size in last)
        # rows and columns to either side; time is symmetric by itself once both sides of space are averaged
        mirrored = 0.25 * sum(
            _flip(circular, rows, columns)[window] for rows in (False, True) for columns in (False, True)
        )
        overlap = np.ones(last)
        for axis, size in enumerate(deviation.shape):
            lengths = size - np.arange(last[axis])
            overlap = overlap * lengths.reshape([-1 if other == axis else 1 for other in range(3)])
        products[window] += mirrored
        counts[window] += overlap
    covariance = products / np.maximum(counts, 1)
    known = counts[:, 0, 0] > 0
    covariance[~known] = covariance[known][-1]
    return covariance


class Prior(ABC):
    """What natural movies look like: coordinates in which they are about white, and how probable each movie is.

    This is all that an inversion asks of a prior. The search goes over the white coordinates (`video` gives the movie
    at a point), starts at those of a rough movie (`white`), minimizes `negative_log_probability` along with the
    evidence, and is shortened by what `amplitude` tells of how it curves. A single step goes by `pulled_back` and
    `colored`.

    Attributes
    ----------
    shape
        Frames, rows and columns of the clip, margins included.
    torus
        Frames, rows and columns of the torus that the clip is cut from.
    coordinates
        Shape of the white coordinates: frequencies of the torus (frames, rows, half of the columns), real and imaginary
        part.
    amplitude
        Amplitude of movies along each frequency, over that of white coordinates; grey levels.
    """

    shape: tuple[int, int, int]
    torus: tuple[int, ...]
    coordinates: tuple[int, ...]
    amplitude: Tensor

    @abstractmethod
    def video(self, white: Tensor) -> Tensor:
        """Color white coordinates ``(batch, *coordinates)``: video ``(batch, time, height, width)``, grey levels."""

    @abstractmethod
    def colored(self, white: Tensor) -> Tensor:
        """Give what white coordinates add to the video at the prior's center, linearly."""

    @abstractmethod
    def pulled_back(self, gradient: Tensor) -> Tensor:
        """Gradient with respect to white coordinates; that with respect to video is ``(batch, time, height, width)``.

        The transpose of `colored`.
        """

    @abstractmethod
    def white(self, video: Tensor | np.ndarray) -> Tensor:
        """Whiten a rough video ``(time, height, width)``: ``(1, *coordinates)`` of what is believed of it."""

    @abstractmethod
    def negative_log_probability(self, white: Tensor) -> Evaluation:
        """Negative log-probability at white ``(1, *coordinates)``, up to a constant, and its gradient there."""

    @abstractmethod
    def to(self, device: torch.device) -> Self:
        """Move to a device; gives itself."""


class MoviePrior(Prior):
    """Gaussian prior with the autocovariance of natural movies, on a torus somewhat larger than the clip.

    A clip is ``mean + crop(A z)`` with white ``z``: the inversion searches over ``z``, in which the prior is a unit
    sphere and gradient methods converge in some twenty steps. The torus is larger than the clip since on one of its own
    size the last frame would neighbor the first, and the top row the bottom one.

    ``A`` is a factor on each frequency, and so ``z`` are Fourier coefficients, in units in which they are as long as
    white movies are: a gradient or a metric costs one transform less each way than it would over pixels.

    Parameters
    ----------
    covariance
        Autocovariance by lag, from `autocovariance`; grey levels squared.
    shape
        Frames, rows and columns of the clip.
    mean
        Grey level, or a whole clip ``(time, height, width)``: where the prior is centered.
    """

    def __init__(self, covariance: np.ndarray, shape: tuple[int, int, int], mean: float | np.ndarray) -> None:
        self.shape = shape
        # at the longest known lag frames have as little in common as they ever will
        ahead = min(shape[0] // 4 + 8, len(covariance))
        self.torus = tuple(_fast_length(size + pad) for size, pad in zip(shape, (ahead, 12, 12), strict=True))
        lags = [np.minimum(np.arange(size), size - np.arange(size)) for size in self.torus]
        lags = [np.minimum(lag, size - 1) for lag, size in zip(lags, covariance.shape, strict=True)]
        spectrum = np.fft.rfftn(covariance[np.ix_(*lags)]).real
        spectrum = np.maximum(spectrum, _FLOOR * max(float(spectrum.mean()), 1e-12))
        self.amplitude = torch.from_numpy(np.sqrt(spectrum)).float()
        # what was below the floor has raised the variance of pixels
        self.amplitude *= math.sqrt(max(float(covariance[0, 0, 0]), 1e-12) / self.variance)
        self.mean = torch.as_tensor(mean, dtype=torch.float32)
        self.coordinates = (*self.amplitude.shape, 2)
        self._twice = torch.from_numpy(np.sqrt(multiplicity(self.torus[2]))).float()

    def to(self, device: torch.device) -> Self:
        """Move to a device; gives itself."""
        self.amplitude, self.mean, self._twice = (one.to(device) for one in (self.amplitude, self.mean, self._twice))
        return self

    def video(self, white: Tensor) -> Tensor:
        """White ``(batch, *coordinates)`` to video ``(batch, time, height, width)``, grey levels."""
        return self.mean + self.colored(white)

    def colored(self, white: Tensor) -> Tensor:
        """Give what white ``(batch, *coordinates)`` adds to the mean: ``(batch, time, height, width)``, grey levels."""
        spectrum = torch.view_as_complex(white * (self.amplitude / self._twice)[..., None])
        colored = torch.fft.irfftn(spectrum, s=self.torus, dim=(1, 2, 3), norm="ortho")
        return colored[:, : self.shape[0], : self.shape[1], : self.shape[2]]

    def pulled_back(self, gradient: Tensor) -> Tensor:
        """Gradient ``(batch, *coordinates)`` where that with respect to video is ``(batch, time, height, width)``."""
        spectrum = torch.fft.rfftn(gradient, s=self.torus, dim=(1, 2, 3), norm="ortho")
        return torch.view_as_real(spectrum) * (self.amplitude * self._twice)[..., None]

    def white(self, video: Tensor | np.ndarray) -> Tensor:
        """White ``(1, *coordinates)`` of what is to be believed of a rough video ``(time, height, width)``.

        The Wiener filter for white noise as strong as the prior itself: what the video says in coarse and slow
        components is kept, and what it says in fine and fast ones, where movies have little, is not.
        """
        deviation = torch.as_tensor(video, dtype=torch.float32, device=self.amplitude.device) - self.mean
        spectrum = torch.view_as_real(torch.fft.rfftn(deviation, s=self.torus, norm="ortho"))
        gain = self.amplitude * self._twice / (self.amplitude**2 + self.variance)
        return (spectrum * gain[..., None])[None]

    def negative_log_probability(self, white: Tensor) -> Evaluation:
        """Half the squared length of the white ``(1, *coordinates)``, and its gradient."""
        white = white.detach()
        return Evaluation(0.5 * float((white * white).sum()), white)

    @property
    def variance(self) -> float:
        """Variance of every pixel under the prior (grey levels squared)."""
        power = self.amplitude.cpu().numpy() ** 2 * multiplicity(self.torus[2])
        return float(power.sum() / np.prod(self.torus))


def multiplicity(size: int) -> np.ndarray:
    """How many frequencies of a real transform's whole spectrum each one of its half spectrum stands for.

    Examples
    --------
    >>> multiplicity(6).tolist(), multiplicity(5).tolist()
    ([1.0, 2.0, 2.0, 1.0], [1.0, 2.0, 2.0])
    """
    times = np.ones(size // 2 + 1)
    times[1 : (size + 1) // 2] = 2
    return times


def _flip(circular: np.ndarray, rows: bool, columns: bool) -> np.ndarray:
    """Circular autocovariance with the sign of the row or column lag turned."""
    if rows:
        circular = np.roll(circular[:, ::-1], 1, axis=1)
    if columns:
        circular = np.roll(circular[:, :, ::-1], 1, axis=2)
    return circular


def _fast_length(size: int) -> int:
    """Next even length whose only prime factors are 2, 3 and 5."""
    from scipy.fft import next_fast_len

    while (fast := next_fast_len(size, real=True)) % 2:
        size = fast + 1
    return int(fast)
