"""Where the ROIs of an encoder look that does not say so itself."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nwbrecon.alignment import AlignedSession
from nwbrecon.config import EncoderSettings
from nwbrecon.encoding.encoder import VideoEncoder

__all__ = ["guided"]


def guided(aligned: AlignedSession, trials: list[int]) -> tuple[np.ndarray, Tensor]:
    """Fit the filters of our encoder linearly, for an encoder that does not say where its ROIs look.

    Returns
    -------
    scores : numpy.ndarray
        ``(roi,)`` correlation of the linear fit with activity of training trials that it was not fitted to.
    positions : torch.Tensor
        ``(roi, 2)`` row and column of receptive fields from the center of the screen (pixels).
    """
    guide = VideoEncoder(
        EncoderSettings(core="quadrature"),
        n_rois=aligned.n_rois,
        frame_size=(aligned.frame_size[0], aligned.frame_size[1]),
        frame_rate=aligned.frame_rate,
        behavior_names=tuple(aligned.behavior_names),
    )
    with torch.no_grad():
        guide.initialize_shared([guide], [aligned], [trials])
        scores = guide.initialize(aligned, trials)
        return scores, guide.positions.clone()
