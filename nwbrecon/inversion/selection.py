"""Choosing prior and prior weight, on validation clips or without any true movie.

Validation clips, whose movies are known and which no encoder learned from, say directly which prior makes the movie
that is nearest to the truth, once it is added to the linear decoder's. Where there are none, ROIs that were not fitted
are the judges. They are held out in whole neighborhoods of the visual field, all ROIs of a cell together: cells of like
tuning share noise, and so do ROIs that are the same cell, and judges from among the fitted cells' neighbors would
reward a movie that explains the noise. (Responses to other showings of the clip, whose noise is another, were tried as
judges: what an encoder has wrong is wrong there too, and they chose weights that were smaller still.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nwbrecon.inversion.blending import fit_blend
from nwbrecon.inversion.evidence import Evidence, Margins
from nwbrecon.inversion.priors import Prior
from nwbrecon.inversion.reconstructor import Reconstructor
from nwbrecon.progress import progress

__all__ = ["Candidates", "Choice", "Judged", "Known", "choose_by_held_out", "choose_on_known", "held_out_neighborhoods"]

# side of the neighborhoods that are held out together (pixels): about that of a receptive field
_NEIGHBORHOOD = 8.0


@dataclass(frozen=True)
class Candidates:
    """What there is to choose from, and how long each is given.

    Attributes
    ----------
    kinds
        Kinds of prior.
    weights
        Weights of the prior.
    iterations
        Iterations of the first fit of a clip under a kind of prior; later ones start from it and take half as many.
    tolerance
        Relative fall of the objective below which a fit has converged.
    optimizer
        Name of what it is searched with.
    """

    kinds: Sequence[str]
    weights: Sequence[float]
    iterations: int
    tolerance: float
    optimizer: str = "lbfgs"

    def __len__(self) -> int:
        return len(self.kinds) * len(self.weights)

    def fits(
        self,
        evidence: Sequence[Evidence],
        prior_for: Callable[[str], Prior],
        margins: Margins,
        *,
        chosen: Sequence[Tensor] | None = None,
        first: np.ndarray | None = None,
        sensitivity: np.ndarray | None = None,
    ) -> Iterator[tuple[tuple[str, float], Reconstructor]]:
        """Fit a clip under each; the search begins at the movie ``first``, or at the prior's center."""
        for kind in self.kinds:
            prior = prior_for(kind)
            white = None if first is None else prior.white(margins.pad(first))
            iterations = self.iterations
            # from the strongest prior to the weakest: each fit starts near its end
            for weight in sorted(self.weights, reverse=True):
                fit = Reconstructor(
                    evidence,
                    prior,
                    margins,
                    prior_weight=weight,
                    chosen=chosen,
                    start=white,
                    sensitivity=sensitivity,
                    optimizer=self.optimizer,
                )
                fit.run(iterations, tolerance=self.tolerance)
                white, iterations = fit.point, max(1, self.iterations // 2)
                yield (kind, weight), fit


@dataclass
class Choice:
    """What was chosen.

    Attributes
    ----------
    prior
        Kind of prior.
    weight
        Weight of the prior.
    table
        One row a candidate: ``prior``, ``weight``, and what it was judged by. On validation clips ``explained``, the
        share of the movies' variance inside the mask; otherwise ``held_out`` (negative log-likelihood of the held-out
        ROIs, summed over clips) and ``gain`` (by how much it is lower than for a uniform gray screen).
    curve
        Where held-out ROIs chose, one row an iteration of a search with what was chosen: ``iteration`` and
        ``held_out``.
    """

    prior: str
    weight: float
    table: list[dict[str, Any]] = field(default_factory=list)
    curve: list[dict[str, float]] = field(default_factory=list)


@dataclass
class Known:
    """A clip whose movie is known.

    Attributes
    ----------
    evidence
        What is fitted.
    prior_for
        Gives the clip's prior of a kind.
    decoded, true
        ``(time, height, width)`` the linear decoder's movie and what was shown, grey levels 0-255.
    sensitivity
        See `nwbrecon.inversion.reconstructor.Reconstructor`.
    """

    evidence: list[Evidence]
    prior_for: Callable[[str], Prior]
    decoded: np.ndarray
    true: np.ndarray
    sensitivity: np.ndarray | None = None


def choose_on_known(
    clips: Sequence[Known], margins: Margins, candidates: Candidates, mask: np.ndarray, frame_rate: float
) -> Choice:
    """Reconstruct under each prior and weight; the best explains most of the true movies, beside the linear decoder.

    Parameters
    ----------
    clips
        Validation clips.
    margins
        Unknown frames around the clips.
    candidates
        What there is to choose from.
    mask
        ``(height, width)`` pixels that count.
    frame_rate
        Frames per second (Hz).
    """
    movies: dict[tuple[str, float], list[np.ndarray]] = {}
    with progress(total=len(clips) * len(candidates), label="choosing the prior", unit="fit") as bar:
        for clip in clips:
            for candidate, fit in candidates.fits(
                clip.evidence, clip.prior_for, margins, first=clip.decoded, sensitivity=clip.sensitivity
            ):
                movies.setdefault(candidate, []).append(fit.video)
                bar.update()
    explained = {
        candidate: fit_blend(
            [(video, clip.decoded, clip.true) for video, clip in zip(made, clips, strict=True)], mask, frame_rate
        ).explained
        for candidate, made in movies.items()
    }
    return _choice(explained, {name: {"explained": value} for name, value in explained.items()})


@dataclass
class Judged:
    """One clip on which held-out ROIs choose.

    Attributes
    ----------
    evidence
        What is fitted.
    prior_for
        Gives the clip's prior of a kind.
    held_out
        ``(roi,)`` bool, one a witness: ROIs that are not fitted, and judge.
    sensitivity
        See `nwbrecon.inversion.reconstructor.Reconstructor`.
    first
        ``(time, height, width)`` what the linear decoder makes of what is fitted, where the search begins; ``None``
        begins at the prior's center.
    """

    evidence: list[Evidence]
    prior_for: Callable[[str], Prior]
    held_out: list[np.ndarray]
    sensitivity: np.ndarray | None = None
    first: np.ndarray | None = None

    @property
    def fitted(self) -> list[Tensor]:
        """``(roi,)`` 1 for ROIs that are fitted, otherwise 0, one a witness."""
        return [
            torch.from_numpy(~held_out).float().to(witness.weights.device)
            for witness, held_out in zip(self.evidence, self.held_out, strict=True)
        ]

    @torch.no_grad()
    def judge(self, video: Tensor, evidence: Sequence[Evidence] | None = None) -> float:
        """Negative log-likelihood of the held-out ROIs; ``evidence`` is the same with the behavior that was found."""
        pairs = zip(evidence or self.evidence, self.fitted, strict=True)
        return sum(float(witness.loss(video[:, witness.frames], 1 - fitted)) for witness, fitted in pairs)


def choose_by_held_out(clips: Sequence[Judged], margins: Margins, candidates: Candidates) -> Choice:
    """Reconstruct under each prior and weight; the best predicts the held-out ROIs best.

    Under the best, every clip is reconstructed once more, to tell how long a search goes on to predict them better.

    Parameters
    ----------
    clips
        Clips on which the choice is made; their movies need not be known.
    margins
        Unknown frames around the clips.
    candidates
        What there is to choose from.
    """
    totals: dict[tuple[str, float], float] = {}
    gray = 0.0
    with progress(total=len(clips) * (len(candidates) + 1), label="choosing the prior", unit="fit") as bar:
        for clip in clips:
            # as the clips are: a strong prior that starts far away would be judged before it is there
            for candidate, fit in candidates.fits(
                clip.evidence,
                clip.prior_for,
                margins,
                chosen=clip.fitted,
                first=clip.first,
                sensitivity=clip.sensitivity,
            ):
                with torch.no_grad():
                    video = fit.prior.video(fit.white)
                totals[candidate] = totals.get(candidate, 0.0) + clip.judge(video, fit.evidence)
                bar.update()
            gray += clip.judge(torch.full_like(video, float(video.mean())), fit.evidence)
        choice = _choice(
            {candidate: -total for candidate, total in totals.items()},
            {candidate: {"held_out": total, "gain": gray - total} for candidate, total in totals.items()},
        )
        curve = np.zeros(2 * candidates.iterations + 1)
        for clip in clips:
            curve += _watch(clip, margins, choice, len(curve) - 1)
            bar.update()
    choice.curve = [{"iteration": index, "held_out": float(value)} for index, value in enumerate(curve)]
    return choice


def _watch(clip: Judged, margins: Margins, choice: Choice, iterations: int) -> np.ndarray:
    """Negative log-likelihood of the held-out ROIs after each iteration ``(iteration,)``, the start first."""
    prior = clip.prior_for(choice.prior)
    fit = Reconstructor(
        clip.evidence,
        prior,
        margins,
        prior_weight=choice.weight,
        chosen=clip.fitted,
        start=None if clip.first is None else prior.white(margins.pad(clip.first)),
        sensitivity=clip.sensitivity,
        watched_by=clip.judge,
    )
    fit.run(iterations, tolerance=0)
    values = fit.history["held_out"].to_numpy()
    # a search that can go no further stays where it is
    return np.pad(values, (0, iterations + 1 - len(values)), mode="edge")


def _choice(scores: Mapping[tuple[str, float], float], rows: Mapping[tuple[str, float], dict[str, float]]) -> Choice:
    kind, weight = max(scores, key=lambda candidate: scores[candidate])
    return Choice(kind, weight, [{"prior": name, "weight": value, **row} for (name, value), row in rows.items()])


def held_out_neighborhoods(
    positions: np.ndarray, share: float, seed: int, cells: np.ndarray | None = None
) -> np.ndarray:
    """Pick whole neighborhoods of the visual field until they hold the share asked for.

    Parameters
    ----------
    positions
        ``(roi, 2)`` receptive-field centers (pixels).
    share
        Share of the ROIs to hold out; at least one ROI is, and one cell is not.
    seed
        Seed of the choice.
    cells
        ``(roi,)`` which cell each ROI is: all ROIs of a cell are where their mean is, so that none of them judges
        another. ``None``: every ROI is a cell.

    Returns
    -------
    numpy.ndarray
        ``(roi,)`` bool.
    """
    cells = np.arange(len(positions)) if cells is None else cells
    counts = np.bincount(cells)
    means = np.stack([np.bincount(cells, axis) / np.maximum(counts, 1) for axis in positions.T], axis=1)
    places = np.floor(means[cells] / _NEIGHBORHOOD).astype(int)
    _, place = np.unique(places, axis=0, return_inverse=True)
    place = place.ravel()
    held_out = np.zeros(len(positions), dtype=bool)
    for chosen in np.random.default_rng(seed).permutation(place.max() + 1):
        inside = place == chosen
        if held_out.sum() + inside.sum() > max(1, share * len(positions)) and held_out.any():
            break
        held_out |= inside
    if held_out.all():
        held_out[cells == cells[np.random.default_rng(seed).integers(len(positions))]] = False
    return held_out
