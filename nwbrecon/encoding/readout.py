"""The readout whose ROIs read at points: from feature maps to each ROI."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nwbrecon.encoding.parts import Readout, pair_energy
from nwbrecon.encoding.trainable import Pace

__all__ = ["PointReadout"]

# weight of an own pair's weights in the size of a readout: it is chosen by no fit, and has to be found first
_OF_OWN_PAIR = 0.3


class PointReadout(Readout):
    """Each ROI reads all features at its own, learned position, and energies there: of each pair, and of its own pair.

    The ROI's own pair are two sums of features, with weights of its own; the pairs that all share are too few to make
    up the energies of other filters. During training the position is jittered, with a learned spread, so that it can
    find its way (the Gaussian readout of Lurz et al. 2021, ICLR, "Generalization in data-driven models of primary
    visual cortex").

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
        # in units of features, from the center of the map
        self.position = nn.Parameter(torch.zeros(n_rois, 2))
        self.log_spread = nn.Parameter(torch.full((n_rois,), math.log(0.02 * sum(map_size) / 2)))
        self.linear = nn.Parameter(torch.zeros(n_rois, channels))
        self.energy = nn.Parameter(torch.zeros(n_rois, channels // 2))
        self.own_pair = nn.Parameter(torch.zeros(n_rois, 2, channels))
        self.own_energy = nn.Parameter(torch.zeros(n_rois))
        self.bias = nn.Parameter(torch.zeros(n_rois))

    def forward(self, features: Tensor, suppression: Tensor | None) -> Tensor:
        """Drive of each ROI.

        Parameters
        ----------
        features
            ``(batch, time, channel, rows, columns)``.
        suppression
            ``(batch, time, rows, columns)`` factor on what is read at each place; ``None`` for 1 everywhere.

        Returns
        -------
        torch.Tensor
            ``(batch, roi, time)``.
        """
        # in reduced precision positions would snap to places, and sums over features lose their tail
        with torch.autocast(features.device.type, enabled=False):
            factor = None if suppression is None else suppression.to(self.bias.dtype)
            return self._drive(features.to(self.bias.dtype), factor)

    @property
    def positions(self) -> Tensor:
        """``(roi, 2)`` row and column where each ROI reads, in features from the center of the map."""
        return self.position

    @torch.no_grad()
    def place(self, rois: slice, position: Tensor, linear: Tensor, energy: Tensor, bias: Tensor) -> None:
        """Start from a linear fit; see `Readout.place`. The pair that counts most becomes the ROI's own."""
        self.position[rois], self.linear[rois], self.bias[rois] = position, linear, bias
        weight, chosen = energy.max(dim=1, keepdim=True)
        self.energy[rois], self.own_energy[rois] = energy.scatter(1, chosen, 0.0), weight[:, 0]
        both = torch.stack([chosen, chosen + energy.shape[1]], dim=1)
        self.own_pair[rois] = torch.zeros_like(self.own_pair[rois]).scatter(2, both, 1.0)

    def size(self) -> Tensor:
        """Sum of the absolute weights of all ROIs; those of their own pairs count less."""
        own = (self.own_energy[:, None, None] * self.own_pair).abs().sum()
        return self.linear.abs().sum() + self.energy.abs().sum() + _OF_OWN_PAIR * own

    def pace(self, name: str) -> Pace:
        """Positions and spreads learn fast and, as the own pairs, without decay; all else as the settings say."""
        # they are in feature widths and must be free to move; decay would pull them to the center
        if name in ("position", "log_spread"):
            return Pace(10.0, decays=False)
        # what an own pair is decided by its direction: how large it is, its weight says
        return Pace(decays=name != "own_pair")

    def _drive(self, features: Tensor, suppression: Tensor | None) -> Tensor:
        batch, time, channels, rows, columns = features.shape
        position: Tensor = self.position
        linear, energy, own_energy = (self.dropped(part) for part in (self.linear, self.energy, self.own_energy))
        if self.training:
            # drawn on the CPU, so that a seed means the same everywhere
            jitter = torch.randn(position.shape, dtype=position.dtype).to(position)
            position = position + jitter * self.log_spread.exp()[:, None]
        corners, weights = _corners(position, self.map_size)
        # whole places next to one another in memory, so that reading one is a copy of a row
        places = features.permute(3, 4, 0, 1, 2).reshape(rows * columns, batch * time, channels)
        drive = _LocalDrive.apply(  # type: ignore[no-untyped-call]
            places, corners, weights, torch.cat([linear[:, None], self.own_pair], dim=1), energy, own_energy
        )
        if suppression is not None:
            factor = suppression.permute(2, 3, 0, 1).reshape(rows * columns, batch * time)
            # not by brackets: the gradient of those adds in an order that changes from run to run
            factor = factor.index_select(0, corners.flatten()).view(*corners.shape, -1)
            drive = drive * (factor * weights[:, :, None]).sum(dim=1)
        return (drive + self.bias[:, None]).view(-1, batch, time).transpose(0, 1)


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
        context: Any,
        places: Tensor,
        corners: Tensor,
        weights: Tensor,
        sums: Tensor,
        energy: Tensor,
        own_energy: Tensor,
    ) -> Tensor:
        # sums over bags read each place once; indexing would write it out first
        local = functional.embedding_bag(corners, places.flatten(1), per_sample_weights=weights, mode="sum")
        local = local.view(-1, *places.shape[1:])
        strength = pair_energy(local)
        # what is linear, and both of the own pair: (roi, time, sum)
        parts = local @ sums.transpose(1, 2)
        own_strength = pair_energy(parts[..., 1:])
        context.save_for_backward(
            places, corners, weights, sums, energy, own_energy, local, strength, parts, own_strength
        )
        return (parts[..., :1] + strength @ energy[:, :, None] + own_strength * own_energy[:, None, None])[..., 0]

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (places, corners, weights, sums, energy, own_energy, local, strength, parts, own_strength) = (
            context.saved_tensors
        )
        (gradient,) = gradients
        # d energy / d feature = feature / energy
        of_parts = gradient[:, :, None] * own_energy[:, None, None] / own_strength * parts
        of_parts[..., 0] = gradient
        of_sums = of_parts.transpose(1, 2) @ local if context.needs_input_grad[3] else None
        of_energy = (gradient[:, None] @ strength)[:, 0] if context.needs_input_grad[4] else None
        of_own_energy = (gradient[:, None] @ own_strength)[:, 0, 0] if context.needs_input_grad[5] else None
        of_places = of_weights = None
        if context.needs_input_grad[0] or context.needs_input_grad[2]:
            share = (gradient[:, :, None] * energy[:, None]).div_(strength)
            of_local = of_parts @ sums
            half = share.shape[2]
            of_local[..., :half].addcmul_(share, local[..., :half])
            of_local[..., half:].addcmul_(share, local[..., half:])
            if context.needs_input_grad[0]:
                of_places = _of_places(of_local.flatten(1), corners, weights, len(places)).view_as(places)
            if context.needs_input_grad[2]:
                of_weights = torch.stack(
                    [(of_local * places[corners[:, corner]]).sum(dim=(1, 2)) for corner in range(4)], dim=1
                )
        return of_places, None, of_weights, of_sums, of_energy, of_own_energy


def _of_places(of_local: Tensor, corners: Tensor, weights: Tensor, n_places: int) -> Tensor:
    """Add up what the ROIs around each place say, ``(roi, value)`` to ``(place, value)``, in the order of the ROIs."""
    order = torch.argsort(corners.flatten(), stable=True)
    first = torch.searchsorted(corners.flatten()[order], torch.arange(n_places, device=corners.device))
    rois = order // corners.shape[1]
    return functional.embedding_bag(rois, of_local, first, per_sample_weights=weights.flatten()[order], mode="sum")
