"""The network of DwiseNeuro as published: modules under the published names, for training and as reference.

DwiseNeuro by R. Baikulov won the Sensorium 2023 competition (Turishcheva et al. 2024, NeurIPS Datasets and Benchmarks,
arXiv:2407.09100); its sizes, names and initial weights are those of https://github.com/lRomul/sensorium. Its blocks are
inverted residuals (Sandler et al. 2018, arXiv:1801.04381) with squeeze-excite gates (Hu et al. 2018, arXiv:1709.01507)
and stochastic depth (Huang et al. 2016, arXiv:1603.09382).
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from nwbrecon.config import DwiseNeuroSettings

__all__ = ["DwiseNeuro", "position_table", "shrink"]


class DwiseNeuro(nn.Module):
    """Video and behavior in, the rates of every readout's ROIs out, a rate for every input frame.

    Parameters
    ----------
    settings
        Architecture.
    seed
        Seed of the initial weights.

    Examples
    --------
    >>> network = DwiseNeuro(
    ...     DwiseNeuroSettings(
    ...         readout_outputs=(3,), core_features=(8,), spatial_strides=(2,), se_reduce_ratio=8, cortex_features=(16,)
    ...     )
    ... ).eval()
    >>> network(torch.zeros(1, 5, 16, 12, 20))[0].shape
    torch.Size([1, 3, 16])
    """

    def __init__(self, settings: DwiseNeuroSettings, *, seed: int = 0) -> None:
        super().__init__()
        self.settings = settings
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.core = Core(settings)
            self.cortex = Cortex(settings)
            self.readouts = nn.ModuleList(Readout(settings, n_rois) for n_rois in settings.readout_outputs)
            self.apply(_initialize)

    def forward(self, inputs: Tensor, readout: int | None = None) -> list[Tensor]:
        """Rates of each readout, or of one of them.

        Parameters
        ----------
        inputs
            ``(batch, channel, time, height, width)``, as measured: nothing is standardized.
        readout
            The one readout that is wanted; ``None`` for all.

        Returns
        -------
        list of torch.Tensor
            ``(batch, roi, time)``, one a readout.
        """
        features = self.cortex(self.core(inputs).mean(dim=(3, 4)))
        return [module(features) for module in (self.readouts if readout is None else [self.readouts[readout]])]


class Core(nn.Module):
    """Blocks of positional encoding and inverted residual: ``(batch, channel, time, height, width)`` in and out."""

    def __init__(self, settings: DwiseNeuroSettings) -> None:
        super().__init__()
        features = settings.core_features
        self.stem = nn.Sequential(
            nn.Conv3d(settings.in_channels, features[0], 1, bias=False), Norm(nn.BatchNorm3d(features[0]))
        )
        self.blocks = nn.ModuleList()
        for index, (n_in, n_out) in enumerate(pairwise((*features, features[-1]))):
            drop = settings.drop_path_rate * index / len(features)
            self.blocks.append(PositionalEncoding(n_in))
            self.blocks.append(InvertedResidual(n_in, n_out, settings.spatial_strides[index], drop, settings))

    def forward(self, inputs: Tensor) -> Tensor:
        """Feature maps of stacked inputs."""
        maps = self.stem(inputs)
        for block in self.blocks:
            maps = block(maps)
        return maps


class PositionalEncoding(nn.Module):
    """Add sines and cosines of time, row and column, a third of the channels each."""

    inv_freq: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        a_third = -(-channels // 6) * 2
        self.register_buffer("inv_freq", 10000.0 ** -(torch.arange(0, a_third, 2) / a_third))

    def forward(self, maps: Tensor) -> Tensor:
        """Add their position to maps."""
        table = position_table(self.inv_freq, tuple(maps.shape[2:]), self.channels)
        return maps + table.permute(3, 0, 1, 2).to(maps.dtype)


class InvertedResidual(nn.Module):
    """Widen, filter each channel in space and in time, gate, narrow; beside a shortcut."""

    def __init__(self, n_in: int, n_out: int, stride: int, drop: float, settings: DwiseNeuroSettings) -> None:
        super().__init__()
        self.n_out, self.stride = n_out, stride
        width, space, time = n_in * settings.expansion_ratio, settings.spatial_kernel, settings.temporal_kernel
        self.conv_pw = nn.Sequential(nn.Conv3d(n_in, width, 1, bias=False), Norm(nn.BatchNorm3d(width), activate=True))
        # spelled as in the published checkpoints
        self.spat_covn_dw = nn.Sequential(
            Depthwise(
                width,
                width,
                (1, space, space),
                stride=(1, stride, stride),
                padding=(0, space // 2, space // 2),
                groups=width,
                bias=False,
            ),
            Norm(nn.BatchNorm3d(width), activate=True),
        )
        self.temp_covn_dw = nn.Sequential(
            Depthwise(width, width, (time, 1, 1), padding=(time // 2, 0, 0), groups=width, bias=False),
            Norm(nn.BatchNorm3d(width), activate=True),
        )
        self.se = SqueezeExcite(width, max(1, width // settings.se_reduce_ratio))
        self.conv_pwl = nn.Sequential(nn.Conv3d(width, n_out, 1, bias=False), Norm(nn.BatchNorm3d(n_out)))
        self.drop_path = DropPath(drop)
        self.bn_sc = Norm(nn.BatchNorm3d(n_out))

    def forward(self, maps: Tensor) -> Tensor:
        """Give the maps of the next block."""
        wide = self.temp_covn_dw(self.spat_covn_dw(self.conv_pw(maps)))
        shortcut = _widen(shrink(maps, self.stride, dims=(3, 4)), self.n_out)
        narrow = self._gated_projection(wide) if self.training else self.conv_pwl(self.se(wide))
        return self.drop_path(narrow) + self.bn_sc(shortcut)

    def _gated_projection(self, wide: Tensor) -> Tensor:
        # the same with the gate on the weights: the gradient of a gate on maps is a hundred times slower on a CPU
        weight = self.conv_pwl[0].get_parameter("weight").flatten(1)
        narrow = (weight * self.se.gate(wide).flatten(1)[:, None]) @ wide.flatten(2)
        narrow = narrow.view(len(wide), self.n_out, *wide.shape[2:])
        return self.conv_pwl[1](narrow)


class Depthwise(nn.Conv3d):
    """A filter for each channel, in space or in time; in training as a 2-D convolution, which is faster on a CPU."""

    def forward(self, maps: Tensor) -> Tensor:
        """Filter maps."""
        if not self.training:
            return super().forward(maps)
        reach = [size // 2 for size in self.kernel_size]
        if reach[0]:
            flat, weight = maps.flatten(3), self.weight[..., 0]
            return functional.conv2d(flat, weight, padding=(reach[0], 0), groups=self.groups).view(maps.shape)
        flat, weight = maps.transpose(1, 2).flatten(0, 1), self.weight[:, :, 0]
        flat = functional.conv2d(flat, weight, stride=self.stride[1:], padding=reach[1:], groups=self.groups)
        return flat.view(len(maps), -1, *flat.shape[1:]).transpose(1, 2)


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate computed from all channels' means over time and space."""

    def __init__(self, width: int, reduced: int) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv3d(width, reduced, 1)
        self.conv_expand = nn.Conv3d(reduced, width, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Scale maps by their gates."""
        return maps * self.gate(maps)

    def gate(self, maps: Tensor) -> Tensor:
        """``(batch, channel, 1, 1, 1)`` factors."""
        mean = maps.mean(dim=(2, 3, 4), keepdim=True)
        return torch.sigmoid(self.conv_expand(functional.silu(self.conv_reduce(mean))))


class Cortex(nn.Module):
    """Layers shared by all ROIs after pooling over space: ``(batch, feature, time)`` in and out."""

    def __init__(self, settings: DwiseNeuroSettings) -> None:
        super().__init__()
        widths = (settings.core_features[-1], *settings.cortex_features)
        self.layers = nn.ModuleList(
            ShuffleLayer(n_in, n_out, settings.groups, settings.drop_path_rate) for n_in, n_out in pairwise(widths)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Features that the readouts read."""
        for layer in self.layers:
            features = layer(features)
        return features


class ShuffleLayer(nn.Module):
    """A grouped pointwise layer whose outputs are dealt to the groups of the next (Zhang et al., arXiv:1707.01083)."""

    def __init__(self, n_in: int, n_out: int, groups: int, drop: float) -> None:
        super().__init__()
        self.n_out, self.groups = n_out, groups
        self.conv = nn.Conv1d(n_in, n_out, 1, groups=groups, bias=False)
        self.bn = Norm(nn.BatchNorm1d(n_out), activate=True)
        self.drop_path = DropPath(drop)
        self.bn_sc = Norm(nn.BatchNorm1d(n_out))

    def forward(self, features: Tensor) -> Tensor:
        """Features of the next layer."""
        out = self.bn(self.conv(features)).unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)
        return self.drop_path(out) + self.bn_sc(_widen(features, self.n_out))


class Readout(nn.Module):
    """Linear readout of one mouse's ROIs: features ``(batch, feature, time)`` to rates ``(batch, roi, time)``."""

    def __init__(self, settings: DwiseNeuroSettings, n_rois: int) -> None:
        super().__init__()
        self.n_rois, self.beta = n_rois, settings.softplus_beta
        groups = settings.groups
        self.layer = nn.Sequential(
            nn.Dropout1d(settings.drop_rate),
            nn.Conv1d(settings.cortex_features[-1], -(-n_rois // groups) * groups, 1, groups=groups),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Rates of the ROIs."""
        # in reduced precision sums over features lose their tail
        with torch.autocast(features.device.type, enabled=False):
            drive = self.layer(features.to(self.layer.get_parameter("1.weight").dtype))[:, : self.n_rois]
            return functional.softplus(drive, beta=self.beta)


class Norm(nn.Module):
    """Batch norm, followed by SiLU where asked for."""

    def __init__(self, bn: nn.BatchNorm1d | nn.BatchNorm3d, *, activate: bool = False) -> None:
        super().__init__()
        self.bn, self.activate = bn, activate

    def forward(self, maps: Tensor) -> Tensor:
        """Normalize maps."""
        normal = self.bn(maps)
        return functional.silu(normal) if self.activate else normal


class DropPath(nn.Module):
    """In training, leave out a layer for some samples, and make up for it in the others."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, maps: Tensor) -> Tensor:
        """Give the maps, or zeros."""
        if not self.training or self.rate == 0:
            return maps
        keep = maps.new_empty((len(maps),) + (1,) * (maps.ndim - 1)).bernoulli_(1 - self.rate)
        return maps * keep / (1 - self.rate)


def position_table(inv_freq: Tensor, size: tuple[int, ...], channels: int) -> Tensor:
    """Positional encoding of each place: ``(*size, channel)``.

    Each axis has the sines of its positions times all frequencies, then their cosines (Vaswani et al. 2017,
    arXiv:1706.03762, but sines and cosines apart); axes follow one another, and what is beyond ``channels`` is cut.
    """
    parts = []
    for axis, length in enumerate(size):
        phase = torch.arange(length, device=inv_freq.device, dtype=inv_freq.dtype)[:, None] * inv_freq
        waves = torch.cat([phase.sin(), phase.cos()], dim=1)
        shape = [length if other == axis else 1 for other in range(len(size))]
        parts.append(waves.reshape(*shape, -1).expand(*size, -1))
    return torch.cat(parts, dim=-1)[..., :channels]


def shrink(maps: Tensor, stride: int, *, dims: tuple[int, int]) -> Tensor:
    """Take every ``stride``-th row and column, spread evenly where the size is no multiple (nearest neighbor)."""
    if stride == 1:
        return maps
    for dim in dims:
        size = maps.shape[dim]
        new = -(-size // stride)
        maps = maps.index_select(dim, torch.arange(new, device=maps.device) * size // new)
    return maps


def _widen(maps: Tensor, channels: int) -> Tensor:
    """Repeat the channels, from the first again, until there are enough."""
    repeats = -(-channels // maps.shape[1])
    return maps.repeat(1, repeats, *(1,) * (maps.ndim - 2))[:, :channels] if repeats > 1 else maps[:, :channels]


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv1d | nn.Conv3d):
        fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
