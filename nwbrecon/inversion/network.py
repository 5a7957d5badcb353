"""The network of the amortized decoder: responses in, movie out."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["FINE", "DecoderNetwork"]

FINE = 2
"""Pixels of the network's movie to a cell of its maps, in rows and in columns."""

# steps of responses that a ROI's own weights look at: as many before a step as after it, and these
_LAGS, _BEFORE = 8, 2
_CHANNELS = (32, 48, 64)
# width of the bump through which a ROI speaks to the maps (cells)
_SPREAD = 0.7


class DecoderNetwork(nn.Module):
    """Responses go to feature maps around each ROI's receptive field; a U-net makes a movie of the maps.

    A ROI's weights over lags and channels are its own; convolutions in space, then in time, are the same everywhere.
    Coarse levels (U-net: Ronneberger, Fischer & Brox 2015, MICCAI 234-241; space apart from time: Tran et al. 2018,
    CVPR 6450-6459) see the whole screen and several seconds: what stands still is told by all that is said of it.

    Parameters
    ----------
    positions
        ``(roi, 2)`` row and column of receptive fields on the maps (cells; 0 is the center of the first).
    grid
        Rows and columns of the maps.
    lead, tail
        Steps of responses before the first and after the last step that is decoded.
    """

    bump: Tensor

    def __init__(self, positions: np.ndarray, grid: tuple[int, int], lead: int, tail: int) -> None:
        super().__init__()
        self.grid, self.lead, self.tail = grid, lead, tail
        rows, columns = np.indices(grid).reshape(2, -1)
        distance = (rows - positions[:, :1]) ** 2 + (columns - positions[:, 1:]) ** 2
        # the nearest cell hears even a ROI whose field is outside
        bump = np.exp(-0.5 * (distance - distance.min(axis=1, keepdims=True)) / _SPREAD**2)
        bump /= np.sqrt((bump**2).sum(axis=1, keepdims=True))
        # of the positions, and so not kept
        self.register_buffer("bump", torch.from_numpy(bump).float(), persistent=False)
        n_rois = len(positions)
        # of the order of one on the maps, however many ROIs speak to a cell
        size = 0.3 / (_LAGS * max(1.0, n_rois / 100)) ** 0.5
        self.drive = nn.Parameter(size * torch.randn(n_rois, _LAGS, _CHANNELS[0]))
        self.bias = nn.Parameter(torch.zeros(_CHANNELS[0]))
        pairs = [*pairwise(_CHANNELS)]
        self.first = _Block(_CHANNELS[0], _CHANNELS[0])
        self.down = nn.ModuleList([_Block(near, far) for near, far in pairs])
        self.across = nn.ModuleList([nn.Conv3d(far, near, 1) for near, far in pairs])
        self.up = nn.ModuleList([_Block(near, near) for near, _ in pairs])
        self.out = nn.Conv3d(_CHANNELS[0], FINE**2, (1, 3, 3), padding=(0, 1, 1))
        # it begins at the mean movie
        nn.init.zeros_(self.out.weight)
        self.mean = nn.Parameter(torch.zeros(FINE * grid[0], FINE * grid[1]))

    def forward(self, responses: Tensor) -> Tensor:
        """Decode standardized responses.

        Parameters
        ----------
        responses
            ``(batch, lead + step + tail, roi)``; zero where not known.

        Returns
        -------
        torch.Tensor
            ``(batch, step, 2 x row, 2 x column)`` standardized movie.
        """
        batch, steps, n_rois = responses.shape
        padded = functional.pad(responses, (0, 0, _BEFORE, _LAGS - _BEFORE - 1))
        driven = torch.einsum("btrl,rlc->rbtc", padded.unfold(1, _LAGS, 1), self.drive)
        maps = (self.bump.T @ driven.reshape(n_rois, -1)).view(*self.grid, batch, steps, -1)
        levels = [self.first(maps.permute(2, 4, 3, 0, 1).contiguous() + self.bias.view(-1, 1, 1, 1))]
        for block in self.down:
            halves = [min(2, size) for size in levels[-1].shape[2:]]
            levels.append(block(functional.avg_pool3d(levels[-1], halves, ceil_mode=True, count_include_pad=False)))
        made = levels.pop()
        for across, block in zip(reversed(self.across), reversed(self.up), strict=True):
            near: Tensor = levels.pop()
            coarse = functional.interpolate(across(made), size=near.shape[2:], mode="trilinear", align_corners=False)
            made = block(coarse + near)
        made = self.out(made[:, :, self.lead : steps - self.tail])
        # one pixel of every cell's square after the other goes to its row and column
        rows, columns = self.grid
        squares = made.reshape(batch, FINE, FINE, -1, rows, columns).permute(0, 3, 4, 1, 5, 2)
        movie = squares.reshape(batch, -1, FINE * rows, FINE * columns)
        return movie + self.mean


class _Block(nn.Module):
    """Convolution in space, then in time, beside what it was given."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.space = nn.Conv3d(inputs, outputs, (1, 3, 3), padding=(0, 1, 1))
        self.time = nn.Conv3d(outputs, outputs, (3, 1, 1), padding=(1, 0, 0))
        self.mix = nn.Conv3d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = functional.relu(self.time(functional.relu(self.space(x))))
        return self.mix(x) + changed
