"""The core of quadrature pairs: from video to feature maps."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from nwbrecon.encoding.parts import Core

__all__ = ["QuadratureCore", "quadrature_filters"]


class QuadratureCore(Core):
    """Strided (1+2)-D filters in quadrature pairs, divided by local contrast.

    A few temporal kernels filter every pixel; spatial filters over these (so that space and time need not be separable)
    give the feature maps. Filters come in pairs that start as Gabor functions a quarter cycle apart, some still, some
    drifting either way, as in the motion-energy model (Adelson & Bergen 1985, J. Opt. Soc. Am. A 2:284-299); training
    is free to change them. Division by pooled contrast follows the normalization model (Heeger 1992, Vis. Neurosci.
    9:181-197).

    Parameters
    ----------
    channels
        Number of feature maps; even, two a pair.
    temporal_kernels
        Number of temporal kernels.
    memory
        Length of the temporal kernels (frames): a feature depends on this frame and the ``memory - 1`` before it.
    ahead
        Frames after it that it also depends on; the core is causal with none.
    kernel_size
        Rows and columns of the spatial filters (pixels), odd.
    stride
        Pixels between neighboring features.
    temporal_stride
        Frames between successive features.
    frame_rate
        Frames per second (Hz), for the initial kernels.
    seed
        Seed of the initial filters.
    """

    def __init__(
        self,
        *,
        channels: int,
        temporal_kernels: int,
        memory: int,
        ahead: int = 0,
        kernel_size: int,
        stride: int,
        temporal_stride: int,
        frame_rate: float,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.memory, self.stride, self.temporal_stride = memory, stride, temporal_stride
        self.channels, self.past, self.ahead = channels, memory - 1, ahead
        generator = torch.Generator().manual_seed(seed)
        temporal = _temporal_kernels(temporal_kernels, memory, frame_rate, ahead)
        self.temporal = nn.Parameter(temporal)
        spatial = quadrature_filters(temporal, channels, kernel_size, frame_rate, generator, ahead=ahead)
        self.spatial = nn.Parameter(spatial.contiguous(memory_format=torch.channels_last))
        # softplus of this is the strength of the division by local contrast
        self.normalization = nn.Parameter(torch.tensor(0.0))

    def forward(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Feature maps of a video, and how local contrast suppresses them.

        Parameters
        ----------
        video
            ``(batch, 1, time, height, width)``, zero mean and unit variance over the training movies. Frames before
            the first are taken to be zero: the first ``memory - 1`` features are not those of a longer video.

        Returns
        -------
        features : torch.Tensor
            ``(batch, step, channel, rows, columns)``, a step every ``temporal_stride`` frames from the first on, with
            ``ceil(size / stride)`` rows and columns; channels ``k`` and ``k + channels / 2`` are a pair.
        suppression : torch.Tensor
            ``(batch, step, rows, columns)`` factor, 1 where there is no contrast.
        """
        batch, _, time, height, width = video.shape
        # (batch, step, pixel, kernel) in memory: what a convolution with channels last wants
        filtered = torch.einsum("bup,ktu->btpk", video.reshape(batch, time, height * width), self._past(time))
        time = filtered.shape[1]
        maps = filtered.reshape(batch * time, height, width, -1).permute(0, 3, 1, 2)
        features = functional.conv2d(maps, self.spatial, stride=self.stride, padding=self.spatial.shape[-1] // 2)
        power = filtered.square().mean(dim=3).view(batch * time, 1, height, width)
        power = functional.avg_pool2d(power, self.stride, ceil_mode=True)
        reach = round(7 / self.stride)
        power = functional.avg_pool2d(power, 2 * reach + 1, stride=1, padding=reach, count_include_pad=False)
        suppression = torch.rsqrt(1 + functional.softplus(self.normalization) * power)
        rows, columns = features.shape[2:]
        return features.view(batch, time, -1, rows, columns), suppression.view(batch, time, rows, columns)

    def _past(self, time: int) -> Tensor:
        """Temporal kernels as ``(kernel, step, time)`` matrices: one matrix product beats thin convolutions."""
        frame = torch.arange(time, device=self.temporal.device)
        lag = frame[:: self.temporal_stride, None] - frame[None]
        known = (lag >= -self.ahead) & (lag < self.memory)
        # the first lags are negative
        return torch.where(known, self.temporal[:, (lag + self.ahead).clamp(0, self.temporal.shape[1] - 1)], 0.0)

    @torch.no_grad()
    def rescale(self, video: Tensor) -> None:
        """Scale the filters so that every feature of ``video`` has unit standard deviation."""
        deviation = self(video)[0].std(dim=(0, 1, 3, 4))
        self.spatial.div_(deviation.clamp_min(1e-6)[:, None, None, None])


def _temporal_kernels(count: int, memory: int, frame_rate: float, ahead: int = 0) -> Tensor:
    """Smooth bumps that tile the memory, narrow for the recent and wide for the distant past: ``(kernel, lag)``."""
    lag = torch.arange(-ahead, memory, dtype=torch.float32)
    centers = torch.linspace(0.065 - ahead / frame_rate, 0.32, count)[:, None] * frame_rate
    widths = (0.062 + 0.13 * (centers / frame_rate - 0.065).abs()) * frame_rate
    bumps = torch.exp(-(((lag - centers) / widths) ** 2) / 1.2)
    return bumps / bumps.norm(dim=1, keepdim=True)


def quadrature_filters(
    temporal: Tensor, channels: int, size: int, frame_rate: float, generator: torch.Generator, *, ahead: int = 0
) -> Tensor:
    """Pairs of spatio-temporal Gabor filters a quarter cycle apart: ``(channel, kernel, row, column)``.

    Of kernels ``(kernel, lag)`` that reach some frames ahead, the first lags are negative, and every other pair has its
    middle so much earlier.
    """

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    lags = torch.arange(temporal.shape[1]) / frame_rate
    offset = torch.arange(size) - size // 2
    y, x = torch.meshgrid(offset, offset, indexing="ij")
    filters = torch.empty(channels, temporal.shape[0], size, size)
    for pair in range(channels // 2):
        orientation, phase = uniform(0, math.pi), uniform(0, 2 * math.pi)
        along = x * math.cos(orientation) + y * math.sin(orientation)
        envelope = torch.exp(-(x**2 + y**2) / (2 * (size / 4.5 * uniform(0.8, 1.3)) ** 2))
        cycles = 2 * math.pi * along / (size * uniform(0.67, 1.67)) + phase
        in_space = [envelope * torch.cos(cycles), envelope * torch.sin(cycles)]
        # most of the response to uniform light is taken away, as in cortex
        in_space = [part - 0.7 * envelope * part.sum() / envelope.sum() for part in in_space]
        in_space = [part / part.norm() for part in in_space]
        # exactly as it is without any frames ahead
        lag = lags - ahead / frame_rate * (1 - pair % 2) if ahead else lags
        beat = 2 * math.pi * uniform(1.0, 3.5) * (lag - 0.1) + uniform(0, 2 * math.pi)
        window = torch.exp(-(((lag - 0.12) / 0.09) ** 2))
        in_time = [_in_basis(window * wave, temporal) for wave in (torch.cos(beat), torch.sin(beat))]
        # 0: still; otherwise drifting one way or the other
        drift = (0, 1, -1)[int(uniform(0, 3))]
        even, odd = in_space
        now, before = (part[:, None, None] for part in in_time)
        filters[pair] = now * even - drift * before * odd
        filters[pair + channels // 2] = now * odd + drift * before * even
    return filters


def _in_basis(wave: Tensor, basis: Tensor) -> Tensor:
    # in double precision, so that rounding, which differs with how memory is aligned, does not reach the result
    weights = torch.linalg.lstsq(basis.T.double(), wave[:, None].double()).solution[:, 0].float()
    return weights / weights.norm()
