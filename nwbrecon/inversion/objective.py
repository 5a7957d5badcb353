"""What an inversion minimizes: how badly a video explains the responses, and how unlike a natural movie it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from nwbrecon.alignment import AlignedSession, behavior_on_frames
from nwbrecon.config import InversionSettings
from nwbrecon.encoding import Encoder, EncoderEnsemble
from nwbrecon.encoding.device import device_of
from nwbrecon.encoding.encoder import look_ahead
from nwbrecon.encoding.likelihoods import Likelihood
from nwbrecon.encoding.noise import ResidualNoise
from nwbrecon.encoding.observation import LONGEST_INTERVAL, Observation, Window, observe
from nwbrecon.inversion.behavior import BehaviorModel, BehaviorPrior
from nwbrecon.inversion.optimizers import Evaluation
from nwbrecon.inversion.priors import Prior
from nwbrecon.inversion.unknowns import GainPrior, Unknown
from nwbrecon.inversion.whitening import Whitening, whitening_for

__all__ = ["Evidence", "Margins", "Objective", "evaluate", "gather_evidence"]


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

    @classmethod
    def needed(cls, encoder: EncoderEnsemble, settings: InversionSettings, frame_rate: float) -> Margins:
        """Give the margins that an encoder needs so that responses from the onset to the tail are predicted."""
        return cls(encoder.warm_up, round(settings.tail_seconds * frame_rate) + encoder.look_ahead)

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
        ``(1, time, variable)`` during the frames that it looks at, NaN where missing or withheld; where it is sought,
        what is believed of it.
    weights
        ``(roi,)`` weight of each ROI's log-likelihood: one over its dispersion.
    frames
        Which frames of the clip with its margins it looks at.
    noise
        How the residuals of the ROIs hang together; ``None`` where the encoder does not say.
    whitenings
        What the squares of whitened residuals are taken of in place of the likelihoods, one a response group; ``None``
        for the likelihoods.
    sought
        Prior of the behavior during the clip with its margins, where that is found along with the movie; witnesses that
        hold the same one are of one trial. ``None`` where behavior is told or withheld.
    shared
        Prior of the gain that the ROIs share, likewise; ``None`` where there is none.
    gain
        ``(1, time)`` what is believed of that gain during the frames that it looks at; ``None`` where there is none.
    """

    encoder: Encoder
    likelihoods: list[Likelihood]
    observations: list[Observation]
    behavior: Tensor
    weights: Tensor
    frames: slice = field(default_factory=lambda: slice(None))
    noise: ResidualNoise | None = None
    whitenings: list[Whitening] | None = None
    sought: BehaviorPrior | None = None
    shared: GainPrior | None = None
    gain: Tensor | None = None

    @property
    def unknowns(self) -> list[Unknown]:
        """What of the trial is found along with the movie."""
        return [one for one in (self.sought, self.shared) if one is not None]

    def given(self, values: Mapping[Unknown, Tensor]) -> Evidence:
        """Give the same witness, told what is unknown: values ``(1, time, ...)`` during its frames."""
        if not values:
            return self
        behavior = self.behavior if self.sought is None else values[self.sought]
        return replace(self, behavior=behavior, gain=None if self.shared is None else values[self.shared])

    def rates(self, video: Tensor) -> Tensor:
        """Rates ``(1, roi, time)`` for a video ``(1, time, height, width)`` of the frames that it looks at."""
        return self._scaled(self.encoder.predict_rates(video[:, None], self.behavior))

    def _scaled(self, rates: Tensor) -> Tensor:
        return rates if self.shared is None or self.gain is None else rates * self.shared.factor(self.gain)

    def loss(self, video: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Negative log-likelihood of the responses given a video, up to a constant.

        Parameters
        ----------
        video
            ``(1, time, height, width)`` grey levels of the frames that it looks at.
        chosen
            ``(roi,)`` 1 for the ROIs that count, otherwise 0; ``None`` for all.
        """
        return self.loss_of(self.encoder.predict_rates(video[:, None], self.behavior), chosen)

    def loss_of(self, rates: Tensor, chosen: Tensor | None = None) -> Tensor:
        """As `loss`, given the rates ``(1, roi, time)`` that the encoder predicts."""
        rates = self._scaled(rates)
        if self.whitenings is not None:
            pairs = zip(self.observations, self.whitenings, strict=True)
            return torch.stack([whitening.loss(seen, rates, chosen) for seen, whitening in pairs]).sum()
        weights = self.weights if chosen is None else self.weights * chosen
        total = rates.new_zeros(())
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
        rates = self.rates(video)
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
    behavior: bool | BehaviorModel = True,
    shared_gain: bool = False,
    stretch_seconds: float = math.inf,
) -> list[Evidence]:
    """Collect what a trial's responses say about its clip.

    Of a long clip each stretch has a witness of its own, so that the encoder's feature maps of one stretch at a time
    need memory. A witness also looks at the frames around its stretch that its samples depend on: together they
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
        Whether the encoder is told what the animal did; a model of it where that is to be found along with the movie.
    shared_gain
        Whether the gain that the ROIs share is to be found along with the movie, where the encoder knows of one.
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
    sought = None
    if isinstance(behavior, BehaviorModel) and (prior := behavior.prior(n_frames)) is not None:
        sought = prior.to(device)
        told = sought.values(torch.zeros(sought.shape, device=device))
    elif behavior is not True:
        told = torch.full_like(told, torch.nan)
    shared = None
    if shared_gain and encoder.shared_gain is not None and encoder.shared_gain.loading.any():
        shared = GainPrior(encoder.shared_gain, n_frames, aligned.frame_rate).to(device)
    weights = torch.from_numpy(1 / encoder.dispersion).float().to(device)
    likelihoods = encoder.likelihoods
    witnesses = []
    ahead = look_ahead(encoder)
    for stretch, own in _stretches(encoder, aligned, n_frames, stretch_seconds):
        frames = slice(stretch.start, min(stretch.stop + ahead, n_frames))
        # with the frame after these, which says whether a sample ends there
        stop = min(frames.stop + 1, n_frames)
        observations = observe(
            aligned,
            [Window(trial, frames.start - margins.lead, stop - frames.start)],
            warm_up=max(0, margins.lead - frames.start),
            look_ahead=max(0, stop - (n_frames - ahead)),
            device=device,
        )
        if own > 0 or stretch.stop < n_frames:
            ends, length = slice(own, stretch.stop - stretch.start), frames.stop - frames.start
            observations = [seen.ending_in(ends, length) for seen in observations]
        if shared is not None:
            shared.observe(observations, likelihoods, weights)
        witnesses.append(
            Evidence(
                encoder,
                likelihoods,
                observations,
                told[:, frames],
                weights,
                frames,
                encoder.noise,
                sought=sought,
                shared=shared,
            )
        )
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
    """Negative log-posterior over the white coordinates of a prior, and over those of what else is unknown of a trial.

    A point holds the coordinates of the movie, ``(1, *coordinates)``; where there is more to be found (behavior, a gain that
    the ROIs share), those of the movie and of each trial's unknowns one after the other, ``(coordinate,)``.

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
