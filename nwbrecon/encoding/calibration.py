"""How much a residual weighs, and whether an encoder sees at all: both from validation clips."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nwbrecon.alignment import AlignedSession
from nwbrecon.encoding.encoder import Encoder
from nwbrecon.encoding.likelihoods import Likelihood
from nwbrecon.encoding.prediction import nan_correlation, predict_samples
from nwbrecon.metrics import bootstrap_interval

__all__ = ["Gate", "dispersion", "drawn_to_typical", "filled_with_typical", "gate", "wrong_clips", "wrong_movie"]

# ROIs whose held-out activity a linear fit predicted at least this well take part in the gate
_VISUAL_CORRELATION = 0.1
# length of the stretches that count as independent (s): noise that cells share lasts about as long
_STRETCH_SECONDS = 2.0
# wrong movies that each clip is held against: by a single one, bland or by chance alike, a verdict could hang
_WRONG = 4
# what the true movie must be ahead of a wrong one, in correlation, for an inversion to be worth its time
_LEAST_GAP = 0.02


def dispersion(
    encoder: Encoder,
    aligned: AlignedSession,
    trials: list[int],
    likelihoods: list[Likelihood],
    *,
    block_seconds: float = 1.0,
) -> np.ndarray:
    """Long-run variance of the residuals of each ROI over the variance that its likelihood expects.

    The noise of deconvolved calcium is smeared over samples, and neighbors share some of it: residuals are summed over
    blocks before they are squared, so that what is correlated within a block counts in full. One over the dispersion is
    the weight of an ROI's log-likelihood (the quasi-likelihood of Wedderburn 1974, Biometrika 61:439-447).

    Parameters
    ----------
    encoder
        The encoder.
    aligned
        The session.
    trials
        Validation trials.
    likelihoods
        One a response group.
    block_seconds
        Length of the blocks (s).

    Returns
    -------
    numpy.ndarray
        ``(roi,)``; drawn a little to the median over ROIs, since few blocks say little about one ROI.
    """
    ratios = []
    for (expected, measured), group, likelihood in zip(
        predict_samples(encoder, aligned, trials), aligned.groups, likelihoods, strict=True
    ):
        known = np.isfinite(measured) & np.isfinite(expected)
        residual = np.where(known, measured - expected, 0.0)
        variance = np.where(known, likelihood.variance(torch.from_numpy(np.nan_to_num(expected))).numpy(), 0.0)
        size = max(1, round(block_seconds / group.interval))
        starts = np.arange(0, len(residual), size)
        with np.errstate(invalid="ignore"):
            # NaN for an ROI that was never measured: it is taken for a typical one
            ratios.append((np.add.reduceat(residual, starts) ** 2).sum(axis=0) / variance.sum(axis=0))
    logarithm = np.log(np.concatenate(ratios).clip(1e-3))
    return np.exp(drawn_to_typical(filled_with_typical(logarithm, np.isfinite(logarithm)), 0.8))


def filled_with_typical(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Take an ROI ``(roi,)`` of which nothing is known for a typical one; for one, where none is known."""
    return np.where(known, values, np.median(values[known]) if known.any() else 1.0)


def drawn_to_typical(values: np.ndarray, own: float) -> np.ndarray:
    """Believe an ROI's own estimate ``(roi,)`` by the share ``own``; the rest is the median over ROIs."""
    return own * values + (1 - own) * np.median(values)


@dataclass
class Gate:
    """Whether the movie that was shown explains the visual cells better than what was not shown.

    Attributes
    ----------
    sees
        Whether it does, clearly.
    n_visual
        Number of ROIs that respond to the movie at all.
    true, wrong, gray
        Mean correlation of predicted and measured activity over these, given the true movie, other clips (the mean over
        several), and a gray screen; behavior is given in all three.
    gap, low, high
        True minus wrong, with a 95 % interval over ROIs or over stretches of time, whichever begins lower: cells share
        noise, so that many of them follow what they do not see for a while.
    sentence
        All of it in words.
    """

    sees: bool
    n_visual: int
    true: float
    wrong: float
    gray: float
    gap: float
    low: float
    high: float
    sentence: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def gate(encoder: Encoder, aligned: AlignedSession, trials: list[int], linear_scores: np.ndarray) -> Gate:
    """Ask on validation clips whether the encoder sees.

    Single-trial correlation alone deceives: cells that follow behavior carry it. An encoder that predicts as well from
    a wrong movie cannot be inverted, by any method.

    Parameters
    ----------
    encoder
        The encoder.
    aligned
        The session.
    trials
        Validation trials.
    linear_scores
        ``(roi,)`` how well a linear fit predicted each ROI on held-out training clips: picks the visual ones without
        looking at the validation clips.

    Returns
    -------
    Gate
        The verdict.
    """
    visual = np.nan_to_num(linear_scores) > _VISUAL_CORRELATION
    others = {trial: wrong_clips(aligned, trial, trials, _WRONG) for trial in trials}

    def wrong(trial: int, turn: int) -> Tensor:
        return wrong_movie(aligned, trial, others[trial][turn % len(others[trial])])

    def gray(trial: int) -> Tensor:
        movie = wrong(trial, 0)
        return torch.full_like(movie, float(movie.mean()))

    turns = range(max(map(len, others.values())))
    of_true = predict_samples(encoder, aligned, trials)
    of_gray = predict_samples(encoder, aligned, trials, shown=gray)
    of_wrong = [predict_samples(encoder, aligned, trials, shown=partial(wrong, turn=turn)) for turn in turns]
    scores = {
        "true": _correlations(of_true),
        "wrong": np.mean([_correlations(one) for one in of_wrong], axis=0),
        "gray": _correlations(of_gray),
    }
    n_visual = int(visual.sum())
    if n_visual < 2:
        sentence = f"Only {n_visual} of {len(visual)} ROIs respond to the movie: there is nothing to invert."
        return Gate(False, n_visual, *(float("nan"),) * 6, sentence)
    means = {name: float(values[visual].mean()) for name, values in scores.items()}
    gap, low, high = bootstrap_interval(scores["true"][visual] - scores["wrong"][visual])
    seconds = float(aligned.trials.loc[trials, "n_frames"].sum()) / aligned.frame_rate
    n_stretches = max(2, round(seconds / _STRETCH_SECONDS))
    over_time = np.mean([_over_time(of_true, one, visual, n_stretches) for one in of_wrong], axis=0)
    _, low_in_time, high_in_time = bootstrap_interval(over_time)
    low, high = min(low, low_in_time), max(high, high_in_time)
    sees = bool(low > 0 and gap > _LEAST_GAP and means["true"] - means["gray"] > _LEAST_GAP)
    sentence = (
        f"On validation clips the true movie predicts the {n_visual} visual ROIs with a correlation of "
        f"{means['true']:.3f}, a wrong movie with {means['wrong']:.3f} and a gray screen with {means['gray']:.3f}: "
        + ("the encoder sees." if sees else "the encoder does not see, so inverting it would be meaningless.")
    )
    return Gate(sees, n_visual, means["true"], means["wrong"], means["gray"], gap, low, high, sentence)


def _correlations(groups: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Correlate predicted and measured samples, ``(roi,)``; a constant prediction explains nothing."""
    return np.concatenate([np.nan_to_num(nan_correlation(expected, measured)) for expected, measured in groups])


def _over_time(
    true: list[tuple[np.ndarray, np.ndarray]],
    wrong: list[tuple[np.ndarray, np.ndarray]],
    visual: np.ndarray,
    n_stretches: int,
) -> np.ndarray:
    """Give what each stretch of time adds to the mean difference of correlations of the visual ROIs, ``(stretch,)``."""
    sums, counts = np.zeros(n_stretches), np.zeros(n_stretches)
    first = 0
    for (of_true, measured), (of_wrong, _) in zip(true, wrong, strict=True):
        some = visual[first : first + measured.shape[1]]
        first += measured.shape[1]
        one, other, seen = (_standard(values[:, some]) for values in (of_true, of_wrong, measured))
        product = (one - other) * seen
        stretch = np.arange(len(product)) * n_stretches // max(1, len(product))
        np.add.at(sums, stretch, np.nansum(product, axis=1))
        np.add.at(counts, stretch, np.isfinite(product).sum(axis=1))
    return sums / np.where(counts > 0, counts, np.nan)


def _standard(values: np.ndarray) -> np.ndarray:
    """Columns ``(sample, roi)`` of mean zero and unit variance, or all zero; NaN where unknown."""
    known = np.isfinite(values)
    count = np.maximum(known.sum(axis=0), 1)
    deviation = values - np.where(known, values, 0.0).sum(axis=0) / count
    spread = np.sqrt(np.square(np.where(known, deviation, 0.0)).sum(axis=0) / count)
    return deviation / np.where(spread > 1e-12, spread, np.inf)


def wrong_clips(aligned: AlignedSession, trial: int, trials: list[int], count: int) -> list[int | None]:
    """Choose what a trial's movie is to be held against: other clips.

    Of other films, if there are any, and each of a film of its own as far as these go; clips of the trials that are
    named come before training clips, and long ones before short ones.

    Parameters
    ----------
    aligned
        The session.
    trial
        Label of the trial.
    trials
        Trials whose clips are taken first.
    count
        How many, at most.

    Returns
    -------
    list
        Labels of trials of these clips; if nothing else was shown, ``None`` alone, for which see `wrong_movie`.
    """
    own = aligned.trials.loc[trial]
    train = aligned.trials_in("train")
    table = aligned.trials.loc[[*trials, *(label for label in train if label not in trials)]]
    table = table.assign(named=table.index.isin(trials), of_own=(table["film"] == own["film"]) & (own["film"] != ""))
    table = table[table["clip"] != own["clip"]].drop_duplicates("clip")
    table = table.sort_values(["named", "n_frames"], ascending=False, kind="stable")
    film = table["film"].where(table["film"] != "", table["clip"])
    turns = table.groupby(film).cumcount()
    chosen = table.assign(turn=turns).sort_values(["of_own", "turn"], kind="stable").index[:count]
    return [int(label) for label in chosen] or [None]


def wrong_movie(aligned: AlignedSession, trial: int, other: int | None) -> Tensor:
    """Give the movie of another trial's clip, as long as that of a trial: ``(1, 1, time, height, width)``.

    A shorter clip is shown again from its start; for no other trial (``None``), the trial's own runs backwards.
    """
    video = aligned.trial(trial).video[::-1] if other is None else aligned.trial(other).video
    length = int(aligned.trials.at[trial, "n_frames"])
    return torch.from_numpy(np.resize(video, (length, *video.shape[1:])).astype(np.float32))[None, None]
