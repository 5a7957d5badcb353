"""Where on the screen the responses say anything: Fisher information, and the mask that scores are taken over."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from nwbrecon.alignment import AlignedSession
from nwbrecon.encoding import EncoderEnsemble
from nwbrecon.encoding.device import device_of
from nwbrecon.encoding.encoder import look_ahead
from nwbrecon.encoding.observation import Window, window_video
from nwbrecon.errors import InversionError
from nwbrecon.inversion.evidence import Evidence, Margins, gather_evidence

__all__ = ["backprojections", "behavior_backprojections", "fisher_information", "information_coverage", "shown"]


def shown(
    encoder: EncoderEnsemble, aligned: AlignedSession, trials: Iterable[int], *, stretch_seconds: float = math.inf
) -> Iterator[tuple[list[Evidence], Tensor]]:
    """Go through trials whose movies are known, where the encoder can be linearized.

    Yields
    ------
    evidence, video
        Witnesses of the clip, without margins, and ``(1, time, height, width)`` grey levels of its movie.
    """
    for trial in trials:
        evidence = gather_evidence(encoder, aligned, trial, Margins(0, 0), stretch_seconds=stretch_seconds)
        window = Window(trial, 0, int(aligned.trials.at[trial, "n_frames"]))
        yield evidence, window_video(aligned, [window], device_of(encoder))[0][:, 0]


def backprojections(
    evidence: list[Evidence], video: Tensor, *, n_probes: int, generator: torch.Generator
) -> Iterator[tuple[slice, Tensor]]:
    """Draw random movies that have the Fisher information of the responses for covariance.

    With the Jacobian ``J`` of the expected responses and the precision ``W`` of each response, ``J^T W^(1/2) v`` with
    random signs ``v`` has the covariance ``J^T W J``: a backward pass a probe.

    Parameters
    ----------
    evidence
        Witnesses of the clip.
    video
        ``(1, time, height, width)`` grey levels, margins included: where the encoder is linearized.
    n_probes
        Number of probes.
    generator
        Source of randomness.

    Yields
    ------
    frames, probe
        What a witness looks at, and ``(time, height, width)`` of these frames; as many as probes for each witness.
        Information adds over witnesses.
    """
    for witness in evidence:
        part = video.detach()[:, witness.frames].requires_grad_()
        for gradient in _probes(witness, part, part, n_probes, generator):
            yield witness.frames, gradient[0]


def behavior_backprojections(
    evidence: list[Evidence], video: Tensor, *, n_probes: int, generator: torch.Generator
) -> Iterator[tuple[slice, Tensor]]:
    """As `backprojections`, for behavior: draw ``(time, variable)``; zero where behavior is missing."""
    for witness in evidence:
        behavior = witness.behavior.detach().requires_grad_()
        part = video.detach()[:, witness.frames]
        for gradient in _probes(replace(witness, behavior=behavior), part, behavior, n_probes, generator):
            yield witness.frames, gradient[0]


def _probes(
    witness: Evidence, video: Tensor, of: Tensor, n_probes: int, generator: torch.Generator
) -> Iterator[Tensor]:
    rates = witness.rates(video)
    scaled = []
    for seen, likelihood in zip(witness.observations, witness.likelihoods, strict=True):
        expected = seen.expected(rates)
        precision = witness.weights[seen.rois] * seen.known / likelihood.variance(expected.detach())
        scaled.append((expected * precision.sqrt()).flatten())
    stacked = torch.cat(scaled)
    for probe in range(n_probes):
        signs = torch.randint(0, 2, stacked.shape, generator=generator).to(stacked) * 2 - 1
        (gradient,) = torch.autograd.grad(stacked, of, signs, retain_graph=probe < n_probes - 1)
        yield gradient


def fisher_information(
    evidence: list[Evidence], video: Tensor, *, n_probes: int, generator: torch.Generator
) -> np.ndarray:
    """Diagonal of the Fisher information of the responses about every pixel, estimated with random probes.

    The mean of squares of `backprojections` (Bekas, Kokiopoulou & Saad 2007, Appl. Numer. Math. 57:1214-1229), whose
    parameters these are.

    Returns
    -------
    numpy.ndarray
        ``(time, height, width)`` per squared grey level.
    """
    total = torch.zeros_like(video[0])
    for frames, probe in backprojections(evidence, video, n_probes=n_probes, generator=generator):
        total[frames] += probe**2 / n_probes
    return total.cpu().numpy()


def information_coverage(
    encoder: EncoderEnsemble,
    aligned: AlignedSession,
    trials: list[int],
    *,
    threshold: float,
    n_probes: int = 8,
    seed: int = 0,
    stretch_seconds: float = math.inf,
) -> tuple[np.ndarray, np.ndarray]:
    """How well the population covers the screen, and the mask of what it covers.

    Parameters
    ----------
    encoder
        The encoder.
    aligned
        The session.
    trials
        Trials whose movies the encoder is linearized at; training trials, so that no test clip shapes the mask.
    threshold
        Share of the best pixel's information that a pixel of the mask must have.
    n_probes
        Random probes a trial.
    seed
        Seed of the probes.
    stretch_seconds
        Length of the stretches that are looked at together (s).

    Returns
    -------
    coverage : numpy.ndarray
        ``(height, width)`` float32, geometric mean over frames of the information about each pixel, over its largest
        value.
    mask : numpy.ndarray
        ``(height, width)`` bool.

    Raises
    ------
    InversionError
        If the responses say nothing about any pixel.
    """
    generator = torch.Generator().manual_seed(seed)
    total, n_frames = np.zeros(aligned.frame_size), 0
    for evidence, video in shown(encoder, aligned, trials, stretch_seconds=stretch_seconds):
        information = fisher_information(evidence, video, n_probes=n_probes, generator=generator)
        # the probes leave speckle that no receptive field has
        predicted = information[encoder.warm_up : len(information) - look_ahead(encoder)]
        smooth = ndimage.gaussian_filter(predicted, (2.0, 1.0, 1.0))
        total += np.log(np.maximum(smooth, np.finfo(np.float32).tiny)).sum(axis=0)
        n_frames += len(smooth)
    # the geometric mean: on frames of hardly any contrast a few cells would seem to tell everything
    coverage = np.exp(total / n_frames)
    if not coverage.max() > 1e-30:
        raise InversionError(
            "The encoder's predictions do not depend on the video.",
            action="Check that the responses are those of visual cells, and train longer or on more data.",
        )
    coverage /= coverage.max()
    return coverage.astype(np.float32), coverage >= threshold
