"""What an inversion minimizes: how badly a video explains the responses, and how unlike a natural movie it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nwbrecon.inversion.evidence import Evidence
from nwbrecon.inversion.optimizers import Evaluation
from nwbrecon.inversion.priors import Prior
from nwbrecon.inversion.unknowns import Unknown

__all__ = ["Objective", "evaluate"]


class Objective:
    """Negative log-posterior over the white coordinates of a prior, and over those of what else is unknown of a trial.

    A point holds the coordinates of the movie, ``(1, *coordinates)``; where there is more to be found (behavior, a gain
    that the ROIs share), those of the movie and of each trial's unknowns one after the other, ``(coordinate,)``.

    Parameters
    ----------
    evidence
        Witnesses of one clip; their log-likelihoods add.
    prior
        What natural movies look like.
    prior_weight
        Factor on the negative log-prior of the movie.
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
        self.unknowns = list(dict.fromkeys(unknown for one in self.evidence for unknown in one.unknowns))

    def __call__(self, point: Tensor) -> Evaluation:
        """Value and gradient at a point."""
        return evaluate([self], [point])[0]

    def parts(self, point: Tensor) -> list[Tensor]:
        """Coordinates of the movie ``(1, *coordinates)`` and of each unknown of a trial, of its shape."""
        shapes = [(1, *self.prior.coordinates), *(one.shape for one in self.unknowns)]
        if len(shapes) == 1:
            return [point]
        sizes = [math.prod(shape) for shape in shapes]
        return [part.view(shape) for part, shape in zip(torch.split(point, sizes), shapes, strict=True)]

    def point(self, parts: Sequence[Tensor]) -> Tensor:
        """Put together what `parts` takes apart; unknowns that are not given are at the center of their priors."""
        if not self.unknowns:
            return parts[0]
        rest = [parts[0].new_zeros(one.shape) for one in self.unknowns[len(parts) - 1 :]]
        return torch.cat([part.flatten() for part in [*parts, *rest]])

    @torch.no_grad()
    def told(self, point: Tensor) -> list[Evidence]:
        """Give the witnesses with what is believed of the unknowns at a point."""
        values = self.values(point)
        return [
            one.given({unknown: values[unknown][:, one.frames] for unknown in one.unknowns}) for one in self.evidence
        ]

    @torch.no_grad()
    def values(self, point: Tensor) -> dict[Unknown, Tensor]:
        """Give what is believed of each unknown, ``(1, time, ...)``, margins included."""
        return dict(zip(self.unknowns, self.values_of(self.parts(point)[1:]), strict=True))

    def values_of(self, hidden: Sequence[Tensor]) -> list[Tensor]:
        """Give the unknowns in their order, from the coordinates of each, differentiably."""
        return [one.values(white) for one, white in zip(self.unknowns, hidden, strict=True)]

    def metric(self, of_movie: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """Metric for whole points, given that of the movie's coordinates."""
        if not self.unknowns:
            return of_movie

        def joined(gradient: Tensor) -> Tensor:
            white, *hidden = self.parts(gradient)
            return self.point(
                [of_movie(white), *(one.metric(part) for one, part in zip(self.unknowns, hidden, strict=True))]
            )

        return joined


def evaluate(objectives: Sequence[Objective], points: Sequence[Tensor]) -> list[Evaluation]:
    """Values and gradients of several objectives, each at a point of its own.

    The first witnesses of all of them are shown to the encoder together, then the second ones, and so on, so that the
    feature maps of one witness of each clip are kept at a time. Witnesses of different encoders, or that look at
    different numbers of frames, go one after the other.
    """
    leaves = [point.detach().requires_grad_() for point in points]
    parts = [objective.parts(leaf) for objective, leaf in zip(objectives, leaves, strict=True)]
    whole = [
        [objective.prior.video(white), *objective.values_of(hidden)]
        for objective, (white, *hidden) in zip(objectives, parts, strict=True)
    ]
    gradients = [[torch.zeros_like(one) for one in of_clip] for of_clip in whole]
    likelihoods = [0.0] * len(objectives)
    for turn in range(max(len(objective.evidence) for objective in objectives)):
        groups: dict[tuple[int, int], list[int]] = {}
        for clip, objective in enumerate(objectives):
            if turn < len(objective.evidence):
                witness = objective.evidence[turn]
                groups.setdefault((id(witness.encoder), witness.behavior.shape[1]), []).append(clip)
        for clips in groups.values():
            _add(turn, clips, objectives, whole, gradients, likelihoods)
    evaluations = []
    for objective, leaf, (white, *hidden), *rest in zip(
        objectives, leaves, parts, whole, gradients, likelihoods, strict=True
    ):
        outputs, of_outputs, likelihood = rest
        (gradient,) = torch.autograd.grad(outputs, leaf, of_outputs)
        unlikely = objective.prior.negative_log_probability(white.detach())
        with torch.no_grad():
            weights = [one.weight for one in objective.unknowns]
            pulls = [weight * part for weight, part in zip(weights, hidden, strict=True)]
            pull = objective.point([objective.prior_weight * unlikely.gradient, *pulls])
            prior = objective.prior_weight * unlikely.value
            prior += sum(0.5 * float((pulled * part).sum()) for pulled, part in zip(pulls, hidden, strict=True))
        shares = {"negative_log_likelihood": likelihood, "negative_log_prior": prior}
        evaluations.append(Evaluation(likelihood + prior, gradient + pull, shares))
    return evaluations


def _add(
    turn: int,
    clips: Sequence[int],
    objectives: Sequence[Objective],
    whole: Sequence[Sequence[Tensor]],
    gradients: Sequence[Sequence[Tensor]],
    likelihoods: list[float],
) -> None:
    """Add what one witness of each of some clips says: to the gradients of movie and unknowns, and to the values."""
    witnesses = [objectives[clip].evidence[turn] for clip in clips]
    places = [
        [0, *(1 + objectives[clip].unknowns.index(unknown) for unknown in witness.unknowns)]
        for clip, witness in zip(clips, witnesses, strict=True)
    ]
    parts = [
        [whole[clip][place].detach()[:, witness.frames].requires_grad_() for place in of_clip]
        for clip, witness, of_clip in zip(clips, witnesses, places, strict=True)
    ]
    told = [
        witness.given(dict(zip(witness.unknowns, values, strict=True)))
        for witness, (_, *values) in zip(witnesses, parts, strict=True)
    ]
    videos, behaviors = torch.cat([video for video, *_ in parts]), torch.cat([one.behavior for one in told])
    rates = told[0].encoder.predict_rates(videos[:, None], behaviors)
    losses = [
        one.loss_of(rates[row : row + 1], objectives[clip].chosen[turn])
        for row, (clip, one) in enumerate(zip(clips, told, strict=True))
    ]
    found = iter(torch.autograd.grad(torch.stack(losses).sum(), [part for of_clip in parts for part in of_clip]))
    for clip, witness, of_clip, loss in zip(clips, witnesses, places, losses, strict=True):
        for place in of_clip:
            gradients[clip][place][:, witness.frames] += next(found)
        likelihoods[clip] += float(loss.detach())
