"""What running, pupil and gaze are like, where a movie is sought without being told what they were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import Tensor

from nwbrecon.alignment import AlignedSession
from nwbrecon.inversion.priors import autocovariance, multiplicity

__all__ = ["BehaviorModel", "BehaviorPrior"]

# share of the mean power below which a frequency is estimation noise; the floor keeps every coordinate usable
_FLOOR = 1e-4
# Factor on the negative log-prior. The likelihood takes the noise of each ROI for its own; of what all do at once,
# which is what behavior explains, some is noise that they share. On a simulated mouse (natural movies, 600 ROIs, 8
# clips) the movies were the same with 1 to 25, and running and pupil nearer to what they were with 25.
_WEIGHT = 25.0


@dataclass
class BehaviorModel:
    """Behavior of a recording: what is known of it before any response is looked at.

    Variables go together, as running and pupil do: the model is of their principal components, over their standard
    deviations.

    Attributes
    ----------
    mean
        ``(variable,)`` in the units of the aligned session; NaN for a variable that was never recorded.
    mixing
        ``(variable, component)``: what a component at one standard deviation adds to each variable.
    correlation
        ``(lag + 1, component)`` autocorrelation by lag (frames).
    sensitivity
        ``(lag + 1, component)`` Fisher information of the population per squared standard deviation and frame, as an
        autocovariance by lag: `nwbrecon.inversion.metric.behavior_sensitivity`.
    """

    mean: np.ndarray
    mixing: np.ndarray
    correlation: np.ndarray
    sensitivity: np.ndarray

    @classmethod
    def measure(cls, aligned: AlignedSession, trials: Sequence[int], longest: int) -> BehaviorModel:
        """Measure it in some trials; the sensitivity, which they do not tell, is zero.

        Parameters
        ----------
        aligned
            The session.
        trials
            Training trials.
        longest
            Largest lag (frames).
        """
        behaviors = [aligned.trial(trial).behavior.astype(float) for trial in trials]
        count = len(aligned.behavior_names)
        model = cls(
            np.full(count, np.nan), np.zeros((count, count)), np.ones((longest + 1, count)), np.zeros((1, count))
        )
        recorded = np.isfinite(np.concatenate(behaviors)).any(axis=0)
        runs = [run for one in behaviors for run in _runs(one[:, recorded])] if recorded.any() else []
        if not runs:
            return model
        values = np.concatenate(runs)
        mean, deviation = values.mean(axis=0), values.std(axis=0)
        unit = np.where(deviation > 0, deviation, 1)
        standard = [(run - mean) / unit for run in runs]
        powers, axes = np.linalg.eigh(sum(run.T @ run for run in standard) / len(values))
        sizes = np.sqrt(powers.clip(1e-6))
        model.mean[recorded] = mean
        model.mixing[np.ix_(recorded, recorded)] = deviation[:, None] * axes * sizes
        for component, of_component in zip(np.flatnonzero(recorded), (axes / sizes).T, strict=True):
            traces = [(run @ of_component)[:, None, None] for run in standard]
            model.correlation[:, component] = autocovariance(traces, (longest, 0, 0))[:, 0, 0]
        return model

    def prior(self, n_frames: int) -> BehaviorPrior | None:
        """Prior of one trial, margins included; ``None`` if nothing of the animal's behavior was ever recorded."""
        return BehaviorPrior(self, n_frames) if np.isfinite(self.mean).any() else None

    def arrays(self) -> dict[str, np.ndarray]:
        """Give all that it holds, by name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


class BehaviorPrior:
    """Gaussian processes with the autocorrelation of training trials, one a principal component, for one trial.

    Like `nwbrecon.inversion.priors.MoviePrior` it is white in coordinates ``z`` on a torus longer than the trial, on
    which the last frame does not neighbor the first: the behavior is ``mean + mixing crop(A z)``.

    Parameters
    ----------
    model
        What is known of the recording's behavior.
    n_frames
        Frames of the clip with its margins.
    weight
        Factor on the negative log-prior.
    """

    def __init__(self, model: BehaviorModel, n_frames: int, weight: float = _WEIGHT) -> None:
        self.n_frames, self.weight = n_frames, weight
        known = len(model.correlation)
        self.torus = int(next_fast_len(n_frames + known, real=True))
        spectrum = np.fft.rfft(model.correlation[np.minimum(_lags(self.torus), known - 1)], axis=0).real
        spectrum = np.maximum(spectrum, _FLOOR * spectrum.mean(axis=0).clip(1e-12))
        # what was below the floor has raised the variance, which is to be one
        variance = multiplicity(self.torus) @ spectrum / self.torus
        self.amplitude = torch.from_numpy(np.sqrt(spectrum / variance)).float()
        self.mean = torch.from_numpy(model.mean).float()
        self.mixing = torch.from_numpy(model.mixing).float()
        self.information = torch.from_numpy(_information(model.sensitivity, self.torus, n_frames)).float()

    def to(self, device: torch.device) -> BehaviorPrior:
        """Move to a device; gives itself."""
        for name in ("amplitude", "mean", "mixing", "information"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the white coordinates: one, frames of the torus, components."""
        return 1, self.torus, len(self.mean)

    def values(self, white: Tensor) -> Tensor:
        """White coordinates ``(1, torus, component)`` to behavior ``(1, time, variable)``; NaN if never recorded."""
        colored = torch.fft.irfft(
            torch.fft.rfft(white, dim=1, norm="ortho") * self.amplitude, n=self.torus, dim=1, norm="ortho"
        )
        return self.mean + colored[:, : self.n_frames] @ self.mixing.T.to(white.dtype)

    def metric(self, gradient: Tensor) -> Tensor:
        """Apply an approximate inverse of the Hessian in white coordinates; as `nwbrecon.inversion.metric.Metric`."""
        factor = 1 / (self.weight + self.amplitude**2 * self.information)
        return torch.fft.irfft(torch.fft.rfft(gradient, dim=1) * factor, n=self.torus, dim=1)


def _information(sensitivity: np.ndarray, torus: int, n_frames: int) -> np.ndarray:
    """Spectrum ``(frequency, component)`` of what the responses to a trial tell about behavior."""
    # estimates at long lags are of few products; the window also keeps the spectrum from being negative
    windowed = sensitivity * np.linspace(1, 0, len(sensitivity) + 1)[:-1, None]
    padded = np.pad(windowed, ((0, max(0, torus - len(windowed))), (0, 0)))
    # every frame of the trial adds its share to what is known of a component of the torus
    return np.fft.rfft(padded[_lags(torus)], axis=0).real.clip(0) * n_frames / torus


def _lags(torus: int) -> np.ndarray:
    return np.minimum(np.arange(torus), torus - np.arange(torus))


def _runs(values: np.ndarray) -> list[np.ndarray]:
    """Cut ``(time, variable)`` at its gaps."""
    known = np.isfinite(values).all(axis=1)
    parts = np.split(values, np.flatnonzero(np.diff(known)) + 1)
    return [part for part in parts if np.isfinite(part).all()]
