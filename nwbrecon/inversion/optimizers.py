"""Optimizers that keep their state, tell their story, and never end at a worse point than they saw."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

__all__ = ["LBFGS", "OPTIMIZERS", "Adam", "Evaluation", "Optimizer"]

# constants of the weak Wolfe conditions (Nocedal & Wright 2006, Numerical Optimization, section 3.1)
_SUFFICIENT_DECREASE, _CURVATURE = 1e-4, 0.9
_MOST_TRIES = 12


@dataclass
class Evaluation:
    """An objective at a point.

    Attributes
    ----------
    value
        To be minimized.
    gradient
        Of the shape of the point.
    parts
        What the value is made of, for the record.
    """

    value: float
    gradient: Tensor
    parts: dict[str, float] = field(default_factory=dict)


class Optimizer(ABC):
    """What a search is made with: `step` by `step`, from the best point so far.

    Parameters
    ----------
    objective
        Point to `Evaluation`.
    start
        Where to begin.
    metric
        Approximate inverse of the Hessian, to be applied to a gradient: symmetric, positive definite. ``None`` knows
        nothing of the Hessian.
    state
        What `state` gave in another process, to go on from there; ``start`` is then not looked at.

    Attributes
    ----------
    patience
        Steps within which it is to get further, if it has not converged.
    point, evaluation
        The best point so far, and the objective there.
    n_evaluations, iteration
        How often the objective was evaluated, and how many steps there were.
    """

    patience: ClassVar[int] = 1

    def __init__(
        self,
        objective: Callable[[Tensor], Evaluation],
        start: Tensor,
        metric: Callable[[Tensor], Tensor] | None = None,
        *,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self.objective, self.metric = objective, metric
        if state is not None:
            self.n_evaluations, self.iteration = int(state["n_evaluations"]), int(state["iteration"])
            self.point, gradient = (_like(state[name], start) for name in ("point", "gradient"))
            self.evaluation = Evaluation(state["value"], gradient, dict(state["parts"]))
            return
        self.n_evaluations = self.iteration = 0
        self.point = start.detach().clone()
        self.evaluation = self._evaluate(self.point)

    @abstractmethod
    def step(self) -> bool:
        """Take one iteration; False if no better point can be found (the current one is then the best)."""

    def state(self) -> dict[str, Any]:
        """Give all that it takes to go on as if nothing had happened: tensors, numbers, and what JSON can hold."""
        return {
            "point": self.point,
            "value": self.evaluation.value,
            "gradient": self.evaluation.gradient,
            "parts": self.evaluation.parts,
            "n_evaluations": self.n_evaluations,
            "iteration": self.iteration,
        }

    def _evaluate(self, point: Tensor) -> Evaluation:
        """Evaluate; where there is no finite value or gradient it is infinite, and flat."""
        self.n_evaluations += 1
        evaluation = self.objective(point)
        if not math.isfinite(evaluation.value) or not bool(torch.isfinite(evaluation.gradient).all()):
            return Evaluation(math.inf, torch.zeros_like(point), evaluation.parts)
        return evaluation


class LBFGS(Optimizer):
    """Limited-memory BFGS (Liu & Nocedal 1989, Math. Program. 45:503-528) with a bisecting weak-Wolfe line search.

    The line search is that of Lewis & Overton (2013, Math. Program. 141:135-163). Points without a finite value are
    stepped back from. Without memory it is steepest descent.

    Parameters
    ----------
    objective, start, metric, state
        See `Optimizer`; past steps shape the metric further.
    memory
        Number of past steps that shape the metric.
    """

    def __init__(
        self,
        objective: Callable[[Tensor], Evaluation],
        start: Tensor,
        memory: int = 12,
        metric: Callable[[Tensor], Tensor] | None = None,
        *,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(objective, start, metric, state=state)
        self.steps: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=memory)
        if state is not None:
            kept = ([_like(row, start) for row in state[name]] for name in ("moved", "changes", "curvatures"))
            self.steps.extend(zip(*kept, strict=True))

    def state(self) -> dict[str, Any]:
        """Give what it remembers, with its past steps."""
        moved, changes, curvatures = zip(*self.steps, strict=True) if self.steps else ((), (), ())
        none = self.point[None][:0]
        return super().state() | {
            "moved": torch.stack(moved) if moved else none,
            "changes": torch.stack(changes) if changes else none,
            "curvatures": torch.stack(curvatures) if curvatures else none.flatten(),
        }

    def step(self) -> bool:
        """Take one iteration; False if no better point can be found (the current one is then the best)."""
        gradient = self.evaluation.gradient
        direction = self._direction(gradient)
        slope = float(_dot(gradient, direction))
        if not slope < 0:
            # the metric has gone wrong: start afresh from steepest descent
            self.steps.clear()
            direction = self._direction(gradient)
            slope = float(_dot(gradient, direction))
            if not slope < 0:
                return False
        length = 1.0 if self.steps else self._first_length(direction, slope)
        found = self._search(direction, slope, length)
        if found is None:
            if not self.steps:
                return False
            self.steps.clear()
            return self.step()
        length, evaluation = found
        moved, change = length * direction, evaluation.gradient - gradient
        curvature = _dot(moved, change)
        if curvature > 1e-10 * _dot(change, change):
            self.steps.append((moved, change, curvature))
        self.point = self.point + moved
        self.evaluation = evaluation
        self.iteration += 1
        return True

    def _direction(self, gradient: Tensor) -> Tensor:
        """Two-loop recursion (Nocedal & Wright 2006, algorithm 7.4), around the metric where there is one."""
        direction = -gradient
        weights = []
        # products stay where the point is: on a GPU, to read each would be to wait for it
        for moved, change, curvature in reversed(self.steps):
            weights.append(_dot(moved, direction) / curvature)
            direction.addcmul_(change, weights[-1], value=-1)
        if self.metric is not None:
            direction = self.metric(direction)
        if self.steps:
            _, change, curvature = self.steps[-1]
            known = change if self.metric is None else self.metric(change)
            direction = direction * (curvature / _dot(change, known))
        for (moved, change, curvature), weight in zip(self.steps, reversed(weights), strict=True):
            direction.addcmul_(moved, weight - _dot(change, direction) / curvature)
        return direction

    def _first_length(self, direction: Tensor, slope: float) -> float:
        """Length of the first step from the curvature along it, by a finite difference of gradients."""
        probe = 1e-2 * (direction.numel() ** 0.5) / float(direction.norm())
        evaluation = self._evaluate(self.point + probe * direction)
        curvature = (float(_dot(evaluation.gradient, direction)) - slope) / probe
        return -slope / curvature if curvature > 0 else probe

    def _search(self, direction: Tensor, slope: float, length: float) -> tuple[float, Evaluation] | None:
        low, high = 0.0, float("inf")
        best: tuple[float, Evaluation] | None = None
        for _ in range(_MOST_TRIES):
            evaluation = self._evaluate(self.point + length * direction)
            enough = evaluation.value <= self.evaluation.value + _SUFFICIENT_DECREASE * length * slope
            if not enough:
                high = length
            else:
                if best is None or evaluation.value < best[1].value:
                    best = length, evaluation
                if float(_dot(evaluation.gradient, direction)) >= _CURVATURE * slope:
                    break
                low = length
            length = 2 * low if high == float("inf") else 0.5 * (low + high)
        return best


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, arXiv:1412.6980), which may go uphill: its point is the best that it came by.

    White coordinates have a standard deviation of one under the prior, of which its steps are a fraction. Where there
    is no finite value it goes back to the best point, with half the rate.

    Parameters
    ----------
    objective, start, metric, state
        See `Optimizer`; the metric shapes the gradient before it is averaged.
    rate
        Length of a step of each coordinate, about.
    """

    patience = 10
    decay: ClassVar[tuple[float, float]] = (0.9, 0.999)
    _tiny: ClassVar[float] = 1e-8

    def __init__(
        self,
        objective: Callable[[Tensor], Evaluation],
        start: Tensor,
        rate: float = 0.1,
        metric: Callable[[Tensor], Tensor] | None = None,
        *,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(objective, start, metric, state=state)
        self.rate = rate
        self._begin()
        if state is not None:
            self.rate, self._age = float(state["rate"]), int(state["age"])
            self._here, self._slope, self._mean, self._square = (
                _like(state[name], start) for name in ("here", "slope", "mean", "square")
            )

    def state(self) -> dict[str, Any]:
        """Give what it remembers, with its averages."""
        return super().state() | {
            "rate": self.rate,
            "age": self._age,
            "here": self._here,
            "slope": self._slope,
            "mean": self._mean,
            "square": self._square,
        }

    def step(self) -> bool:
        """Take one iteration, which may end no better; False if there is no slope to go down."""
        if not bool(self._slope.any()):
            return False
        gradient = self._slope if self.metric is None else self.metric(self._slope)
        first, second = self.decay
        self._age += 1
        self._mean = torch.lerp(gradient, self._mean, first)
        self._square = torch.lerp(gradient * gradient, self._square, second)
        mean, square = self._mean / (1 - first**self._age), self._square / (1 - second**self._age)
        here = self._here - self.rate * mean / (square.sqrt() + self._tiny)
        evaluation = self._evaluate(here)
        self.iteration += 1
        if math.isinf(evaluation.value):
            self.rate /= 2
            self._begin()
            return True
        self._here, self._slope = here, evaluation.gradient
        if evaluation.value < self.evaluation.value:
            self.point, self.evaluation = here, evaluation
        return True

    def _begin(self) -> None:
        """Begin at the best point, knowing nothing of the way there."""
        self._here, self._slope = self.point, self.evaluation.gradient
        self._mean, self._square = torch.zeros_like(self.point), torch.zeros_like(self.point)
        self._age = 0


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return torch.dot(one.flatten(), other.flatten())


def _like(kept: Tensor, start: Tensor) -> Tensor:
    # in memory of its own: where it lies can change the rounding of sums
    return kept.to(start.device).clone()


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "lbfgs": LBFGS,
    "gradient": partial(LBFGS, memory=0),
    "adam": Adam,
}
"""Optimizers by name; ``gradient`` is steepest descent."""
