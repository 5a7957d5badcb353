from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from nwbrecon.simulation.recording import SimulatedPlane, SimulatedRecording

MakeRecording = Callable[..., SimulatedRecording]


@pytest.fixture(scope="session")
def make_recording() -> MakeRecording:
    """Smooth random movies and traces with the shapes and the clocks of a simulated recording."""
    return _recording


def _recording(
    *,
    planes: int = 2,
    rois: int = 5,
    clip_frames: int = 75,
    n_clips: int = 3,
    repeats: int = 2,
    gap: float = 0.73,
    imaging_rate: float = 7.1,
    film: str = "film",
    seed: int = 0,
) -> SimulatedRecording:
    rng = np.random.default_rng(seed)
    clips = {
        f"clip {n}": gaussian_filter(rng.uniform(-1, 1, (clip_frames, 36, 64)) * 900 + 128, (2, 2, 2))
        .clip(0, 255)
        .astype(np.uint8)
        for n in range(n_clips)
    }
    shown = [name for name in clips for _ in range(repeats)]
    onsets = 1.31 + np.arange(len(shown)) * (clip_frames / 30 + gap)
    schedule = pd.DataFrame({"onset": onsets, "offset": onsets + clip_frames / 30, "clip": shown})
    schedule["film"] = film
    schedule["repeat"] = schedule.groupby("clip").cumcount()
    schedule["split"] = np.where(schedule["clip"] == "clip 0", "test", "train")
    duration = float(onsets[-1] + clip_frames / 30 + 1.2)

    period = 1 / imaging_rate
    starts = [plane * period / planes for plane in range(planes)]
    measured = [
        SimulatedPlane(
            name=f"plane {number}",
            # the last plane of the volume that was scanned when the recording ended misses its sample
            timestamps=start + period * np.arange(int((duration - start) * imaging_rate)),
            fluorescence=np.empty(0),
            neuropil=np.empty(0),
            cells=np.arange(rois) + number,
            positions=rng.uniform(0, 64, (rois, 2)),
            depth=100.0 + 20 * number,
            image_shape=(64, 80),
        )
        for number, start in enumerate(starts, start=1)
    ]
    for plane in measured:
        shape = (len(plane.timestamps), rois)
        plane.neuropil = (200 + gaussian_filter(rng.normal(size=shape) * 60, (3, 0))).astype(np.float32)
        plane.fluorescence = (
            300 + 0.7 * plane.neuropil + gaussian_filter(np.abs(rng.normal(size=shape)) * 50, (1, 0))
        ).astype(np.float32)

    run_times = np.cumsum(rng.uniform(1 / 100, 1 / 60, int(duration * 80)))
    run_times = run_times[run_times < duration]
    eye_times = 0.02 + np.cumsum(rng.normal(1 / 20, 1e-3, int(duration * 20) - 2))
    pupil = pd.DataFrame(
        {
            "timestamps": eye_times,
            "radius": 20 + np.sin(eye_times),
            "gaze_x": rng.normal(0, 2, len(eye_times)),
            "gaze_y": rng.normal(0, 2, len(eye_times)),
        }
    )
    pupil.loc[[0, 1, 30, 31, 32, len(pupil) - 1], ["radius", "gaze_x", "gaze_y"]] = np.nan
    return SimulatedRecording(
        schedule=schedule,
        clips=clips,
        frame_rate=30.0,
        duration=duration,
        planes=measured,
        imaging_rate=imaging_rate,
        running=pd.DataFrame({"timestamps": run_times, "speed": 10 + 8 * np.sin(run_times / 3)}),
        pupil=pupil,
        gray=117,
        truth={"rates": rng.uniform(size=(4, 3)), "kind": np.array(["simple", "complex", "simple", "none"])},
    )
