"""Where on the screen each ROI looks, and how wide: read from the filters of an encoder."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from nwbrecon.encoding.core import QuadratureCore
from nwbrecon.encoding.encoder import VideoEncoder
from nwbrecon.encoding.ensemble import EncoderEnsemble
from nwbrecon.encoding.readout import PointReadout
from nwbrecon.encoding.trainable import TrainableEncoder

__all__ = ["receptive_fields"]


def receptive_fields(encoder: EncoderEnsemble) -> pd.DataFrame:
    """Give position and size of each ROI's receptive field.

    The squared sensitivity at a pixel is that of the ROI's linear filter, summed over the past, plus that of each
    quadrature pair by its weight. The field's position is its center of mass, its size the root of the mean squared
    distance from there: for a Gaussian profile, that Gaussian's standard deviation. Of factorized cores and readouts
    the position is where the readout looks, and of an encoder that reads the whole screen (DwiseNeuro) it is the one
    that a linear fit found before training; the size is then not known.

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
        if isinstance(member, VideoEncoder)
        and isinstance(member.core, QuadratureCore)
        and isinstance(member.readout, PointReadout)
        else _of_positions(member)
        for member in encoder.encoders
    ]
    return pd.DataFrame(np.mean(tables, axis=0), columns=["row", "column", "size"])


@torch.no_grad()
def _of_filters(core: QuadratureCore, readout: PointReadout) -> np.ndarray:
    sensitivity = _sensitivity(core.spatial, core.temporal @ core.temporal.T, readout.linear, readout.energy)
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
    return torch.cat([center, size[:, None]], dim=1).numpy()


def _of_positions(member: TrainableEncoder) -> np.ndarray:
    center = member.positions.cpu().numpy() + (np.array(member.frame_size) - 1) / 2
    return np.concatenate([center, np.full((len(center), 1), np.nan)], axis=1)


def _sensitivity(spatial: Tensor, gram: Tensor, linear: Tensor, energy: Tensor) -> Tensor:
    """Squared sensitivity around each ROI's position, ``(roi, row, column)`` float64.

    `gram` has the products of temporal kernels: with it, a sum over the past is one over kernels.
    """
    spatial, gram, linear, energy = (part.detach().cpu().double() for part in (spatial, gram, linear, energy))
    filters = torch.einsum("rc,ckyx->rkyx", linear, spatial)
    of_linear = torch.einsum("rkyx,kj,rjyx->ryx", filters, gram, filters)
    power = torch.einsum("ckyx,kj,cjyx->cyx", spatial, gram, spatial)
    of_pairs = torch.einsum("rp,pyx->ryx", energy**2, power[: len(power) // 2] + power[len(power) // 2 :])
    return of_linear + of_pairs
