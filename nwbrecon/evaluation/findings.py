"""What each control measures, and what that says in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from nwbrecon.alignment import AlignedSession
from nwbrecon.encoding.prediction import nan_correlation, predict_samples, single_trial_correlation
from nwbrecon.evaluation.evaluate import METRICS, likeness
from nwbrecon.evaluation.judge import LinearEncoder, fit_judge
from nwbrecon.inversion import Reconstruction, Reconstructions

__all__ = [
    "Case",
    "Finding",
    "of_another_judge",
    "of_behavior",
    "of_behavior_alone",
    "of_gray",
    "of_permuted",
    "of_shuffled",
]

# a control that must not see may earn less than this share of what the reconstruction earns above chance
_LITTLE = 0.25
# structure in a gray screen, as a share of that in reconstructed clips, that is still called little
_FLAT = 0.5
# ROIs that the judge predicts at least so well on validation clips are asked, and what counts as a difference
_VISUAL, _LEAST_GAP = 0.1, 0.02
_WITH, _WITHOUT = "with behavior", "from brain signals alone"
_INFERRED = f"{_WITHOUT}, behavior inferred"


class Case:
    """What is to be judged.

    Parameters
    ----------
    aligned
        The session.
    reconstructions
        All that was reconstructed.
    items
        Those on which the controls were run.
    """

    def __init__(self, aligned: AlignedSession, reconstructions: Reconstructions, items: list[Reconstruction]) -> None:
        self.aligned, self.reconstructions, self.items = aligned, reconstructions, items
        self.mask = reconstructions.mask
        self.true = {item.clip: aligned.trial(item.trials[0]).video for item in reconstructions}

    def alike(self, item: Reconstruction) -> dict[str, float]:
        """Likeness of a movie to the one that was shown."""
        return likeness(item.video, self.true[item.clip], self.mask)

    def chance(self, item: Reconstruction) -> dict[str, float]:
        """Likeness of a movie to those of other clips; nothing where there is no other."""
        others = []
        for clip, movie in self.true.items():
            length = min(len(movie), len(item.video))
            if clip != item.clip:
                others.append(likeness(item.video[:length], movie[:length], self.mask))
        return {metric: float(np.mean([other[metric] for other in others])) for metric in METRICS if others}


@dataclass
class Finding:
    """What a control found.

    Attributes
    ----------
    verdict
        ``passed``, ``not passed``, ``compare`` where there is nothing to pass, or ``left out``.
    sentence
        The same in words.
    rows
        One a value: ``condition``, ``clip``, ``metric``, ``value``.
    """

    verdict: str = "left out"
    sentence: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, condition: str, clip: str, values: dict[str, float]) -> None:
        """Add what was measured."""
        self.rows += [
            {"condition": condition, "clip": clip, "metric": metric, "value": value} for metric, value in values.items()
        ]

    def values(self, condition: str, metric: str) -> list[float]:
        """One a clip."""
        return [row["value"] for row in self.rows if (row["condition"], row["metric"]) == (condition, metric)]

    def mean(self, condition: str, metric: str = "pixel_correlation") -> float:
        """Mean over clips; NaN where nothing was measured."""
        values = self.values(condition, metric)
        return float(np.mean(values)) if values else float("nan")

    def conclude(self, passed: bool, sentence: str) -> None:
        """Say what it comes to."""
        self.verdict, self.sentence = "passed" if passed else "not passed", sentence


def of_behavior(case: Case, movies: list[Reconstruction]) -> Finding:
    """Compare what was reconstructed with behavior, and without."""
    finding = Finding("compare")
    pairs = {"given": (_WITH, _WITHOUT), "inferred": (_INFERRED, _WITH)}
    own, other = pairs.get(str(case.reconstructions.info.get("behavior")), (_WITHOUT, _WITH))
    without = _WITHOUT if own == _WITH else own
    for item, movie in zip(case.items, movies, strict=True):
        finding.add(own, item.clip, case.alike(item))
        finding.add(other, item.clip, case.alike(movie))
    finding.sentence = (
        f"The reconstructions shown were made {own}. On these clips pixel correlation is {finding.mean(_WITH):.2f} "
        f"{_WITH} and {finding.mean(without):.2f} {without}, dynamic correlation "
        f"{finding.mean(_WITH, 'dynamic_correlation'):.2f} and {finding.mean(without, 'dynamic_correlation'):.2f}."
    )
    return finding


def of_shuffled(case: Case, movies: list[Reconstruction]) -> Finding:
    """Compare with responses whose cells come from different showings."""
    finding = Finding("compare")
    for movie in movies:
        # the responses came from other showings: all of them are what to compare with
        shown = [
            case.alike(item) for item in case.reconstructions.of_clip(movie.clip) if len(item.video) == len(movie.video)
        ]
        means = {metric: float(np.mean([one[metric] for one in shown])) for metric in METRICS}
        finding.add("reconstruction", movie.clip, means)
        finding.add("control", movie.clip, case.alike(movie))
    own, shuffled = finding.mean("reconstruction"), finding.mean("control")
    with_shuffled, with_own = (finding.values(name, "pixel_correlation") for name in ("control", "reconstruction"))
    gaps = np.array(with_shuffled) - np.array(with_own)
    found = "what cells share from trial to trial hardly matters"
    if abs(gaps.mean()) > _LEAST_GAP and abs(np.sign(gaps).sum()) == len(gaps):
        found = f"what cells share from trial to trial {'costs' if gaps.mean() > 0 else 'lends'} that much"
    finding.sentence = (
        f"With each ROI's responses from another showing of the clip, pixel correlation is {shuffled:.2f} instead of "
        f"{own:.2f}: {found}."
    )
    return finding


def of_behavior_alone(case: Case, movies: list[Reconstruction]) -> Finding:
    """Find out whether behavior alone gives the movie away."""
    return _blind(
        case,
        movies,
        "What behavior alone tells of the movie",
        "it does not give the movie away",
        "behavior gives part of the movie away",
    )


def of_permuted(case: Case, movies: list[Reconstruction]) -> Finding:
    """Find out whether the movie comes from which cell responded."""
    return _blind(
        case,
        movies,
        "What is left when each ROI's responses are handed out to another",
        "which cell responded is what the movie comes from",
        "part of the movie does not depend on which cell responded",
    )


def _blind(case: Case, movies: list[Reconstruction], what: str, good: str, bad: str) -> Finding:
    finding = Finding("compare")
    for item, movie in zip(case.items, movies, strict=True):
        finding.add("reconstruction", item.clip, case.alike(item))
        finding.add("chance of the reconstruction", item.clip, case.chance(item))
        finding.add("control", item.clip, case.alike(movie))
        finding.add("chance", item.clip, case.chance(movie))
    own, control, chance = (finding.mean(name) for name in ("reconstruction", "control", "chance"))
    figures = f"{what} has a pixel correlation of {control:.2f}, the reconstruction of {own:.2f}"
    if np.isnan(chance):
        finding.sentence = f"{figures}. With a single clip, chance is not known."
    else:
        # chance below zero is an accident of the few clips
        earned = own - max(0.0, finding.mean("chance of the reconstruction"))
        passed = control - max(0.0, chance) < _LITTLE * earned
        finding.conclude(passed, f"{figures} (chance {chance:.2f}): {good if passed else bad}.")
    return finding


def of_gray(case: Case, movies: list[Reconstruction]) -> Finding:
    """Measure the structure that is seen where nothing was shown, and how sure it claims to be."""
    finding = Finding()
    mask, setup = case.mask, case.reconstructions.setup
    for condition, items in {"gray screen": movies, "reconstruction": case.items}.items():
        for item in items:
            finding.add(condition, item.clip, {"deviation": float(item.video[:, mask].std())})
            if item.std is not None:
                finding.add(condition, item.clip, {"uncertainty": float(item.std[:, mask].mean())})
    for item in case.items:
        finding.add("true movie", item.clip, {"deviation": float(case.true[item.clip][:, mask].std())})
    if setup is not None and "movie" in setup.covariances:
        finding.add("prior", "", {"uncertainty": float(np.sqrt(setup.covariances["movie"][0, 0, 0]))})
    gray, own, true = (finding.mean(name, "deviation") for name in ("gray screen", "reconstruction", "true movie"))
    passed = gray < _FLAT * own
    sentence = (
        f"What is reconstructed from a gray screen has a standard deviation of {gray:.0f} gray levels, that from clips "
        f"of {own:.0f}, the clips themselves of {true:.0f}: "
        + ("little is seen where nothing was shown." if passed else "structure is seen where nothing was shown.")
    )
    told, prior = finding.mean("gray screen", "uncertainty"), finding.mean("prior", "uncertainty")
    if np.isfinite(told) and np.isfinite(prior):
        sentence += (
            f" Its information map expects errors of {told:.0f} gray levels, that of clips of "
            f"{finding.mean('reconstruction', 'uncertainty'):.0f}; the prior, without any response, of {prior:.0f}."
        )
    finding.conclude(passed, sentence)
    return finding


def of_another_judge(case: Case) -> Finding:
    """Find out whether an encoder that took no part predicts the recorded responses from the reconstruction."""
    judge = fit_judge(case.aligned)
    scores = single_trial_correlation(judge, case.aligned, case.aligned.trials_in("validation"))
    visual = np.nan_to_num(scores) >= _VISUAL
    if not visual.any():
        return Finding(sentence="A linear encoder predicts no ROI of this recording well enough to judge.")
    finding = Finding()
    for index, item in enumerate(case.items):
        shown = {"true movie": case.true[item.clip], "reconstruction": item.video}
        if len(case.items) > 1:
            other = case.items[index - 1].video
            shown["wrong clip"] = other[np.arange(len(item.video)) % len(other)]
        for metric, trials in _showings(case.aligned, item):
            for condition, video in shown.items():
                value = _predicted(judge, case.aligned, trials, video, visual)
                finding.add(condition, item.clip, {metric: value})
            # for a screen that does not change, a linear encoder predicts responses that do not
            finding.add("gray screen", item.clip, {metric: 0.0})
    own, true, wrong = (
        finding.mean(name, "response_correlation") for name in ("reconstruction", "true movie", "wrong clip")
    )
    passed = own - max(0.0, np.nan_to_num(wrong)) > _LEAST_GAP
    against = "" if np.isnan(wrong) else f", from that of a wrong clip with {wrong:.2f}"
    sentence = (
        "A linear encoder that took no part predicts the recorded responses from the reconstruction with a "
        f"correlation of {own:.2f}{against}, from the true movie with {true:.2f}, from a gray screen not at all"
    )
    if own - true > _LEAST_GAP:
        sentence += "; that it beats the true movie shows that it explains noise of the trial too"
    own, true = (finding.mean(name, "other_response_correlation") for name in ("reconstruction", "true movie"))
    if np.isfinite(own):
        sentence += f"; responses to other showings of the clip with {own:.2f} (true movie {true:.2f})"
    finding.conclude(passed, f"{sentence}.")
    return finding


def _showings(aligned: AlignedSession, item: Reconstruction) -> Iterator[tuple[str, list[int]]]:
    """Give the trial itself, and other showings of its clip, whose noise took no part in the reconstruction."""
    yield "response_correlation", [item.trials[0]]
    others = [trial for trial in aligned.showings_like(item.trials[0]) if trial not in item.trials]
    if others:
        yield "other_response_correlation", others


def _predicted(
    judge: LinearEncoder, aligned: AlignedSession, trials: list[int], video: np.ndarray, visual: np.ndarray
) -> float:
    tensor = torch.from_numpy(np.asarray(video, dtype=np.float32))[None, None]
    found = predict_samples(judge, aligned, trials, shown=lambda _: tensor)
    values = np.concatenate([nan_correlation(expected, measured) for expected, measured in found])
    return float(np.nan_to_num(values)[visual].mean())
