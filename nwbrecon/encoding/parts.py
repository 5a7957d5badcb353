"""What an encoder is composed of: a core that sessions share, and a readout that belongs to one."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from nwbrecon.encoding.trainable import Pace

__all__ = ["Core", "Readout", "pair_energy", "set_dropout"]

# keeps the energy smooth where both filters of a pair are silent
_ENERGY_FLOOR = 0.1


class Core(nn.Module, ABC):
    """From video to feature maps: what all ROIs and sessions share.

    Attributes
    ----------
    channels
        Number of feature maps; even: ``k`` and ``k + channels / 2`` are a pair, whose energy readouts read too.
    stride
        Pixels between neighboring features, of which the first is centered on the first pixel.
    temporal_stride
        Frames between successive features, of which the first is that of the first frame.
    past, ahead
        Frames before and after its own that a feature depends on.
    """

    channels: int
    stride: int
    temporal_stride: int
    past: int
    ahead: int

    @abstractmethod
    def forward(self, video: Tensor) -> tuple[Tensor, Tensor | None]:
        """Feature maps of a video.

        Parameters
        ----------
        video
            ``(batch, 1, time, height, width)``, zero mean and unit variance over the training movies. Frames before
            the first and after the last are taken to be zero.

        Returns
        -------
        features : torch.Tensor
            ``(batch, step, channel, rows, columns)``, a step every ``temporal_stride`` frames from the first on, with
            ``ceil(size / stride)`` rows and columns.
        suppression : torch.Tensor or None
            ``(batch, step, rows, columns)`` factor on what is read at each place; ``None`` for 1 everywhere.
        """

    @abstractmethod
    def rescale(self, video: Tensor) -> None:
        """Scale the weights so that every feature of ``video`` has unit standard deviation, before any training."""

    def pace(self, name: str) -> Pace:
        """How fast the parameter of this name learns."""
        return Pace()


class Readout(nn.Module, ABC):
    """From feature maps to the drive of each ROI of one session.

    Attributes
    ----------
    map_size
        Rows and columns of the feature maps.
    bias
        ``(roi,)`` drive without features.
    dropout
        Share of the weights of features that are left out of a step of training, others in each.
    """

    map_size: tuple[int, int]
    bias: nn.Parameter
    dropout: float = 0.0

    @property
    def n_rois(self) -> int:
        """Number of ROIs."""
        return self.bias.shape[0]

    @property
    @abstractmethod
    def positions(self) -> Tensor:
        """``(roi, 2)`` row and column where each ROI reads, in features from the center of the map."""

    @abstractmethod
    def forward(self, features: Tensor, suppression: Tensor | None) -> Tensor:
        """Drive ``(batch, roi, time)`` of each ROI; what it is given is what a `Core` gives."""

    @abstractmethod
    def place(self, rois: slice, position: Tensor, linear: Tensor, energy: Tensor, bias: Tensor) -> None:
        """Start from a linear fit.

        Parameters
        ----------
        rois
            Which ROIs these are.
        position
            ``(roi, 2)`` row and column, in features from the center of the map.
        linear, energy
            ``(roi, channel)`` and ``(roi, channel / 2)`` weights of the features there, and of the energies of pairs.
        bias
            ``(roi,)``.
        """

    @abstractmethod
    def size(self) -> Tensor:
        """Sum of the absolute weights of all ROIs: what little data can overfit."""

    def pace(self, name: str) -> Pace:
        """How fast the parameter of this name learns."""
        return Pace()

    def dropped(self, weights: Tensor) -> Tensor:
        """Weights as they take part in a step of training; in evaluation mode all of them."""
        if not (self.training and self.dropout):
            return weights
        # each ROI does without other features (Wan et al. 2013, ICML, "Regularization of neural networks using
        # DropConnect"), in all stretches of a step alike, so that a step can be computed in parts
        kept = torch.rand(weights.shape).to(weights) >= self.dropout
        return weights * kept / (1 - self.dropout)


def set_dropout(encoder: nn.Module, share: float) -> None:
    """Let the readouts of an encoder leave out this share of their weights, others in each step of training."""
    for module in encoder.modules():
        if isinstance(module, Readout):
            module.dropout = share


def pair_energy(features: Tensor) -> Tensor:
    """Energy of each quadrature pair along the last axis: ``(..., channel)`` to ``(..., channel / 2)``."""
    even, odd = features.chunk(2, dim=-1)
    return torch.sqrt(even * even + odd * odd + _ENERGY_FLOOR)
