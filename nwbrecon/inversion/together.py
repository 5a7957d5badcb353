"""Searches side by side: each goes its own way, and the encoder is shown the movies of all of them together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Condition, Thread
from typing import TypeVar

import torch
from torch import Tensor

from nwbrecon.inversion.objective import Objective, evaluate
from nwbrecon.inversion.optimizers import Evaluation
from nwbrecon.inversion.reconstructor import Reconstructor

__all__ = ["search_together"]

Result = TypeVar("Result")


def search_together(
    fits: Sequence[Reconstructor], search: Callable[[Reconstructor], Result], *, at_once: int | None = None
) -> list[Result]:
    """Run several searches so that their movies are predicted in one batch.

    Every search has its own steps and its own line search. Whenever all that are not done have named the point that
    they want to know the objective of, these are evaluated together; what is done drops out. The movies are those of
    one search after the other, to rounding. A batch that memory does not hold is halved, and later ones with it.

    Parameters
    ----------
    fits
        Searches of clips; of those whose clips are equally long and have the same encoder, movies are batched.
    search
        What to do with each: runs it, and gives what is to be returned.
    at_once
        Clips in a batch, at most; ``None`` for all.

    Returns
    -------
    list
        What ``search`` gave for each.

    Examples
    --------
    ::

        outcomes = search_together(fits, lambda fit: fit.run(20))
    """
    table = _Table([fit.objective for fit in fits], at_once)
    results: list[Result | None] = [None] * len(fits)

    def work(index: int) -> None:
        try:
            results[index] = search(fits[index])
            table.leave()
        except BaseException as error:
            table.fail(error)

    threads = [Thread(target=work, args=(index,), daemon=True) for index in range(len(fits))]
    for fit in fits:
        fit.evaluate = table.evaluate
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException as error:
        table.fail(error)
        raise
    finally:
        for fit in fits:
            fit.evaluate = Objective.__call__
    if table.error is not None:
        raise table.error
    return results  # type: ignore[return-value]


class _Table:
    """Where searches put the points that they want to know the objective of, and wait for each other."""

    def __init__(self, objectives: Sequence[Objective], at_once: int | None) -> None:
        self.searching, self.at_once = len(objectives), at_once or len(objectives)
        # a batch is in the order of the clips, whoever asks first: its rounding may depend on it
        self._places = {id(objective): place for place, objective in enumerate(objectives)}
        self.error: BaseException | None = None
        self._asked: dict[int, tuple[Objective, Tensor]] = {}
        self._answers: dict[int, Evaluation] = {}
        self._changed = Condition()

    def evaluate(self, objective: Objective, point: Tensor) -> Evaluation:
        """Give the objective at a point, once every search that is not done has asked."""
        with self._changed:
            self._asked[id(objective)] = objective, point
            self._answer()
            while id(objective) not in self._answers:
                if self.error is not None:
                    raise RuntimeError("Another search has failed.") from self.error
                self._changed.wait()
            return self._answers.pop(id(objective))

    def leave(self) -> None:
        """Wait for this search no longer."""
        with self._changed:
            self.searching -= 1
            self._answer()

    def fail(self, error: BaseException) -> None:
        """Let no search go on; the first error is kept."""
        with self._changed:
            self.error = self.error or error
            self._changed.notify_all()

    def _answer(self) -> None:
        if self.error is not None or not self._asked or len(self._asked) < self.searching:
            return
        asked = [self._asked[key] for key in sorted(self._asked, key=self._places.__getitem__)]
        self._asked.clear()
        while asked:
            try:
                answers = evaluate(*zip(*asked[: self.at_once], strict=True))
            except torch.OutOfMemoryError:
                if min(self.at_once, len(asked)) == 1:
                    raise
                self.at_once = (min(self.at_once, len(asked)) + 1) // 2
                torch.cuda.empty_cache()
                continue
            for (objective, _), answer in zip(asked, answers, strict=False):
                self._answers[id(objective)] = answer
            asked = asked[len(answers) :]
        self._changed.notify_all()
