"""What a decoder learns from: stretches of what was recorded, and of what would have been recorded of other movies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.nn import functional

from nwbrecon.alignment import AlignedSession
from nwbrecon.encoding import EncoderEnsemble
from nwbrecon.inversion.imagined import Beat, Imagination, OtherMovies, responses_on_steps
from nwbrecon.inversion.network import FINE
from nwbrecon.progress import progress

__all__ = ["BATCH", "DRAWS", "IMAGINED", "STEPS", "Lesson", "Recorded", "lessons"]

# steps of a lesson, and lessons a batch
STEPS, BATCH = 32, 8
# share of lessons that were recorded, and of the imagined ones those of made movies
_RECORDED, _MADE = 0.35, 0.5
# movies of imagined lessons, and how often noise is drawn for each; a lesson is learned from two or three times
IMAGINED, DRAWS = 320, 3

Lesson = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Responses ``(lead + step + tail, roi)``, NaN where not known; movie ``(step, row, column)``, grey levels; ``(step,)``
1 for steps that count; or a batch of them."""


class Recorded:
    """What was shown and what was answered in some trials, on the decoder's clock and pixels."""

    def __init__(self, aligned: AlignedSession, trials: Sequence[int], beat: Beat, grid: tuple[int, int]) -> None:
        self.beat, self.grid = beat, grid
        self.movies: dict[int, np.ndarray] = {}
        self.responses: dict[int, np.ndarray] = {}
        self.known: dict[int, np.ndarray] = {}
        for trial in progress(trials, label="responses", unit="clip"):
            shown = aligned.trial(trial)
            self.movies[trial] = _on_steps(shown.video, beat, grid)
            n_steps = len(self.movies[trial])
            self.responses[trial] = responses_on_steps(aligned, trial, beat, 0, n_steps)
            valid = np.pad(shown.valid, (0, n_steps * beat.frames - len(shown.valid)))
            self.known[trial] = np.asarray(valid.reshape(n_steps, -1).all(axis=1), dtype=np.float32)


def lessons(
    encoder: EncoderEnsemble,
    aligned: AlignedSession,
    trials: Sequence[int],
    recorded: Recorded,
    random: np.random.Generator,
) -> Iterator[Lesson]:
    """Give batches of lessons without end."""
    imagined = _imagined(encoder, aligned, trials, recorded.beat, recorded.grid, random)
    lengths = np.array([len(recorded.movies[trial]) for trial in trials], dtype=float)
    order: list[int] = []
    while True:
        batch = []
        for _ in range(BATCH):
            if random.uniform() < _RECORDED:
                trial = trials[random.choice(len(trials), p=lengths / lengths.sum())]
                batch.append(_stretch(recorded, trial, random))
            else:
                order = order or random.permutation(len(imagined)).tolist()
                batch.append(imagined[order.pop()])
        responses, movies, known = (np.stack(part) for part in zip(*batch, strict=True))
        yield responses, movies, known


def _stretch(recorded: Recorded, trial: int, random: np.random.Generator) -> Lesson:
    """Cut a lesson out of a trial; a trial that is too short is followed by steps that do not count."""
    beat, movie = recorded.beat, recorded.movies[trial]
    spare = len(movie) - STEPS
    start, missing = (int(random.integers(spare + 1)), 0) if spare >= 0 else (0, -spare)
    responses = recorded.responses[trial][start : start + beat.around(STEPS)]
    return (
        np.pad(responses, ((0, missing), (0, 0)), constant_values=np.nan),
        np.pad(movie[start : start + STEPS], ((0, missing), (0, 0), (0, 0)), mode="edge"),
        np.pad(recorded.known[trial][start : start + STEPS], (0, missing)),
    )


def _imagined(
    encoder: EncoderEnsemble,
    aligned: AlignedSession,
    trials: Sequence[int],
    beat: Beat,
    grid: tuple[int, int],
    random: np.random.Generator,
) -> list[Lesson]:
    """Draw the imagined lessons."""
    imagination = Imagination(encoder, aligned, trials, beat)
    movies = OtherMovies(aligned, trials, imagination.frames(STEPS), random)
    decoded = slice(imagination.before, imagination.before + STEPS * beat.frames)
    made: list[Lesson] = []
    for _ in progress(range(IMAGINED // BATCH), label="imagined responses", unit="batch"):
        shown = movies.draw(BATCH, _MADE)
        seen = [_on_steps(movie[decoded], beat, grid) for movie in shown]
        for drawn in imagination.responses(shown, STEPS, random, draws=DRAWS):
            made += [(*lesson, np.ones(STEPS, np.float32)) for lesson in zip(drawn, seen, strict=True)]
    return made


def _on_steps(movie: np.ndarray, beat: Beat, grid: tuple[int, int]) -> np.ndarray:
    """Mean over each step of a movie ``(time, height, width)``, on the network's pixels; the last frame is held."""
    spare = beat.steps(len(movie)) * beat.frames - len(movie)
    padded = np.pad(movie, ((0, spare), (0, 0), (0, 0)), mode="edge")
    steps = padded.reshape(-1, beat.frames, *movie.shape[1:]).mean(axis=1, dtype=np.float32)
    size = (FINE * grid[0], FINE * grid[1])
    return functional.interpolate(torch.from_numpy(steps)[:, None], size=size, mode="area")[:, 0].numpy()
