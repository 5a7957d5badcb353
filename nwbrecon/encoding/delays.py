"""What the clock of each imaging plane is off by, learned along with the encoder."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nwbrecon.encoding.trainable import Pace

__all__ = ["LONGEST_DELAY", "PlaneDelays", "shifted"]

LONGEST_DELAY = 0.3
"""Learned delays are shorter than this (s): about the scan of a slow volume."""

_PACE = 3.0
# of the longest delay: nearer to it the bound leaves no gradient
_LARGEST_START = 0.95


class PlaneDelays(nn.Module):
    """Shift the rates of each response group by a learned time.

    A delay is in the sense of ``responses.plane_delays``: seconds to add to the clock of the plane. Rates that hold for
    a frame are averaged over the shifted frame, in which there are two of them: that is linear interpolation, keeps
    sums, and has a gradient with respect to the delay.

    Parameters
    ----------
    n_rois
        Number of ROIs of each response group.
    frame_rate
        Frames per second (Hz).
    """

    def __init__(self, n_rois: tuple[int, ...], frame_rate: float) -> None:
        super().__init__()
        self.n_rois, self.frame_rate = tuple(n_rois), frame_rate
        # in units of the longest delay, before they are bounded
        self.unbounded = nn.Parameter(torch.zeros(len(n_rois)))

    @property
    def seconds(self) -> Tensor:
        """``(group,)`` delay of each response group (s)."""
        return LONGEST_DELAY * torch.tanh(self.unbounded)

    @property
    def reach(self) -> tuple[int, int]:
        """Frames, before and after, that the rate of a frame is taken from: all that may be while it is learned."""
        if self.unbounded.requires_grad:
            longest = math.ceil(LONGEST_DELAY * self.frame_rate)
            return longest, longest
        frames = (self.seconds * self.frame_rate).tolist()
        return max(0, *(math.ceil(-shift) for shift in frames)), max(0, *(math.ceil(shift) for shift in frames))

    def pace(self, name: str) -> Pace:
        """Delays learn fast, without decay: there is only one number a plane, and zero is no better than others."""
        return Pace(_PACE, decays=False)

    def forward(self, rates: Tensor) -> Tensor:
        """Rates ``(batch, roi, time)`` on the clock of the frames to rates on the clocks of the planes, as they go."""
        shifts = self.seconds * self.frame_rate
        parts = zip(torch.split(rates, list(self.n_rois), dim=1), shifts, strict=True)
        return torch.cat([shifted(part, shift) for part, shift in parts], dim=1)

    @torch.no_grad()
    def start(self, seconds: Tensor) -> None:
        """Begin with these delays ``(group,)`` (s), cut to what they can be."""
        self.unbounded.copy_(torch.atanh((seconds / LONGEST_DELAY).clamp(-_LARGEST_START, _LARGEST_START)))


def shifted(values: Tensor, shift: Tensor) -> Tensor:
    """Values ``(..., time)`` of so many frames later, between frames by linear interpolation.

    Before the first and after the last frame they are taken to go on: an encoder counts what is made of that as not
    predicted (``warm_up``, ``look_ahead``).
    """
    whole = shift.detach().floor()
    last = values.shape[-1] - 1
    first = torch.arange(last + 1, device=values.device) + whole.long()
    one, other = (values.index_select(-1, at.clamp(0, last)) for at in (first, first + 1))
    return torch.lerp(one, other, shift - whole)
