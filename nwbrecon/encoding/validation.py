"""Whether an encoder, whoever wrote it, keeps to what an inversion relies on."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from nwbrecon.encoding.device import device_of
from nwbrecon.encoding.encoder import Encoder
from nwbrecon.errors import EncoderError

__all__ = ["validate_encoder", "validate_once"]

_ACTION = "See nwbrecon.encoding.Encoder for what an encoder must do."
_TOLERANCE = 1e-4
_valid: WeakSet[Any] = WeakSet()


def validate_encoder(
    encoder: Encoder,
    *,
    n_rois: int,
    frame_size: tuple[int, int],
    n_variables: int = 0,
    signed: bool = False,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Make sure that an encoder can be inverted: predict a few frames of noise, and differentiate.

    Parameters
    ----------
    encoder
        Anything with ``predict_rates`` and ``warm_up``; see `Encoder`. Where it is a torch module, inputs are given on
        the device of its parameters.
    n_rois
        Number of ROIs that it predicts.
    frame_size
        Rows and columns of the video (pixels).
    n_variables
        Number of behavioral variables that it is given.
    signed
        Whether predictions may be negative, as dF/F may.
    dtype
        Precision of its input.

    Raises
    ------
    EncoderError
        At the first fault, saying which: no ``predict_rates`` or no ``warm_up`` that is a whole number of frames;
        weights that are not frozen; rates that are no tensor, of another shape than ``(batch, roi, time)``, of another
        dtype or device than the video, not finite (with behavior, or with behavior missing), negative, or other ones
        when predicted again; a gradient that does not reach the video or is not finite.

    Examples
    --------
    >>> class Mean:
    ...     warm_up = 0
    ...     def predict_rates(self, video, behavior):
    ...         return video.mean(dim=(3, 4)).detach()
    >>> validate_encoder(Mean(), n_rois=1, frame_size=(4, 6))
    Traceback (most recent call last):
    nwbrecon.errors.EncoderError: No gradient of the rates reaches the video. A movie is sought by ...
    """
    if not callable(getattr(encoder, "predict_rates", None)):
        raise EncoderError(f"{type(encoder).__name__} has no method predict_rates.", action=_ACTION)
    warm_up = getattr(encoder, "warm_up", None)
    if not isinstance(warm_up, int) or isinstance(warm_up, bool) or warm_up < 0:
        raise EncoderError(
            f"The encoder's warm_up is {warm_up!r}.", "A whole number of frames, 0 or more, was expected.", _ACTION
        )
    if isinstance(encoder, nn.Module) and any(weight.requires_grad for weight in encoder.parameters()):
        raise EncoderError(
            "The encoder's weights are not frozen.",
            "An inversion does not change them, and gradients of them would take time and memory.",
            "Call encoder.eval().requires_grad_(False).",
        )
    n_frames = max(int(getattr(encoder, "least_frames", 1)), warm_up + 2)
    generator = torch.Generator().manual_seed(0)
    video = (255 * torch.rand(1, 1, n_frames, *frame_size, generator=generator)).to(device_of(encoder), dtype)
    behavior = torch.randn(1, n_frames, n_variables, generator=generator).to(video)
    video.requires_grad_()
    rates = encoder.predict_rates(video, behavior)
    _check_rates(rates, video, n_rois, signed=signed)
    if not rates.requires_grad or (gradient := _gradient(rates, video)) is None:
        raise EncoderError(
            "No gradient of the rates reaches the video.",
            "A movie is sought by following it.",
            "Compute the rates with differentiable torch operations, and without detach or no_grad.",
        )
    if not bool(torch.isfinite(gradient).all()):
        raise EncoderError("The gradient of the rates with respect to the video is not finite.", action=_ACTION)
    with torch.no_grad():
        again = encoder.predict_rates(video.detach(), behavior)
        if not torch.allclose(again, rates, rtol=_TOLERANCE, atol=_TOLERANCE * float(again.abs().max())):
            raise EncoderError(
                "The encoder predicts other rates when it is shown the same again.",
                "A search compares values that differ by little.",
                "Switch off dropout and all else that is random: call encoder.eval().",
            )
        if n_variables and not bool(
            torch.isfinite(encoder.predict_rates(video.detach(), torch.full_like(behavior, torch.nan))).all()
        ):
            raise EncoderError(
                "The rates are not finite where behavior is missing (NaN).",
                "What is missing says nothing; the rates of the mean behavior would do.",
                "Replace NaN within the encoder, by torch.nan_to_num after standardizing, say.",
            )


def validate_once(encoder: Encoder, **known: Any) -> None:
    """As `validate_encoder`, but an encoder that was found valid is not asked again."""
    # what cannot be remembered is asked each time
    with suppress(TypeError):
        if encoder in _valid:
            return
    validate_encoder(encoder, **known)
    with suppress(TypeError):
        _valid.add(encoder)


def _check_rates(rates: Any, video: Tensor, n_rois: int, *, signed: bool) -> None:
    if not isinstance(rates, Tensor):
        raise EncoderError(f"predict_rates gives a {type(rates).__name__}.", "A torch tensor was expected.", _ACTION)
    expected = (1, n_rois, video.shape[2])
    if tuple(rates.shape) != expected:
        raise EncoderError(
            f"For {video.shape[2]} frames the encoder's rates have the shape {tuple(rates.shape)}.",
            f"{expected} was expected: (batch, roi, time).",
            _ACTION,
        )
    for name in ("dtype", "device"):
        if getattr(rates, name) != getattr(video, name):
            raise EncoderError(
                f"The encoder's rates have the {name} {getattr(rates, name)}.",
                f"The video has {getattr(video, name)}, and they should have the same.",
                "Convert nothing within the encoder, and keep its weights in buffers or parameters.",
            )
    if not bool(torch.isfinite(rates).all()):
        raise EncoderError("Some of the encoder's rates are not finite.", action=_ACTION)
    lowest = float(rates.detach().min())
    if not signed and lowest < 0:
        raise EncoderError(
            f"The encoder predicts negative rates (down to {lowest:.3g}).",
            "What the recording measured cannot be negative.",
            "End the encoder in a softplus, or another function that gives no negative values.",
        )


def _gradient(rates: Tensor, video: Tensor) -> Tensor | None:
    (gradient,) = torch.autograd.grad(rates.sum(), video, allow_unused=True)
    return gradient
