"""The gradient of a batch, in as many parts as memory asks for."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from nwbrecon.encoding.batches import Batch
from nwbrecon.encoding.encoder import Encoder
from nwbrecon.encoding.likelihoods import Likelihood
from nwbrecon.encoding.precision import Forward
from nwbrecon.encoding.processes import Processes
from nwbrecon.errors import EncoderError

__all__ = ["Gradients"]


class Gradients:
    """Computes gradients; where memory runs out, in smaller parts from then on.

    Parts change nothing but rounding, batch norms aside: the loss is a sum over stretches, and each part is computed
    with the same draws of readout positions.

    Parameters
    ----------
    device
        Where to compute.
    processes
        The processes that share the work.
    teacher
        An encoder whose predictions count beside what was measured; ``None`` does without.
    teacher_weight
        How much they count; what was measured has the rest.
    exact
        Whether parts give the same gradient, as they do without batch norms.
    """

    def __init__(
        self,
        device: torch.device,
        processes: Processes,
        *,
        teacher: Encoder | None = None,
        teacher_weight: float = 0.0,
        exact: bool = True,
    ) -> None:
        self.device, self.processes = device, processes
        self.teacher, self.teacher_weight = teacher, teacher_weight
        self.exact = exact
        self.most: int | None = None

    def compute(
        self, forward: Forward, parameters: Iterable[Tensor], batch: Batch, likelihoods: Sequence[Likelihood]
    ) -> Tensor:
        """Set the gradients of ``parameters`` to that of the loss of a batch, and return the loss.

        The loss is the mean over known samples of the negative log-likelihood. With several processes, ``batch`` is
        this process's share, and loss and gradient are those of all shares together.

        Raises
        ------
        EncoderError
            If not even one stretch fits into memory.
        """
        parameters = [parameter for parameter in parameters if parameter.requires_grad]
        n_known = self.processes.sum(batch.n_known.to(self.device)).clamp_min(1)
        draws = torch.get_rng_state()
        while True:
            for parameter in parameters:
                parameter.grad = None
            size = min(self.most or len(batch), len(batch))
            try:
                loss = self._in_parts(forward, batch, size, likelihoods, n_known, draws)
                break
            except torch.OutOfMemoryError as error:
                # what the failed step holds on to is let go with its traceback
                error.__traceback__ = None
                failure = error
            except Exception as error:
                if not forward.compiled:
                    raise
                forward.decompile(error)
                continue
            self._take_less(size, failure)
        return self.processes.sum_gradients(parameters, loss)

    def _in_parts(
        self,
        forward: Forward,
        batch: Batch,
        size: int,
        likelihoods: Sequence[Likelihood],
        n_known: Tensor,
        draws: Tensor,
    ) -> Tensor:
        total = torch.zeros((), device=self.device)
        for start in range(0, len(batch), size):
            torch.set_rng_state(draws)
            part = batch.part(slice(start, start + size), self.device)
            rates = forward(part.video, part.behavior)
            loss = part.loss(rates, likelihoods) / n_known
            if self.teacher is not None:
                with torch.no_grad():
                    taught = self.teacher.predict_rates(part.video, part.behavior)
                loss = torch.lerp(loss, part.loss(rates, likelihoods, taught) / n_known, self.teacher_weight)
            torch.autograd.backward(loss)
            total += loss.detach()
        return total

    def _take_less(self, size: int, failure: Exception) -> None:
        if size == 1:
            raise EncoderError(
                "Memory ran out with a single stretch of video.",
                action="Shorten training.window_seconds, use fewer channels, or train on the CPU.",
            ) from failure
        self.most = (size + 1) // 2
        warnings.warn(
            f"Memory ran out with {size} stretches of video at a time; from now on there are {self.most}, "
            + ("which gives the same gradient." if self.exact else "of which alone batch norms take their statistics."),
            stacklevel=3,
        )
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
