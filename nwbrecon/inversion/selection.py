"""Choosing prior and prior weight without the true movie: ROIs that were not fitted are the judges.

They are held out in whole neighborhoods of the visual field. Cells of like tuning share noise, and so do ROIs that are
the same cell: judges from among the fitted cells' neighbors would reward a movie that explains the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nwbrecon.inversion.objective import Evidence, Margins
from nwbrecon.inversion.priors import MoviePrior
from nwbrecon.inversion.reconstructor import Reconstructor
from nwbrecon.progress import progress

__all__ = ["Case", "Choice", "choose_prior", "held_out_neighborhoods"]

# side of the neighborhoods that are held out together (pixels): about that of a receptive field
_NEIGHBORHOOD = 8.0


@dataclass
class Case:
    """One clip on which the choice is made.

    Attributes
    ----------
    evidence
        What is fitted.
    priors
        Candidate priors of the clip by kind.
    held_out
        ``(roi,)`` bool: ROIs that are not fitted.
    """

    evidence: Evidence
    priors: dict[str, MoviePrior]
    held_out: np.ndarray

    @property
    def fitted(self) -> Tensor:
        """``(roi,)`` 1 for ROIs that are fitted, otherwise 0."""
        return torch.from_numpy(~self.held_out).float().to(self.evidence.weights.device)

    @torch.no_grad()
    def judge(self, video: Tensor) -> float:
        """Negative log-likelihood of the held-out ROIs."""
        return float(self.evidence.loss(video, 1 - self.fitted))


@dataclass
class Choice:
    """What the held-out ROIs chose.

    Attributes
    ----------
    prior
        Kind of prior.
    weight
        Weight of the prior.
    table
        One row a candidate: ``prior``, ``weight``, ``held_out`` (negative log-likelihood of the held-out ROIs, summed
        over clips) and ``gain`` (by how much it is lower than for a uniform gray screen).
    """

    prior: str
    weight: float
    table: list[dict[str, Any]] = field(default_factory=list)


def choose_prior(
    cases: Sequence[Case], margins: Margins, *, weights: Sequence[float], iterations: int, tolerance: float
) -> Choice:
    """Reconstruct under each prior and weight; the best predicts the held-out ROIs best.

    Parameters
    ----------
    cases
        Clips on which the choice is made.
    margins
        Unknown frames around the clips.
    weights
        Candidate weights.
    iterations
        Iterations of the first fit; later ones start from it and take half as many.
    tolerance
        Relative fall of the objective below which a fit has converged.
    """
    totals: dict[tuple[str, float], float] = {}
    gray = 0.0
    ordered = sorted(weights, reverse=True)
    with progress(
        total=len(cases) * len(cases[0].priors) * len(ordered), label="choosing the prior", unit="fit"
    ) as bar:
        for case in cases:
            for kind, prior in case.priors.items():
                white = None
                # from the strongest prior to the weakest: each fit starts near its end
                for weight in ordered:
                    fit = Reconstructor(
                        [case.evidence],
                        prior,
                        margins,
                        prior_weight=weight,
                        chosen=[case.fitted],
                        start=white,
                    )
                    fit.run(iterations if white is None else max(1, iterations // 2), tolerance=tolerance)
                    white = fit.white
                    with torch.no_grad():
                        video = prior.video(white)
                    totals[kind, weight] = totals.get((kind, weight), 0.0) + case.judge(video)
                    bar.update()
            gray += case.judge(torch.full_like(video, float(video.mean())))
    (kind, weight), _ = min(totals.items(), key=lambda item: item[1])
    return Choice(
        kind,
        weight,
        [
            {"prior": name, "weight": value, "held_out": total, "gain": gray - total}
            for (name, value), total in totals.items()
        ],
    )


def held_out_neighborhoods(positions: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Pick whole neighborhoods of the visual field until they hold the share asked for.

    Parameters
    ----------
    positions
        ``(roi, 2)`` receptive-field centers (pixels).
    share
        Share of the ROIs to hold out; at least one ROI is, and one is not.
    seed
        Seed of the choice.

    Returns
    -------
    numpy.ndarray
        ``(roi,)`` bool.
    """
    places = np.floor(positions / _NEIGHBORHOOD).astype(int)
    _, place = np.unique(places, axis=0, return_inverse=True)
    place = place.ravel()
    held_out = np.zeros(len(positions), dtype=bool)
    for chosen in np.random.default_rng(seed).permutation(place.max() + 1):
        inside = place == chosen
        if held_out.sum() + inside.sum() > max(1, share * len(positions)) and held_out.any():
            break
        held_out |= inside
    if held_out.all():
        held_out[np.random.default_rng(seed).integers(len(positions))] = False
    return held_out
