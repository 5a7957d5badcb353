"""Choosing prior and prior weight without the true movie: ROIs that were not fitted are the judges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nwbrecon.inversion.objective import Evidence, Margins
from nwbrecon.inversion.priors import MoviePrior
from nwbrecon.inversion.reconstructor import Reconstructor
from nwbrecon.progress import progress

__all__ = ["Choice", "choose_prior"]


@dataclass
class Choice:
    """What held-out ROIs chose.

    Attributes
    ----------
    prior
        Kind of prior.
    weight
        Weight of the prior.
    table
        One row a candidate: ``prior``, ``weight``, ``held_out`` (negative log-likelihood of the held-out ROIs, summed
        over trials), ``gain`` (how much lower it is than for a uniform gray screen).
    """

    prior: str
    weight: float
    table: list[dict[str, Any]]


def choose_prior(
    evidence: Sequence[list[Evidence]],
    priors: Sequence[dict[str, MoviePrior]],
    margins: Margins,
    *,
    weights: Sequence[float],
    hold_out_share: float,
    iterations: int,
    seed: int,
    same_cell: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Choice:
    """Fit most of the ROIs under each prior and weight; the best predicts the others best.

    Parameters
    ----------
    evidence
        Witnesses of each clip that takes part in the choice.
    priors
        Candidate priors of each clip, by kind.
    margins
        Unknown frames around the clips.
    weights
        Candidate weights.
    hold_out_share
        Share of the ROIs that is not fitted.
    iterations
        Iterations of the first fit; later ones start from it and take half as many.
    seed
        Seed of the choice of ROIs.
    same_cell
        ``(roi,)`` candidate mask to the mask grown by ROIs of the same cell, so that a cell seen twice is not on both
        sides.
    """
    random = np.random.default_rng(seed)
    totals: dict[tuple[str, float], float] = {}
    gray = 0.0
    ordered = sorted(weights, reverse=True)
    n_fits = len(evidence) * len(priors[0]) * len(ordered)
    with progress(total=n_fits, label="choosing the prior", unit="fit") as bar:
        for witnesses, candidates in zip(evidence, priors, strict=True):
            chosen = []
            for witness in witnesses:
                held_out = random.random(witness.encoder.n_rois) < hold_out_share
                if same_cell is not None:
                    held_out = same_cell(held_out)
                chosen.append(torch.from_numpy(~held_out).float())
            for kind, prior in candidates.items():
                white = None
                # from the strongest prior to the weakest: each fit starts near its end
                for weight in ordered:
                    fit = Reconstructor(witnesses, prior, margins, prior_weight=weight, chosen=chosen, start=white)
                    if white is None and kind == "movie":
                        gray += fit.objective.held_out_loss(fit.white)
                    fit.run(iterations if white is None else max(1, iterations // 2))
                    white = fit.white
                    key = kind, weight
                    totals[key] = totals.get(key, 0.0) + fit.objective.held_out_loss(white)
                    bar.update()
    (kind, weight), _ = min(totals.items(), key=lambda item: item[1])
    table = [
        {"prior": name, "weight": value, "held_out": total, "gain": gray - total if gray else None}
        for (name, value), total in totals.items()
    ]
    return Choice(kind, weight, table)
