"""A movie without a search: the decoder's and, by choice, one step from there on what the responses say of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nwbrecon.config import InversionSettings
from nwbrecon.encoding.device import device_of
from nwbrecon.inversion.evidence import Evidence
from nwbrecon.inversion.metric import Metric
from nwbrecon.inversion.objective import Objective
from nwbrecon.inversion.priors import Prior
from nwbrecon.inversion.setup import Recording, Setup, Showing, gather, in_range

__all__ = ["first_look", "gradient_step", "step_direction"]


def first_look(
    setup: Setup,
    recordings: Sequence[Recording],
    showing: Showing,
    settings: InversionSettings,
    guess: np.ndarray | None = None,
) -> np.ndarray:
    """Give the movie of a clip without a search: ``(time, height, width)`` float32, grey levels 0-255.

    Parameters
    ----------
    setup
        What the clips share.
    recordings
        The sessions and their encoders.
    showing
        The trials.
    settings
        Whether there is a step from the decoder's movie.
    guess
        That movie, where it is known.
    """
    guess = in_range(setup.guess(recordings, showing) if guess is None else guess)
    if not settings.gradient_step or not setup.blend.uses_first:
        return guess
    return setup.blended(gradient_step(setup, recordings, showing, settings, guess), guess)


def gradient_step(
    setup: Setup, recordings: Sequence[Recording], showing: Showing, settings: InversionSettings, guess: np.ndarray
) -> np.ndarray:
    """Give the step from a movie of a clip, about the mean grey level: ``(time, height, width)`` float32, not clipped.

    The encoder is asked once. How long the step is to be, in each band, is for the setup's blend to say: where the
    likelihood curves otherwise than the metric believes, the step as it is leads far past its minimum.
    """
    evidence = gather(recordings, showing, setup.margins, settings, setup.behaving)
    prior = setup.prior_for(setup.prior, guess, device_of(recordings[0][0]))
    start = torch.zeros(1, *prior.coordinates, device=prior.amplitude.device)
    objective = Objective(evidence, prior, prior_weight=setup.prior_weight)
    # what else is unknown of the trial is taken to be as usual
    told = objective.told(objective.point([start]))
    padded = torch.from_numpy(setup.margins.pad(guess))[None].to(start)
    step = step_direction(told, prior, setup.metric_for(prior, showing), padded)
    return setup.mean + step[0, setup.margins.lead : step.shape[1] - setup.margins.tail].cpu().numpy()


def step_direction(evidence: Sequence[Evidence], prior: Prior, metric: Metric, video: Tensor) -> Tensor:
    """Give the direction in which a video gets likelier fastest, under a metric of white coordinates.

    One step of Newton's method for the likelihood, with the metric in place of the inverse Hessian (Nocedal & Wright
    2006, Numerical Optimization, chapter 3), colored by the prior: the components that natural movies have, and that
    the responses tell of.

    Parameters
    ----------
    evidence
        Witnesses of the clip; their log-likelihoods add.
    prior
        Says how strong movies are along each frequency.
    metric
        Approximate inverse Hessian in the prior's white coordinates.
    video
        ``(1, time, height, width)`` grey levels, margins included.

    Returns
    -------
    torch.Tensor
        ``(1, time, height, width)`` grey levels.
    """
    gradient = torch.zeros_like(video)
    for witness in evidence:
        part = video[:, witness.frames].detach().requires_grad_()
        gradient[:, witness.frames] += torch.autograd.grad(witness.loss(part), part)[0]
    return prior.colored(-metric(prior.pulled_back(gradient)))
