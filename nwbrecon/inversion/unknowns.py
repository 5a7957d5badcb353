"""What else is unknown of a trial, and is found along with the movie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from nwbrecon.encoding.likelihoods import Likelihood
from nwbrecon.encoding.observation import Observation
from nwbrecon.encoding.shared_gain import SharedGain, SmoothProcess

__all__ = ["GainPrior", "Unknown"]


class Unknown(Protocol):
    """Prior of something that changes during a trial, in coordinates in which it is white."""

    weight: float
    """Factor on the negative log-prior."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the white coordinates; the first axis has length one."""
        ...

    def values(self, white: Tensor) -> Tensor:
        """White coordinates to what is unknown, ``(1, time, ...)`` for the clip with its margins."""
        ...

    def metric(self, gradient: Tensor) -> Tensor:
        """Apply an approximate inverse of the Hessian in white coordinates; as `nwbrecon.inversion.metric.Metric`."""
        ...


class GainPrior:
    """Prior of the gain that the ROIs of one trial share; see `nwbrecon.encoding.shared_gain.SharedGain`.

    Parameters
    ----------
    model
        How strongly the ROIs follow the gain, and how fast it changes.
    n_frames
        Frames of the clip with its margins.
    frame_rate
        Frames per second (Hz).
    """

    weight = 1.0

    def __init__(self, model: SharedGain, n_frames: int, frame_rate: float) -> None:
        self.process = SmoothProcess(n_frames, model.seconds, frame_rate)
        self.loading = torch.from_numpy(model.loading).float()
        self.information = 0.0

    def to(self, device: torch.device) -> GainPrior:
        """Move to a device; gives itself."""
        self.process.to(device)
        self.loading = self.loading.to(device)
        return self

    @property
    def shape(self) -> tuple[int, int]:
        """Of the white coordinates: one, frames of the torus."""
        return 1, self.process.torus

    def values(self, white: Tensor) -> Tensor:
        """White coordinates ``(1, torus)`` to the gain ``(1, time)``, a logarithm at a loading of one."""
        return self.process.values(white[0])[None]

    def factor(self, gain: Tensor) -> Tensor:
        """Give what the gain ``(1, time)`` multiplies rates with: ``(1, roi, time)``."""
        return torch.exp(self.loading[:, None] * gain[:, None])

    def metric(self, gradient: Tensor) -> Tensor:
        """Apply an approximate inverse of the Hessian, as if the responses told as much in every frame."""
        factor = 1 / (self.weight + self.process.amplitude**2 * self.information)
        return self.process.filter(gradient[0], factor)[None]

    def observe(self, observations: Sequence[Observation], likelihoods: Sequence[Likelihood], weights: Tensor) -> None:
        """Add up the Fisher information of responses about the gain, were the mean response expected throughout.

        Parameters
        ----------
        observations
            What was measured, one a response group.
        likelihoods
            Of each group.
        weights
            ``(roi of all groups,)`` of the log-likelihoods.
        """
        for seen, likelihood in zip(observations, likelihoods, strict=True):
            count = seen.known.sum(dim=(0, 1))
            mean = (seen.measured * seen.known).sum(dim=(0, 1)) / count.clamp_min(1)
            precision = weights[seen.rois] / likelihood.variance(mean)
            about = (count * precision * (mean * self.loading[seen.rois]).square()).sum()
            self.information += float(about) / self.process.n_frames
