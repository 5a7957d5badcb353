"""The part of an encoder that belongs to one session: from feature maps to each ROI."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["PointReadout", "sample_bilinear"]


class PointReadout(nn.Module):
    """Each ROI reads all features at its own, learned position, and the energy of each quadrature pair there.

    During training the position is jittered, with a learned spread, so that it can find its way (the Gaussian readout of
    Lurz et al. 2021, ICLR, "Generalization in data-driven models of primary visual cortex").

    Parameters
    ----------
    n_rois
        Number of ROIs.
    channels
        Number of feature maps; neighbors ``2 k`` and ``2 k + 1`` are a pair.
    map_size
        Rows and columns of the feature maps.
    """

    def __init__(self, n_rois: int, channels: int, map_size: tuple[int, int]) -> None:
        super().__init__()
        self.map_size = map_size
        rows, columns = map_size
        # positions in units of features, from the center of the map
        self.position = nn.Parameter(torch.zeros(n_rois, 2))
        self.log_spread = nn.Parameter(torch.full((n_rois,), math.log(0.02 * (rows + columns) / 2)))
        self.linear = nn.Parameter(torch.zeros(n_rois, channels))
        self.energy = nn.Parameter(torch.zeros(n_rois, channels // 2))
        self.bias = nn.Parameter(torch.zeros(n_rois))

    @property
    def n_rois(self) -> int:
        """Number of ROIs."""
        return self.bias.shape[0]

    def forward(self, features: Tensor) -> Tensor:
        """Drive of each ROI: features ``(batch, time, channel, rows, columns)`` to ``(batch, roi, time)``."""
        batch, time, channels, rows, columns = features.shape
        position = self.position
        if self.training:
            position = position + torch.randn_like(position) * self.log_spread.exp()[:, None]
        flat = features.permute(3, 4, 0, 1, 2).reshape(rows * columns, batch * time * channels)
        local = sample_bilinear(flat, position, self.map_size).view(-1, batch, time, channels)
        energy = pair_energy(local)
        drive = torch.einsum("nbtc,nc->bnt", local, self.linear) + torch.einsum("nbtc,nc->bnt", energy, self.energy)
        return drive + self.bias[:, None]


def pair_energy(features: Tensor) -> Tensor:
    """Energy of each quadrature pair along the last axis, ``(..., channel) -> (..., channel / 2)``; smooth at zero."""
    return torch.sqrt(features[..., 0::2] ** 2 + features[..., 1::2] ** 2 + 0.1)


def sample_bilinear(maps: Tensor, position: Tensor, map_size: tuple[int, int]) -> Tensor:
    """Read maps between their grid points.

    Parameters
    ----------
    maps
        ``(rows * columns, value)``.
    position
        ``(point, 2)`` row and column from the center of the map, in grid points; held inside the map.
    map_size
        Rows and columns.

    Returns
    -------
    torch.Tensor
        ``(point, value)``.
    """
    rows, columns = map_size
    row = (position[:, 0] + (rows - 1) / 2).clamp(0, rows - 1.001)
    column = (position[:, 1] + (columns - 1) / 2).clamp(0, columns - 1.001)
    top, left = row.detach().floor(), column.detach().floor()
    down, right = row - top, column - left
    corner = (top * columns + left).long()
    corners = torch.stack([corner, corner + 1, corner + columns, corner + columns + 1], dim=1)
    weights = torch.stack([(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right], dim=1)
    return _WeightedRows.apply(maps, corners, weights)


class _WeightedRows(torch.autograd.Function):
    """Sum of a few weighted rows of a matrix; whole rows at a time, which plain indexing in autograd does not manage."""

    @staticmethod
    def forward(context, matrix, rows, weights):  # type: ignore[no-untyped-def,override]  # noqa: ANN001, ANN205
        context.save_for_backward(matrix, rows, weights)
        total = matrix[rows[:, 0]] * weights[:, :1]
        for corner in range(1, rows.shape[1]):
            total.addcmul_(matrix[rows[:, corner]], weights[:, corner : corner + 1])
        return total

    @staticmethod
    def backward(context, gradient):  # type: ignore[no-untyped-def,override]  # noqa: ANN001, ANN205
        matrix, rows, weights = context.saved_tensors
        matrix_gradient = weights_gradient = None
        if context.needs_input_grad[0]:
            matrix_gradient = torch.zeros_like(matrix)
            for corner in range(rows.shape[1]):
                matrix_gradient.index_add_(0, rows[:, corner], gradient * weights[:, corner : corner + 1])
        if context.needs_input_grad[2]:
            weights_gradient = torch.stack(
                [(gradient * matrix[rows[:, corner]]).sum(dim=1) for corner in range(rows.shape[1])], dim=1
            )
        return matrix_gradient, None, weights_gradient
