"""The network of the amortized decoder: responses in, movie out."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

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
# width of the bump through which a ROI speaks to the maps (cells), and what it is at least where it is not nothing
_SPREAD, _FAINT = 0.7, 0.01


class DecoderNetwork(nn.Module):
    """Responses go to feature maps around each ROI's receptive field; a U-net makes a movie of the maps.

    A ROI's weights over lags and channels are its own; convolutions in space, then in time, are the same everywhere.
    Coarse levels (U-net: Ronneberger, Fischer & Brox 2015, MICCAI 234-241; space apart from time: Tran et al. 2018,
    CVPR 6450-6459) see the whole screen and several seconds: what stands still is told by all that is said of it.
    Channels are last in memory everywhere, so that convolutions in time are matrix products.

    Parameters
    ----------
    positions
        ``(roi, 2)`` row and column of receptive fields on the maps (cells; 0 is the center of the first).
    grid
        Rows and columns of the maps.
    lead, tail
        Steps of responses before the first and after the last step that is decoded.
    """

    def __init__(self, positions: np.ndarray, grid: tuple[int, int], lead: int, tail: int) -> None:
        super().__init__()
        self.grid, self.lead, self.tail = grid, lead, tail
        bump = _bumps(positions, grid)
        # of the positions, and so not kept
        self.to_cells, self.to_rois = _Bags(bump.T), _Bags(bump)
        n_rois = len(positions)
        # of the order of one on the maps, however many ROIs speak to a cell
        size = 0.3 / (_LAGS * max(1.0, n_rois / 100)) ** 0.5
        self.drive = nn.Parameter(size * torch.randn(n_rois, _LAGS, _CHANNELS[0]))
        self.bias = nn.Parameter(torch.zeros(_CHANNELS[0]))
        pairs = [*pairwise(_CHANNELS)]
        self.first = _Block(_CHANNELS[0], _CHANNELS[0])
        self.down = nn.ModuleList([_Block(near, far) for near, far in pairs])
        self.across = nn.ModuleList([nn.Linear(far, near) for near, far in pairs])
        self.up = nn.ModuleList([_Block(near, near) for near, _ in pairs])
        self.out = nn.Conv2d(_CHANNELS[0], FINE**2, 3, padding=1)
        # it begins at the mean movie
        nn.init.zeros_(self.out.weight)
        self.mean = nn.Parameter(torch.zeros(FINE * grid[0], FINE * grid[1]))

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.bias.device

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
        maps: Tensor = _Spread.apply(driven.reshape(n_rois, -1), self.to_cells, self.to_rois)  # type: ignore[no-untyped-call]
        maps = maps.view(*self.grid, batch, steps, -1).permute(2, 3, 0, 1, 4) + self.bias
        levels = [self.first(maps.contiguous())]
        for block in self.down:
            levels.append(block(_halved(levels[-1])))
        made = levels.pop()
        for across, block in zip(reversed(self.across), reversed(self.up), strict=True):
            near: Tensor = levels.pop()
            made = block(near + _enlarged(across(made), near))
        rows, columns = self.grid
        made = _in_space(self.out, made[:, self.lead : steps - self.tail])
        # one pixel of every cell's square after the other goes to its row and column
        squares = made.reshape(batch, -1, rows, columns, FINE, FINE).permute(0, 1, 2, 4, 3, 5)
        return squares.reshape(batch, -1, FINE * rows, FINE * columns) + self.mean


class _Block(nn.Module):
    """Convolution in space, then in time, beside what it was given."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.space = nn.Conv2d(inputs, outputs, 3, padding=1)
        # of the step before, the step and the step after
        self.time = nn.Linear(3 * outputs, outputs)
        self.mix = nn.Linear(inputs, outputs) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, step, row, column, channel)`` to the same, with other channels."""
        near = functional.pad(functional.relu(_in_space(self.space, x)), (0, 0, 0, 0, 0, 0, 1, 1))
        changed = functional.relu(self.time(torch.cat([near[:, :-2], near[:, 1:-1], near[:, 2:]], dim=-1)))
        mixed: Tensor = self.mix(x)
        return mixed + changed


def _in_space(convolution: nn.Module, x: Tensor) -> Tensor:
    """Convolve every step of ``(batch, step, row, column, channel)``."""
    found: Tensor = convolution(x.flatten(0, 1).permute(0, 3, 1, 2))
    return found.permute(0, 2, 3, 1).reshape(*x.shape[:4], -1)


def _halved(x: Tensor) -> Tensor:
    """Means over two steps, rows and columns of ``(batch, step, row, column, channel)``."""
    halves = [min(2, size) for size in x.shape[1:4]]
    pooled = functional.avg_pool3d(x.permute(0, 4, 1, 2, 3), halves, ceil_mode=True, count_include_pad=False)
    return pooled.permute(0, 2, 3, 4, 1).contiguous()


def _enlarged(coarse: Tensor, like: Tensor) -> Tensor:
    """Interpolate ``(batch, step, row, column, channel)`` to as many steps, rows and columns as another has."""
    fine = functional.interpolate(coarse.permute(0, 4, 1, 2, 3), size=like.shape[1:4], mode="trilinear")
    return fine.permute(0, 2, 3, 4, 1)


def _bumps(positions: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """How loud each ROI is in each cell: ``(roi, cell)``, of unit length."""
    rows, columns = np.indices(grid).reshape(2, -1)
    distance = (rows - positions[:, :1]) ** 2 + (columns - positions[:, 1:]) ** 2
    # the nearest cell hears even a ROI whose field is outside
    bumps = np.exp(-0.5 * (distance - distance.min(axis=1, keepdims=True)) / _SPREAD**2)
    bumps[bumps < _FAINT] = 0
    return bumps / np.sqrt((bumps**2).sum(axis=1, keepdims=True))


class _Bags(nn.Module):
    """A matrix of few entries, by which rows of another are added up."""

    index: Tensor
    first: Tensor
    weights: Tensor

    def __init__(self, matrix: np.ndarray) -> None:
        super().__init__()
        row, column = np.nonzero(matrix)
        self.register_buffer("index", torch.from_numpy(column), persistent=False)
        self.register_buffer("first", torch.from_numpy(np.searchsorted(row, np.arange(len(matrix)))), persistent=False)
        self.register_buffer("weights", torch.from_numpy(matrix[row, column]).float(), persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        """Product of the matrix with ``rows``."""
        return functional.embedding_bag(
            self.index, rows, self.first, per_sample_weights=self.weights.to(rows), mode="sum"
        )


class _Spread(torch.autograd.Function):
    """Product with a matrix of few entries, of which the transposed one is known."""

    @staticmethod
    def forward(context: Any, rows: Tensor, matrix: _Bags, transposed: _Bags) -> Tensor:
        context.transposed = transposed
        return matrix(rows)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return context.transposed(gradients[0].contiguous()), None, None
