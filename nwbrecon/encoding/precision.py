"""How rates are computed in training: in which precision, compiled or as they are."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nwbrecon.config import TrainingSettings

__all__ = ["Forward"]


class Forward:
    """Predicts the rates of an encoder as the settings of training ask for it.

    Parameters
    ----------
    predict
        ``predict_rates`` of the encoder.
    device
        Where it is.
    settings
        ``precision`` and ``compile``.
    """

    def __init__(self, predict: Callable[..., Any], device: torch.device, settings: TrainingSettings) -> None:
        self._plain, self.device = predict, device
        self.reduced = _reduced(settings.precision, device)
        self._compiled: Callable[..., Any] | None = None
        if settings.compile:
            # drawing as without compilation, so that a seed means the same
            self._compiled = torch.compile(predict, options={"fallback_random": True})

    def __call__(self, video: Tensor, behavior: Tensor) -> Tensor:
        """Rates ``(batch, roi, time)`` in single precision."""
        predict = self._plain if self._compiled is None else self._compiled
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.reduced):
            rates: Tensor = predict(video, behavior)
        return rates.float()

    @property
    def compiled(self) -> bool:
        """Whether what is called is compiled."""
        return self._compiled is not None

    def decompile(self, reason: Exception) -> None:
        """Go on without compilation, which failed for this reason; says so in a warning."""
        self._compiled = None
        line = next((line for line in str(reason).splitlines() if line.strip()), type(reason).__name__)
        warnings.warn(f"The encoder could not be compiled and is trained as it is: {line}", stacklevel=2)


def _reduced(precision: str, device: torch.device) -> bool:
    if precision == "auto":
        # older GPUs emulate it, which is slower than single precision
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bf16"
