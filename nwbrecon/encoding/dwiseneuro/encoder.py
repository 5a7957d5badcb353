"""DwiseNeuro as an encoder: from a video of any length and named behavior to rates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint as run_again_in_backward

from nwbrecon.encoding.dwiseneuro.checkpoint import read_checkpoint
from nwbrecon.encoding.dwiseneuro.fused import FusedDwiseNeuro
from nwbrecon.encoding.dwiseneuro.network import DwiseNeuro
from nwbrecon.errors import EncoderError

__all__ = ["DwiseNeuroEncoder"]

# the channels after the video, by the names that behavior has in an aligned session
_CHANNELS = ("pupil_size", "running_speed", "gaze_x", "gaze_y")
# share of a GPU's free memory that the graphs of windows may take; their gradients need about as much again
_GPU_SHARE = 0.3


class DwiseNeuroEncoder(nn.Module):
    """One readout of a `DwiseNeuro` as an `nwbrecon.encoding.encoder.Encoder`.

    The network sees a window of frames (16, every second one of 31), the video in the middle of its canvas and each
    behavioral variable as a uniform plane, and gives a rate for each of these frames. A longer video is predicted
    window by window, and the predictions for a frame are averaged.

    Parameters
    ----------
    network
        The network.
    readout
        Which of its readouts.
    behavior_names
        Behavioral variables in the order in which they come. Those among ``channels`` are used.
    channels
        Variables of the network's channels after the video.
    missing
        What stands in for a variable that was not recorded, or at a moment when it is missing: one value a channel, or
        one for all; the network was not made to go without. The mean over the training data is a good choice.
    n_frames, frame_step
        A window is ``n_frames`` frames, every ``frame_step``-th one.
    canvas
        Rows and columns of the network's input (pixels).
    pad_value
        Grey level around the video.
    every_position
        Put the window at every position and so average up to ``n_frames`` predictions a frame, as published; otherwise
        at the fewest positions that reach every frame, at a sixteenth of the cost.
    fused
        Run in the fast form, which cannot be trained.

    Examples
    --------
    >>> from nwbrecon.config import DwiseNeuroSettings
    >>> sizes = {"core_features": (8,), "spatial_strides": (2,), "cortex_features": (16,)}
    >>> network = DwiseNeuro(DwiseNeuroSettings(readout_outputs=(7,), **sizes))
    >>> encoder = DwiseNeuroEncoder(network, behavior_names=("running_speed",))
    >>> encoder.predict_rates(torch.zeros(1, 1, 40, 36, 64), torch.zeros(1, 40, 1)).shape
    torch.Size([1, 7, 40])
    """

    missing: Tensor

    def __init__(
        self,
        network: DwiseNeuro,
        *,
        readout: int = 0,
        behavior_names: Sequence[str] = _CHANNELS,
        channels: Sequence[str] = _CHANNELS,
        missing: float | Sequence[float] = 0.0,
        n_frames: int = 16,
        frame_step: int = 2,
        canvas: tuple[int, int] = (64, 64),
        pad_value: float = 0.0,
        every_position: bool = True,
        fused: bool = True,
    ) -> None:
        super().__init__()
        settings = network.settings
        if len(channels) != settings.in_channels - 1:
            raise EncoderError(
                f"The network has {settings.in_channels} input channels and {len(channels)} behavioral variables.",
                "It needs one channel more than there are variables, for the video.",
                "Name the variables of its channels.",
            )
        if not 0 <= readout < len(settings.readout_outputs):
            raise EncoderError(
                f"Readout {readout} was asked for.",
                f"The network has readouts 0 to {len(settings.readout_outputs) - 1}.",
            )
        self.network = network
        self._fused: FusedDwiseNeuro | None = None
        self.readout, self.n_rois = readout, settings.readout_outputs[readout]
        self.behavior_names, self.channels = tuple(behavior_names), tuple(channels)
        self.n_frames, self.frame_step, self.canvas = n_frames, frame_step, canvas
        self.pad_value, self.every_position = pad_value, every_position
        # what the graph of a window takes on a GPU
        self._window_bytes: int | None = None
        self.register_buffer("missing", torch.as_tensor(missing, dtype=torch.float32).expand(len(channels)).clone())
        if fused:
            self.freeze()

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        readout: int = 0,
        behavior_names: Sequence[str] = _CHANNELS,
        missing: float | Sequence[float] = 0.0,
        every_position: bool = True,
        fused: bool = True,
    ) -> DwiseNeuroEncoder:
        """Read a published checkpoint; see `read_checkpoint`.

        Parameters
        ----------
        path
            The ``.pth`` file.
        readout
            Which of its readouts (mice).
        behavior_names, missing, every_position, fused
            As for the class.

        Raises
        ------
        EncoderError
            If the file is no such checkpoint, or has no such readout.
        """
        found = read_checkpoint(path, readouts=[readout])
        return cls(
            found.network,
            behavior_names=behavior_names,
            missing=missing,
            n_frames=found.n_frames,
            frame_step=found.frame_step,
            canvas=found.canvas,
            pad_value=found.pad_value,
            every_position=every_position,
            fused=fused,
        ).eval()

    def freeze(self) -> Self:
        """Be done with learning: evaluation mode, no gradients of weights, and from now on the fast form."""
        self.eval().requires_grad_(False)
        self._fused = self._window_bytes = None
        fused = FusedDwiseNeuro(self.network, self.readout)
        # not one of the submodules: weights are kept in the published form alone
        object.__setattr__(self, "_fused", fused)
        return self

    def train(self, mode: bool = True) -> Self:
        """Leave the fast form where learning begins again."""
        if mode:
            self._fused = None
        return super().train(mode)

    def _apply(self, *arguments: Any, **options: Any) -> Self:
        if self._fused is not None:
            self._fused._apply(*arguments, **options)  # type: ignore[no-untyped-call]
        return super()._apply(*arguments, **options)  # type: ignore[no-untyped-call]

    @property
    def warm_up(self) -> int:
        """Zero: a prediction for the first frame is no worse founded than for the others of its window."""
        return 0

    @property
    def least_frames(self) -> int:
        """Frames that the windows of even and odd frames need together."""
        return self.n_frames * self.frame_step

    def predict_rates(self, video: Tensor, behavior: Tensor) -> Tensor:
        """Rates ``(batch, roi, time)``; see `nwbrecon.encoding.encoder.Encoder`.

        Raises
        ------
        EncoderError
            If the video is too short for a window or larger than the canvas.
        """
        return self.predict_stacked(self.stack(video, behavior))

    forward = predict_rates

    def stack(self, video: Tensor, behavior: Tensor) -> Tensor:
        """Put video and behavior together as the network wants them.

        Parameters
        ----------
        video
            ``(batch, 1, time, height, width)``, of the canvas' size or smaller.
        behavior
            ``(batch, time, variable)``, NaN where missing.

        Returns
        -------
        torch.Tensor
            ``(batch, channel, time, canvas height, canvas width)``.
        """
        above_below, left_right = self.margins((video.shape[3], video.shape[4]))
        padded = functional.pad(video, (*left_right, *above_below), value=self.pad_value)
        if behavior.shape[2] != len(self.behavior_names):
            raise EncoderError(
                f"There are {behavior.shape[2]} behavioral variables.",
                f"The encoder expects {', '.join(self.behavior_names) or 'none'}.",
                "Name them when the encoder is made (behavior_names).",
            )
        values = self.missing.to(behavior).expand(*behavior.shape[:2], -1).clone()
        for channel, name in enumerate(self.channels):
            if name in self.behavior_names:
                given = behavior[..., self.behavior_names.index(name)]
                values[..., channel] = torch.where(given.isnan(), values[..., channel], given)
        planes = values.transpose(1, 2)[..., None, None].expand(-1, -1, -1, *self.canvas)
        return torch.cat([padded, planes.to(padded.dtype)], dim=1)

    def margins(self, frame_size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows above and below, and columns left and right of a video on the canvas.

        Raises
        ------
        EncoderError
            If the canvas is smaller than the video.
        """
        if frame_size[0] > self.canvas[0] or frame_size[1] > self.canvas[1]:
            raise EncoderError(
                f"The video has frames of {frame_size[0]}x{frame_size[1]} pixels.",
                f"The network takes at most {self.canvas[0]}x{self.canvas[1]}.",
                "Align the session with a smaller frame_size.",
            )
        below, right = (whole - part for whole, part in zip(self.canvas, frame_size, strict=True))
        return (below // 2, below - below // 2), (right // 2, right - right // 2)

    def predict_stacked(self, inputs: Tensor) -> Tensor:
        """Rates ``(batch, roi, time)`` for the output of `stack`."""
        n_frames = inputs.shape[2]
        positions = self._positions(n_frames)
        rates = inputs.new_zeros(len(inputs), self.n_rois, n_frames)
        counts = inputs.new_zeros(n_frames)
        # batch norms that learn are to see as many windows as there are
        at_once = len(positions) if self.training else self._windows_at_once(inputs)
        # the graphs of many windows would not fit into memory
        save_memory = torch.is_grad_enabled() and len(positions) > max(at_once, self.frame_step)
        for first in range(0, len(positions), at_once):
            windows = [
                slice(position, position + (self.n_frames - 1) * self.frame_step + 1, self.frame_step)
                for position in positions[first : first + at_once]
            ]
            stacked = torch.cat([inputs[:, :, frames] for frames in windows])
            if save_memory:
                predicted = run_again_in_backward(self._predict_window, stacked, use_reentrant=False)
            else:
                predicted = self._predict_window(stacked)
            for frames, of_window in zip(windows, predicted.split(len(inputs)), strict=True):
                rates[:, :, frames] += of_window
                counts[frames] += 1
        return rates / counts

    def _windows_at_once(self, inputs: Tensor) -> int:
        """Give how many windows to predict together: one on a CPU, for its cache; as memory allows on a GPU."""
        if not inputs.is_cuda:
            return 1
        if self._window_bytes is None:
            before = torch.cuda.memory_allocated(inputs.device)
            with torch.enable_grad():
                window = inputs[:1, :, : self.n_frames].detach().requires_grad_()
                kept = self._predict_window(window)
                self._window_bytes = max(1, torch.cuda.memory_allocated(inputs.device) - before)
            del kept
        free = torch.cuda.mem_get_info(inputs.device)[0]
        free += torch.cuda.memory_reserved(inputs.device) - torch.cuda.memory_allocated(inputs.device)
        return max(1, int(_GPU_SHARE * free / (self._window_bytes * len(inputs))))

    def _predict_window(self, window: Tensor) -> Tensor:
        if self._fused is not None:
            return self._fused(window)
        return self.network(window, self.readout)[0]

    def _positions(self, n_frames: int) -> list[int]:
        """First frames of the windows."""
        block = self.least_frames
        if n_frames < block:
            raise EncoderError(
                f"The video has {n_frames} frames.",
                f"DwiseNeuro needs at least {block}.",
                "Use longer clips.",
            )
        if self.every_position:
            return list(range(n_frames - block + self.frame_step))
        starts = [*range(0, n_frames - block, block), n_frames - block]
        return [start + offset for start in starts for offset in range(self.frame_step)]
