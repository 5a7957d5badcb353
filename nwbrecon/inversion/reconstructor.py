"""The search for the video that explains the responses best, under a prior."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from nwbrecon.encoding.validation import validate_once
from nwbrecon.errors import InversionError
from nwbrecon.inversion.evidence import Evidence, Margins
from nwbrecon.inversion.keeping import identity, read_search, write_search
from nwbrecon.inversion.metric import Metric
from nwbrecon.inversion.objective import Objective
from nwbrecon.inversion.optimizers import OPTIMIZERS, Evaluation, Optimizer
from nwbrecon.inversion.priors import Prior
from nwbrecon.inversion.unknowns import Unknown
from nwbrecon.session import SignalKind

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

    Built from what (evidence and prior); `run` is told how, and may be called again to go on. A search that was saved
    goes on where it was, to the last bit on a CPU; it draws nothing at random.

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
        White coordinates of the movie to start from, or a whole `point` of such a search; ``None`` starts from the
        prior's center.
    sensitivity
        Sum of the witnesses' `nwbrecon.inversion.metric.sensitivity`, which makes the search shorter; ``None`` does
        without.
    watched_by
        Gives, for a video with its margins and the witnesses that know what else was found, what its history is to hold
        as ``held_out``; ``None``: nothing.
    optimizer
        ``lbfgs``, or another of `nwbrecon.inversion.optimizers.OPTIMIZERS`.

    Raises
    ------
    InversionError
        If there is no evidence, or nothing was measured.
    EncoderError
        If an encoder is none that can be inverted; see `nwbrecon.validate_encoder`.

    Examples
    --------
    ::

        margins = Margins(lead=encoder.warm_up, tail=9)
        evidence = gather_evidence(encoder, aligned, trial, margins)
        movies = [aligned.trial(label).video for label in aligned.trials_in("train")]
        shape = (margins.around(len(aligned.trial(trial).video)), *aligned.frame_size)
        mean = float(np.mean([movie.mean() for movie in movies]))
        lags = (round(3 * aligned.frame_rate), shape[1] - 1, shape[2] - 1)
        prior = MoviePrior(autocovariance(movies, lags, mean), shape, mean)

        fit = Reconstructor(evidence, prior, margins, prior_weight=1.5)
        outcome = fit.run(20)
        fit.save("search")
        print(outcome.converged, fit.history)

        again = Reconstructor(evidence, prior, margins, prior_weight=1.5)
        again.load("search")
        again.run(20)
        movie = again.video
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
        optimizer: str = "lbfgs",
        watched_by: Callable[[Tensor, Sequence[Evidence]], float] | None = None,
    ) -> None:
        if not evidence or not any(float(seen.known.sum()) for witness in evidence for seen in witness.observations):
            raise InversionError(
                "No response was measured during the clip.",
                "At least one sample of one ROI is needed.",
                "Choose trials that the recording covers.",
            )
        for witness in evidence:
            validate_once(
                witness.encoder,
                n_rois=len(witness.weights),
                frame_size=prior.shape[1:],
                n_variables=witness.behavior.shape[2],
                signed=all(seen.kind is SignalKind.DFF for seen in witness.observations),
                dtype=witness.weights.dtype,
            )
        self.prior, self.margins = prior, margins
        self.objective = Objective(evidence, prior, prior_weight=prior_weight, chosen=chosen)
        start = torch.zeros(1, *prior.coordinates, device=prior.amplitude.device) if start is None else start
        self._start = self.objective.point([start]) if start.dim() > 1 else start
        self._metric = None if sensitivity is None else self.objective.metric(Metric(sensitivity, prior, prior_weight))
        self._built_from = (prior_weight, chosen, sensitivity, optimizer)
        self._new_optimizer = OPTIMIZERS[optimizer]
        # how the objective is asked for; searches side by side ask together
        self.evaluate: Callable[[Objective, Tensor], Evaluation] = Objective.__call__
        self._watched_by = watched_by
        self._optimizer: Optimizer | None = None
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
            self._optimizer = self._new_optimizer(self._value_at, self._start, metric=self._metric)
            if not self._rows:
                self._record(started, snapshots)
        optimizer = self._optimizer
        converged = False
        values: deque[float] = deque(maxlen=optimizer.patience)
        for _ in range(iterations):
            values.append(optimizer.evaluation.value)
            converged = not optimizer.step()
            if not converged:
                self._record(started, snapshots)
                before = values[0]
                fall = before - optimizer.evaluation.value
                converged = len(values) == optimizer.patience and fall < tolerance * abs(before)
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
        self._start = self.point
        if self._optimizer is not None:
            self._iterations += self._optimizer.iteration
            self._evaluations += self._optimizer.n_evaluations
            self._optimizer = None
        self.objective.evidence = list(evidence)

    def save(self, folder: str | Path) -> Path:
        """Keep the search in a folder, from which `load` takes it up; an older one is replaced as a whole."""
        state = {
            "start": self._start,
            "iterations": self._iterations,
            "evaluations": self._evaluations,
            "seconds": self._seconds,
            "rows": self._rows,
            "snapshots": self.snapshots,
            "snapshot_iterations": self.snapshot_iterations,
        }
        if self._optimizer is not None:
            state |= {f"optimizer.{name}": value for name, value in self._optimizer.state().items()}
        write_search(folder, self._identity(), state)
        return Path(folder)

    def load(self, folder: str | Path) -> None:
        """Take up a search that was saved; what this one has done so far is forgotten.

        Raises
        ------
        InversionError
            If the folder holds none, or one that was built from something else.
        """
        state = read_search(folder, self._identity())
        of_optimizer = {
            name.removeprefix("optimizer."): value for name, value in state.items() if name.startswith("optimizer.")
        }
        self._start = state["start"].to(self._start.device)
        self._optimizer = None
        if of_optimizer:
            self._optimizer = self._new_optimizer(self._value_at, self._start, metric=self._metric, state=of_optimizer)
        self._iterations, self._evaluations = state["iterations"], state["evaluations"]
        self._seconds, self._rows = state["seconds"], state["rows"]
        self._snapshots = list(state["snapshots"].numpy())
        self.snapshot_iterations = state["snapshot_iterations"]

    def _value_at(self, point: Tensor) -> Evaluation:
        return self.evaluate(self.objective, point)

    def _identity(self) -> str:
        return identity(self.objective.evidence, self.prior, self.margins, *self._built_from)

    @property
    def point(self) -> Tensor:
        """All coordinates of the best solution so far; see `nwbrecon.inversion.objective.Objective`."""
        return self._start if self._optimizer is None else self._optimizer.point

    @property
    def white(self) -> Tensor:
        """White coordinates of the best video so far."""
        return self.objective.parts(self.point)[0]

    @property
    def evidence(self) -> list[Evidence]:
        """The witnesses, told what of their trials was found along with the best video so far."""
        return self.objective.told(self.point)

    @property
    def behavior(self) -> np.ndarray | None:
        """Behavior that was found, ``(trial, time, variable)`` float32, margins cut off; ``None`` if not sought.

        That of the trials of the first witness's encoder: other sessions may have other variables.
        """
        first = self.objective.evidence[0].encoder
        own = [one.sought for one in self.objective.evidence if one.encoder is first and one.sought is not None]
        return self._found(own)

    @property
    def gain(self) -> np.ndarray | None:
        """``(trial, time)`` float32: gain that the ROIs share, as it was found; ``None`` where none was sought."""
        return self._found([one.shared for one in self.objective.evidence if one.shared is not None])

    def _found(self, unknowns: Sequence[Unknown]) -> np.ndarray | None:
        if not unknowns:
            return None
        found = self.objective.values(self.point)
        # the witnesses of a trial's stretches share what is unknown of it
        values = [found[unknown] for unknown in dict.fromkeys(unknowns)]
        stop = values[0].shape[1] - self.margins.tail
        return torch.cat(values)[:, self.margins.lead : stop].float().cpu().numpy()

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
        if self._watched_by is not None:
            with torch.no_grad():
                self._rows[-1]["held_out"] = self._watched_by(self.prior.video(self.white), self.evidence)
        if self._iterations + optimizer.iteration in snapshots:
            self.snapshot_iterations.append(self._iterations + optimizer.iteration)
            self._snapshots.append(np.round(self.video).astype(np.uint8))

    def _clip(self, video: Tensor) -> np.ndarray:
        stop = video.shape[1] - self.margins.tail
        return video[0, self.margins.lead : stop].clamp(0, 255).cpu().numpy()
