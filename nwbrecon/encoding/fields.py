"""Where on the screen each ROI looks, and how wide: read from the filters of an encoder."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from nwbrecon.encoding.encoder import VideoEncoder
from nwbrecon.encoding.ensemble import EncoderEnsemble
from nwbrecon.encoding.parts import Core
from nwbrecon.encoding.readout import PointReadout
from nwbrecon.encoding.trainable import TrainableEncoder

__all__ = ["receptive_fields"]

# pixels from its center beyond which no feature looks
_REACH = 24
# ROIs whose fields are in memory at a time
_TOGETHER = 500


def receptive_fields(encoder: EncoderEnsemble) -> pd.DataFrame:
    """Give position and size of each ROI's receptive field.

    The squared sensitivity at a pixel is that of the ROI's linear filter and of its own pair, summed over the past,
    plus that of each quadrature pair by its weight. The field's position is its center of mass, its size the root of
    the mean squared distance from there: for a Gaussian profile, that Gaussian's standard deviation. The filters are
    those of a gray screen: gradients of the features that the readout looks at. Of readouts with masks the position is
    where they look, and of an encoder that reads the whole screen (DwiseNeuro) it is the one that a linear fit found
    before training; the size is then not known.

    Parameters
    ----------
    encoder
        The encoder; over members, the mean is given.

    Returns
    -------
    pandas.DataFrame
        One row a ROI: ``row`` and ``column`` (pixels from the top left pixel's center) and ``size`` (pixels); size is
        NaN for an ROI that no feature drives, and where it is not known.
    """
    tables = [
        _of_filters(member.core, member.readout)
        if isinstance(member, VideoEncoder) and isinstance(member.readout, PointReadout)
        else _of_positions(member)
        for member in encoder.encoders
    ]
    return pd.DataFrame(np.mean(tables, axis=0), columns=["row", "column", "size"])


def _of_filters(core: Core, readout: PointReadout) -> np.ndarray:
    filters = _filters(core)
    weights = (readout.linear, readout.energy, readout.own_energy[:, None, None] * readout.own_pair)
    parts = [
        _sensitivity(filters, *some) for some in zip(*(torch.split(part, _TOGETHER) for part in weights), strict=True)
    ]
    sensitivity = torch.cat(parts)
    side = sensitivity.shape[-1]
    offset = torch.arange(side, dtype=torch.float64) - side // 2
    y, x = torch.meshgrid(offset, offset, indexing="ij")
    total = sensitivity.sum(dim=(1, 2))
    mean_y, mean_x = ((sensitivity * axis).sum(dim=(1, 2)) / total for axis in (y, x))
    distance = (y[None] - mean_y[:, None, None]) ** 2 + (x[None] - mean_x[:, None, None]) ** 2
    size = ((sensitivity * distance).sum(dim=(1, 2)) / total).sqrt()
    # a feature of row k is centered on the pixel of row k x stride
    middle = torch.tensor([(cells - 1) / 2 for cells in readout.map_size])
    place = (readout.position.cpu() + middle).double() * core.stride
    center = torch.stack([mean_y, mean_x], dim=1).nan_to_num() + place
    return torch.cat([center, size[:, None]], dim=1).detach().numpy()


def _of_positions(member: TrainableEncoder) -> np.ndarray:
    center = member.positions.cpu().numpy() + (np.array(member.frame_size) - 1) / 2
    return np.concatenate([center, np.full((len(center), 1), np.nan)], axis=1)


def _filters(core: Core) -> Tensor:
    """Gradient of each feature around the pixel it is centered on, ``(channel, frame, row, column)`` float64."""
    rate, stride = core.temporal_stride, core.stride
    step = -(-core.past // rate)
    # as far as filters can reach, in whole cells of the feature maps
    cells = -(-_REACH // stride)
    side = stride * (2 * cells + 1)
    device = next(core.parameters()).device
    video = torch.zeros(1, 1, (step + 1) * rate + core.ahead, side, side, device=device, requires_grad=True)
    features = core(video)[0][0, step, :, cells, cells]
    gradients = [torch.autograd.grad(feature, video, retain_graph=True)[0][0, 0] for feature in features]
    whole = torch.stack(gradients).cpu().double()
    reach = stride * cells
    around = torch.nn.functional.pad(whole, (0, 2 * reach + 1 - side, 0, 2 * reach + 1 - side))
    # what no filter reaches is left out, the same on all sides
    power = around.square().sum(dim=(0, 1))
    used = [int(axis.nonzero().sub(reach).abs().max()) for axis in (power.sum(dim=1), power.sum(dim=0)) if axis.any()]
    most = max(used, default=0)
    return around[:, :, reach - most : reach + most + 1, reach - most : reach + most + 1]


def _sensitivity(filters: Tensor, linear: Tensor, energy: Tensor, own_pair: Tensor) -> Tensor:
    """Squared sensitivity around each ROI's position, summed over the past: ``(roi, row, column)`` float64."""
    linear, energy, own_pair = (part.detach().cpu().double() for part in (linear, energy, own_pair))
    of_sums = sum(
        torch.einsum("rc,ctyx->rtyx", weights, filters).square().sum(dim=1) for weights in (linear, *own_pair.unbind(1))
    )
    power = filters.square().sum(dim=1)
    return of_sums + torch.einsum("rp,pyx->ryx", energy**2, power[: len(power) // 2] + power[len(power) // 2 :])
