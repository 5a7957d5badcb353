"""The part of an encoder that belongs to one session: from feature maps to each ROI."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["PointReadout", "pair_energy", "set_dropout"]

# keeps the energy smooth where both filters of a pair are silent
_ENERGY_FLOOR = 0.1


class PointReadout(nn.Module):
    """Each ROI reads all features at its own, learned position, and the energy of each quadrature pair there.

    During training the position is jittered, with a learned spread, so that it can find its way (the Gaussian readout
    of Lurz et al. 2021, ICLR, "Generalization in data-driven models of primary visual cortex").

    Parameters
    ----------
    n_rois
        Number of ROIs.
    channels
        Number of feature maps; ``k`` and ``k + channels / 2`` are a pair.
    map_size
        Rows and columns of the feature maps.
    """

    def __init__(self, n_rois: int, channels: int, map_size: tuple[int, int]) -> None:
        super().__init__()
        self.map_size = map_size
        # share of the weights that are left out of a step of training
        self.dropout = 0.0
        # in units of features, from the center of the map
        self.position = nn.Parameter(torch.zeros(n_rois, 2))
        self.log_spread = nn.Parameter(torch.full((n_rois,), math.log(0.02 * sum(map_size) / 2)))
        self.linear = nn.Parameter(torch.zeros(n_rois, channels))
        self.energy = nn.Parameter(torch.zeros(n_rois, channels // 2))
        self.bias = nn.Parameter(torch.zeros(n_rois))

    @property
    def n_rois(self) -> int:
        """Number of ROIs."""
        return self.bias.shape[0]

    def forward(self, features: Tensor, suppression: Tensor) -> Tensor:
        """Drive of each ROI.

        Parameters
        ----------
        features
            ``(batch, time, channel, rows, columns)``.
        suppression
            ``(batch, time, rows, columns)`` factor on what is read at each place.

        Returns
        -------
        torch.Tensor
            ``(batch, roi, time)``.
        """
        # in reduced precision positions would snap to places, and sums over features lose their tail
        with torch.autocast(features.device.type, enabled=False):
            return self._drive(features.to(self.bias.dtype), suppression.to(self.bias.dtype))

    def _drive(self, features: Tensor, suppression: Tensor) -> Tensor:
        batch, time, channels, rows, columns = features.shape
        position: Tensor = self.position
        linear, energy = self._dropped(self.linear), self._dropped(self.energy)
        if self.training:
            # drawn on the CPU, so that a seed means the same everywhere
            jitter = torch.randn(position.shape, dtype=position.dtype).to(position)
            position = position + jitter * self.log_spread.exp()[:, None]
        corners, weights = _corners(position, self.map_size)
        # whole places next to one another in memory, so that reading one is a copy of a row
        places = features.permute(3, 4, 0, 1, 2).reshape(rows * columns, batch * time, channels)
        drive = _LocalDrive.apply(places, corners, weights, linear, energy)  # type: ignore[no-untyped-call]
        factor = suppression.permute(2, 3, 0, 1).reshape(rows * columns, batch * time)
        # not by brackets: the gradient of those adds in an order that changes from run to run
        factor = factor.index_select(0, corners.flatten()).view(*corners.shape, -1)
        factor = (factor * weights[:, :, None]).sum(dim=1)
        return (drive * factor + self.bias[:, None]).view(-1, batch, time).transpose(0, 1)

    def _dropped(self, weights: Tensor) -> Tensor:
        if not (self.training and self.dropout):
            return weights
        # each ROI does without other features (Wan et al. 2013, ICML, "Regularization of neural networks using
        # DropConnect"), in all stretches of a step alike, so that a step can be computed in parts
        kept = torch.rand(weights.shape).to(weights) >= self.dropout
        return weights * kept / (1 - self.dropout)


def set_dropout(encoder: nn.Module, share: float) -> None:
    """Let the readouts of an encoder leave out this share of their weights, others in each step of training."""
    for module in encoder.modules():
        if isinstance(module, PointReadout):
            module.dropout = share


def pair_energy(features: Tensor) -> Tensor:
    """Energy of each quadrature pair along the last axis: ``(..., channel)`` to ``(..., channel / 2)``."""
    even, odd = features.chunk(2, dim=-1)
    return torch.sqrt(even * even + odd * odd + _ENERGY_FLOOR)


def _corners(position: Tensor, map_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Grid points around each position and their weights in bilinear interpolation, ``(roi, 4)`` both."""
    rows, columns = map_size
    row = (position[:, 0] + (rows - 1) / 2).clamp(0, max(0, rows - 1.001))
    column = (position[:, 1] + (columns - 1) / 2).clamp(0, max(0, columns - 1.001))
    top, left = row.detach().floor(), column.detach().floor()
    down, right = row - top, column - left
    corner = (top * columns + left).long()
    # a map of a single row or column has no place beside
    below, beside = columns * (rows > 1), int(columns > 1)
    return (
        torch.stack([corner, corner + beside, corner + below, corner + below + beside], dim=1),
        torch.stack([(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right], dim=1),
    )


class _LocalDrive(torch.autograd.Function):
    """Weighted features and energies at each ROI's position.

    Written out since the local features, ``(roi, time, channel)``, are the largest array of the encoder: plain autograd
    would pass over it some twenty times.
    """

    @staticmethod
    def forward(
        context: Any, places: Tensor, corners: Tensor, weights: Tensor, linear: Tensor, energy: Tensor
    ) -> Tensor:
        local = places[corners[:, 0]].mul_(weights[:, 0, None, None])
        for corner in range(1, 4):
            local.addcmul_(places[corners[:, corner]], weights[:, corner, None, None])
        strength = pair_energy(local)
        context.save_for_backward(places, corners, weights, linear, energy, local, strength)
        return torch.baddbmm(strength @ energy[:, :, None], local, linear[:, :, None])[:, :, 0]

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        places, corners, weights, linear, energy, local, strength = context.saved_tensors
        (gradient,) = gradients
        of_linear = (gradient[:, None] @ local)[:, 0] if context.needs_input_grad[3] else None
        of_energy = (gradient[:, None] @ strength)[:, 0] if context.needs_input_grad[4] else None
        of_places = of_weights = None
        if context.needs_input_grad[0] or context.needs_input_grad[2]:
            # d energy / d feature = feature / energy
            share = (gradient[:, :, None] * energy[:, None]).div_(strength)
            of_local = gradient[:, :, None] * linear[:, None]
            half = share.shape[2]
            of_local[..., :half].addcmul_(share, local[..., :half])
            of_local[..., half:].addcmul_(share, local[..., half:])
            if context.needs_input_grad[0]:
                of_places = torch.zeros_like(places)
                for corner in range(4):
                    of_places.index_add_(0, corners[:, corner], of_local * weights[:, corner, None, None])
            if context.needs_input_grad[2]:
                of_weights = torch.stack(
                    [(of_local * places[corners[:, corner]]).sum(dim=(1, 2)) for corner in range(4)], dim=1
                )
        return of_places, None, of_weights, of_linear, of_energy
