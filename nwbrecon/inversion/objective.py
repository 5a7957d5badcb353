"""What an inversion minimizes: how badly a video explains the responses, and how unlike a natural movie it is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from nwbrecon.alignment import AlignedSession, behavior_on_frames
from nwbrecon.encoding import Encoder, EncoderEnsemble
from nwbrecon.encoding.device import device_of
from nwbrecon.encoding.likelihoods import Likelihood
from nwbrecon.encoding.noise import ResidualNoise
from nwbrecon.encoding.observation import LONGEST_INTERVAL, Observation, Window, observe
from nwbrecon.inversion.optimizers import Evaluation
from nwbrecon.inversion.priors import Prior
from nwbrecon.inversion.whitening import Whitening, whitening_for

__all__ = ["Evidence", "Margins", "Objective", "gather_evidence"]


@dataclass(frozen=True)
class Margins:
    """Frames before and after a clip whose content is unknown and inferred along with it.

    Attributes
    ----------
    lead
        Frames before the onset: the first responses depend on them.
    tail
        Frames after the end: responses to the last frames of the clip come while they are on the screen.
    """

    lead: int
    tail: int

    def around(self, n_frames: int) -> int:
        """Frames of a clip of ``n_frames`` with its margins."""
        return self.lead + n_frames + self.tail

    def pad(self, video: np.ndarray) -> np.ndarray:
        """Put margins to a clip ``(time, height, width)`` that hold its first and last frame."""
        return np.pad(video, ((self.lead, self.tail), (0, 0), (0, 0)), mode="edge")


@dataclass
class Evidence:
    """One witness of a clip, or of a stretch of it.

    Attributes
    ----------
    encoder
        Predicts the responses.
    likelihoods
        How what was measured scatters around the prediction, one a response group.
    observations
        What was measured, one a response group, batch of one.
    behavior
        ``(1, time, variable)`` during the frames that it looks at, NaN where missing or withheld.
    weights
        ``(roi,)`` weight of each ROI's log-likelihood: one over its dispersion.
    frames
        Which frames of the clip with its margins it looks at.
    noise
        How the residuals of the ROIs hang together; ``None`` where the encoder does not say.
    whitenings
        What the squares of whitened residuals are taken of in place of the likelihoods, one a response group; ``None``
        for the likelihoods.
    """

    encoder: Encoder
    likelihoods: list[Likelihood]
    observations: list[Observation]
    behavior: Tensor
    weights: Tensor
    frames: slice = field(default_factory=lambda: slice(None))
    noise: ResidualNoise | None = None
    whitenings: list[Whitening] | None = None

    def loss(self, video: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Negative log-likelihood of the responses given a video, up to a constant.

        Parameters
        ----------
        video
            ``(1, time, height, width)`` grey levels of the frames that it looks at.
        chosen
            ``(roi,)`` 1 for the ROIs that count, otherwise 0; ``None`` for all.
        """
        rates = self.encoder.predict_rates(video[:, None], self.behavior)
        if self.whitenings is not None:
            pairs = zip(self.observations, self.whitenings, strict=True)
            return torch.stack([whitening.loss(seen, rates, chosen) for seen, whitening in pairs]).sum()
        weights = self.weights if chosen is None else self.weights * chosen
        total = video.new_zeros(())
        for seen, likelihood in zip(self.observations, self.likelihoods, strict=True):
            loss = likelihood.loss(seen.expected(rates), seen.measured)
            total = total + (loss * seen.known * weights[seen.rois]).sum()
        return total

    @torch.no_grad()
    def whitened(self, video: Tensor, kind: Literal["shared", "autoregressive"]) -> Evidence:
        """Give the same witness, for which the squares of whitened residuals take the place of the likelihoods.

        Parameters
        ----------
        video
            ``(1, time, height, width)`` grey levels of the frames that it looks at: variances are held at what the
            likelihoods expect of the responses to it.
        kind
            What is whitened, see `nwbrecon.inversion.whitening.Whitening`.
        """
        assert self.noise is not None
        rates = self.encoder.predict_rates(video[:, None], self.behavior)
        whitenings = [
            whitening_for(seen, likelihood, rates, self.noise, 1 / self.weights, kind)
            for seen, likelihood in zip(self.observations, self.likelihoods, strict=True)
        ]
        return replace(self, whitenings=whitenings)


def gather_evidence(
    encoder: EncoderEnsemble,
    aligned: AlignedSession,
    trial: int,
    margins: Margins,
    *,
    behavior: bool = True,
    stretch_seconds: float = math.inf,
) -> list[Evidence]:
    """Collect what a trial's responses say about its clip.

    Of a long clip each stretch has a witness of its own, so that the encoder's feature maps of one stretch at a time
    need memory. A witness also looks at the frames before its stretch that its first samples depend on: together they
    say just what one witness of the whole clip would (and nearly, with a DwiseNeuro that averages over windows at every
    position).

    Parameters
    ----------
    encoder
        The session's encoder.
    aligned
        The session.
    trial
        Label of the trial.
    margins
        Unknown frames around the clip.
    behavior
        Whether the encoder is told what the animal did.
    stretch_seconds
        Length of the stretches (s).

    Returns
    -------
    list of Evidence
        One a stretch, in time order.
    """
    device = device_of(encoder)
    n_frames = margins.around(int(aligned.trials.at[trial, "n_frames"]))
    told = torch.from_numpy(behavior_on_frames(aligned, trial, margins.lead, margins.tail))[None].to(device)
    if not behavior:
        told = torch.full_like(told, torch.nan)
    weights = torch.from_numpy(1 / encoder.dispersion).float().to(device)
    likelihoods = encoder.likelihoods
    witnesses = []
    for frames, own in _stretches(encoder, aligned, n_frames, stretch_seconds):
        # with the frame after the stretch, which says whether a sample ends there
        stop = min(frames.stop + 1, n_frames)
        window = Window(trial, frames.start - margins.lead, stop - frames.start)
        observations = observe(aligned, [window], warm_up=max(0, margins.lead - frames.start), device=device)
        if own > 0 or frames.stop < n_frames:
            observations = [seen.ending_in(slice(own, frames.stop - frames.start)) for seen in observations]
        witnesses.append(Evidence(encoder, likelihoods, observations, told[:, frames], weights, frames, encoder.noise))
    return witnesses


def _stretches(
    encoder: EncoderEnsemble, aligned: AlignedSession, n_frames: int, seconds: float
) -> Iterator[tuple[slice, int]]:
    """Cut a clip with its margins: the frames to look at for each stretch, and where among them it begins."""
    # steps of the encoder must fall on the same frames as in the whole clip; its warm-up is a whole number of them, and
    # so is the shortest video that it predicts
    step = math.lcm(max(encoder.warm_up, 1), encoder.least_frames)
    longest = max(group.interval for group in aligned.groups) * LONGEST_INTERVAL * aligned.frame_rate
    before = math.ceil((encoder.warm_up + longest + 1) / step) * step
    # equal ones: a last stretch of few frames would be mostly overlap
    count = max(1, round(n_frames / (seconds * aligned.frame_rate)))
    length = math.ceil(n_frames / count / step) * step
    # a last one that is too short belongs to the one before
    bounds = [*range(0, max(1, n_frames - encoder.least_frames + 1), length), n_frames]
    for first, last in pairwise(bounds):
        start = max(0, first - before)
        yield slice(start, last), first - start


class Objective:
    """Negative log-posterior over the white coordinates of a prior.

    Parameters
    ----------
    evidence
        Witnesses of one clip; their log-likelihoods add.
    prior
        What natural movies look like.
    prior_weight
        Factor on the negative log-prior.
    chosen
        ``(roi,)`` 1 for ROIs that are fitted, otherwise 0, one a witness; ``None`` fits all.
    """

    def __init__(
        self,
        evidence: Sequence[Evidence],
        prior: Prior,
        *,
        prior_weight: float = 1.0,
        chosen: Sequence[Tensor] | None = None,
    ) -> None:
        self.evidence, self.prior, self.prior_weight = list(evidence), prior, prior_weight
        self.chosen = list(chosen) if chosen is not None else [None] * len(self.evidence)

    def __call__(self, white: Tensor) -> Evaluation:
        """Value and gradient at ``white``, ``(1, *torus)``."""
        white = white.detach().requires_grad_()
        video = self.prior.video(white)
        likelihood, of_video = 0.0, torch.zeros_like(video)
        # one witness after the other, so that the feature maps of one at a time are kept
        for witness, chosen in zip(self.evidence, self.chosen, strict=True):
            part = video.detach()[:, witness.frames].requires_grad_()
            loss = witness.loss(part, chosen)
            of_video[:, witness.frames] += torch.autograd.grad(loss, part)[0]
            likelihood += float(loss.detach())
        (gradient,) = torch.autograd.grad(video, white, of_video)
        unlikely = self.prior.negative_log_probability(white)
        prior = self.prior_weight * unlikely.value
        parts = {"negative_log_likelihood": likelihood, "negative_log_prior": prior}
        return Evaluation(likelihood + prior, gradient + self.prior_weight * unlikely.gradient, parts)
