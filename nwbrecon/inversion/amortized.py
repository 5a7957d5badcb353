"""The amortized decoder: a small network that has learned the inversion, and gives a movie in one pass.

The linear decoder learns from the minutes that were recorded. This one also learns from what the encoder would have
answered to movies that were never shown, of which there are as many as it needs; what it makes of responses is so near
to the mean of the inversion's posterior as a network of its size gets (amortized inference; for receptive fields and
neural responses: Parthasarathy et al. 2017, Advances in Neural Information Processing Systems 30).
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nwbrecon.alignment import AlignedSession
from nwbrecon.encoding import EncoderEnsemble
from nwbrecon.encoding.device import device_of
from nwbrecon.inversion.imagined import Beat, responses_on_steps
from nwbrecon.inversion.lessons import BATCH, DRAWS, IMAGINED, STEPS, Recorded, lessons
from nwbrecon.inversion.network import FINE, DecoderNetwork
from nwbrecon.progress import progress

__all__ = ["AmortizedDecoder", "fit_amortized", "kept_arrays", "read_decoders", "training_seconds"]

# time of a step (s), and of the responses before and after what is decoded
_STEP, _LEAD, _TAIL = 0.1, 0.4, 0.8
# cells of the maps, about: more show no more of what some thousand ROIs see, and cost
_CELLS = 144
# batches of lessons
_BATCHES = 480
_RATE, _DECAY, _LONGEST_GRADIENT = 4e-3, 1e-2, 1.0
# the decoder is judged on validation clips after each of so many parts of its training
_PARTS = 8
# pixels of which nothing is known count a little: what is near them is told by the ROIs too
_LEAST_WEIGHT = 0.1


@dataclass
class AmortizedDecoder:
    """A trained network, and the units of what goes in and comes out.

    Attributes
    ----------
    network
        The network.
    beat
        Its clock.
    positions
        ``(roi, 2)`` receptive fields on the network's maps (cells).
    mean_responses, spread_responses
        ``(roi,)`` of responses a step.
    mean_video, spread_video
        Grey levels.
    explained
        Share of the variance of validation movies that it explains: over time and space, and over time alone.
    """

    network: DecoderNetwork
    beat: Beat
    positions: np.ndarray
    mean_responses: np.ndarray
    spread_responses: np.ndarray
    mean_video: float
    spread_video: float
    explained: tuple[float, float] = (math.nan, math.nan)

    def standardized(self, responses: np.ndarray) -> np.ndarray:
        """Responses ``(..., roi)`` in the network's units; what is missing says nothing: it is taken for the mean."""
        return np.nan_to_num((responses - self.mean_responses) / self.spread_responses).astype(np.float32)

    @torch.no_grad()
    def predict(self, sessions: Sequence[AlignedSession], trials: Sequence[int]) -> np.ndarray:
        """Decode a clip from the mean of its showings.

        Parameters
        ----------
        sessions
            The session of each showing.
        trials
            Label of each showing.

        Returns
        -------
        numpy.ndarray
            ``(time, height, width)`` float32, grey levels, not clipped.
        """
        aligned = sessions[0]
        n_frames = int(aligned.trials.at[trials[0], "n_frames"])
        n_steps = self.beat.steps(n_frames)
        every = np.stack(
            [
                responses_on_steps(session, trial, self.beat, 0, n_steps)
                for session, trial in zip(sessions, trials, strict=True)
            ]
        )
        known = np.isfinite(every)
        mean = np.where(known, every, 0).sum(axis=0) / np.where(known.any(axis=0), known.sum(axis=0), np.nan)
        given = torch.from_numpy(self.standardized(mean))[None].to(self.network.device)
        movie = self.network(given)[:, None] * self.spread_video + self.mean_video
        # a step's movie is the mean over its frames: straight lines between their middles
        size = (n_steps * self.beat.frames, *aligned.frame_size)
        return functional.interpolate(movie, size=size, mode="trilinear")[0, 0, :n_frames].cpu().numpy()

    def arrays(self) -> dict[str, np.ndarray]:
        """Give all of it that is an array, by name."""
        weights = {f"network.{name}": value.cpu().numpy() for name, value in self.network.state_dict().items()}
        own = ("positions", "mean_responses", "spread_responses")
        return weights | {name: getattr(self, name) for name in own}

    def numbers(self) -> dict[str, Any]:
        """Give the rest of it."""
        return {
            "beat": asdict(self.beat),
            "grid": self.network.grid,
            "mean_video": self.mean_video,
            "spread_video": self.spread_video,
            "explained": self.explained,
        }

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray], numbers: dict[str, Any]) -> AmortizedDecoder:
        """Put together what `arrays` and `numbers` gave."""
        beat = Beat(**numbers["beat"])
        network = DecoderNetwork(arrays["positions"], tuple(numbers["grid"]), beat.lead, beat.tail)
        weights = {name.removeprefix("network."): value for name, value in arrays.items() if "network." in name}
        network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
        network.eval().requires_grad_(False)
        return cls(
            network,
            beat,
            arrays["positions"],
            arrays["mean_responses"],
            arrays["spread_responses"],
            numbers["mean_video"],
            numbers["spread_video"],
            tuple(numbers["explained"]),
        )


def kept_arrays(decoders: Sequence[AmortizedDecoder]) -> dict[str, np.ndarray]:
    """Give the arrays of some decoders, by name."""
    return {
        f"amortized-{index}.{name}": value
        for index, decoder in enumerate(decoders)
        for name, value in decoder.arrays().items()
    }


def read_decoders(arrays: Mapping[str, np.ndarray], numbers: Sequence[dict[str, Any]]) -> tuple[AmortizedDecoder, ...]:
    """Put decoders together of what `kept_arrays` gave, among other arrays, and the numbers of each."""
    decoders = []
    for index, own in enumerate(numbers):
        prefix = f"amortized-{index}."
        named = {name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)}
        decoders.append(AmortizedDecoder.of(named, own))
    return tuple(decoders)


def fit_amortized(
    encoder: EncoderEnsemble, aligned: AlignedSession, coverage: np.ndarray, *, seed: int = 0
) -> AmortizedDecoder:
    """Train the decoder on training trials and on what the encoder answers to other movies.

    Its loss is the squared error of the movie and, as much again, that of its changes: of what is left of each pixel
    without its mean over the lesson, each over its variance. Of the states that training passes through, the one that
    explains most of the validation clips is kept.

    Parameters
    ----------
    encoder
        The session's encoder; where it is, the decoder is trained.
    aligned
        The session.
    coverage
        ``(height, width)`` what the responses tell about each pixel, the best one's being 1.
    seed
        Seed of weights, movies and noise.
    """
    train, device = aligned.trials_in("train"), device_of(encoder)
    random = np.random.default_rng(seed)
    beat, grid = _beat(aligned.frame_rate), _grid(aligned.frame_size)
    screen = np.array(aligned.frame_size)
    positions = (encoder.positions + screen / 2) * np.array(grid) / screen - 0.5

    recorded = Recorded(aligned, train, beat, grid)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = DecoderNetwork(positions, grid, beat.lead, beat.tail).to(device)
    decoder = AmortizedDecoder(
        network,
        beat,
        positions,
        *_mean_and_spread(np.concatenate([recorded.responses[trial] for trial in train])),
        float(np.mean([movie.mean() for movie in recorded.movies.values()])),
        float(np.sqrt(np.mean([((movie - movie.mean()) ** 2).mean() for movie in recorded.movies.values()]))) + 1e-3,
    )
    batches = lessons(encoder, aligned, train, recorded, random)
    loss = _Loss(coverage, recorded, decoder).to(device)
    examined = Recorded(aligned, aligned.trials_in("validation"), beat, grid)

    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=_BATCHES, pct_start=0.2)
    best, kept = -math.inf, copy.deepcopy(network.state_dict())
    for batch in progress(range(_BATCHES), label="amortized decoder", unit="batch"):
        responses, movies, known = next(batches)
        given = torch.from_numpy(decoder.standardized(responses)).to(device)
        shown = torch.from_numpy((movies - decoder.mean_video) / decoder.spread_video).to(device)
        whole, changes = loss(network(given), shown, torch.from_numpy(known).to(device))
        optimizer.zero_grad()
        (whole + changes).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), _LONGEST_GRADIENT)
        optimizer.step()
        schedule.step()
        if (batch + 1) % (_BATCHES // _PARTS) == 0:
            explained = _explained(decoder, examined, loss)
            # where no clips are known to examine it with, the last state is kept
            if sum(explained) > best or not examined.movies:
                best, decoder.explained, kept = sum(explained), explained, copy.deepcopy(network.state_dict())
    network.load_state_dict(kept)
    network.eval().requires_grad_(False)
    return decoder


def training_seconds(encoder: EncoderEnsemble, aligned: AlignedSession, evaluation: float) -> float:
    """Estimate how long `fit_amortized` would take (s), from trying the network once.

    Parameters
    ----------
    encoder, aligned
        An encoder and a session of the same ROIs, frame size and frame rate.
    evaluation
        Seconds a frame of an encoder's prediction and its gradient.
    """
    beat, grid = _beat(aligned.frame_rate), _grid(aligned.frame_size)
    network = DecoderNetwork(np.zeros((encoder.n_rois, 2)), grid, beat.lead, beat.tail).to(device_of(encoder))
    responses = torch.zeros(1, beat.around(STEPS), encoder.n_rois, device=network.device)
    started = time.perf_counter()
    network(responses).sum().backward()
    lesson = time.perf_counter() - started
    # a prediction without its gradient is a third of both, and drawing the noise takes about half of that
    frames = encoder.warm_up + beat.around(STEPS) * beat.frames
    imagined = IMAGINED * frames * evaluation / 3 * (1 + 0.2 * DRAWS)
    return imagined + _BATCHES * BATCH * lesson


def _beat(frame_rate: float) -> Beat:
    """Give steps of about a tenth of a second, and the responses around what is decoded."""
    frames = max(1, round(_STEP * frame_rate))
    # rounded first: 12.000000000000002 steps are twelve
    return Beat(frames, *(math.ceil(round(span * frame_rate / frames, 6)) for span in (_LEAD, _TAIL)))


def _grid(frame_size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the maps: cells are about square, and no smaller than two pixels."""
    side = max(float(FINE), math.sqrt(frame_size[0] * frame_size[1] / _CELLS))
    rows, columns = (max(1, round(size / side)) for size in frame_size)
    return rows, columns


def _mean_and_spread(responses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation ``(roi,)`` of what is known; the latter is never zero."""
    known = np.isfinite(responses)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, responses, 0).sum(axis=0) / count
    spread = np.sqrt(np.where(known, (responses - mean) ** 2, 0).sum(axis=0) / count)
    return mean.astype(np.float32), (spread + 1e-3).astype(np.float32)


class _Loss(torch.nn.Module):
    """Squared errors over the variance of what is recorded, of the movie and of its changes."""

    weights: Tensor

    def __init__(self, coverage: np.ndarray, recorded: Recorded, decoder: AmortizedDecoder) -> None:
        super().__init__()
        rows, columns = decoder.network.grid
        told = torch.from_numpy(np.asarray(coverage, dtype=np.float32))[None, None]
        told = functional.interpolate(told, size=(FINE * rows, FINE * columns), mode="area")[0, 0]
        weights = (told / told.max().clamp_min(1e-9)).sqrt().clamp_min(_LEAST_WEIGHT)
        self.register_buffer("weights", weights / weights.sum())
        changes = [((movie - movie.mean(axis=0)) ** 2).mean() for movie in recorded.movies.values()]
        # a movie that stands still has none
        self.of_changes = max(float(np.mean(changes)) / decoder.spread_video**2, 1e-3)

    def forward(self, made: Tensor, movies: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Both terms, for movies ``(batch, step, row, column)``; 1 is what a gray screen would be off."""
        known = known[:, :, None, None]
        error = (made - movies) * known
        mean = error.sum(dim=1, keepdim=True) / known.sum(dim=1, keepdim=True).clamp_min(1)
        changes = (error - mean) * known
        count = known.sum().clamp_min(1)
        return (error.square() * self.weights).sum() / count, (
            changes.square() * self.weights
        ).sum() / count / self.of_changes


@torch.no_grad()
def _explained(decoder: AmortizedDecoder, recorded: Recorded, loss: _Loss) -> tuple[float, float]:
    """Share of the variance of recorded movies, and of that of their changes, that the decoder explains."""
    device, left, there = decoder.network.device, np.zeros(2), np.zeros(2)
    for trial, movie in recorded.movies.items():
        responses = torch.from_numpy(decoder.standardized(recorded.responses[trial]))[None].to(device)
        shown = torch.from_numpy((movie - decoder.mean_video) / decoder.spread_video)[None].to(device)
        known = torch.from_numpy(recorded.known[trial])[None].to(device)
        for total, made in ((left, decoder.network(responses)), (there, torch.zeros_like(shown))):
            total += len(movie) * np.array([float(part) for part in loss(made, shown, known)])
    whole, changes = 1 - left / np.maximum(there, 1e-9)
    return float(whole), float(changes)
