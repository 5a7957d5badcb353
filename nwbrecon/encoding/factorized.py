"""The factorized core: from video to feature maps by convolutions in space, then in time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from nwbrecon.encoding.core import quadrature_filters
from nwbrecon.encoding.parts import Core
from nwbrecon.encoding.trainable import Pace

__all__ = ["FactorizedCore"]

_LAYERS = 1
# weights of a layer begin at zero, beside features of unit variance
_LAYER_PACE = 0.1


class FactorizedCore(Core):
    """Strided (2+1)-D convolutions: filters in space, then in time, then layers that add to what these give.

    Convolutions that factorize are the cores of Höfling et al. 2022 (bioRxiv 2022.11.30.518492) and of the baseline of
    the Sensorium competition (Turishcheva et al. 2023, arXiv:2305.19654). There are no batch norms: filters start as
    the pairs of `QuadratureCore` and are scaled to features of unit variance, and what a layer adds is nothing at first
    (as in De & Smith 2020, NeurIPS, "Batch normalization biases residual blocks towards the identity function").

    Parameters
    ----------
    channels
        Number of feature maps; even, two a pair. The two filters in time of each map combine both maps of a pair.
    memory
        Frames that a feature depends on: its own and those before it.
    ahead
        Frames after its own that it also depends on, at least, up to a whole number of steps.
    kernel_size
        Rows and columns of the spatial filters (pixels), odd; stored as those of all cells of ``stride`` by ``stride``
        pixels that they reach.
    stride
        Pixels between neighboring features.
    temporal_stride
        Frames between successive features; so many frames are averaged first.
    frame_rate
        Frames per second (Hz), for the initial filters.
    layers
        Number of layers after the first.
    seed
        Seed of the initial filters.
    """

    def __init__(
        self,
        *,
        channels: int,
        memory: int,
        ahead: int = 0,
        kernel_size: int,
        stride: int,
        temporal_stride: int,
        frame_rate: float,
        layers: int = _LAYERS,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.channels, self.stride, self.temporal_stride = channels, stride, temporal_stride
        # each layer looks a step farther back
        reach = max(2, memory // temporal_stride - layers)
        self.past = (reach + layers) * temporal_stride - 1
        steps_ahead = -(-ahead // temporal_stride)
        self.ahead = steps_ahead * temporal_stride
        generator = torch.Generator().manual_seed(seed)
        # a filter for every step and pixel, of which those of a pair are combinations of two in space
        lags = reach + steps_ahead
        whole = quadrature_filters(
            torch.eye(lags), channels, kernel_size, frame_rate / temporal_stride, generator, ahead=steps_ahead
        )
        pairs = whole.view(2, channels // 2, lags, kernel_size**2).transpose(0, 1).flatten(1, 2)
        in_time, size, in_space = torch.linalg.svd(pairs.double(), full_matrices=False)
        in_time = (in_time[:, :, :2] * size[:, None, :2]).view(-1, 2, lags, 2)
        spatial = in_space[:, :2].transpose(0, 1).reshape(channels, 1, kernel_size, kernel_size).float()
        # (pair, map that it gives, map that it is of, lag)
        self.temporal = nn.Parameter(in_time.transpose(2, 3).float().contiguous())
        cells = -(-(kernel_size // 2) // stride)
        before = stride * cells - kernel_size // 2
        after = stride * (2 * cells + 1) - before - kernel_size
        spatial = functional.pixel_unshuffle(functional.pad(spatial, (before, after, before, after)), stride)
        self.spatial = nn.Parameter(spatial.contiguous(memory_format=torch.channels_last))
        self.layers = nn.ModuleList(_Layer(channels, generator) for _ in range(layers))

    def forward(self, video: Tensor) -> tuple[Tensor, None]:
        """Feature maps of a video; see `Core.forward`. Nothing suppresses them."""
        batch, _, time, height, width = video.shape
        stride, rate = self.stride, self.temporal_stride
        n_steps = -(-time // rate)
        # a step is of the frames up to its own
        video = functional.pad(video[:, 0], (0, -width % stride, 0, -height % stride, rate - 1, 0))
        steps = video[:, : n_steps * rate].reshape(batch, n_steps, rate, *video.shape[2:]).mean(dim=2)
        cells = functional.pixel_unshuffle(steps.flatten(0, 1)[:, None], stride)
        maps = functional.conv2d(cells, self.spatial, padding=self.spatial.shape[-1] // 2)
        rows, columns = maps.shape[2:]
        n_pairs = self.channels // 2
        # as a matrix product for each pair: (step of either map, place)
        maps = maps.view(batch, n_steps, 2, n_pairs, rows * columns).permute(0, 3, 2, 1, 4)
        maps = self._past(n_steps) @ maps.reshape(batch, n_pairs, 2 * n_steps, rows * columns)
        maps = maps.view(batch, n_pairs, 2, n_steps, rows, columns).permute(0, 3, 4, 5, 2, 1)
        # channels last in memory
        features = maps.reshape(batch, n_steps, rows, columns, self.channels)
        for layer in self.layers:
            features = features + layer(features)
        return features.permute(0, 1, 4, 2, 3), None

    def _past(self, n_steps: int) -> Tensor:
        """Temporal filters as ``(pair, step of either map, step of either map)`` matrices."""
        step = torch.arange(n_steps, device=self.temporal.device)
        # the first lags are negative
        lag = step[:, None] - step[None] + self.ahead // self.temporal_stride
        lags = self.temporal.shape[-1]
        known = (lag >= 0) & (lag < lags)
        filters = torch.where(known, self.temporal[..., lag.clamp(0, lags - 1)], 0.0)
        return filters.transpose(2, 3).reshape(-1, 2 * n_steps, 2 * n_steps)

    @torch.no_grad()
    def rescale(self, video: Tensor) -> None:
        """Scale the filters so that every feature of ``video`` has unit standard deviation."""
        deviation = self(video)[0].std(dim=(0, 1, 3, 4)).clamp_min(1e-6)
        self.temporal.div_(deviation.view(2, -1).T[:, :, None, None])

    def pace(self, name: str) -> Pace:
        """Layers learn slowly."""
        return Pace(_LAYER_PACE) if name.startswith("layers.") else Pace()


class _Layer(nn.Module):
    """Nonlinearity, convolution of each map in space, and of all maps in time: what it adds to the features."""

    def __init__(self, channels: int, generator: torch.Generator) -> None:
        super().__init__()
        spatial = 0.1 * torch.randn(channels, 1, 3, 3, generator=generator)
        spatial[:, :, 1, 1] += 1
        self.spatial = nn.Parameter(spatial)
        # maps that it gives now, and a step later, of each map
        self.mixing = nn.Parameter(torch.zeros(channels, 2 * channels))

    def forward(self, features: Tensor) -> Tensor:
        """``(batch, step, row, column, channel)`` to the same."""
        # as before any training, where features are asked for many times
        if not torch.is_grad_enabled() and not self.mixing.any():
            return torch.zeros_like(features)
        maps = functional.elu(features).flatten(0, 1).permute(0, 3, 1, 2)
        maps = functional.conv2d(maps, self.spatial, padding=1, groups=len(self.spatial))
        now, later = (maps.permute(0, 2, 3, 1) @ self.mixing).view(*features.shape[:4], -1).chunk(2, dim=4)
        return now + functional.pad(later[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0))
