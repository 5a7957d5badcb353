"""What the responses to a clip say: witnesses that a video is judged by."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
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
from nwbrecon.inversion.unknowns import GainPrior, Unknown
from nwbrecon.inversion.whitening import Whitening, whitening_for

__all__ = ["Evidence", "Margins", "gather_evidence"]


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
