"""An encoder's input as one array of channels, the first of them the video.

The published method differentiates with respect to all channels of DwiseNeuro's input and lets their common length
scale its steps. Other encoders are given the video alone in this form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from nwbrecon.alignment import AlignedSession, responses_on_frames
from nwbrecon.encoding import Encoder
from nwbrecon.encoding.dwiseneuro import DwiseNeuroEncoder
from nwbrecon.encoding.encoder import look_ahead
from nwbrecon.errors import InversionError

__all__ = ["ChannelInput", "window_targets"]


@dataclass
class ChannelInput:
    """How an encoder takes its input.

    Attributes
    ----------
    encoder
        The encoder.
    frame_size
        Rows and columns of the session's video (pixels).
    """

    encoder: Encoder
    frame_size: tuple[int, int]

    @property
    def canvas(self) -> tuple[int, int]:
        """Rows and columns that the encoder takes (pixels); those of the video, or more."""
        return self.encoder.canvas if isinstance(self.encoder, DwiseNeuroEncoder) else self.frame_size

    def stack(self, video: Tensor, behavior: Tensor) -> Tensor:
        """Video of the session's or the canvas' size, and behavior, to ``(batch, channel, time, *canvas)``."""
        return self.encoder.stack(video, behavior) if isinstance(self.encoder, DwiseNeuroEncoder) else video

    def rates(self, inputs: Tensor, behavior: Tensor) -> Tensor:
        """Rates ``(batch, roi, time)`` for the output of `stack`."""
        if isinstance(self.encoder, DwiseNeuroEncoder):
            return self.encoder.predict_stacked(inputs)
        return self.encoder.predict_rates(inputs, behavior)

    def forget_unpredicted(self, known: Tensor) -> None:
        """Count as not known, in place, ``(..., time)``, where a prediction lacks its past or its future."""
        known[..., : self.encoder.warm_up] = 0
        known[..., max(0, known.shape[-1] - look_ahead(self.encoder)) :] = 0

    def crop(self, frames: np.ndarray) -> np.ndarray:
        """Cut the video out of the canvas: ``(..., *canvas)`` to ``(..., *frame_size)``."""
        (top, _), (left, _) = self._margins
        return frames[..., top : top + self.frame_size[0], left : left + self.frame_size[1]]

    def pad(self, mask: np.ndarray, value: float) -> np.ndarray:
        """Put a mask of the video's size onto the canvas; one of the canvas' size stays as it is.

        Raises
        ------
        InversionError
            If it has neither.
        """
        if mask.shape == self.canvas:
            return mask
        if mask.shape != self.frame_size:
            raise InversionError(
                f"The transparency mask has {'x'.join(map(str, mask.shape))} pixels.",
                f"The video has {self.frame_size[0]}x{self.frame_size[1]}.",
                "Train the mask for this session.",
            )
        return np.pad(mask, self._margins, constant_values=value)

    @property
    def _margins(self) -> tuple[tuple[int, int], tuple[int, int]]:
        if isinstance(self.encoder, DwiseNeuroEncoder):
            return self.encoder.margins(self.frame_size)
        return (0, 0), (0, 0)


def window_targets(aligned: AlignedSession, trial: int) -> np.ndarray:
    """Responses as the published method compares them: on the frame clock, negative ones zero; NaN where unknown.

    Returns
    -------
    numpy.ndarray
        ``(time, roi)`` float32.
    """
    responses = np.maximum(responses_on_frames(aligned, trial), 0)
    responses[~aligned.trial(trial).valid] = np.nan
    return responses
