"""What an inversion minimizes: how badly a video explains the responses, and how unlike a natural movie it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nwbrecon.alignment import AlignedSession, behavior_on_frames
from nwbrecon.encoding import Encoder, EncoderEnsemble
from nwbrecon.encoding.device import device_of
from nwbrecon.encoding.likelihoods import Likelihood
from nwbrecon.encoding.observation import Observation, Window, observe
from nwbrecon.inversion.optimizers import Evaluation
from nwbrecon.inversion.priors import MoviePrior

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
    """One witness of a clip.

    Attributes
    ----------
    encoder
        Predicts the responses.
    likelihoods
        How what was measured scatters around the prediction, one a response group.
    observations
        What was measured, one a response group, batch of one.
    behavior
        ``(1, time, variable)``, NaN where missing or withheld.
    weights
        ``(roi,)`` weight of each ROI's log-likelihood: one over its dispersion.
    """

    encoder: Encoder
    likelihoods: list[Likelihood]
    observations: list[Observation]
    behavior: Tensor
    weights: Tensor

    def loss(self, video: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Negative log-likelihood of the responses given a video, up to a constant.

        Parameters
        ----------
        video
            ``(1, time, height, width)`` grey levels, margins included.
        chosen
            ``(roi,)`` 1 for the ROIs that count, otherwise 0; ``None`` for all.
        """
        rates = self.encoder.predict_rates(video[:, None], self.behavior)
        weights = self.weights if chosen is None else self.weights * chosen
        total = video.new_zeros(())
        for seen, likelihood in zip(self.observations, self.likelihoods, strict=True):
            loss = likelihood.loss(seen.expected(rates), seen.measured)
            total = total + (loss * seen.known * weights[seen.rois]).sum()
        return total


def gather_evidence(
    encoder: EncoderEnsemble, aligned: AlignedSession, trial: int, margins: Margins, *, behavior: bool = True
) -> Evidence:
    """Collect what a trial's responses say about its clip.

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
    """
    window = Window(trial, -margins.lead, margins.around(int(aligned.trials.at[trial, "n_frames"])))
    device = device_of(encoder)
    told = behavior_on_frames(aligned, trial, margins.lead, margins.tail)
    if not behavior:
        told = np.full_like(told, np.nan)
    return Evidence(
        encoder,
        encoder.likelihoods,
        observe(aligned, [window], warm_up=margins.lead, device=device),
        torch.from_numpy(told)[None].to(device),
        torch.from_numpy(1 / encoder.dispersion).float().to(device),
    )


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
        prior: MoviePrior,
        *,
        prior_weight: float = 1.0,
        chosen: Sequence[Tensor] | None = None,
    ) -> None:
        self.evidence, self.prior, self.prior_weight = list(evidence), prior, prior_weight
        self.chosen = list(chosen) if chosen is not None else [None] * len(self.evidence)

    def __call__(self, white: Tensor) -> Evaluation:
        """Value and gradient at ``white``, ``(1, *torus)``."""
        white = white.detach().requires_grad_()
        likelihood = self.loss(self.prior.video(white))
        prior = 0.5 * self.prior_weight * (white * white).sum()
        value = likelihood + prior
        (gradient,) = torch.autograd.grad(value, white)
        parts = {"negative_log_likelihood": float(likelihood.detach()), "negative_log_prior": float(prior.detach())}
        return Evaluation(float(value.detach()), gradient, parts)

    def loss(self, video: Tensor) -> Tensor:
        """Negative log-likelihood of the fitted ROIs."""
        losses = [witness.loss(video, chosen) for witness, chosen in zip(self.evidence, self.chosen, strict=True)]
        return torch.stack(losses).sum()

    @torch.no_grad()
    def held_out_loss(self, white: Tensor) -> float:
        """Negative log-likelihood of the ROIs that are not fitted."""
        video = self.prior.video(white)
        return sum(
            float(witness.loss(video, 1 - chosen))
            for witness, chosen in zip(self.evidence, self.chosen, strict=True)
            if chosen is not None
        )
