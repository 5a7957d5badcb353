"""Simulated mice that the benchmarks share."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

import nwbrecon as nr
from nwbrecon.alignment import AlignedGroup, AlignedSession
from nwbrecon.config import SimulationSettings
from nwbrecon.session import SignalKind
from nwbrecon.simulation.layouts import write_recording
from nwbrecon.simulation.session import FRAME_RATE, FRAME_SIZE, simulate_recording
from nwbrecon.stimuli.files import load_movies
from nwbrecon.storage import atomic_path


def simulated(settings: SimulationSettings) -> AlignedSession:
    """Simulate a mouse, write its recording as NWB, and read and align that."""
    return simulated_with_truth(settings)[0]


def simulated_with_truth(settings: SimulationSettings) -> tuple[AlignedSession, dict[str, np.ndarray]]:
    """Simulate a mouse, and give the truth behind it too."""
    movies = None if settings.movies is None else load_movies(settings.movies, FRAME_RATE, FRAME_SIZE)
    recording = simulate_recording(settings, movies)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mouse.nwb"
        write_recording(recording, path, settings.layout)
        # long recordings are large
        recording.planes.clear()
        recording.clips.clear()
        with nr.open_session(path) as session:
            return nr.align(session), recording.truth


def write_mouse(path: Path, aligned: AlignedSession, more: dict[str, np.ndarray]) -> None:
    """Keep what an encoder learns from, a third as large as the recording: whole gray levels, activity in float16."""
    video = np.asarray(aligned.video[:])
    levels = np.rint(video).astype(np.uint8)
    if not np.array_equal(levels, video):
        raise ValueError("The movie has other than whole gray levels.")
    arrays: dict[str, np.ndarray] = {
        # from frame to frame little changes
        "change": np.diff(levels, axis=0, prepend=np.zeros_like(levels[:1])),
        "behavior": aligned.behavior,
        "valid": aligned.valid,
    }
    for index, group in enumerate(aligned.groups):
        arrays |= {
            f"{index}.timestamps": group.timestamps,
            f"{index}.activity": group.activity.astype(np.float16),
            f"{index}.scale": group.scale,
            f"{index}.rois": group.rois.index.to_numpy(),
        }
    told = {
        "name": path.name,
        "frame_rate": aligned.frame_rate,
        "behavior_names": aligned.behavior_names,
        "groups": [(group.name, group.kind.value) for group in aligned.groups],
        "trials": aligned.trials.drop(columns="presentation", errors="ignore").to_dict(orient="list"),
    }
    arrays |= {f"more.{name}": values for name, values in more.items()}
    with atomic_path(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, told=np.array(json.dumps(told)), **arrays)


def read_mouse(path: Path) -> tuple[AlignedSession, dict[str, np.ndarray]]:
    """Read what `write_mouse` kept."""
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    told = json.loads(str(arrays["told"]))
    groups = [
        AlignedGroup(
            name,
            SignalKind(kind),
            arrays[f"{index}.timestamps"],
            arrays[f"{index}.activity"].astype(np.float32),
            arrays[f"{index}.scale"],
            pd.DataFrame(index=arrays[f"{index}.rois"]),
        )
        for index, (name, kind) in enumerate(told["groups"])
    ]
    aligned = AlignedSession(
        told["frame_rate"],
        pd.DataFrame(told["trials"]),
        np.cumsum(arrays["change"], axis=0, dtype=np.uint8),
        arrays["behavior"],
        tuple(told["behavior_names"]),
        arrays["valid"],
        groups,
        identity={"identifier": told["name"]},
    )
    return aligned, {name.removeprefix("more."): arrays[name] for name in arrays if name.startswith("more.")}
