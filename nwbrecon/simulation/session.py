"""A simulated session: stimuli on a schedule, behavior, a population that responds, and what the rig measured."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import ndimage

from nwbrecon.config import SimulationSettings
from nwbrecon.errors import SettingsError
from nwbrecon.progress import progress
from nwbrecon.simulation.behavior import make_behavior
from nwbrecon.simulation.imaging import image_planes
from nwbrecon.simulation.population import make_population, population_rates, saturate, shift_frames
from nwbrecon.simulation.recording import SimulatedRecording
from nwbrecon.stimuli.dead_leaves import dead_leaves_movie

__all__ = ["simulate_recording"]

FRAME_RATE = 30.0
FRAME_SIZE = (36, 64)
GRAY = 127
_FORTH, _BACK = slice(None), slice(None, None, -1)
_VARIANTS = {
    "": (_FORTH, _FORTH, _FORTH),
    "mirrored": (_FORTH, _FORTH, _BACK),
    "backwards": (_BACK, _FORTH, _FORTH),
    "mirrored backwards": (_BACK, _FORTH, _BACK),
}
# the rest of a film that is shorter than this is not shown (s)
SHORTEST_SECONDS = 3.0
# time of grey screen between clips, and before the first and after the last (s)
GAP_SECONDS, MARGIN_SECONDS = 0.5, 3.0
# tuned so that repeats of a clip correlate as in recordings (0.2-0.4 over cells); see benchmarks/simulated_mouse.py
DRIVE_NOISE, SNR, DUPLICATE_SHARE = 0.25, 4.0, 0.05


def simulate_recording(
    settings: SimulationSettings, movies: Mapping[str, np.ndarray] | None = None
) -> SimulatedRecording:
    """Simulate a recording.

    Parameters
    ----------
    settings
        Size, length and seed.
    movies
        ``(time, height, width)`` uint8 movies of 36 x 64 pixels at 30 Hz to show instead of made ones, by film.

    Returns
    -------
    SimulatedRecording
        The measurement and, in its ``truth``, what lies behind it.

    Raises
    ------
    SettingsError
        If the movies are too short for the clips asked for, or there are fewer ROIs than planes.
    """
    imaging_rate, n_planes = (
        (30.0, 1) if settings.layout == "visual-coding" else (_plane_rate(settings), settings.planes)
    )
    if settings.rois < n_planes:
        raise SettingsError(
            f"{settings.rois} ROIs were asked for in {n_planes} planes.", "A plane needs at least one ROI."
        )
    spawned = np.random.default_rng(settings.seed).spawn(6)
    if settings.stimulus_seed is not None:
        spawned[:2] = np.random.default_rng(settings.stimulus_seed).spawn(2)
    streams = iter(spawned)
    clips, films, test = _clips(settings, movies, next(streams))
    schedule, screen = _show(clips, films, test, settings, next(streams))
    duration = len(screen) / FRAME_RATE
    times = (np.arange(len(screen)) + 0.5) / FRAME_RATE

    behavior = make_behavior(duration, next(streams))
    shift = behavior.at(behavior.shift, times)
    retina = shift_frames(screen, shift)

    rng = next(streams)
    population = make_population(settings.rois, FRAME_SIZE, FRAME_RATE, rng)
    gain, told, hidden = _gain(
        population.cells, behavior.at(behavior.speed, times), behavior.at(behavior.arousal, times), rng
    )
    rates, clean = population_rates(population, retina, FRAME_RATE, gain, drive_noise=DRIVE_NOISE, rng=rng)
    # counts in half-frame bins, so that sampling in time is finer than the movie
    spikes = rng.poisson(np.repeat(rates, 2, axis=0) / (2 * FRAME_RATE))
    planes = image_planes(
        spikes,
        2 * FRAME_RATE,
        n_rois=settings.rois,
        n_planes=n_planes,
        imaging_rate=imaging_rate,
        duplicate_share=DUPLICATE_SHARE,
        snr=SNR * np.sqrt(7.0 / imaging_rate),
        rng=next(streams),
    )
    truth = {
        "spatial_filters": population.spatial.astype(np.float32),
        "temporal_kernels": population.temporal.astype(np.float32),
        "rates": rates.astype(np.float32),
        "clean_rates": clean.astype(np.float32),
        "expected_rates": saturate(clean * told).astype(np.float32),
        "frame_times": np.arange(len(screen)) / FRAME_RATE,
        "retinal_shift": shift.astype(np.float32),
        "hidden_gain": hidden.astype(np.float32),
        "plane_delays": np.array([plane.timestamps[0] for plane in planes]),
        **{f"cell_{name}": column.to_numpy(dtype=None) for name, column in population.cells.items() if name != "type"},
        "cell_type": population.cells["type"].to_numpy().astype("U"),
        **{f"roi_cells_{index + 1}": plane.cells for index, plane in enumerate(planes)},
    }
    return SimulatedRecording(
        schedule=schedule,
        clips=clips,
        frame_rate=FRAME_RATE,
        duration=duration,
        planes=planes,
        imaging_rate=imaging_rate,
        running=behavior.measured_running(),
        pupil=behavior.measured_eye(),
        truth=truth,
        gray=GRAY,
    )


def _plane_rate(settings: SimulationSettings) -> float:
    """Frames per second of each plane: more planes share one scanner, within what real rigs do (6-8 Hz)."""
    return float(np.clip(8.2 - 0.4 * settings.planes, 6.0, 8.0))


def _gain(
    cells: pd.DataFrame, speed: np.ndarray, arousal: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gain of each cell, what running and pupil make of it, and the hidden state."""
    hidden = ndimage.gaussian_filter1d(rng.standard_normal(len(speed)), 0.6 * FRAME_RATE)
    hidden /= hidden.std()
    run = np.clip(speed / 15, 0, 2)
    told = np.outer(run - run.mean(), cells["running_gain"]) + np.outer(arousal, cells["pupil_gain"])
    gain = told + np.outer(hidden, cells["shared_gain"])
    return np.exp(np.clip(gain, -2.5, 1.5)), np.exp(np.clip(told, -2.5, 1.5)), hidden


def _clips(
    settings: SimulationSettings, movies: Mapping[str, np.ndarray] | None, rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], dict[str, str], list[str]]:
    length = round(settings.clip_seconds * FRAME_RATE)
    test_length = round((settings.test_clip_seconds or settings.clip_seconds) * FRAME_RATE)
    n_train = max(1, round(settings.minutes * 60 / settings.clip_seconds))
    if movies is None:
        clips = {
            f"clip {index + 1:03d}": dead_leaves_movie(
                length if index < n_train else test_length, FRAME_SIZE, FRAME_RATE, rng=rng
            )
            for index in progress(range(n_train + settings.test_clips), label="making movies", unit="clip")
        }
        names = list(clips)
        return clips, dict.fromkeys(names, ""), names[n_train:]
    return _cut_movies(movies, n_train, length, settings.test_clips, test_length, rng)


def _cut_movies(
    movies: Mapping[str, np.ndarray], n_train: int, length: int, n_test: int, test_length: int, rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], dict[str, str], list[str]]:
    """Cut films into clips; whole films are set apart for testing.

    Training clips may be shorter than asked for, down to ``SHORTEST_SECONDS``, so that little of a film is lost. Where
    the films are too short for the minutes asked for, they are shown again mirrored, then backwards, then both.
    """
    order = [str(name) for name in rng.permutation(sorted(movies))]
    clips: dict[str, np.ndarray] = {}
    films: dict[str, str] = {}

    def cut(name: str, start: int, stop: int, variant: str = "") -> str:
        clip = f"{name} {start}-{stop} {variant}".rstrip()
        video = np.asarray(movies[name][start:stop], np.uint8)
        clips[clip], films[clip] = np.ascontiguousarray(video[_VARIANTS[variant]]), name
        return clip

    test: list[str] = []
    for name in [name for name in order if len(movies[name]) >= test_length][:n_test]:
        # one clip a film, so that the test clips are as different as the films
        test.append(cut(name, 0, test_length))
        order.remove(name)
    budget = n_train * length
    for variant, name in itertools.product(_VARIANTS, order):
        for start in range(0, len(movies[name]), length):
            stop = min(start + length, len(movies[name]), start + budget)
            if stop - start >= min(length, SHORTEST_SECONDS * FRAME_RATE):
                cut(name, start, stop, variant)
                budget -= stop - start
    n_made = len(clips) - len(test)
    if len(test) < n_test or not n_made:
        raise SettingsError(
            f"The {len(movies)} movies give {len(test)} test clips of {test_length / FRAME_RATE:g} s and "
            f"{n_made} training clips of up to {length / FRAME_RATE:g} s.",
            f"{n_test} test clips and at least one training clip were asked for.",
            "Give more or longer movies, or ask for fewer or shorter clips.",
        )
    return clips, films, test


def _show(
    clips: dict[str, np.ndarray],
    films: dict[str, str],
    test: list[str],
    settings: SimulationSettings,
    rng: np.random.Generator,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Put the clips on a schedule: training clips once each, test clips repeated and spread over the session."""
    showings = [clip for clip in clips if clip not in test]
    rng.shuffle(showings)
    for repeat in range(settings.test_repeats):
        block = [str(clip) for clip in rng.permutation(test)]
        first = (
            round((repeat + 0.5) / settings.test_repeats * (len(showings) - len(block) * repeat)) + len(block) * repeat
        )
        showings[first:first] = block
    gray = np.full((round(GAP_SECONDS * FRAME_RATE), *FRAME_SIZE), GRAY, np.uint8)
    margin = np.full((round(MARGIN_SECONDS * FRAME_RATE), *FRAME_SIZE), GRAY, np.uint8)
    screen, rows, frame = [margin], [], len(margin)
    for clip in showings:
        rows.append((frame / FRAME_RATE, (frame + len(clips[clip])) / FRAME_RATE, clip, films[clip]))
        screen += [clips[clip], gray]
        frame += len(clips[clip]) + len(gray)
    screen.append(margin)
    schedule = pd.DataFrame(rows, columns=["onset", "offset", "clip", "film"])
    schedule["repeat"] = schedule.groupby("clip").cumcount()
    schedule["split"] = np.where(schedule["clip"].isin(test), "test", "train")
    return schedule, np.concatenate(screen)
