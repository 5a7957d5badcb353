"""The metric of a search: how strongly the objective curves along each frequency, known before any search."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from nwbrecon.alignment import AlignedSession
from nwbrecon.encoding import EncoderEnsemble
from nwbrecon.inversion.information import backprojections, behavior_backprojections, shown
from nwbrecon.inversion.priors import Prior
from nwbrecon.progress import progress

__all__ = ["Metric", "behavior_sensitivity", "power_by_lag", "sensitivity"]

# what an encoder remembers and a sample sums over is over after so long (s)
_LONGEST_LAG = 1.0


class Metric:
    """Approximate inverse of the Hessian of an inversion's objective in white coordinates, to be searched with.

    The Hessian is about ``w + A^T F A``, with the prior's weight ``w``, its coloring ``A`` and the Fisher information
    ``F`` of the responses. Of ``F`` its diagonal in the frequency domain is kept, a Jacobi preconditioner (Nocedal &
    Wright 2006, Numerical Optimization, section 5.1): the metric is a positive factor on each frequency of the torus.
    What the responses tell, and with how much contrast, differs by some orders of magnitude between slow, coarse
    components and fast, fine ones.

    Parameters
    ----------
    sensitivity
        `sensitivity` of the population to whom the evidence belongs; added up over witnesses.
    prior
        The prior, whose coordinates are searched over.
    prior_weight
        Factor on the negative log-prior.
    """

    def __init__(self, sensitivity: np.ndarray, prior: Prior, prior_weight: float) -> None:
        by_lag = torch.from_numpy(sensitivity).to(prior.amplitude)
        # estimates at long lags are of few products; the window also keeps the spectrum from being negative
        by_lag = by_lag * torch.linspace(1, 0, len(by_lag) + 1, device=by_lag.device)[:-1, None, None]
        for axis, size in enumerate(prior.torus):
            lags = torch.arange(size, device=by_lag.device)
            lags = torch.minimum(lags, size - lags)
            known = (lags < by_lag.shape[axis]).view([-1 if other == axis else 1 for other in range(3)])
            by_lag = by_lag.index_select(axis, lags.clamp_max(by_lag.shape[axis] - 1)) * known
        # every frame of the clip adds its share to what is known of a component of the torus
        power = torch.fft.rfftn(by_lag).real.clamp_min(0) * (prior.shape[0] / math.prod(prior.torus))
        self.factor = 1 / (prior_weight + prior.amplitude**2 * power)[..., None]

    def __call__(self, gradient: Tensor) -> Tensor:
        """Give the direction of steepest ascent under the metric, ``(1, *coordinates)`` as the gradient."""
        return gradient * self.factor


def sensitivity(
    encoder: EncoderEnsemble,
    aligned: AlignedSession,
    trials: list[int],
    *,
    n_probes: int = 2,
    seed: int = 0,
    stretch_seconds: float = math.inf,
) -> np.ndarray:
    """Fisher information about the components of a movie, as an autocovariance by lag in time and space.

    Random movies that have the Fisher information for covariance (`backprojections`) have for mean power at a frequency
    the information about that component.

    Parameters
    ----------
    encoder
        The encoder.
    aligned
        The session.
    trials
        Trials whose movies the encoder is linearized at.
    n_probes
        Random probes a trial.
    seed
        Seed of the probes.
    stretch_seconds
        Length of the stretches that are looked at together (s).

    Returns
    -------
    numpy.ndarray
        ``(lag, row, column)`` float32, information per squared grey level and frame.
    """
    generator = torch.Generator().manual_seed(seed)
    longest = round(_LONGEST_LAG * aligned.frame_rate)
    total, n_frames = torch.zeros(longest + 1, *aligned.frame_size), 0
    clips = progress(trials, label="sensitivity", unit="clip")
    for evidence, video in shown(encoder, aligned, clips, stretch_seconds=stretch_seconds):
        for _, gradient in backprojections(evidence, video, n_probes=n_probes, generator=generator):
            total += power_by_lag(gradient, longest).cpu() / n_probes
        n_frames += video.shape[1]
    return (total / n_frames).numpy()


def behavior_sensitivity(
    encoder: EncoderEnsemble,
    aligned: AlignedSession,
    trials: list[int],
    directions: np.ndarray,
    *,
    n_probes: int = 2,
    seed: int = 0,
    stretch_seconds: float = math.inf,
) -> np.ndarray:
    """Fisher information about behavior, as an autocovariance by lag; see `sensitivity` for the other parameters.

    Parameters
    ----------
    directions
        ``(variable, component)`` what is asked about, in the units of the aligned session.

    Returns
    -------
    numpy.ndarray
        ``(lag, component)`` float32, information per squared length of each direction and frame; zero for what the
        encoder does not look at.
    """
    generator = torch.Generator().manual_seed(seed)
    longest = round(_LONGEST_LAG * aligned.frame_rate)
    total, n_frames = torch.zeros(longest + 1, directions.shape[1]), 0
    if not directions.size:
        return total.numpy()
    along = torch.from_numpy(directions).float()
    for evidence, video in shown(encoder, aligned, trials, stretch_seconds=stretch_seconds):
        for _, gradient in behavior_backprojections(evidence, video, n_probes=n_probes, generator=generator):
            for component, trace in enumerate((gradient.cpu() @ along).T):
                total[:, component] += power_by_lag(trace[:, None, None], longest)[:, 0, 0] / n_probes
        n_frames += video.shape[1]
    return (total / n_frames).numpy()


def power_by_lag(field: Tensor, longest: int) -> Tensor:
    """Sum over all pixels and frames of their products with those at a distance.

    Parameters
    ----------
    field
        ``(time, height, width)``; zero outside.
    longest
        Largest lag in time (frames).

    Returns
    -------
    torch.Tensor
        ``(lag + 1, row, column)`` by lag in time and distance in space, the mean over distances to either side.
    """
    frames, rows, columns = field.shape
    padded = (frames + longest, 2 * rows, 2 * columns)
    products = torch.fft.irfftn(torch.fft.rfftn(field, s=padded).abs() ** 2, s=padded)[: longest + 1]
    for axis in (1, 2):
        products = 0.5 * (products + products.flip(axis).roll(1, axis))
    return products[:, :rows, :columns]
