"""From rates to what a two-photon microscope sees of the cells."""

from __future__ import annotations

import numpy as np
from scipy import ndimage, signal

from nwbrecon.simulation.recording import SimulatedPlane

__all__ = ["calcium", "image_planes"]

# GCaMP6s (Chen et al. 2013, Nature 499:295-300): rise and decay of the response to one action potential in vivo
RISE_SECONDS, DECAY_SECONDS = 0.07, 1.0
NEUROPIL_SHARE = 0.7


def calcium(spikes: np.ndarray, rate: float, decay: float = DECAY_SECONDS, rise: float = RISE_SECONDS) -> np.ndarray:
    """Calcium signal of spike counts: difference of exponentials, peak 1 for a single spike.

    Parameters
    ----------
    spikes
        ``(time, cell)`` spike counts.
    rate
        Bins per second (Hz).
    decay, rise
        Time constants (s).
    """
    lag = np.arange(0, 6 * decay, 1 / rate)
    peak = (np.exp(-lag / decay) - np.exp(-lag / rise)).max()
    slow, fast = np.exp(-1 / (rate * decay)), np.exp(-1 / (rate * rise))
    traces = signal.lfilter([1.0], [1.0, -slow], spikes, axis=0) - signal.lfilter([1.0], [1.0, -fast], spikes, axis=0)
    return traces / peak


def image_planes(
    spikes: np.ndarray,
    bin_rate: float,
    *,
    n_rois: int,
    n_planes: int,
    imaging_rate: float,
    duplicate_share: float,
    snr: float,
    rng: np.random.Generator,
) -> list[SimulatedPlane]:
    """Image cells in planes that are scanned one after the other.

    Parameters
    ----------
    spikes
        ``(time, cell)`` counts in bins of ``1 / bin_rate`` seconds. The cells are dealt out to the planes; a cell may
        be seen again in the next plane.
    bin_rate
        Bins per second (Hz).
    n_rois, n_planes
        Number of ROIs over all planes, and of planes.
    imaging_rate
        Samples per second of each plane (Hz).
    duplicate_share
        Share of the ROIs of a plane whose cell is seen in the plane above too.
    snr
        Median over cells of the peak of one spike's transient over the noise's standard deviation.
    rng
        Source of randomness.
    """
    duration = len(spikes) / bin_rate
    per_plane = np.full(n_planes, n_rois // n_planes)
    per_plane[: n_rois % n_planes] += 1
    members = _deal(per_plane, spikes.shape[1], duplicate_share, rng)
    traces = calcium(spikes, bin_rate)
    # a bin's transient is complete at the bin's end
    trace_times = (np.arange(len(spikes)) + 1) / bin_rate
    brightness = rng.lognormal(0, 0.35, size=(spikes.shape[1],))
    shared = ndimage.gaussian_filter1d(traces.mean(axis=1), bin_rate * 0.1)
    planes = []
    for index, cells in enumerate(members):
        clock = (np.arange(int(duration * imaging_rate) - 1) + index / n_planes) / imaging_rate + 0.1 / imaging_rate
        image_shape = (256, 256)
        positions = rng.uniform(8, 248, (len(cells), 2))
        sampled = np.stack([np.interp(clock, trace_times, traces[:, cell]) for cell in cells], axis=1)
        amplitude = 0.12 * brightness[cells] * rng.lognormal(0, 0.2, len(cells))
        # neuropil: light from the cells around, and from all
        distance = np.linalg.norm(positions[:, None] - positions[None], axis=2)
        weight = np.exp(-distance / 40) * (distance > 0)
        weight /= weight.sum(axis=1, keepdims=True) + 1e-9
        around = 0.6 * sampled @ weight.T + 0.8 * np.interp(clock, trace_times, shared)[:, None]
        baseline = rng.lognormal(np.log(200), 0.4, len(cells))
        surround = 0.8 * baseline * (1 + 0.10 * (around - around.mean(axis=0)))
        bleaching = 0.12 * rng.uniform(0.3, 1, len(cells)) * (clock[:, None] / duration)
        drift = 1 - bleaching + 0.03 * _slow_drift(len(clock), 90 * imaging_rate, len(cells), rng)
        noise = amplitude * rng.lognormal(0, 0.35, len(cells)) / snr
        cell_light = baseline * (1 + amplitude * sampled) * drift
        fluorescence = cell_light + NEUROPIL_SHARE * surround * drift
        fluorescence += noise * baseline * rng.standard_normal(fluorescence.shape)
        neuropil = surround * drift + 0.3 * noise * baseline * rng.standard_normal(fluorescence.shape)
        planes.append(
            SimulatedPlane(
                name=f"plane {index + 1}",
                timestamps=clock,
                fluorescence=fluorescence.astype(np.float32),
                neuropil=neuropil.astype(np.float32),
                cells=cells,
                positions=positions,
                depth=120.0 + 40 * index,
                image_shape=image_shape,
            )
        )
    return planes


def _deal(per_plane: np.ndarray, n_cells: int, duplicate_share: float, rng: np.random.Generator) -> list[np.ndarray]:
    fresh = iter(rng.permutation(n_cells))
    members: list[np.ndarray] = []
    for size in per_plane:
        again = round(duplicate_share * size) if members else 0
        seen = rng.choice(members[-1], again, replace=False) if again else np.empty(0, int)
        members.append(np.concatenate([seen, [next(fresh) for _ in range(size - again)]]).astype(int))
    return members


def _slow_drift(size: int, width: float, n_cells: int, rng: np.random.Generator) -> np.ndarray:
    knots = max(4, int(size / width) + 2)
    values = rng.standard_normal((knots, n_cells))
    return ndimage.zoom(values, (size / knots, 1), order=3, mode="nearest", grid_mode=True)[:size]
