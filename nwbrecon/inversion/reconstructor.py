"""The search for the video that explains the responses best, under a prior."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from nwbrecon.errors import InversionError
from nwbrecon.inversion.metric import Metric
from nwbrecon.inversion.objective import Evidence, Margins, Objective
from nwbrecon.inversion.optimizers import LBFGS
from nwbrecon.inversion.priors import Prior

__all__ = ["Outcome", "Reconstructor"]


@dataclass
class Outcome:
    """How a search ended.

    Attributes
    ----------
    converged
        Whether it stopped because the objective no longer fell, not because its iterations were used up.
    n_iterations, n_evaluations
        Iterations, and evaluations of the objective.
    value
        Objective at the end.
    seconds
        Time taken.
    """

    converged: bool
    n_iterations: int
    n_evaluations: int
    value: float
    seconds: float


class Reconstructor:
    """Maximum a posteriori video of one clip.

    Built from what (evidence and prior); `run` is told how, and may be called again to go on.

    Parameters
    ----------
    evidence
        Witnesses of the clip: repeats, sessions, mice.
    prior
        What natural movies look like; its shape is the clip with its margins.
    margins
        Unknown frames around the clip.
    prior_weight
        Factor on the negative log-prior.
    chosen
        ``(roi,)`` 1 for ROIs that are fitted, otherwise 0, one a witness; ``None`` fits all.
    start
        White coordinates to start from; ``None`` starts from the prior's center.
    sensitivity
        Sum of the witnesses' `nwbrecon.inversion.metric.sensitivity`, which makes the search shorter; ``None`` does
        without.

    Raises
    ------
    InversionError
        If there is no evidence, or nothing was measured.
    """

    def __init__(
        self,
        evidence: Sequence[Evidence],
        prior: Prior,
        margins: Margins,
        *,
        prior_weight: float = 1.0,
        chosen: Sequence[Tensor] | None = None,
        start: Tensor | None = None,
        sensitivity: np.ndarray | None = None,
    ) -> None:
        if not evidence or not any(float(seen.known.sum()) for witness in evidence for seen in witness.observations):
            raise InversionError(
                "No response was measured during the clip.",
                "At least one sample of one ROI is needed.",
                "Choose trials that the recording covers.",
            )
        self.prior, self.margins = prior, margins
        self.objective = Objective(evidence, prior, prior_weight=prior_weight, chosen=chosen)
        self._start = torch.zeros(1, *prior.torus, device=prior.amplitude.device) if start is None else start
        self._metric = None if sensitivity is None else Metric(sensitivity, prior, prior_weight)
        self._optimizer: LBFGS | None = None
        # of searches that other evidence has ended
        self._iterations = self._evaluations = 0
        self._seconds = 0.0
        self._rows: list[dict[str, float]] = []
        self._snapshots: list[np.ndarray] = []
        self.snapshot_iterations: list[int] = []

    def run(self, iterations: int, *, tolerance: float = 1e-5, snapshots: Sequence[int] = ()) -> Outcome:
        """Search on.

        Parameters
        ----------
        iterations
            Iterations to take, at most.
        tolerance
            Relative fall of the objective below which the search has converged.
        snapshots
            Iterations (counted from the start) at which the video is kept.
        """
        started = time.perf_counter()
        if self._optimizer is None:
            self._optimizer = LBFGS(self.objective, self._start, metric=self._metric)
            if not self._rows:
                self._record(started, snapshots)
        optimizer = self._optimizer
        converged = False
        for _ in range(iterations):
            before = optimizer.evaluation.value
            converged = not optimizer.step()
            if not converged:
                self._record(started, snapshots)
                converged = before - optimizer.evaluation.value < tolerance * abs(before)
            if converged:
                break
        self._seconds += time.perf_counter() - started
        return Outcome(
            converged,
            self._iterations + optimizer.iteration,
            self._evaluations + optimizer.n_evaluations,
            optimizer.evaluation.value,
            self._seconds,
        )

    def judge_by(self, evidence: Sequence[Evidence]) -> None:
        """Take other evidence of the same clip for what the search is to fit, from where it is now.

        Parameters
        ----------
        evidence
            As many witnesses as before, in their order.
        """
        self._start = self.white
        if self._optimizer is not None:
            self._iterations += self._optimizer.iteration
            self._evaluations += self._optimizer.n_evaluations
            self._optimizer = None
        self.objective.evidence = list(evidence)

    @property
    def white(self) -> Tensor:
        """White coordinates of the best video so far."""
        return self._start if self._optimizer is None else self._optimizer.point

    @property
    def video(self) -> np.ndarray:
        """``(time, height, width)`` float32: the best video so far, margins cut off, grey levels 0-255."""
        with torch.no_grad():
            return self._clip(self.prior.video(self.white))

    @property
    def history(self) -> pd.DataFrame:
        """One row an iteration."""
        return pd.DataFrame(self._rows)

    @property
    def snapshots(self) -> np.ndarray:
        """``(snapshot, time, height, width)`` uint8."""
        return np.stack(self._snapshots) if self._snapshots else np.zeros((0, *self.video.shape), np.uint8)

    def _record(self, started: float, snapshots: Sequence[int]) -> None:
        assert self._optimizer is not None
        optimizer = self._optimizer
        self._rows.append(
            {
                "iteration": self._iterations + optimizer.iteration,
                "objective": optimizer.evaluation.value,
                **optimizer.evaluation.parts,
                "seconds": self._seconds + time.perf_counter() - started,
            }
        )
        if self._iterations + optimizer.iteration in snapshots:
            self.snapshot_iterations.append(self._iterations + optimizer.iteration)
            self._snapshots.append(np.round(self.video).astype(np.uint8))

    def _clip(self, video: Tensor) -> np.ndarray:
        stop = video.shape[1] - self.margins.tail
        return video[0, self.margins.lead : stop].clamp(0, 255).cpu().numpy()
