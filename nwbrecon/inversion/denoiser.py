"""A prior that knows more of natural movies than their spectrum, and only of what is near: a small denoiser."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nwbrecon.inversion.optimizers import Evaluation
from nwbrecon.inversion.priors import MoviePrior
from nwbrecon.progress import progress

__all__ = ["STEPS", "Denoiser", "DenoiserPrior", "coarse", "train_denoiser"]

# what it looks at are means over so many frames, rows and columns: what responses leave open is coarse
_POOL = (1, 2, 2)
# the noise that is taken away from these, over the standard deviation of movies; of .2 the energy is steeper than a
# search of a few iterations can follow
_NOISE = 0.5
# how much the energy counts beside the Gaussian
_STRENGTH = 0.2
_CHANNELS, _SIDE, _LAYERS = 8, 3, 3
# frames, rows and columns of the patches that are learned from, patches in a step, and the largest step size
_PATCH, _BATCH, _LEARNING_RATE = 14, 8, 4e-3

STEPS = 300
"""Gradient steps that a denoiser is trained for."""


class Denoiser(nn.Module):
    """Energy of a movie, whose gradient takes away noise of one strength.

    It is that of a movie ``v`` of half the rows and columns (means of 2 x 2 pixels). With a small convolutional
    network ``N`` the energy is ``|v - N(v)|^2 / (2 s^2)``, and the denoiser is a step down its slope, ``D(v) = v - s^2
    grad E(v)`` (gradient-step denoiser, Hurault, Leclaire & Papadakis 2022, ICLR). Trained to give back movies to
    which white noise of standard deviation ``s`` was added, ``grad E`` is ``(v - D(v)) / s^2``, the slope of the
    negative log-density of noisy movies (Tweedie's formula; Vincent 2011, Neural Comput. 23:1661-1674), which
    regularizes by denoising (Romano, Elad & Milanfar 2017, SIAM J. Imaging Sci. 10:1804-1844). Being the gradient of a
    value, it can be searched with.

    Three layers of 3 x 3 x 3 look at three frames and three of these pixels to either side: it knows edges and how they
    move, and nothing of what they belong to.

    Parameters
    ----------
    mean, deviation
        Mean and standard deviation of movies (grey levels).
    noise
        Standard deviation ``s`` of the noise (grey levels).
    """

    def __init__(self, mean: float, deviation: float, noise: float) -> None:
        super().__init__()
        self.mean, self.deviation, self.noise = mean, deviation, noise
        widths = [1, *[_CHANNELS] * (_LAYERS - 1), 1]
        self.convolutions = [nn.Conv3d(inside, outside, _SIDE) for inside, outside in pairwise(widths)]
        self.layers = nn.ModuleList(self.convolutions)

    def energy(self, video: Tensor) -> Tensor:
        """Energy of each video ``(batch, time, height, width)``, grey levels: ``(batch,)``."""
        return self._energy(coarse(video))

    def forward(self, video: Tensor) -> Tensor:
        """Take noise away from `coarse` videos ``(batch, time, height, width)``, grey levels."""
        learning = torch.is_grad_enabled()
        with torch.enable_grad():
            noisy = video.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self._energy(noisy).sum(), noisy, create_graph=learning)
        return video - self.noise**2 * slope

    def _energy(self, video: Tensor) -> Tensor:
        scaled = (video - self.mean) / self.deviation
        residual = scaled - self._network(scaled)
        return 0.5 * residual.square().flatten(1).sum(dim=1) * (self.deviation / self.noise) ** 2

    def arrays(self) -> dict[str, np.ndarray]:
        """Weights by name."""
        return {name: value.cpu().numpy() for name, value in self.state_dict().items()}

    def scales(self) -> dict[str, float]:
        """Levels that it was made with."""
        return {"mean": self.mean, "deviation": self.deviation, "noise": self.noise}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], **scales: float) -> Self:
        """Make one anew of `arrays` and `scales`."""
        denoiser = cls(**scales)
        denoiser.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})
        return denoiser.requires_grad_(False).eval()

    def _network(self, scaled: Tensor) -> Tensor:
        reach = _LAYERS * (_SIDE // 2)
        hidden = functional.pad(scaled[:, None], (reach,) * 6, mode="replicate")
        for layer in self.convolutions[:-1]:
            hidden = functional.silu(layer(hidden))
        return self.convolutions[-1](hidden)[:, 0]


def coarse(video: Tensor) -> Tensor:
    """Means of 2 x 2 pixels of videos ``(batch, time, height, width)``; an odd last row or column counts twice."""
    frames, rows, columns = (-size % pool for size, pool in zip(video.shape[1:], _POOL, strict=True))
    padded = functional.pad(video[:, None], (0, columns, 0, rows, 0, frames), mode="replicate")
    return functional.avg_pool3d(padded, _POOL)[:, 0]


def train_denoiser(movies: Sequence[np.ndarray], *, seed: int = 0, steps: int = STEPS) -> Denoiser:
    """Train a denoiser on movies, a minute on a CPU; there, so that it is the same wherever it is used.

    Parameters
    ----------
    movies
        ``(time, height, width)`` clips to learn from, grey levels.
    seed
        Seed of weights, patches and noise.
    steps
        Gradient steps.
    """
    generator = torch.Generator().manual_seed(seed)
    mean = float(np.mean([movie.mean() for movie in movies]))
    deviation = max(math.sqrt(float(np.mean([np.square(movie - mean).mean() for movie in movies]))), 1.0)
    denoiser = Denoiser(mean, deviation, _NOISE * deviation)
    with torch.no_grad():
        for layer in denoiser.convolutions:
            bound = 1 / math.sqrt(layer.weight[0].numel())
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.zero_()  # type: ignore[union-attr]
    optimizer = torch.optim.Adam(denoiser.parameters(), _LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps)
    clips = [coarse(torch.as_tensor(movie, dtype=torch.float32)[None])[0] for movie in movies]
    lengths = torch.tensor([float(len(clip)) for clip in clips])
    for _ in progress(range(steps), label="training the denoiser"):
        picked = torch.multinomial(lengths, _BATCH, replacement=True, generator=generator).tolist()
        patches = torch.stack([_patch(clips[index], clips, generator) for index in picked])
        noise = denoiser.noise * torch.randn(patches.shape, generator=generator)
        loss = (denoiser(patches + noise) - patches).square().mean() / denoiser.noise**2
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(denoiser.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return denoiser.requires_grad_(False).eval()


def _patch(clip: Tensor, clips: Sequence[Tensor], generator: torch.Generator) -> Tensor:
    """Cut a patch, as large as the shortest clip allows, from a random place; mirrored or not."""
    sizes = [min(_PATCH, *(one.shape[axis] for one in clips)) for axis in range(3)]
    for axis, size in enumerate(sizes):
        last = clip.shape[axis] - size
        clip = clip.narrow(axis, int(torch.randint(last + 1, (1,), generator=generator)), size)
    sides = [axis for axis in (1, 2) if int(torch.randint(2, (1,), generator=generator))]
    return clip.flip(sides) if sides else clip


class DenoiserPrior(MoviePrior):
    """The Gaussian prior of movies, and beside it the energy of a denoiser.

    Their negative log-probabilities add, the denoiser's by ``strength``. For Gaussian movies of power ``S`` the energy
    curves by ``1 / (S + s^2)``, less than the Gaussian itself, so that coordinates and metric of the Gaussian serve
    both; where a movie is flatter than the average it curves more.

    Parameters
    ----------
    covariance, shape, mean
        See `nwbrecon.inversion.priors.MoviePrior`.
    denoiser
        The denoiser.
    strength
        Factor on its energy.
    """

    def __init__(
        self,
        covariance: np.ndarray,
        shape: tuple[int, int, int],
        mean: float | np.ndarray,
        denoiser: Denoiser,
        strength: float = _STRENGTH,
    ) -> None:
        super().__init__(covariance, shape, mean)
        self.denoiser, self.strength = denoiser, strength

    def to(self, device: torch.device) -> Self:
        """Move to a device; gives itself."""
        self.denoiser = self.denoiser.to(device)
        return super().to(device)

    def negative_log_probability(self, white: Tensor) -> Evaluation:
        """Half the squared length of the white ``(1, *coordinates)`` and the energy of their movie."""
        gaussian = super().negative_log_probability(white)
        white = white.detach().requires_grad_()
        energy = self.strength * self.denoiser.energy(self.video(white)).sum()
        (slope,) = torch.autograd.grad(energy, white)
        return Evaluation(gaussian.value + float(energy.detach()), gaussian.gradient + slope)
