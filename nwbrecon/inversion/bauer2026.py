"""The published reconstruction, step by step as its code does it, for comparison.

Bauer, Margrie & Clopath 2026, eLife 14:RP105081, https://doi.org/10.7554/eLife.105081. Where paper and released code
differ, `PRESETS` has both.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from nwbrecon.alignment import AlignedSession
from nwbrecon.config import Bauer2026Settings
from nwbrecon.encoding import Encoder, EncoderEnsemble
from nwbrecon.encoding.device import device_of
from nwbrecon.errors import InversionError
from nwbrecon.inversion.channels import ChannelInput, window_targets
from nwbrecon.inversion.reconstruction import Reconstruction
from nwbrecon.progress import progress

__all__ = ["PRESETS", "Bauer2026Loop", "reconstruct_bauer2026", "window_starts"]

PRESETS = {
    "bauer2026": Bauer2026Settings(),
    # the paper speaks of a norm over the averaged gradients, and of Adam without its second moment
    "bauer2026-text": Bauer2026Settings(normalize="clip", second_momentum=None),
}

_GRAY = 127.5
# keeps the logarithm and the division by a gradient's length finite, as published
_LOG_FLOOR, _NORM_FLOOR = 1e-8, 1e-6


class Bauer2026Loop:
    """The loop of the published method for one clip, iteration by iteration.

    The video starts gray. Each iteration takes the gradient of the Poisson loss for every stretch of 32 frames apart,
    scales it to unit length, averages those that cover a frame, and moves the video along the running mean of these.

    Parameters
    ----------
    encoders
        One encoder, or several whose gradients are averaged.
    responses
        ``(time, roi)`` on the frame clock, not negative; NaN where unknown.
    behavior
        ``(time, variable)`` in the order that the encoders expect.
    frame_size
        Rows and columns of the video (pixels). DwiseNeuro's larger canvas is optimized as a whole, padding included.
    settings
        How; ``iterations``, ``ensemble`` and what concerns the finished video are left to `reconstruct_bauer2026`.
    transparency
        ``(height, width)`` transparency mask, of the video's or the canvas' size; ``None`` moves every pixel.
    batch_windows
        Stretches whose gradients are computed at once. The result does not depend on it.

    Attributes
    ----------
    video
        ``(time, height, width)`` of the canvas, grey levels.
    iteration
        Number of iterations done.
    losses
        Loss of each stretch at the last iteration, before its update (of the last encoder).

    Raises
    ------
    InversionError
        If the encoders take frames of different sizes, or the mask is of another size.
    """

    def __init__(
        self,
        encoders: Sequence[Encoder],
        responses: Tensor,
        behavior: Tensor,
        *,
        frame_size: tuple[int, int],
        settings: Bauer2026Settings | None = None,
        transparency: np.ndarray | None = None,
        batch_windows: int = 1,
    ) -> None:
        self.settings = settings or PRESETS["bauer2026"]
        self.inputs = [ChannelInput(encoder, frame_size) for encoder in encoders]
        self.behavior, self.batch_windows = behavior, batch_windows
        canvases = {one.canvas for one in self.inputs}
        if len(canvases) != 1:
            raise InversionError(
                f"The encoders take frames of {' and '.join(f'{h}x{w}' for h, w in sorted(canvases))} pixels.",
                "They must agree.",
            )
        self.known = responses.isfinite()
        self.responses = torch.where(self.known, responses, 0.0)
        self.window = min(self.settings.window_frames, len(responses))
        self.starts = window_starts(len(responses), self.window, self.settings.window_stride)
        self.video = responses.new_full((len(responses), *canvases.pop()), _GRAY)
        self.mask = None
        if transparency is not None:
            on_canvas = _on_canvas(transparency, self.inputs[0]) >= self.settings.training_threshold
            self.mask = torch.from_numpy(on_canvas).to(self.video)
        self.running_mean = torch.zeros_like(self.video)
        self.iteration = 0
        self.losses: list[float] = []

    def step(self) -> None:
        """Do one iteration."""
        settings, done = self.settings, self.iteration
        gradient = self.gradient()
        self.iteration += 1
        # as published, the first iteration changes nothing, and yet is counted in the corrections
        if done == 0:
            return
        self.running_mean.mul_(settings.momentum).add_(gradient, alpha=1 - settings.momentum)
        step = settings.learning_rate * min(1.0, done / settings.warm_up_iterations)
        if settings.second_momentum is None:
            step /= 1 - settings.momentum**done
        else:
            step *= math.sqrt(1 - settings.second_momentum**self.iteration)
            step /= (1 - settings.momentum**self.iteration) ** 2
        self.video.sub_(self.running_mean, alpha=step).clamp_(0, 255)

    def gradient(self) -> Tensor:
        """Direction of steepest ascent that an iteration uses: scaled, averaged, masked; of the video's shape."""
        gradients = [self._gradient_of(one) for one in self.inputs]
        gradient = torch.stack(gradients).mean(dim=0)
        if not bool(gradient.isfinite().all()):
            raise InversionError(
                f"The gradient is not finite at iteration {self.iteration}.",
                action="Check that the encoder's rates are finite for a gray screen and this behavior.",
            )
        if self.mask is not None:
            gradient = gradient * self.mask
        return gradient.clamp_(-1, 1)

    def crop(self, frames: np.ndarray) -> np.ndarray:
        """Cut the video out of the canvas: ``(..., height, width)``."""
        return self.inputs[0].crop(frames)

    def _gradient_of(self, one: ChannelInput) -> Tensor:
        settings, self.losses = self.settings, []
        total, count = torch.zeros_like(self.video), self.video.new_zeros(len(self.video), 1, 1)
        for first in range(0, len(self.starts), self.batch_windows):
            spans = [slice(start, start + self.window) for start in self.starts[first : first + self.batch_windows]]
            gradients, informed = self._window_gradients(one, spans)
            if settings.normalize == "window":
                lengths = gradients.flatten(1).norm(dim=1)
                gradients = gradients / (lengths + _NORM_FLOOR)[:, None, None, None, None]
            for span, gradient, counts in zip(spans, gradients[:, 0], informed, strict=True):
                if counts:
                    total[span] += gradient
                    count[span] += 1
        mean = total / count.clamp_min(1)
        return mean if settings.normalize == "window" else mean / (mean.norm() + _NORM_FLOOR)

    def _window_gradients(self, one: ChannelInput, spans: list[slice]) -> tuple[Tensor, list[bool]]:
        """Gradients ``(window, channel, time, height, width)``, and whether anything was known in each window."""
        behavior, responses, known = (
            torch.stack([values[span] for span in spans]) for values in (self.behavior, self.responses, self.known)
        )
        known = known.to(responses.dtype)
        one.forget_unpredicted(known.transpose(1, 2))
        video = torch.stack([self.video[span] for span in spans])[:, None]
        inputs = one.stack(video, behavior).detach().requires_grad_()
        rates = one.rates(inputs, behavior).transpose(1, 2)
        losses = ((rates - responses * torch.log(rates + _LOG_FLOOR)) * known).sum(dim=(1, 2))
        counts = known.sum(dim=(1, 2))
        losses = losses / counts.clamp_min(1)
        (gradients,) = torch.autograd.grad(losses.sum(), inputs)
        self.losses += losses.tolist()
        return gradients, [bool(count) for count in counts > 0]


def reconstruct_bauer2026(
    encoder: Encoder | Sequence[Encoder],
    aligned: AlignedSession,
    trial: int,
    settings: Bauer2026Settings | None = None,
    *,
    transparency: np.ndarray | None = None,
    record_every: int = 0,
    batch_windows: int = 1,
) -> Reconstruction:
    """Reconstruct one trial by the published method.

    Parameters
    ----------
    encoder
        One encoder or several; the members of an `EncoderEnsemble` count as several. Each is given windows of 32
        frames; those of DwiseNeuro are predicted by two interleaved calls, as published. Frames of a window for
        which an encoder lacks its past (``warm_up``) or its future (``look_ahead``) stay out of the loss.
    aligned
        The session, from which responses and behavior of the trial are taken.
    trial
        Label in ``aligned.trials``.
    settings
        How; see `PRESETS`.
    transparency
        ``(height, width)`` mask of `nwbrecon.inversion.transparency.train_transparency`; pixels below the training
        threshold are not moved, and those below the evaluation threshold are gray in the result. ``None``: all count.
    record_every
        Keep what the result would be after every so many iterations, in ``snapshots``; 0 keeps nothing.
    batch_windows
        Windows whose gradients are computed at once; 1 is as published. It changes time and memory, not the result.

    Returns
    -------
    Reconstruction
        Without standard deviations, which the method does not have.

    Raises
    ------
    InversionError
        If encoders and mask do not fit together.
    EncoderError
        If the trial is too short for the encoder.
    """
    settings = settings or PRESETS["bauer2026"]
    encoders = _encoders(encoder)
    device = device_of(encoders[0])
    responses = torch.from_numpy(window_targets(aligned, trial)).to(device)
    behavior = torch.from_numpy(np.asarray(aligned.trial(trial).behavior, dtype=np.float32)).to(device)
    teams = [encoders] if settings.ensemble == "gradient" else [[member] for member in encoders]
    recorded = [*range(record_every, settings.iterations + 1, record_every)] if record_every else []
    if settings.iterations not in recorded:
        recorded.append(settings.iterations)
    videos = np.zeros((len(recorded), len(responses), *aligned.frame_size), dtype=np.float32)
    history = np.zeros((settings.iterations, 2))
    with progress(total=len(teams) * settings.iterations, label="bauer2026") as bar:
        for team in teams:
            loop = Bauer2026Loop(
                team,
                responses,
                behavior,
                frame_size=aligned.frame_size,
                settings=settings,
                transparency=transparency,
                batch_windows=batch_windows,
            )
            started = time.perf_counter()
            for iteration in range(settings.iterations):
                loop.step()
                history[iteration] += float(np.mean(loop.losses)), time.perf_counter() - started
                if iteration + 1 in recorded:
                    videos[recorded.index(iteration + 1)] += loop.crop(loop.video.cpu().numpy()) / len(teams)
                bar.update()
    gray = None
    if transparency is not None:
        gray = loop.crop(_on_canvas(transparency, loop.inputs[0])) < settings.evaluation_threshold
    for video in videos:
        _finish(video, settings.blur, gray)
    row = aligned.trials.loc[trial]
    return Reconstruction(
        clip=str(row["clip"]),
        trials=(trial,),
        video=videos[-1],
        onset=float(row["onset"]),
        frame_rate=aligned.frame_rate,
        history=pd.DataFrame(
            {
                "iteration": np.arange(1, settings.iterations + 1),
                "objective": history[:, 0] / len(teams),
                "negative_log_likelihood": history[:, 0] / len(teams),
                "negative_log_prior": 0.0,
                "seconds": history[:, 1],
            }
        ),
        snapshots=np.rint(videos).astype(np.uint8) if record_every else None,
        snapshot_iterations=np.array(recorded) if record_every else None,
        info={"settings": settings.model_dump(mode="json"), "members": len(encoders), "seconds": history[-1, 1]},
    )


def window_starts(n_frames: int, window: int, stride: int) -> list[int]:
    """First frames of windows that reach every frame; the last one ends with the clip.

    Examples
    --------
    >>> window_starts(52, 32, 8)
    [0, 8, 16, 20]
    """
    starts = list(range(0, n_frames - window + 1, stride))
    if starts[-1] + window < n_frames:
        starts.append(n_frames - window)
    return starts


def _encoders(encoder: Encoder | Sequence[Encoder]) -> list[Encoder]:
    if isinstance(encoder, EncoderEnsemble):
        return list(encoder.members)  # type: ignore[arg-type]
    return list(encoder) if isinstance(encoder, Sequence) else [encoder]


def _on_canvas(transparency: np.ndarray, one: ChannelInput) -> np.ndarray:
    # nothing is seen through the padding
    return one.pad(np.asarray(transparency, dtype=np.float32), -np.inf)


def _finish(video: np.ndarray, blur: float, gray: np.ndarray | None) -> None:
    from scipy.ndimage import gaussian_filter

    gaussian_filter(video, blur, output=video)
    if gray is not None:
        video[:, gray] = _GRAY
