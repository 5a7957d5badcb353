"""Writes a folder in the format of the Sensorium 2023 release, of made-up data."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

NAME = "dynamic12345-6-7-Video-0123456789abcdef0123456789abcdef"
HEIGHT, WIDTH = 36, 64


@dataclass
class Release:
    """What was written; arrays are ``(..., time)`` without the padding, ``responses`` as recorded."""

    path: Path
    tiers: list[str] = field(default_factory=list)
    videos: list[np.ndarray] = field(default_factory=list)
    responses: list[np.ndarray] = field(default_factory=list)
    behavior: list[np.ndarray] = field(default_factory=list)
    pupil_center: list[np.ndarray] = field(default_factory=list)
    unit_ids: np.ndarray | None = None
    coordinates: np.ndarray | None = None


def movie(rng, n_frames):
    """Whole grey levels, smooth in space and time so that clips differ in more than noise."""
    coarse = rng.uniform(0, 255, (6, 8, n_frames // 15 + 2))
    steps = np.linspace(0, coarse.shape[2] - 1, n_frames)
    low = steps.astype(int).clip(max=coarse.shape[2] - 2)
    frames = coarse[..., low] + (coarse[..., low + 1] - coarse[..., low]) * (steps - low)
    return np.rint(frames.repeat(HEIGHT // 6, axis=0).repeat(WIDTH // 8, axis=1))


def write_release(
    folder,
    tiers=("train",) * 8 + ("oracle",) * 4 + ("live_test_main", "final_test_bonus"),
    clips=(0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 9, 9, 10, 11),
    lengths=(90, 75),
    padded=96,
    n_cells=7,
    withheld="zeros",
    respond=None,
    seed=0,
):
    """Write the folder of a mouse.

    `clips` gives the clip of each trial, and clip c has ``lengths[c % len(lengths)]`` frames. Test trials have their
    responses written as `withheld`: ``zeros``, ``nan``, ``absent``, or ``released``. `respond` makes responses of a
    video; by default they are random.
    """
    rng = np.random.default_rng(seed)
    made = Release(Path(folder) / NAME, list(tiers))
    movies = {clip: movie(rng, lengths[clip % len(lengths)]) for clip in sorted(set(clips))}
    made.unit_ids = rng.permutation(10 * n_cells)[:n_cells]
    made.coordinates = np.column_stack([rng.uniform(-400, 400, (n_cells, 2)), rng.uniform(100, 400, n_cells)])
    for _, clip in zip(tiers, clips, strict=True):
        video = movies[clip]
        n = video.shape[2]
        made.videos.append(video)
        made.behavior.append(np.stack([rng.uniform(20, 90, n), rng.uniform(0, 30, n)]))
        made.pupil_center.append(rng.uniform(100, 190, (2, n)))
        made.responses.append(respond(video, rng) if respond else rng.gamma(0.5, 2.0, (n_cells, n)))
    for name in ("videos", "responses", "behavior", "pupil_center"):
        (made.path / "data" / name).mkdir(parents=True)
        for number, (tier, array) in enumerate(zip(tiers, getattr(made, name), strict=True)):
            stored = np.pad(
                array, [(0, 0)] * (array.ndim - 1) + [(0, padded - array.shape[-1])], constant_values=np.nan
            )
            if name == "responses" and "test" in tier and withheld != "released":
                if withheld == "absent":
                    continue
                stored = np.full_like(stored, {"zeros": 0.0, "nan": np.nan}[withheld])
            np.save(made.path / "data" / name / f"{number}.npy", stored)
    for name, array in (
        ("trials/tiers", np.array(tiers)),
        ("neurons/unit_ids", made.unit_ids),
        ("neurons/cell_motor_coordinates", made.coordinates),
    ):
        file = made.path / "meta" / f"{name}.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, array)
    return made
