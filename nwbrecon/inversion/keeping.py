"""Searches kept in a folder, and what says that they are of the same thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nwbrecon.errors import InversionError
from nwbrecon.storage import atomic_directory, digest, read_arrays, read_json, write_arrays, write_json

__all__ = ["identity", "read_search", "write_search"]

_FORMAT = 1


def identity(*content: Any) -> str:
    """SHA-256 of all that objects hold: tensors, weights of encoders, numbers.

    Parameters
    ----------
    content
        Objects of any kind. Of functions, and of what hides what it holds, only the kind counts.
    """
    return digest(_described(content, ()))


def _described(value: Any, within: tuple[int, ...]) -> Any:
    if value is None or isinstance(value, str | int | float | Enum | np.generic):
        return str(value)
    if id(value) in within:
        return "itself"
    within = (*within, id(value))
    if isinstance(value, Tensor):
        value = value.detach().cpu().contiguous().numpy()
    if isinstance(value, np.ndarray):
        return [str(value.dtype), value.shape, digest(np.ascontiguousarray(value).tobytes())]
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, nn.Module):
        # an ensemble knows its calibration as well
        own = getattr(value, "digest", None)
        return [kind, own() if callable(own) else _described(dict(value.state_dict()), within)]
    if isinstance(value, Mapping):
        return [
            [str(name), _described(one, within)] for name, one in sorted(value.items(), key=lambda pair: str(pair[0]))
        ]
    if isinstance(value, Sequence):
        return [_described(one, within) for one in value]
    if isinstance(value, slice):
        return str(value)
    return [kind, _described(vars(value), within) if hasattr(value, "__dict__") else ""]


def write_search(folder: str | Path, of: str, state: Mapping[str, Any]) -> None:
    """Write the state of a search as a folder with ``search.json`` and ``search.safetensors``.

    Parameters
    ----------
    folder
        The folder; an older one is replaced as a whole.
    of
        `identity` of what it was built from.
    state
        Tensors and arrays by name, and what JSON can hold.
    """
    arrays = {name: value for name, value in state.items() if isinstance(value, Tensor | np.ndarray)}
    plain = {name: value for name, value in state.items() if name not in arrays}
    with atomic_directory(folder) as path:
        write_arrays(path / "search.safetensors", arrays)
        write_json(path / "search.json", {"format": _FORMAT, "of": of, "state": plain})


def read_search(folder: str | Path, of: str) -> dict[str, Any]:
    """Read what `write_search` wrote; arrays come as tensors.

    Raises
    ------
    InversionError
        If the folder holds no search, or one of other evidence or another prior.
    """
    folder = Path(folder)
    kept = read_json(folder / "search.json") if (folder / "search.json").is_file() else {}
    if kept.get("format") != _FORMAT:
        raise InversionError(
            f"{folder} holds no search that can be taken up.",
            "A folder with search.json and search.safetensors was expected.",
            "Give the folder that Reconstructor.save wrote, with this version of nwbrecon.",
        )
    if kept["of"] != of:
        raise InversionError(
            f"The search in {folder} was for another movie.",
            "Encoders, responses, behavior, ROIs, margins, prior and its weight, and the optimizer must be the same.",
            "Build the Reconstructor from what it was built from when it was saved.",
        )
    arrays = read_arrays(folder / "search.safetensors")
    return kept["state"] | {name: torch.from_numpy(value) for name, value in arrays.items()}
