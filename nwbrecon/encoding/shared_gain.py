"""A gain that the ROIs of a recording share, beside what behavior tells: how strongly, and how fast it changes.

Cortex goes through states that nobody records, and cells respond more or less together (Goris, Movshon & Simoncelli
2014, Nat. Neurosci. 17:858-865; Lin et al. 2015, Neuron 87:644-656). An inversion that does not know of them explains
them by the picture: a screen that becomes brighter, or richer in contrast. What is estimated here lets it infer the
gain along with the movie.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import Tensor

from nwbrecon.alignment import AlignedSession
from nwbrecon.encoding.device import device_of
from nwbrecon.encoding.encoder import Encoder, look_ahead
from nwbrecon.encoding.likelihoods import Likelihood
from nwbrecon.encoding.observation import Observation, Window, observe, window_video

__all__ = ["SharedGain", "SmoothProcess", "fit_shared_gain"]

# correlation times that are tried (s)
_SECONDS = (0.25, 0.5, 1.0, 2.0, 4.0)
# where the estimate starts: typical of cortex
_LOADING, _START_SECONDS = 0.3, 1.0
_NEWTON_STEPS, _SEARCH_STEPS = 5, 30
_LARGEST_LOADING = 1.5
# share of the mean power below which a frequency is rounding error; the floor keeps every coordinate usable
_FLOOR = 1e-6


@dataclass
class SharedGain:
    """What is known of the gain that the ROIs share.

    The rate of ROI ``i`` is multiplied with ``exp(loading_i h(t))``, where ``h`` is a Gaussian process of unit variance
    with the correlation ``exp(-lag^2 / (2 seconds^2))``, another in every trial.

    Attributes
    ----------
    loading
        ``(roi,)``; zero throughout where no gain was found that the ROIs share.
    seconds
        Correlation time (s).
    """

    loading: np.ndarray
    seconds: float

    def arrays(self) -> dict[str, np.ndarray]:
        """Give all that it holds, by name."""
        return {"loading": self.loading, "seconds": np.array(self.seconds)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> SharedGain:
        """Take up what `arrays` gave."""
        return cls(arrays["loading"], float(arrays["seconds"]))


class SmoothProcess:
    """A Gaussian process of unit variance on the frames of a trial, in white coordinates.

    The torus is longer than the trial by several correlation times, so that the last frame does not neighbor the first.

    Parameters
    ----------
    n_frames
        Length of the trial (frames).
    seconds
        Correlation time (s).
    frame_rate
        Frames per second (Hz).
    """

    def __init__(self, n_frames: int, seconds: float, frame_rate: float) -> None:
        self.n_frames = n_frames
        self.torus = int(next_fast_len(n_frames + math.ceil(4 * seconds * frame_rate), real=True))
        lag = np.minimum(np.arange(self.torus), self.torus - np.arange(self.torus)) / (frame_rate * seconds)
        spectrum = np.fft.rfft(np.exp(-0.5 * lag**2)).real
        self.amplitude = torch.from_numpy(np.sqrt(np.maximum(spectrum, _FLOOR * spectrum.mean()))).float()

    def to(self, device: torch.device) -> SmoothProcess:
        """Move to a device; gives itself."""
        self.amplitude = self.amplitude.to(device)
        return self

    def values(self, white: Tensor) -> Tensor:
        """White coordinates ``(torus,)`` to the process ``(time,)``."""
        return self.filter(white, self.amplitude, norm="ortho")[: self.n_frames]

    def filter(self, white: Tensor, factor: Tensor, norm: str = "backward") -> Tensor:
        """Multiply each frequency of what is on the torus with a factor."""
        return torch.fft.irfft(torch.fft.rfft(white, norm=norm) * factor, n=self.torus, norm=norm)


def fit_shared_gain(
    encoder: Encoder,
    aligned: AlignedSession,
    trials: Sequence[int],
    likelihoods: Sequence[Likelihood],
    dispersion: np.ndarray,
) -> SharedGain:
    """Estimate the gain that the ROIs share, where the movie is known.

    The most probable gain of each trial is found with one loading for all ROIs, and given that the loadings of greatest
    quasi-likelihood, each drawn to the typical one by how uncertain it is (empirical Bayes). The correlation time is
    the one under which the gain of half of the ROIs predicts the other half best; where none does so better than no
    gain at all, there is none.

    Parameters
    ----------
    encoder
        The encoder.
    aligned
        The session.
    trials
        Validation trials.
    likelihoods
        One a response group.
    dispersion
        ``(roi,)`` of the likelihoods.
    """
    weights = torch.from_numpy(1 / dispersion).float()
    shown = [_Shown(rates, seen, likelihoods, weights) for rates, seen in _predicted(encoder, aligned, trials)]
    rate, n_rois = aligned.frame_rate, len(dispersion)
    # what counts is the product of loading and gain: the loading is what leaves the gain with a variance of one
    alike = torch.full((n_rois,), _LOADING)
    alike *= torch.cat([one.gain(alike, _START_SECONDS, rate) for one in shown]).square().mean().sqrt()
    halves = [(torch.arange(n_rois) % 2 == half).float() for half in (0, 1)]
    losses = {
        seconds: sum(
            one.loss(one.gain(alike, seconds, rate, fitted), alike, 1 - fitted) for one in shown for fitted in halves
        )
        for seconds in _SECONDS
    }
    best = min(losses, key=lambda seconds: losses[seconds])
    if not losses[best] < sum(one.loss(torch.zeros(one.n_frames), alike) for one in shown):
        return SharedGain(np.zeros(n_rois), best)
    return SharedGain(_loadings(shown, alike, best, rate).numpy().astype(float), best)


@torch.no_grad()
def _predicted(
    encoder: Encoder, aligned: AlignedSession, trials: Sequence[int]
) -> Iterator[tuple[Tensor, list[Observation]]]:
    for trial in trials:
        window = Window(trial, 0, int(aligned.trials.at[trial, "n_frames"]))
        rates = encoder.predict_rates(*window_video(aligned, [window], device_of(encoder)))
        yield rates.cpu(), observe(aligned, [window], warm_up=encoder.warm_up, look_ahead=look_ahead(encoder))


def _loadings(shown: Sequence[_Shown], alike: Tensor, seconds: float, frame_rate: float) -> Tensor:
    """Find the loading of each ROI ``(roi,)``, given the gain if all had the same, which the typical one keeps."""
    gains, loading = [one.gain(alike, seconds, frame_rate) for one in shown], alike
    for _ in range(_NEWTON_STEPS):
        slope, curvature = torch.zeros_like(loading), torch.zeros_like(loading)
        for one, gain in zip(shown, gains, strict=True):
            one.add_slopes(gain, loading, slope, curvature)
        # an ROI of which nothing was measured stays as it is
        step = slope / torch.where(curvature > 0, curvature, torch.inf)
        loading = (loading + step).clamp(-_LARGEST_LOADING, _LARGEST_LOADING)
    # the likelihood is weighted by one over the dispersion: one over its curvature is the variance of the estimate
    error = 1 / curvature.clamp_min(1e-6)
    spread = (loading.var() - error.median()).clamp_min(0)
    typical = loading.median()
    loading = typical + (loading - typical) * spread / (spread + error)
    return loading * alike[0] / typical if typical > 0 else alike


@dataclass
class _Shown:
    """A trial whose movie is known: ``(1, roi, time)`` rates, and what was measured."""

    rates: Tensor
    observations: list[Observation]
    likelihoods: Sequence[Likelihood]
    weights: Tensor

    @property
    def n_frames(self) -> int:
        """Length (frames)."""
        return self.rates.shape[2]

    def loss(self, gain: Tensor, loading: Tensor, chosen: Tensor | None = None) -> float:
        """Negative log-likelihood of the chosen ROIs, ``(roi,)`` 1 or 0; ``None`` for all."""
        return float(self._loss(gain, loading, torch.ones_like(loading) if chosen is None else chosen))

    def _loss(self, gain: Tensor, loading: Tensor, chosen: Tensor) -> Tensor:
        rates = self.rates * torch.exp(loading[:, None] * gain)
        weights = self.weights * chosen
        total = gain.new_zeros(())
        for seen, likelihood in zip(self.observations, self.likelihoods, strict=True):
            loss = likelihood.loss(seen.expected(rates), seen.measured)
            total = total + (loss * seen.known * weights[seen.rois]).sum()
        return total

    def gain(self, loading: Tensor, seconds: float, frame_rate: float, chosen: Tensor | None = None) -> Tensor:
        """Most probable gain ``(time,)``, given the responses of the chosen ROIs."""
        process = SmoothProcess(self.n_frames, seconds, frame_rate)
        chosen = torch.ones_like(loading) if chosen is None else chosen
        white = torch.zeros(process.torus, requires_grad=True)
        search = torch.optim.LBFGS([white], max_iter=_SEARCH_STEPS, line_search_fn="strong_wolfe")

        def evaluate() -> Tensor:
            search.zero_grad()
            value = self._loss(process.values(white), loading, chosen) + 0.5 * white.square().sum()
            torch.autograd.backward(value)
            return value

        search.step(evaluate)  # type: ignore[no-untyped-call]
        return process.values(white.detach())

    def add_slopes(self, gain: Tensor, loading: Tensor, slope: Tensor, curvature: Tensor) -> None:
        """Add up slope and expected curvature of the quasi-likelihood along each loading."""
        rates = self.rates * torch.exp(loading[:, None] * gain)
        for seen, likelihood in zip(self.observations, self.likelihoods, strict=True):
            expected = seen.expected(rates)
            along = seen.expected(rates * gain)
            precision = seen.known * self.weights[seen.rois] / likelihood.variance(expected)
            slope[seen.rois] += (precision * along * (seen.measured - expected)).sum(dim=(0, 1))
            curvature[seen.rois] += (precision * along.square()).sum(dim=(0, 1))
