"""A simulated mouse that is small enough to train on within a test, and whose every cell is known."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter

from nwbrecon.alignment import AlignedGroup, AlignedSession
from nwbrecon.config import EncoderSettings
from nwbrecon.encoding.encoder import VideoEncoder
from nwbrecon.encoding.initialization import initialize, scale_core
from nwbrecon.session import SignalKind
from nwbrecon.simulation.population import Population, make_population, population_rates, shift_frames
from nwbrecon.stimuli.dead_leaves import dead_leaves_movie

FRAME_RATE, FRAME_SIZE = 30.0, (20, 32)
ENCODER = EncoderSettings(core="quadrature", channels=16)
GRAY, GAP = 127, 15
# frames of grey before the first clip and after the last
MARGIN = 30


@dataclass
class Mouse:
    """A session, and the truth behind it.

    `rates` is ``(time, cell)`` spikes per second from ``t = 0``, of the movie alone; ``planes[k]`` lists the cells of
    the k-th group.
    """

    aligned: AlignedSession
    population: Population
    rates: np.ndarray
    planes: list[np.ndarray]

    def cells(self):
        """Table of the cells in the order of the session's ROIs."""
        return self.population.cells.iloc[np.concatenate(self.planes)].reset_index(drop=True)


def make_mouse(
    *,
    n_rois=40,
    train=16,
    validation=3,
    test=2,
    repeats=3,
    seconds=4.0,
    noise=1.0,
    types=None,
    make_movie=None,
    margin=MARGIN,
    seed=0,
    cell_seed=None,
    gaze=None,
):
    """Cells in two planes that are scanned in turns, watching clips with grey in between.

    `noise` multiplies the variance of the counts, which is their mean at 1; `types` makes all cells of these types;
    `margin` is how many frames of grey there are at both ends.
    Mice of one `seed` and different `cell_seed` see the same clips. `gaze` is how many columns and rows the picture
    moves, to the left and up, with a standard deviation of gaze to the right and down; ``None`` records no gaze.
    """
    rng = np.random.default_rng(seed)
    n_frames = round(seconds * FRAME_RATE)
    names = [
        f"{split} {n}" for split, n in (("train", train), ("validation", validation), ("test", test)) for n in range(n)
    ]
    make_movie = make_movie or dead_leaves
    movies = {name: make_movie(n_frames, rng) for name in names}
    shown = [name for name in names for _ in range(repeats if name.startswith("test") else 1)]
    shown = [str(name) for name in rng.permutation(shown)]

    rng = rng if cell_seed is None else np.random.default_rng(cell_seed)
    population = make_population(n_rois, FRAME_SIZE, FRAME_RATE, rng)
    if types is not None:
        population.cells["type"] = rng.choice(types, n_rois)
    gray = np.full((GAP, *FRAME_SIZE), GRAY, np.uint8)
    ends = np.full((margin, *FRAME_SIZE), GRAY, np.uint8)
    screen = np.concatenate([ends, *(part for name in shown for part in (movies[name], gray)), ends])
    onsets = (margin + np.arange(len(shown)) * (n_frames + GAP)) / FRAME_RATE
    frames = np.arange(len(screen)) / FRAME_RATE
    # running that comes and goes, and gain that follows it
    speed = 10 * np.clip(np.sin(2 * np.pi * frames / 17 + rng.uniform(0, 6)), 0, None)
    gain = np.exp(0.05 * np.outer(speed - speed.mean(), population.cells["running_gain"]))
    behavior, names_of_behavior, retina = speed[:, None], ["running_speed"], screen
    if gaze is not None:
        # jumps, held for a while
        looked = np.repeat(rng.standard_normal((len(screen) // 10 + 1, 2)), 10, axis=0)[: len(screen)]
        behavior, names_of_behavior = np.column_stack([speed, looked]), ["running_speed", "gaze_x", "gaze_y"]
        retina = shift_frames(screen, -looked[:, ::-1] * np.array(gaze)[::-1])
    rates, clean = population_rates(population, retina, FRAME_RATE, gain, drive_noise=0.0, rng=rng)

    planes = np.array_split(rng.permutation(n_rois), 2)
    groups = []
    for index, cells in enumerate(planes):
        clock = np.arange(0.3 + 0.07 * index, frames[-1], 2 / 15)
        counts = counts_between(rates[:, cells], clock)
        counts = noise * rng.poisson(counts / noise) if noise else counts
        scale = counts.std(axis=0).clip(1e-3)
        groups.append(
            AlignedGroup(
                f"plane {index + 1}",
                SignalKind.EVENTS,
                clock,
                (counts / scale).astype(np.float32),
                scale,
                pd.DataFrame({"depth": 100.0 + 20 * index}, index=100 * index + np.arange(len(cells))),
            )
        )
    behaviors = [behavior[start : start + n_frames] for start in np.round(onsets * FRAME_RATE).astype(int)]
    aligned = AlignedSession.from_arrays(
        [movies[name] for name in shown],
        groups,
        onsets=onsets,
        clips=shown,
        splits=[name.split()[0] for name in shown],
        frame_rate=FRAME_RATE,
        behaviors=behaviors,
        behavior_names=names_of_behavior,
    )
    aligned.identity = {"identifier": f"small mouse {seed} {cell_seed or 0}"}
    return Mouse(aligned, population, clean, planes)


def fresh_encoder(aligned, **settings):
    """An encoder of ours for a session, as it is before anything is fitted."""
    return VideoEncoder(
        EncoderSettings(**settings),
        n_rois=aligned.n_rois,
        frame_size=aligned.frame_size,
        frame_rate=FRAME_RATE,
        behavior_names=aligned.behavior_names,
        groups=tuple(group.n_rois for group in aligned.groups),
    )


def fit(encoder, aligned, trials):
    """Scale the core and fit the readout, as before any training; gives the held-out scores."""
    scale_core([encoder], [aligned], [trials])
    return initialize(encoder, aligned, trials)


def dead_leaves(n_frames, rng):
    """A natural-like clip with about two shots."""
    return dead_leaves_movie(n_frames, FRAME_SIZE, FRAME_RATE, rng=rng, cut_seconds=2.5)


def smooth_noise(n_frames, rng):
    """A clip of noise that cells of all kinds respond to: quicker to make, and quicker to learn from."""
    noise = gaussian_filter(rng.standard_normal((n_frames, *FRAME_SIZE)), (1.5, 1.2, 1.2))
    return np.clip(GRAY + 40 * noise / noise.std(), 0, 255).astype(np.uint8)


def counts_between(rates, clock):
    """Integral of a rate per second that is constant within frames, over the interval before each sample."""
    area = np.concatenate([np.zeros((1, rates.shape[1])), np.cumsum(rates, axis=0) / FRAME_RATE])
    edges = np.arange(len(area)) / FRAME_RATE
    integral = np.stack([np.interp(clock, edges, column) for column in area.T], axis=1)
    return np.diff(integral, axis=0, prepend=integral[:1])


def clips_of(lengths, splits, n_rois=3):
    """A session of gray clips of these lengths (frames)."""
    rng = np.random.default_rng(0)
    onsets = 1 + np.cumsum([0, *lengths[:-1]]) / 30 + np.arange(len(lengths))
    clock = np.arange(0, onsets[-1] + lengths[-1] / 30 + 1, 0.13)
    group = AlignedGroup(
        "plane",
        SignalKind.EVENTS,
        clock,
        rng.gamma(1, 1, (len(clock), n_rois)).astype(np.float32),
        np.ones(n_rois),
        pd.DataFrame(index=range(n_rois)),
    )
    return AlignedSession.from_arrays(
        [rng.uniform(0, 255, (length, 8, 10)) for length in lengths],
        [group],
        onsets=onsets,
        clips=[str(n) for n in range(len(lengths))],
        splits=splits,
        frame_rate=30.0,
    )
