"""L-BFGS that keeps its state, tells its story, and never ends at a worse point than it saw."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

__all__ = ["LBFGS", "Evaluation"]

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


class LBFGS:
    """Limited-memory BFGS (Liu & Nocedal 1989, Math. Program. 45:503-528) with a bisecting weak-Wolfe line search.

    The line search is that of Lewis & Overton (2013, Math. Program. 141:135-163). Points without a finite value are
    stepped back from.

    Parameters
    ----------
    objective
        Point to `Evaluation`.
    start
        Where to begin.
    memory
        Number of past steps that shape the metric.
    metric
        Approximate inverse of the Hessian, to be applied to a gradient: symmetric, positive definite. Past steps shape
        it further. ``None`` knows nothing of the Hessian.
    """

    def __init__(
        self,
        objective: Callable[[Tensor], Evaluation],
        start: Tensor,
        memory: int = 12,
        metric: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.objective, self.metric = objective, metric
        self.point = start.detach().clone()
        self.evaluation = objective(self.point)
        self.n_evaluations = 1
        self.iteration = 0
        self.steps: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=memory)

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

    def _evaluate(self, point: Tensor) -> Evaluation:
        self.n_evaluations += 1
        evaluation = self.objective(point)
        finite = evaluation.value == evaluation.value and abs(evaluation.value) < float("inf")
        if not finite or not bool(torch.isfinite(evaluation.gradient).all()):
            return Evaluation(float("inf"), torch.zeros_like(point), evaluation.parts)
        return evaluation


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return torch.dot(one.flatten(), other.flatten())
