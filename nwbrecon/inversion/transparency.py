"""Which part of the screen a population reports on: the transparency mask of the published method.

Bauer, Margrie & Clopath 2026, eLife 14:RP105081, equations 1 to 3. A movie is blended into another one through a mask;
where the mask must be opaque for the responses to be predicted, the population sees.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nwbrecon.alignment import AlignedSession
from nwbrecon.config import TransparencySettings
from nwbrecon.encoding import Encoder
from nwbrecon.encoding.device import device_of
from nwbrecon.errors import InversionError
from nwbrecon.inversion.channels import ChannelInput, window_targets
from nwbrecon.progress import progress

__all__ = ["train_transparency"]

# values that the mask starts from
_INITIAL = 0.05
_NORM_FLOOR = 1e-6
# half the width of the smoothing kernel in standard deviations, as published (15 pixels for 5)
_KERNEL_REACH = 1.4


def train_transparency(
    encoder: Encoder, aligned: AlignedSession, trials: Sequence[int], settings: TransparencySettings | None = None
) -> np.ndarray:
    """Train the mask by gradient descent on random pairs of trials.

    Each step shows a stretch of one trial through the mask, with that of another trial behind it, predicts the
    responses, and takes the gradient of the mean squared error from what was recorded in the first trial.

    Parameters
    ----------
    encoder
        The encoder.
    aligned
        The session.
    trials
        Trials to learn from: not those that are to be reconstructed.
    settings
        How. By default the loss is the paper's; ``area_factor=False`` is as the script was released.

    Returns
    -------
    numpy.ndarray
        ``(height, width)`` float32 of the encoder's canvas (larger than the video for DwiseNeuro). Not bound to 0-1:
        the mask is clipped only where movies are blended.

    Raises
    ------
    InversionError
        If there are fewer than two trials that are long enough.
    """
    settings = settings or TransparencySettings()
    lengths = {trial: int(aligned.trials.at[trial, "n_frames"]) for trial in trials}
    usable = [trial for trial, length in lengths.items() if length >= settings.window_frames]
    if len(usable) < 2:
        raise InversionError(
            f"{len(usable)} of {len(lengths)} trials have {settings.window_frames} frames or more.",
            "At least two are needed to train a transparency mask.",
            "Give more trials or a smaller window_frames.",
        )
    one = ChannelInput(encoder, aligned.frame_size)
    random = np.random.default_rng(settings.seed)
    mask = torch.from_numpy(random.uniform(0, _INITIAL, (settings.window_frames, *one.canvas)).astype(np.float32))
    mask = mask.to(device_of(encoder))
    for _ in progress(range(settings.iterations), label="transparency mask"):
        shown, behind = random.choice(usable, 2, replace=False)
        first = min(settings.first_frame, lengths[shown] - settings.window_frames)
        first_behind = min(settings.first_frame, lengths[behind] - settings.window_frames)
        gradient = _gradient(
            one,
            mask,
            aligned,
            (int(shown), slice(first, first + settings.window_frames)),
            (int(behind), slice(first_behind, first_behind + settings.window_frames)),
            area_factor=settings.area_factor,
        )
        mask -= settings.learning_rate * _smooth(gradient.mean(dim=0), settings.blur)
    # every frame of the mask has had the same steps: what still differs is where it started
    return mask.mean(dim=0).cpu().numpy()


def _gradient(
    one: ChannelInput,
    mask: Tensor,
    aligned: AlignedSession,
    shown: tuple[int, slice],
    behind: tuple[int, slice],
    *,
    area_factor: bool,
) -> Tensor:
    """Gradient of the loss with respect to the mask of each frame, scaled and clipped; ``(time, *canvas)``."""
    trial, span = shown
    behavior = torch.from_numpy(np.asarray(aligned.trial(trial).behavior[span], dtype=np.float32))[None].to(mask.device)
    front, back = (
        one.stack(torch.from_numpy(aligned.trial(label).video[part])[None, None].to(mask.device), behavior)
        for label, part in (shown, behind)
    )
    responses = torch.from_numpy(window_targets(aligned, trial)[span].T).to(mask.device)
    known = responses.isfinite()
    one.forget_unpredicted(known)

    front = front.requires_grad_()
    mask = mask.clone().requires_grad_()
    opaque = mask.clamp(0, 1)
    blended = front[:, :1] * opaque + back[:, :1] * (1 - opaque)
    rates = one.rates(torch.cat([blended, front[:, 1:]], dim=1), behavior)[0]
    if area_factor:
        rates = rates * (1 - opaque.mean())
    loss = ((rates - responses.nan_to_num()) ** 2 * known).sum() / known.sum().clamp_min(1)
    of_front, of_mask = torch.autograd.grad(loss, (front, mask))
    # scaled by the length over all channels, of which the mask is one
    length = torch.sqrt(of_front.square().sum() + of_mask.square().sum())
    return (of_mask / (length + _NORM_FLOOR)).clamp(-1, 1)


def _smooth(image: Tensor, deviation: float) -> Tensor:
    """Gaussian smoothing of ``(height, width)`` with a kernel cut at 1.4 standard deviations, mirrored at the edges."""
    reach = round(_KERNEL_REACH * deviation)
    if not reach:
        return image
    offset = torch.arange(-reach, reach + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-0.5 * (offset / deviation) ** 2)
    kernel = torch.outer(kernel, kernel)
    padded = functional.pad(image[None, None], (reach,) * 4, mode="reflect")
    return functional.conv2d(padded, (kernel / kernel.sum())[None, None])[0, 0]
