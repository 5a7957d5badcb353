"""What a population would have answered to movies that it never saw: as many lessons for a decoder as it needs.

The encoder predicts the responses to any movie, and what it leaves unexplained of real ones is what responses scatter
by: residuals of training trials, in units of their expected standard deviation, are put on top a stretch at a time and
all ROIs at once, so that noise hangs together in time and between ROIs as it does in the recording (the residual
bootstrap, Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 9).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from nwbrecon.alignment import AlignedSession, behavior_on_frames, responses_in_bins
from nwbrecon.encoding import EncoderEnsemble
from nwbrecon.encoding.device import device_of
from nwbrecon.encoding.noise import fit_noise
from nwbrecon.encoding.observation import Window, observe, samples_seen, window_video
from nwbrecon.progress import progress
from nwbrecon.stimuli.dead_leaves import dead_leaves_movie

__all__ = ["Beat", "Imagination", "OtherMovies", "responses_on_steps"]

# movies that are made are costly: so many are, and are then shown mirrored, backwards, and with another contrast
_MADE = 24


@dataclass(frozen=True)
class Beat:
    """The clock of a decoder: steps of several frames, and the responses around what it decodes that it looks at.

    Attributes
    ----------
    frames
        Frames a step.
    lead, tail
        Steps before the first and after the last that is decoded.
    """

    frames: int
    lead: int
    tail: int

    def around(self, n_steps: int) -> int:
        """Give the steps of responses for so many steps of movie."""
        return self.lead + n_steps + self.tail

    def steps(self, n_frames: int) -> int:
        """Give the steps that so many frames take; the last may be longer than what is left."""
        return -(-n_frames // self.frames)

    def edges(self, onset: float, start: int, n_steps: int, frame_rate: float) -> np.ndarray:
        """Give the times (s) at which the steps around a stretch begin and end, ``(lead + step + tail + 1,)``.

        ``start`` is the first frame of the stretch, from the ``onset`` of the trial.
        """
        steps = np.arange(-self.lead, n_steps + self.tail + 1)
        return np.asarray(onset + (start + steps * self.frames) / frame_rate)


def responses_on_steps(aligned: AlignedSession, trial: int, beat: Beat, start: int, n_steps: int) -> np.ndarray:
    """Responses around a stretch of a trial, ``(lead + step + tail, roi)`` float32; NaN where not covered."""
    edges = beat.edges(float(aligned.trials.at[trial, "onset"]), start, n_steps, aligned.frame_rate)
    return np.concatenate([responses_in_bins(group, edges[:-1], edges[1:]) for group in aligned.groups], axis=1)


class Imagination:
    """Draws what would have been recorded during stretches of training trials, had other movies been shown.

    Parameters
    ----------
    encoder
        The encoder.
    aligned
        The session.
    trials
        Training trials, whose residuals, behavior and sample times are used.
    beat
        The clock of the responses.
    """

    def __init__(self, encoder: EncoderEnsemble, aligned: AlignedSession, trials: Sequence[int], beat: Beat) -> None:
        self.encoder, self.aligned, self.trials, self.beat = encoder, aligned, list(trials), beat
        validation = aligned.trials_in("validation")
        self.noise = encoder.noise or fit_noise(encoder, aligned, validation, encoder.likelihoods)
        # a sample that ends in the first step, or begins in the last, must be known as a whole
        longest = 1.5 * max(group.interval for group in aligned.groups)
        self._reach = math.ceil(longest * aligned.frame_rate)
        self._residuals = self._standardized_residuals()

    @property
    def before(self) -> int:
        """Frames of a movie before the stretch that is decoded: responses around it depend on them."""
        return self.encoder.warm_up + self._reach + self.beat.lead * self.beat.frames

    def frames(self, n_steps: int) -> int:
        """Frames that a movie needs for so many steps to be decoded."""
        return self.encoder.warm_up + 2 * self._reach + self.beat.around(n_steps) * self.beat.frames

    @torch.no_grad()
    def responses(self, movies: np.ndarray, n_steps: int, random: np.random.Generator, *, draws: int = 1) -> np.ndarray:
        """Draw responses to a batch of movies.

        Parameters
        ----------
        movies
            ``(batch, frames(n_steps), height, width)`` grey levels 0-255.
        n_steps
            Steps to be decoded.
        random
            Source of randomness.
        draws
            How often the noise is drawn: the encoder is asked once.

        Returns
        -------
        numpy.ndarray
            ``(draw, batch, lead + step + tail, roi)`` float32; NaN where not known.
        """
        aligned, beat, device = self.aligned, self.beat, device_of(self.encoder)
        hosts = [self._host(n_steps, random) for _ in movies]
        windows = [Window(trial, start - self.before, movies.shape[1]) for trial, start in hosts]
        behavior = torch.from_numpy(np.stack([self._behavior(window) for window in windows])).to(device)
        video = torch.from_numpy(np.asarray(movies, dtype=np.float32))[:, None].to(device)
        rates = self.encoder.predict_rates(video, behavior)
        chosen = random.integers(len(self._residuals), size=(draws, len(movies)))
        phases = random.uniform(size=(draws, len(movies)))
        observed = observe(aligned, windows, warm_up=self.encoder.warm_up, device=device)
        drawn = np.empty((draws, len(movies), beat.around(n_steps), aligned.n_rois), dtype=np.float32)
        for index, (group, seen) in enumerate(zip(aligned.groups, observed, strict=True)):
            expected = seen.expected(rates)
            floor = torch.from_numpy(self.noise.floor[seen.rois]).to(expected)
            deviation = (self.encoder.likelihoods[index].variance(expected) + floor).sqrt()
            center, scatter = (
                torch.where(seen.known > 0, values, torch.nan).cpu().numpy() for values in (expected, deviation)
            )
            for item, ((trial, start), window) in enumerate(zip(hosts, windows, strict=True)):
                onset = float(aligned.trials.at[trial, "onset"])
                # to the last bit what `observe` takes
                begin, last = (onset + (window.start + at) / aligned.frame_rate for at in (0, window.n_frames - 1))
                taken = samples_seen(group, begin, last + 1 / aligned.frame_rate)
                edges = beat.edges(onset, start, n_steps, aligned.frame_rate)
                n_samples = taken.stop - taken.start
                for draw in range(draws):
                    of_noise = self._residuals[chosen[draw, item]][index]
                    at = (int(phases[draw, item] * len(of_noise)) + np.arange(n_samples)) % len(of_noise)
                    values = center[item, :n_samples] + scatter[item, :n_samples] * of_noise[at]
                    part = replace(group, timestamps=group.timestamps[taken], activity=values)
                    drawn[draw, item, :, seen.rois] = responses_in_bins(part, edges[:-1], edges[1:])
        return drawn

    def _host(self, n_steps: int, random: np.random.Generator) -> tuple[int, int]:
        """Pick a trial, and the first frame of a stretch of it."""
        trial = self.trials[random.integers(len(self.trials))]
        spare = int(self.aligned.trials.at[trial, "n_frames"]) - n_steps * self.beat.frames
        return trial, int(random.integers(spare + 1)) if spare > 0 else 0

    def _behavior(self, window: Window) -> np.ndarray:
        after = max(0, window.start + window.n_frames - int(self.aligned.trials.at[window.trial, "n_frames"]))
        before = max(0, -window.start)
        behavior = behavior_on_frames(self.aligned, window.trial, before, after)
        return behavior[window.start + before :][: window.n_frames]

    @torch.no_grad()
    def _standardized_residuals(self) -> list[list[np.ndarray]]:
        """Residuals of each trial and group ``(sample, roi)``, as strong as those of validation trials."""
        device, kept = device_of(self.encoder), []
        for trial in progress(self.trials, label="residuals", unit="clip"):
            window = Window(trial, 0, int(self.aligned.trials.at[trial, "n_frames"]))
            video, behavior = window_video(self.aligned, [window], device)
            rates = self.encoder.predict_rates(video, behavior)
            groups = []
            for seen, likelihood in zip(
                observe(self.aligned, [window], warm_up=self.encoder.warm_up, device=device),
                self.encoder.likelihoods,
                strict=True,
            ):
                expected = seen.expected(rates)
                floor = torch.from_numpy(self.noise.floor[seen.rois]).to(expected)
                residual = (seen.measured - expected) / (likelihood.variance(expected) + floor).sqrt()
                # a sample of which nothing is known has no noise to lend
                rows = seen.known[0].bool().any(dim=1)
                groups.append((residual * seen.known)[0, rows].cpu().numpy())
            if all(len(values) for values in groups):
                kept.append(groups)
        first = 0
        for index, group in enumerate(self.aligned.groups):
            rois = slice(first, first + group.n_rois)
            first = rois.stop
            own = np.mean(np.concatenate([groups[index] for groups in kept]) ** 2, axis=0)
            # the encoder has learned these trials by heart a little: of others it explains less
            factor = np.sqrt(self.noise.variance[rois] / np.maximum(own, 1e-6)).clip(0.5, 2).astype(np.float32)
            for groups in kept:
                groups[index] *= factor
        return kept


class OtherMovies:
    """Movies to learn from that nobody has shown: those of the training trials changed, and made ones."""

    def __init__(
        self, aligned: AlignedSession, trials: Sequence[int], n_frames: int, random: np.random.Generator
    ) -> None:
        self.n_frames, self.random = n_frames, random
        self._shown = [(aligned, trial) for trial in trials]
        with_cuts = [
            dead_leaves_movie(n_frames, aligned.frame_size, aligned.frame_rate, rng=random)
            for _ in progress(range(_MADE), label="making movies", unit="clip")
        ]
        self._made = np.stack(with_cuts)

    def draw(self, count: int, share_made: float) -> np.ndarray:
        """Give ``(count, time, height, width)`` float32, grey levels 0-255."""
        return np.stack([self._one(self.random.uniform() < share_made) for _ in range(count)])

    def _one(self, made: bool) -> np.ndarray:
        random = self.random
        if made:
            movie = self._made[random.integers(len(self._made))].astype(np.float32)
        else:
            aligned, trial = self._shown[random.integers(len(self._shown))]
            movie = aligned.trial(trial).video
            if len(movie) < self.n_frames:
                movie = np.pad(movie, ((0, self.n_frames - len(movie)), (0, 0), (0, 0)), mode="symmetric")
            start = random.integers(len(movie) - self.n_frames + 1)
            movie = movie[start : start + self.n_frames]
        for axis in range(3):
            if random.integers(2):
                movie = np.flip(movie, axis)
        if made:
            movie = np.roll(movie, random.integers(0, movie.shape[1:]), axis=(1, 2))
        mean = movie.mean()
        contrast = np.exp(0.3 * random.standard_normal())
        return np.clip((movie - mean) * contrast + mean + 15 * random.standard_normal(), 0, 255)
