"""What is around core and readout: gaze moves the picture, drives become rates, running and pupil change the gain."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from nwbrecon.encoding.trainable import Pace

__all__ = ["BehaviorGain", "GazeShifter", "LearnedSoftplus"]

# of ROIs that are almost silent (1 / rate per frame)
_SHARPEST = 100.0


class GazeShifter(nn.Module):
    """Shift every frame by a learned linear function of the gaze.

    Parameters
    ----------
    gaze_variables
        Columns of the behavior that hold the gaze.
    """

    def __init__(self, gaze_variables: tuple[int, ...]) -> None:
        super().__init__()
        self.gaze_variables = list(gaze_variables)
        # columns and rows, in units of half the frame, per standard deviation of gaze
        self.shift = nn.Linear(len(gaze_variables), 2, bias=False)
        nn.init.zeros_(self.shift.weight)

    def forward(self, video: Tensor, behavior: Tensor) -> Tensor:
        """Video ``(batch, 1, time, height, width)`` as it fell on the retina; ``behavior`` is standardized."""
        batch, channel, time, height, width = video.shape
        shift = self.shift(behavior[..., self.gaze_variables]).reshape(batch * time, 1, 1, 2)
        rows = torch.linspace(-1, 1, height, device=video.device, dtype=video.dtype)
        columns = torch.linspace(-1, 1, width, device=video.device, dtype=video.dtype)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        frames = functional.grid_sample(
            video.reshape(batch * time, channel, height, width),
            torch.stack([x, y], dim=-1) + shift,
            padding_mode="border",
            align_corners=True,
        )
        return frames.reshape(video.shape)


class LearnedSoftplus(nn.Module):
    """Rates of drives: ``log(1 + exp(s x)) / s``, of a sharpness ``s`` that each ROI learns.

    Around a drive of zero it bends within ``1 / s``: far below, rates are exponential, and far above they are linear.
    What suits an ROI depends on how large its rates are, so that it begins at one over its mean rate.

    Parameters
    ----------
    n_rois
        Number of ROIs.
    """

    def __init__(self, n_rois: int) -> None:
        super().__init__()
        self.log_sharpness = nn.Parameter(torch.zeros(n_rois))

    def forward(self, drive: Tensor) -> Tensor:
        """Drive ``(batch, roi, time)`` to rates."""
        sharpness = self.log_sharpness.exp()[:, None]
        return functional.softplus(sharpness * drive) / sharpness

    def pace(self, name: str) -> Pace:
        """Sharpness learns somewhat faster, without decay: 1 is no better than others."""
        return Pace(3.0, decays=False)

    @torch.no_grad()
    def start(self, rois: slice, rate: Tensor) -> tuple[Tensor, Tensor]:
        """Begin with what suits these mean rates ``(roi,)``; gives drives of these rates, and slopes there."""
        sharpness = (1 / rate).clamp_max(_SHARPEST)
        self.log_sharpness[rois] = sharpness.log()
        return torch.log(torch.expm1(sharpness * rate)) / sharpness, -torch.expm1(-sharpness * rate)


class BehaviorGain(nn.Module):
    """A factor on each ROI's rate, from all behavioral variables.

    Parameters
    ----------
    n_variables
        Number of behavioral variables.
    n_rois
        Number of ROIs.
    hidden
        Width of the hidden layer that the ROIs share.
    """

    def __init__(self, n_variables: int, n_rois: int, hidden: int = 8) -> None:
        super().__init__()
        self.hidden = nn.Linear(n_variables, hidden)
        self.out = nn.Linear(hidden, n_rois)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, behavior: Tensor) -> Tensor:
        """Standardized behavior ``(batch, time, variable)`` to factors ``(batch, roi, time)``."""
        exponent = self.out(torch.tanh(self.hidden(behavior)))
        # a gain beyond a factor of 20 is a fit to noise
        return torch.exp(3 * torch.tanh(exponent / 3)).transpose(1, 2)
