"""What the simulated mouse does: it runs, its pupil follows, its eye moves, it blinks."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import ndimage

__all__ = ["Behavior", "make_behavior"]

PIXELS_PER_DEGREE = 0.5
RUNNING_RATE, EYE_CAMERA_RATE = 80.0, 20.0


class Behavior:
    """Behavior as it was, on any clock, and as the rig measured it.

    Parameters
    ----------
    duration
        Length of the recording (s).
    rng
        Source of randomness.
    gaze_pixels
        Standard deviation of the gaze (pixels of the movie).
    """

    def __init__(self, duration: float, rng: np.random.Generator, gaze_pixels: float) -> None:
        self.clock = np.arange(0, duration, 0.02)
        size = len(self.clock)
        # bouts of running: a slow signal above a threshold
        mood = _slow(size, 4.0, rng)
        self.speed = np.clip(mood - 0.1, 0, None) * 18 * (1 + 0.15 * _slow(size, 0.3, rng))
        self.arousal = 0.6 * mood + 0.8 * _slow(size, 3.0, rng)
        jumps = rng.poisson(0.5 * 0.02, size)
        steps = np.cumsum(jumps[:, None] * rng.standard_normal((size, 2)), axis=0)
        steps -= ndimage.uniform_filter1d(steps, int(20 / 0.02), axis=0, mode="nearest")
        drift = np.stack([_slow(size, 2.0, rng), _slow(size, 2.0, rng)], axis=1)
        gaze = steps / (steps.std() + 1e-9) + 0.5 * drift
        # rows and columns by which the picture moves down and to the right on the retina; eyes move more sideways
        self.shift = gaze_pixels * np.array([0.6, 1.2]) * gaze / gaze.std()
        self._rng = rng

    def at(self, values: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Values of a trace (``speed``, ``arousal``, ``shift``) at ``times``."""
        if values.ndim == 1:
            return np.interp(times, self.clock, values)
        return np.stack([np.interp(times, self.clock, column) for column in values.T], axis=1)

    def measured_running(self) -> pd.DataFrame:
        """``timestamps`` (s) and ``speed`` (cm/s) from an encoder that is read at slightly irregular times."""
        rng = self._rng
        times = np.cumsum(rng.normal(1, 0.02, int(self.clock[-1] * RUNNING_RATE)).clip(0.5)) / RUNNING_RATE
        times = times[times < self.clock[-1]]
        speed = self.at(self.speed, times) + 0.15 * rng.standard_normal(len(times))
        return pd.DataFrame({"timestamps": times, "speed": speed})

    def measured_eye(self) -> pd.DataFrame:
        """``timestamps`` (s), ``radius`` (camera pixels), ``gaze_x``, ``gaze_y`` (degrees); NaN in blinks."""
        rng = self._rng
        times = 0.013 + np.arange(0, self.clock[-1] - 0.1, 1 / EYE_CAMERA_RATE)
        times = times + rng.normal(0, 4e-4, len(times))
        radius = 22 * np.exp(0.22 * self.at(self.arousal, times)) + 0.4 * rng.standard_normal(len(times))
        # the picture moves against the gaze; rows count downward
        gaze = -self.at(self.shift, times) / PIXELS_PER_DEGREE
        # the camera's calibration is off, its estimate is noisy and it creeps
        gaze = gaze * rng.normal(1, 0.1, 2) + 0.35 * rng.standard_normal(gaze.shape) / PIXELS_PER_DEGREE
        creep = np.stack([_slow(len(times), 30.0, rng, EYE_CAMERA_RATE) for _ in range(2)], axis=1)
        gaze += 0.3 * creep / PIXELS_PER_DEGREE
        eye = pd.DataFrame({"timestamps": times, "radius": radius, "gaze_x": gaze[:, 1], "gaze_y": -gaze[:, 0]})
        for start in np.flatnonzero(rng.random(len(times)) < 0.08 / EYE_CAMERA_RATE):
            eye.loc[start : start + rng.integers(2, 7), ["radius", "gaze_x", "gaze_y"]] = np.nan
        return eye


def make_behavior(duration: float, rng: np.random.Generator, gaze_pixels: float = 1.2) -> Behavior:
    """Draw the behavior of a recording of ``duration`` seconds; gaze moves the picture by ``gaze_pixels`` (s.d.)."""
    return Behavior(duration, rng, gaze_pixels)


def _slow(size: int, seconds: float, rng: np.random.Generator, rate: float = 50.0) -> np.ndarray:
    """Unit-variance noise that changes over ``seconds``."""
    noise = ndimage.gaussian_filter1d(rng.standard_normal(size), seconds * rate, mode="wrap")
    return (noise - noise.mean()) / (noise.std() + 1e-12)
