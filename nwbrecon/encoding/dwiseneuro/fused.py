"""DwiseNeuro for inversion: the same function with frozen weights, several times faster.

Batch norms are folded into the convolutions before them. Channels come last in memory, so that pointwise convolutions
are matrix products and depthwise ones run as 2-D convolutions on views (rows by columns, then time by places). The
squeeze-excite gate scales the projection's weights rather than the wide maps. Each block has a gradient of its own,
which needs no copy of the widest maps: these are made again, some frames at a time, while they stay in the cache.
Large memory that the system has just given is slow when first written, so that maps are overwritten where they are not
needed any more.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from nwbrecon.encoding.dwiseneuro.network import DwiseNeuro, InvertedResidual, position_table, shrink

__all__ = ["FusedDwiseNeuro"]

# values of the widest maps that are worked on at once on a CPU: what its cache holds
_CHUNK = 2**21


class FusedDwiseNeuro(nn.Module):
    """One readout of a `DwiseNeuro` in evaluation mode, for prediction and for gradients with respect to the input.

    Parameters
    ----------
    network
        The network; it is copied, and later changes to it do not reach the copy.
    readout
        Which of its readouts.
    """

    stem_weight: Tensor
    stem_bias: Tensor

    def __init__(self, network: DwiseNeuro, readout: int = 0) -> None:
        super().__init__()
        weight, bias = _fold(network.core.stem)
        self.register_buffer("stem_weight", weight.detach().flatten(1))
        self.register_buffer("stem_bias", bias.detach())
        blocks: Any = network.core.blocks
        self.blocks = nn.ModuleList(
            _Block(residual, encoding.inv_freq) for encoding, residual in zip(blocks[::2], blocks[1::2], strict=True)
        )
        # with space pooled away, these cost next to nothing
        self.cortex = copy.deepcopy(network.cortex)
        self.readout = copy.deepcopy(network.readouts[readout])
        self.eval().requires_grad_(False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Rates ``(batch, roi, time)`` of inputs ``(batch, channel, time, height, width)``."""
        maps = inputs.permute(0, 2, 3, 4, 1) @ self.stem_weight.T + self.stem_bias
        for block in self.blocks:
            maps = block(maps)
        return self.readout(self.cortex(maps.mean(dim=(2, 3)).transpose(1, 2)))

    def train(self, mode: bool = True) -> FusedDwiseNeuro:
        """Stay in evaluation mode: what is folded cannot be trained."""
        return super().train(False)


class _Block(nn.Module):
    """Positional encoding and inverted residual, maps ``(batch, time, height, width, channel)`` in and out."""

    expand_weight: Tensor
    expand_bias: Tensor
    space_weight: Tensor
    space_bias: Tensor
    time_weight: Tensor
    time_bias: Tensor
    squeeze_weight: Tensor
    squeeze_bias: Tensor
    excite_weight: Tensor
    excite_bias: Tensor
    project_weight: Tensor
    shortcut_scale: Tensor
    bias: Tensor
    inv_freq: Tensor

    def __init__(self, residual: InvertedResidual, inv_freq: Tensor) -> None:
        super().__init__()
        self.stride = residual.stride
        scale, shift = _scale_and_shift(residual.bn_sc)
        expand, expand_bias = _fold(residual.conv_pw)
        space, space_bias = _fold(residual.spat_covn_dw)
        time, time_bias = _fold(residual.temp_covn_dw)
        project, project_bias = _fold(residual.conv_pwl)
        squeeze, excite = residual.se.conv_reduce, residual.se.conv_expand
        arrays = {
            "expand_weight": expand.flatten(1),
            "expand_bias": expand_bias,
            "space_weight": space.squeeze(2).contiguous(memory_format=torch.channels_last),
            "space_bias": space_bias,
            "time_weight": time.squeeze(4),
            "time_bias": time_bias,
            "squeeze_weight": squeeze.weight.flatten(1),
            "squeeze_bias": squeeze.bias,
            "excite_weight": excite.weight.flatten(1),
            "excite_bias": excite.bias,
            "project_weight": project.flatten(1).T.contiguous(),
            "shortcut_scale": scale,
            "bias": project_bias + shift,
            "inv_freq": inv_freq,
        }
        for name, value in arrays.items():
            self.register_buffer(name, torch.as_tensor(value).detach().clone(memory_format=torch.preserve_format))
        self._tables: dict[tuple[Any, ...], Tensor] = {}

    def forward(self, maps: Tensor) -> Tensor:
        return _BlockFunction.apply(maps, self)  # type: ignore[no-untyped-call]

    def positions(self, maps: Tensor) -> Tensor:
        """Positional encoding of these maps."""
        key = (tuple(maps.shape[1:]), maps.dtype, maps.device)
        if key not in self._tables:
            self._tables = {key: position_table(self.inv_freq, tuple(maps.shape[1:4]), maps.shape[4]).to(maps.dtype)}
        return self._tables[key]

    def widen(self, frames: Tensor) -> Tensor:
        """Expand frames ``(frame, height, width, channel)``, before the nonlinearity."""
        wide = torch.addmm(self.expand_bias, frames.flatten(0, 2), self.expand_weight.T)
        return wide.view(*frames.shape[:3], -1)

    def chunks(self, frames: Tensor) -> list[slice]:
        """Frames to work on at once."""
        size = frames.shape[0]
        if frames.device.type == "cpu":
            size = max(1, _CHUNK // (frames.shape[1] * frames.shape[2] * len(self.expand_bias)))
        return [slice(first, first + size) for first in range(0, frames.shape[0], size)]

    def filter_space(self, frames: Tensor) -> tuple[list[Tensor], Tensor]:
        """Expand and filter frames in space: chunks before the nonlinearity, and all frames after it."""
        padding = self.space_weight.shape[2] // 2
        size = [-(-length // self.stride) for length in frames.shape[1:3]]
        active = frames.new_empty(len(frames), *size, len(self.space_bias))
        parts = []
        for chunk in self.chunks(frames):
            wide = functional.silu(self.widen(frames[chunk]), inplace=True).permute(0, 3, 1, 2)
            parts.append(
                functional.conv2d(
                    wide, self.space_weight, self.space_bias, self.stride, padding, groups=len(self.space_bias)
                ).permute(0, 2, 3, 1)
            )
            torch.ops.aten.silu.out(parts[-1], out=active[chunk])
        return parts, active

    def filter_space_backward(self, gradient: Tensor, frames: Tensor, filtered: Sequence[Tensor]) -> Tensor:
        """Gradient with respect to the frames that `filter_space` was given; ``gradient`` is overwritten."""
        padding = self.space_weight.shape[2] // 2
        of_frames = frames.new_empty(frames.shape)
        for chunk, part in zip(self.chunks(frames), filtered, strict=True):
            wide = self.widen(frames[chunk])
            of_wide = torch.ops.aten.convolution_backward(
                _silu_backward_(gradient[chunk], part).permute(0, 3, 1, 2),
                wide.permute(0, 3, 1, 2),
                self.space_weight,
                None,
                [self.stride] * 2,
                [padding] * 2,
                [1, 1],
                False,
                [0, 0],
                len(self.space_bias),
                [True, False, False],
            )[0].permute(0, 2, 3, 1)
            torch.mm(
                _silu_backward_(of_wide, wide).reshape(-1, len(self.space_bias)),
                self.expand_weight,
                out=of_frames[chunk].flatten(0, 2),
            )
        return of_frames

    def filter_time(self, maps: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Filter maps ``(batch, time, place, channel)`` in time."""
        if maps.is_cuda:
            # cuDNN's kernels for filters of one channel that reach along one axis are several times slower than this
            return sum_of_shifts(maps, weight[:, 0, :, 0], bias)
        padding = (weight.shape[2] // 2, 0)
        return functional.conv2d(maps.permute(0, 3, 1, 2), weight, bias, padding=padding, groups=len(weight)).permute(
            0, 2, 3, 1
        )


def sum_of_shifts(maps: Tensor, taps: Tensor, bias: Tensor | None) -> Tensor:
    """Filter each channel in time, tap by tap.

    Parameters
    ----------
    maps
        ``(batch, time, place, channel)``.
    taps
        ``(channel, tap)``, an odd number of them; what they reach before the first frame and after the last is zero.
    bias
        ``(channel,)`` is added.
    """
    n_frames, reach = maps.shape[1], taps.shape[1] // 2
    filtered = maps * taps[:, reach]
    if bias is not None:
        filtered += bias
    for tap in range(taps.shape[1]):
        ahead = tap - reach
        if 0 < abs(ahead) < n_frames:
            to, source = slice(max(0, -ahead), n_frames - max(0, ahead)), slice(max(0, ahead), n_frames + min(0, ahead))
            filtered[:, to].addcmul_(maps[:, source], taps[:, tap])
    return filtered


class _BlockFunction(torch.autograd.Function):
    """A block with its gradient with respect to the maps written out."""

    @staticmethod
    def forward(context: Any, maps: Tensor, block: _Block) -> Tensor:
        batch, time = maps.shape[:2]
        maps = maps + block.positions(maps)
        filtered, active = block.filter_space(maps.flatten(0, 1))
        rows, columns, n_wide = active.shape[1:]
        active = active.view(batch, time, rows * columns, n_wide)
        wide = block.filter_time(active, block.time_weight, block.time_bias)

        active = torch.ops.aten.silu.out(wide, out=active).flatten(1, 2)
        squeezed = torch.addmm(block.squeeze_bias, active.mean(dim=1), block.squeeze_weight.T)
        gate = torch.sigmoid(torch.addmm(block.excite_bias, functional.silu(squeezed), block.excite_weight.T))
        out = torch.baddbmm(block.bias, active, gate[:, :, None] * block.project_weight)

        shortcut = shrink(maps, block.stride, dims=(2, 3)).reshape(batch, -1, maps.shape[4])
        for first in range(0, out.shape[2], shortcut.shape[2]):
            part = slice(first, first + shortcut.shape[2])
            scale = block.shortcut_scale[part]
            out[..., part].addcmul_(shortcut[..., : len(scale)], scale)
        context.block = block
        context.save_for_backward(maps, wide, squeezed, gate, *filtered)
        return out.view(batch, time, rows, columns, -1)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        block: _Block = context.block
        maps, wide, squeezed, gate, *filtered = context.saved_tensors
        batch, time, height, width, n_in = maps.shape
        rows, columns = gradient.shape[2:4]
        gradient = gradient.reshape(batch, rows * columns * time, -1)

        of_active = gradient @ (gate[:, :, None] * block.project_weight).transpose(1, 2)
        # the gate: through the projection, then through both of its layers to the mean that it came from
        of_excited = _activate_and_sum(wide.flatten(1, 2), of_active) * (1 - gate)
        of_squeezed = _silu_backward_(of_excited @ block.excite_weight, squeezed)
        of_active += (of_squeezed @ block.squeeze_weight / of_active.shape[1])[:, None]

        of_wide = _silu_backward_(of_active.view(wide.shape), wide)
        of_filtered = block.filter_time(of_wide, block.time_weight.flip(2), None)
        of_maps = block.filter_space_backward(
            of_filtered.reshape(batch * time, rows, columns, -1), maps.flatten(0, 1), filtered
        ).view(maps.shape)

        of_shortcut = maps.new_zeros(*gradient.shape[:2], n_in)
        for first in range(0, gradient.shape[2], n_in):
            scale = block.shortcut_scale[first : first + n_in]
            of_shortcut[..., : len(scale)].addcmul_(gradient[..., first : first + n_in], scale)
        of_shortcut = of_shortcut.view(batch, time, rows, columns, n_in)
        of_maps[:, :, _kept(height, rows, maps)[:, None], _kept(width, columns, maps)] += of_shortcut
        return of_maps, None


def _kept(size: int, new: int, like: Tensor) -> Tensor:
    return torch.arange(new, device=like.device) * size // new


def _activate_and_sum(maps: Tensor, weights: Tensor) -> Tensor:
    """Sum of ``silu(maps) * weights`` over places: ``(batch, place, channel)`` to ``(batch, channel)``."""
    total = maps.new_zeros(maps.shape[0], maps.shape[2])
    size = max(1, _CHUNK // (4 * maps.shape[2])) if maps.device.type == "cpu" else maps.shape[1]
    for part, weight in zip(torch.split(maps, size, 1), torch.split(weights, size, 1), strict=True):
        total += (functional.silu(part) * weight).sum(dim=1)
    return total


def _silu_backward_(gradient: Tensor, before: Tensor) -> Tensor:
    """Turn, in place, the gradient with respect to ``silu(before)`` into that with respect to ``before``."""
    return torch.ops.aten.silu_backward.grad_input(gradient, before, grad_input=gradient)


def _scale_and_shift(norm: Any) -> tuple[Tensor, Tensor]:
    """Give what a batch norm does to each channel in evaluation mode."""
    bn = norm.bn
    scale = bn.weight * torch.rsqrt(bn.running_var + bn.eps)
    return scale, bn.bias - bn.running_mean * scale


def _fold(layer: Any) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution and the batch norm after it as one."""
    convolution, norm = layer
    scale, shift = _scale_and_shift(norm)
    return torch.einsum("c...,c->c...", convolution.weight, scale), shift
