"""Where tensors are computed."""

from __future__ import annotations

from typing import Any

import torch

from nwbrecon.errors import SettingsError

__all__ = ["choose_device", "device_of", "gpu_found"]


def choose_device(name: str) -> torch.device:
    """Device by name; ``auto`` is the GPU where there is one.

    Raises
    ------
    SettingsError
        If a GPU was asked for and there is none.
    """
    if name == "auto":
        name = "cuda" if gpu_found() else "cpu"
    if name == "cuda" and not gpu_found():
        raise SettingsError("device is 'cuda', but torch finds no GPU.", action="Use 'auto' or 'cpu'.")
    return torch.device(name)


def gpu_found() -> bool:
    """Whether there is a GPU that torch can use."""
    return torch.cuda.is_available()


def device_of(encoder: Any) -> torch.device:
    """Device of an encoder's parameters; the CPU for one that has none."""
    if isinstance(encoder, torch.nn.Module):
        for parameter in encoder.parameters():
            return parameter.device
    return torch.device("cpu")
