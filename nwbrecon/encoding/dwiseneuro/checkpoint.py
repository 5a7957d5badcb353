"""Checkpoints of DwiseNeuro in the format in which they are published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from nwbrecon.config import DwiseNeuroSettings
from nwbrecon.encoding.dwiseneuro.network import DwiseNeuro
from nwbrecon.errors import EncoderError

__all__ = ["Checkpoint", "read_checkpoint"]


@dataclass
class Checkpoint:
    """A trained network and how its input is to be put together.

    Attributes
    ----------
    network
        In evaluation mode.
    n_frames, frame_step
        A window is ``n_frames`` frames, every ``frame_step``-th one.
    canvas
        Rows and columns of the input (pixels), into whose middle the video goes.
    pad_value
        Grey level around the video.
    """

    network: DwiseNeuro
    n_frames: int
    frame_step: int
    canvas: tuple[int, int]
    pad_value: float


def read_checkpoint(path: str | Path, *, readouts: Sequence[int] | None = None) -> Checkpoint:
    """Read a published checkpoint; nothing in it is executed.

    Parameters
    ----------
    path
        A file as written by the training code of DwiseNeuro or of Bauer et al. (``model-017-0.292118.pth``).
    readouts
        Which of the readouts (mice) to keep, in this order; ``None`` for all. A readout is four times as large as all
        that the mice share.

    Returns
    -------
    Checkpoint
        The network, with the settings that the file holds.

    Raises
    ------
    EncoderError
        If the file is missing or holds something else.
    """
    path = Path(path)
    content = _load(path)
    try:
        name, architecture = content["params"]["nn_module"]
        frame_stack = content["params"]["frame_stack"]
        processor, layout = content["params"]["inputs_processor"]
        state = dict(content["nn_state_dict"])
        found = (name, frame_stack["position"], processor)
    except (KeyError, TypeError, ValueError) as error:
        raise _refuse(path, f"lacks a part ({error!r})") from error
    if found != ("dwiseneuro", "last", "stack_inputs"):
        raise _refuse(path, f"holds {', '.join(map(str, found))}")
    try:
        settings = DwiseNeuroSettings.model_validate(architecture)
    except ValidationError as error:
        raise _refuse(path, f"has settings that are not understood ({error.errors()[0]['msg']})") from error
    if readouts is not None:
        settings, state = _keep(settings, state, readouts, path)
    network = DwiseNeuro(settings)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise _refuse(
            path, f"has weights that do not fit its settings ({str(error).splitlines()[-1].strip()})"
        ) from error
    return Checkpoint(
        network.eval(),
        n_frames=int(frame_stack["size"]),
        frame_step=int(frame_stack["step"]),
        # published as columns and rows
        canvas=(int(layout["size"][1]), int(layout["size"][0])),
        pad_value=float(layout["pad_fill_value"]),
    )


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise EncoderError(
            f"There is no file {path}.",
            "A checkpoint of DwiseNeuro was expected.",
            "Give the path of a .pth file as published.",
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what the reader stumbles over depends on the bytes
        raise _refuse(path, f"cannot be read ({str(error).splitlines()[0]})") from error
    if not isinstance(content, dict):
        raise _refuse(path, f"holds a {type(content).__name__}")
    return content


def _keep(
    settings: DwiseNeuroSettings, state: dict[str, Tensor], readouts: Sequence[int], path: Path
) -> tuple[DwiseNeuroSettings, dict[str, Tensor]]:
    n_readouts = len(settings.readout_outputs)
    if not all(0 <= readout < n_readouts for readout in readouts):
        raise EncoderError(
            f"Readout {', '.join(map(str, readouts))} was asked for.",
            f"{path.name} has readouts 0 to {n_readouts - 1}.",
            "Choose one of these.",
        )
    kept = {name: value for name, value in state.items() if not name.startswith("readouts.")}
    for new, old in enumerate(readouts):
        prefix = f"readouts.{old}."
        for name, value in state.items():
            if name.startswith(prefix):
                kept[f"readouts.{new}.{name.removeprefix(prefix)}"] = value
    outputs = tuple(settings.readout_outputs[readout] for readout in readouts)
    return settings.model_copy(update={"readout_outputs": outputs}), kept


def _refuse(path: Path, why: str) -> EncoderError:
    return EncoderError(
        f"{path} {why}.",
        "A checkpoint of DwiseNeuro holds params (nn_module, frame_stack, inputs_processor) and nn_state_dict.",
        "Give a .pth file as published.",
    )
