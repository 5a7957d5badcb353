"""The kinds of prior: which take part, what they are made of, and which is refused for what it makes up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nwbrecon.alignment import AlignedSession
from nwbrecon.config import InversionSettings
from nwbrecon.inversion.denoiser import Denoiser, train_denoiser
from nwbrecon.inversion.evidence import Margins
from nwbrecon.inversion.natural import NATURAL
from nwbrecon.inversion.selection import Candidates, Choice, Judged, choose_by_held_out

__all__ = ["PLAIN", "REFUSED_BELOW", "denoiser_of", "generic_covariance", "kinds_of", "without_inventors"]

PLAIN = "movie"
"""The kind that others are held against: a Gaussian about gray, which has no content to make up."""

REFUSED_BELOW = 0.02
"""A kind is refused if it predicts the held-out ROIs worse than the plain Gaussian by more than this share of what that
gains over a gray screen."""


def kinds_of(settings: InversionSettings) -> tuple[str, ...]:
    """Kinds that take part. A denoiser does so beside the plain Gaussian, and is taken where it does better."""
    several = {"auto": (PLAIN, "ridge"), "denoiser": (PLAIN, "denoiser")}
    return several.get(settings.prior, (settings.prior,))


def generic_covariance(movie: np.ndarray, frame_rate: float, settings: InversionSettings) -> np.ndarray:
    """Autocovariance of natural movies in general, with the contrast of the session's and as many lags.

    Parameters
    ----------
    movie
        ``(lag, row, column)`` autocovariance of the training movies, grey levels squared. Its variance is taken; that
        of natural movies where these were blank.
    frame_rate
        Frames per second (Hz).
    settings
        Say how large a pixel is.
    """
    contrast = math.sqrt(float(movie[0, 0, 0]))
    spectrum = NATURAL.at_level(contrast) if contrast > 0 else NATURAL
    frames, rows, columns = (size - 1 for size in movie.shape)
    return spectrum.autocovariance((frames, rows, columns), frame_rate, settings.degrees_per_pixel)


def denoiser_of(sessions: Sequence[AlignedSession], settings: InversionSettings) -> Denoiser:
    """Train the denoiser on the training movies, each clip that was shown in one of the sessions once."""
    movies: dict[str, np.ndarray] = {}
    for aligned in sessions:
        first = aligned.trials.loc[aligned.trials_in("train")].drop_duplicates("clip")
        movies |= {name: aligned.trial(trial).video for trial, name in first["clip"].items() if name not in movies}
    return train_denoiser(list(movies.values()), seed=settings.seed)


def without_inventors(choice: Choice, judged: Sequence[Judged], margins: Margins, candidates: Candidates) -> Choice:
    """Let ROIs that were not fitted judge each kind, at its best weight, and choose among those that pass.

    What a prior makes up explains the ROIs that it was fitted to and not the others. The rows of the kinds' best
    weights say ``held_out`` and ``gain``, as `choose_by_held_out` has them, and whether they are ``refused``.

    Parameters
    ----------
    choice
        What was chosen, with all rows.
    judged
        Clips with held-out ROIs.
    margins
        Unknown frames around the clips.
    candidates
        What there was to choose from, `PLAIN` among it.
    """
    best = {kind: max((row for row in choice.table if row["prior"] == kind), key=_score) for kind in candidates.kinds}
    for kind, row in best.items():
        if "held_out" not in row:
            alone = replace(candidates, kinds=(kind,), weights=(row["weight"],))
            row |= choose_by_held_out(judged, margins, alone).table[0]
    plain = best[PLAIN]
    for row in best.values():
        row["refused"] = row["held_out"] - plain["held_out"] > REFUSED_BELOW * abs(plain["gain"])
    taken = max((row for row in best.values() if not row["refused"]), key=_score)
    return replace(choice, prior=taken["prior"], weight=taken["weight"])


def _score(row: dict[str, Any]) -> float:
    """Give what kinds and weights are chosen by, the more the better."""
    return float(row["explained"] if "explained" in row else -row["held_out"])
