"""The readout whose ROIs see through masks: from feature maps to each ROI."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nwbrecon.encoding.parts import Readout, pair_energy
from nwbrecon.encoding.trainable import Pace

__all__ = ["MaskReadout"]

# standard deviation of the spot that a mask begins as (features)
_SPOT = 0.7
# an entry of a mask is small beside a weight, and so is what it may change by in a step
_MASK_PACE = 0.1


class MaskReadout(Readout):
    """Each ROI weighs all features, and the energy of each quadrature pair, and sums them over its own mask.

    Weights that factorize into *where* and *what* (Klindt, Ecker, Euler & Bethge 2017, NeurIPS, "Neural system
    identification for large populations separating 'what' and 'where'"). The mask is the absolute value of its
    parameter, so that it has a center.

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
        n_places = map_size[0] * map_size[1]
        self.mask = nn.Parameter(torch.full((n_rois, n_places), 1 / n_places))
        self.linear = nn.Parameter(torch.zeros(n_rois, channels))
        self.energy = nn.Parameter(torch.zeros(n_rois, channels // 2))
        self.bias = nn.Parameter(torch.zeros(n_rois))

    def forward(self, features: Tensor, suppression: Tensor | None) -> Tensor:
        """Drive of each ROI; see `Readout.forward`."""
        # sums over places and features lose their tail in reduced precision
        with torch.autocast(features.device.type, enabled=False):
            factor = None if suppression is None else suppression.to(self.bias.dtype)
            return self._drive(features.to(self.bias.dtype), factor)

    def _drive(self, features: Tensor, suppression: Tensor | None) -> Tensor:
        batch, time, channels, rows, columns = features.shape
        places = features.permute(3, 4, 0, 1, 2).reshape(rows * columns, batch * time, channels)
        local = torch.cat([places, pair_energy(places)], dim=2)
        if suppression is not None:
            local = local * suppression.permute(2, 3, 0, 1).reshape(rows * columns, batch * time, 1)
        seen = (self.mask.abs() @ local.flatten(1)).view(self.n_rois, batch * time, -1)
        weights = torch.cat([self.dropped(self.linear), self.dropped(self.energy)], dim=1)
        drive = (seen @ weights[:, :, None])[:, :, 0]
        return (drive + self.bias[:, None]).view(-1, batch, time).transpose(0, 1)

    @property
    def positions(self) -> Tensor:
        """``(roi, 2)`` row and column of the center of mass of each mask, in features from the center of the map."""
        mask = self.mask.abs()
        return mask @ self._grid() / mask.sum(dim=1, keepdim=True).clamp_min(1e-12)

    @torch.no_grad()
    def place(self, rois: slice, position: Tensor, linear: Tensor, energy: Tensor, bias: Tensor) -> None:
        """Start from a linear fit: masks are spots of unit sum around the positions; see `Readout.place`."""
        distance = (self._grid()[None] - position[:, None]).square().sum(dim=2)
        spots = torch.softmax(-distance / (2 * _SPOT**2), dim=1)
        self.mask[rois], self.linear[rois], self.energy[rois], self.bias[rois] = spots, linear, energy, bias

    def size(self) -> Tensor:
        """Sum over ROIs, features and places of the absolute products of mask and weight.

        For a mask of unit sum, such as bilinear interpolation is, that is the sum of the absolute weights; it does not
        change where a factor goes from weights to mask.
        """
        weights = self.linear.abs().sum(dim=1) + self.energy.abs().sum(dim=1)
        return (self.mask.abs().sum(dim=1) * weights).sum()

    def pace(self, name: str) -> Pace:
        """Masks learn slowly and without decay, which their penalty takes the place of."""
        return Pace(_MASK_PACE, decays=False) if name == "mask" else Pace()

    def _grid(self) -> Tensor:
        """``(place, 2)`` row and column from the center of the map."""
        axes = [torch.arange(size, device=self.mask.device) - (size - 1) / 2 for size in self.map_size]
        return torch.cartesian_prod(*axes).view(-1, 2).to(self.mask)
