"""Recordings built from arrays: what was shown when, and cells that respond to change on the screen."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from nwbrecon.session.model import (
    BehaviorSeries,
    FrameClock,
    ResponseGroup,
    Session,
    Signal,
    SignalKind,
    Stimulus,
)


@dataclass
class ArrayStore:
    """A frame store in memory that counts what is read from it."""

    name: str
    frames: np.ndarray
    n_read: int = 0

    @property
    def n_frames(self):
        return len(self.frames)

    @property
    def height(self):
        return self.frames.shape[1]

    @property
    def width(self):
        return self.frames.shape[2]

    def read(self, frames):
        self.n_read += len(frames)
        return self.frames[frames].astype(np.float32)


def movie(seed, seconds, rate=30.0, size=(18, 32)):
    """Smooth noise that changes all the time, by more at some moments than at others."""
    rng = np.random.default_rng(seed)
    n = round(seconds * rate)
    noise = gaussian_filter(rng.normal(size=(n, *size)), (2, 2, 2))
    noise *= 50 / noise.std()
    speed = np.repeat(rng.random(-(-n // 10)) ** 3, 10)[:n]
    path = np.cumsum(speed)
    mixed = np.array([noise[int(p) % n] * (1 - p % 1) + noise[(int(p) + 1) % n] * (p % 1) for p in path])
    return np.clip(128 + mixed, 0, 255).astype(np.uint8)


def counted(times, edges, density):
    """Exact integral of a step function over the intervals before each sample."""
    area = np.concatenate([[0], np.cumsum(density * np.diff(edges))])
    return np.diff(np.interp(times, edges, area), prepend=0)


@pytest.fixture(scope="session")
def make_movie():
    return movie


@pytest.fixture(scope="session")
def make_store():
    return ArrayStore


@pytest.fixture(scope="session")
def make_session():
    """Build a session: ``schedule`` holds ``(clip, onset)`` or ``(clip, onset, onsets of its frames)``."""

    def build(
        clips,
        schedule,
        *,
        rate=30.0,
        planes=2,
        rois=6,
        imaging_rate=7.0,
        latency=0.1,
        noise=0.3,
        kind=SignalKind.EVENTS,
        films=None,
        splits=None,
        kinds=None,
        behavior=True,
        span=None,
        seed=0,
    ):
        rng = np.random.default_rng(seed)
        stores = {clip: ArrayStore(clip, frames) for clip, frames in clips.items()}
        rows, clocks, edges, density = [], {}, [0.0], []
        for label, (clip, onset, *own) in enumerate(schedule):
            n = len(clips[clip])
            onsets = np.asarray(own[0]) if own else onset + np.arange(n) / rate
            clocks[label] = FrameClock(np.arange(n)[: len(onsets)], onsets, float(onsets[-1] + 1 / rate))
            rows.append(
                {
                    "onset": onset,
                    "offset": clocks[label].end,
                    "clip": clip,
                    "film": (films or {}).get(clip, ""),
                    "store": clip,
                    "kind": (kinds or {}).get(clip, "movie"),
                    "split": splits[label] if splits else "",
                    "n_frames": len(onsets),
                }
            )
            change = np.abs(np.diff(clips[clip][: len(onsets)].astype(float), axis=0)).mean(axis=(1, 2))
            if onsets[0] > edges[-1]:
                edges.append(onsets[0])
                density.append(0.0)
            edges.extend([*onsets[1:], clocks[label].end])
            density.extend([10.0, *change])
        edges.append(edges[-1] + 100)
        density.append(0.0)
        edges, density = np.array(edges), np.array(density)

        first, last = span or (0.0, max(clock.end for clock in clocks.values()) + 2)
        groups = {}
        for plane in range(planes):
            times = np.arange(first + plane / planes / imaging_rate, last, 1 / imaging_rate)
            drive = counted(times - latency, edges + 1e-9, density)
            gain = rng.uniform(0.5, 2, rois)
            values = rng.gamma(2, 0.5, (len(times), rois)) * noise + drive[:, None] * gain
            values = values.astype(np.float32)
            name = f"plane {plane + 1}"
            groups[name] = ResponseGroup(
                name=name,
                signal=Signal(
                    path=f"processing/ophys/{name}",
                    kind=kind,
                    unit="a.u.",
                    read=lambda start, stop, values=values: values[start:stop],
                    shape=values.shape,
                ),
                timestamps=times,
                rois=pd.DataFrame({"depth": 200.0}, index=100 * plane + np.arange(rois)),
            )
        running = np.arange(first, last, 0.02)
        pupil = np.arange(first, last, 0.05)
        series = {
            "pupil_size": BehaviorSeries("pupil_size", 20 + np.sin(pupil / 7), pupil, "px", "made"),
            "running_speed": BehaviorSeries("running_speed", 0.5 * running, running, "cm/s", "made"),
        }
        return Session(
            identity={"identifier": "made"},
            subject={"subject_id": "none"},
            responses=groups,
            stimulus=Stimulus(pd.DataFrame(rows), stores, clocks.__getitem__),
            behavior=series if behavior else {},
        )

    return build


@pytest.fixture
def microns_like(make_session):
    """Twelve clips shown once, two shown six times, 4 s each, in a random order, one after the other."""
    clips = {f"clip {n}": movie(n, 4.0) for n in range(14)}
    order = [*(f"clip {n}" for n in range(2, 14)), *(["clip 0", "clip 1"] * 6)]
    np.random.default_rng(1).shuffle(order)
    return make_session(clips, [(clip, 5 + 4.0 * n) for n, clip in enumerate(order)])
