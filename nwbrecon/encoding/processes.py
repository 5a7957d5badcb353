"""Several processes, each with a GPU or a share of the CPU, that train one encoder."""

from __future__ import annotations

import io
import mmap
import pickle
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.multiprocessing.spawn import ProcessRaisedException

from nwbrecon.errors import EncoderError, NwbreconError, SettingsError
from nwbrecon.progress import progress_shown

__all__ = ["Processes", "launch"]

Item = TypeVar("Item")


class Processes:
    """The processes that train an encoder together, as one of them sees them.

    All hold the same weights and draw the same numbers; each computes the gradient of its share of a batch.

    Parameters
    ----------
    fabric
        Connects them; ``None`` for a process that is alone.
    """

    def __init__(self, fabric: Any = None) -> None:
        self._fabric = fabric
        self.count = 1 if fabric is None else int(fabric.world_size)
        self.rank = 0 if fabric is None else int(fabric.global_rank)

    @property
    def first(self) -> bool:
        """Whether this is the process that validates and writes."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """Give what this process has to do."""
        return items[self.rank :: self.count]

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the processes."""
        return values if self.count == 1 else self._fabric.all_reduce(values, reduce_op="sum")

    def sum_gradients(self, parameters: Sequence[Tensor], loss: Tensor) -> Tensor:
        """Sum the gradients of parameters over the processes, in place, and a loss, which is returned."""
        if self.count == 1:
            return loss
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        # in one message
        parts = [loss.reshape(1), *(gradient.flatten() for gradient in gradients)]
        summed = torch.split(self.sum(torch.cat(parts)), [len(part) for part in parts])
        for gradient, values in zip(gradients, summed[1:], strict=True):
            gradient.copy_(values.view_as(gradient))
        return summed[0][0]

    def agree(self, value: Item) -> Item:
        """Give what the first process has."""
        return value if self.count == 1 else self._fabric.broadcast(value)


def launch(function: Callable[..., None], device: torch.device, count: int, *arguments: Any) -> None:
    """Call ``function(processes, device, *arguments)`` in several processes, and wait for their end.

    Parameters
    ----------
    function
        A function of a module: the processes import it.
    device
        CPU or CUDA.
    count
        Number of processes; each has a GPU of its own on CUDA.
    *arguments
        What can be pickled.

    Raises
    ------
    NwbreconError
        What the first process raised.
    EncoderError
        If a process failed otherwise.
    SettingsError
        If there are fewer GPUs, or lightning-fabric is not installed.
    """
    if device.type == "cuda" and torch.cuda.device_count() < count:
        raise SettingsError(
            f"training.devices is {count}, but torch finds {torch.cuda.device_count()} GPUs.",
            action="Ask for as many as there are.",
        )
    try:
        from lightning_fabric import Fabric
    except ImportError as error:
        raise SettingsError(
            f"training.devices is {count}, but lightning-fabric is not installed.",
            "It connects the processes.",
            "Install nwbrecon[cluster], or leave devices at 1.",
        ) from error
    fabric: Any = Fabric(accelerator=device.type, devices=count, strategy="ddp_spawn")
    try:
        failure = fabric.launch(_work, function, _pack(arguments))
    except ProcessRaisedException as error:
        raise EncoderError("One of the processes that train failed.", action="See above for what it said.") from error
    if failure is not None:
        raise failure


def _work(fabric: Any, function: Callable[..., None], arguments: bytes) -> NwbreconError | None:
    processes = Processes(fabric)
    # one bar is enough
    with progress_shown(processes.first):
        try:
            function(processes, fabric.device, *pickle.loads(arguments))
        except NwbreconError as error:
            # comes to all of them at the same point, and would lose its class on the way out if it were raised
            return error
    return None


def _pack(arguments: Sequence[Any]) -> bytes:
    """Pickle arguments; of arrays that are maps of files only where these are, so that they are not read."""
    buffer = io.BytesIO()
    _Packer(buffer).dump(arguments)
    return buffer.getvalue()


class _Packer(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        whole: Any = value.base if isinstance(value, np.memmap) else None
        # a part of a map does not know where in the file it begins
        if isinstance(whole, mmap.mmap) and value.flags.c_contiguous:
            return np.memmap, (value.filename, value.dtype, "r", value.offset, value.shape)
        return NotImplemented
