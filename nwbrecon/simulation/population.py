"""A simulated population of visual cortex: from what was on the screen to the rate of every cell.

Simple cells filter the movie with a Gabor function and rectify; complex cells take the energy of a quadrature pair
(Adelson & Bergen 1985, J. Opt. Soc. Am. A 2:284-299); direction-selective cells use filters that are inseparable in
space and time; all are divided by the pooled activity of their neighbors (Heeger 1992, Vis. Neurosci. 9:181-197).
Some cells ignore the movie. Gain follows running, pupil and a hidden state that the population shares.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage

__all__ = ["Population", "make_population", "population_rates", "saturate", "shift_frames"]

CELL_TYPES = ("simple", "complex", "direction", "blind")
# shares of the cell types; blind cells ignore the movie
TYPE_SHARES = (0.45, 0.25, 0.18, 0.12)
# frames of memory; at 30 Hz half a second
MEMORY_SECONDS = 0.5
# spikes per second at which a cell saturates
MAX_RATE = 80.0


@dataclass
class Population:
    """Cells and what drives them.

    Attributes
    ----------
    cells
        One row a cell: ``type``, ``row``, ``column`` (center, pixels), ``sigma`` (pixels), ``wavelength`` (pixels),
        ``orientation`` (radians), ``latency`` (s), ``mean_rate`` (spikes/s), ``running_gain``, ``pupil_gain``,
        ``shared_gain``, ``exponent``.
    spatial
        ``(2, cell, height, width)`` even and odd spatial filter, unit norm.
    temporal
        ``(2, cell, lag)`` the pair of temporal kernels, lag 0 first, unit norm. Separable cells use the first alone.
    """

    cells: pd.DataFrame
    spatial: np.ndarray
    temporal: np.ndarray


def make_population(
    n_cells: int, frame_size: tuple[int, int], frame_rate: float, rng: np.random.Generator
) -> Population:
    """Draw a population.

    Parameters
    ----------
    n_cells
        Number of cells.
    frame_size
        Rows and columns of the movie (pixels). Receptive fields gather around a point near its center, as the field of
        view of one imaging session covers a part of the visual field.
    frame_rate
        Frames per second of the movie (Hz).
    rng
        Source of randomness.
    """
    height, width = frame_size
    sigma = rng.lognormal(np.log(0.075 * height), 0.35, n_cells)
    cells = pd.DataFrame(
        {
            "type": rng.choice(CELL_TYPES, n_cells, p=TYPE_SHARES),
            "row": np.clip(rng.normal(0.5 * height, 0.22 * height, n_cells), 0, height - 1),
            "column": np.clip(rng.normal(0.5 * width, 0.18 * width, n_cells), 0, width - 1),
            "sigma": sigma,
            # about one cycle to two in the envelope, as in mouse V1 (Niell & Stryker 2008, J. Neurosci. 28:7520-7536)
            "wavelength": sigma * rng.uniform(2.5, 6.0, n_cells),
            "orientation": rng.uniform(0, np.pi, n_cells),
            "latency": rng.normal(0.07, 0.012, n_cells).clip(0.04, 0.11),
            "mean_rate": rng.lognormal(np.log(2.5), 0.6, n_cells).clip(0.4, 12),
            "running_gain": rng.normal(0.25, 0.25, n_cells),
            "pupil_gain": rng.normal(0.2, 0.2, n_cells),
            "shared_gain": rng.normal(0.35, 0.15, n_cells),
            "exponent": rng.uniform(1.2, 2.0, n_cells),
        }
    )
    phase = rng.uniform(0, 2 * np.pi, n_cells)
    rows, columns = np.mgrid[:height, :width]
    spatial = np.empty((2, n_cells, height, width))
    for index, cell in cells.iterrows():
        dy, dx = rows - cell["row"], columns - cell["column"]
        along = dx * np.cos(cell["orientation"]) + dy * np.sin(cell["orientation"])
        across = -dx * np.sin(cell["orientation"]) + dy * np.cos(cell["orientation"])
        envelope = np.exp(-(along**2 + (across / 1.3) ** 2) / (2 * cell["sigma"] ** 2))
        for part, offset in enumerate((0, np.pi / 2)):
            gabor = envelope * np.cos(2 * np.pi * along / cell["wavelength"] + phase[index] + offset)
            # a part of the response to uniform light remains, as in many mouse cells
            gabor -= 0.7 * envelope * gabor.sum() / envelope.sum()
            spatial[part, index] = gabor / np.linalg.norm(gabor)

    lag = np.arange(round(MEMORY_SECONDS * frame_rate)) / frame_rate
    since = (lag[None] - cells["latency"].to_numpy()[:, None]).clip(0)
    period = 1 / rng.lognormal(np.log(2.0), 0.4, n_cells).clip(0.8, 5)[:, None]
    decay = np.exp(-since / (0.35 * period)) * (since > 0)
    temporal = np.stack(
        [decay * np.sin(2 * np.pi * since / period + 0.35), decay * np.sin(2 * np.pi * since / period - 0.9)]
    )
    # transient cells: the kernel's mean is taken away, more in some than in others
    temporal -= rng.uniform(0.2, 0.9, n_cells)[None, :, None] * temporal.mean(axis=2, keepdims=True) * (decay > 0)
    temporal /= np.linalg.norm(temporal, axis=2, keepdims=True)
    return Population(cells, spatial, temporal)


def shift_frames(video: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Shift every frame by its own sub-pixel amount, edges repeated.

    Parameters
    ----------
    video
        ``(time, height, width)``.
    shift
        ``(time, 2)`` rows and columns by which the picture moves down and to the right (pixels).

    Returns
    -------
    numpy.ndarray
        ``(time, height, width)`` float32, bilinear interpolation.
    """
    _, height, width = video.shape
    whole = np.floor(-shift).astype(int)
    down, right = (-shift - whole).astype(np.float32).T
    shifted = np.zeros(video.shape, np.float32)
    for row, row_weight in ((0, 1 - down), (1, down)):
        for column, column_weight in ((0, 1 - right), (1, right)):
            rows = (np.arange(height) + whole[:, :1] + row).clip(0, height - 1)
            columns = (np.arange(width) + whole[:, 1:] + column).clip(0, width - 1)
            weight = (row_weight * column_weight)[:, None, None]
            for frames in np.array_split(np.arange(len(video)), max(1, len(video) // 1000)):
                corner = video[frames[:, None, None], rows[frames][:, :, None], columns[frames][:, None]]
                shifted[frames] += weight[frames] * corner
    return shifted


def population_rates(
    population: Population,
    video: np.ndarray,
    frame_rate: float,
    gain: np.ndarray,
    *,
    drive_noise: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Rates of all cells for a whole session's screen content.

    Parameters
    ----------
    population
        The cells.
    video
        ``(time, height, width)`` what fell on the retina (shifted by gaze), grey level 0-255.
    frame_rate
        Frames per second (Hz).
    gain
        ``(time, cell)`` factor from running, pupil and the hidden state.
    drive_noise
        Standard deviation of the noise that enters as if it had been on the screen, in units of the drive's own
        standard deviation. Cells of like tuning share it, so averaging over cells does not remove it (Moreno-Bote et
        al. 2014, Nat. Neurosci. 17:1410-1417, "Information-limiting correlations").
    rng
        Source of randomness.

    Returns
    -------
    rates
        ``(time, cell)`` spikes per second in this very trial, gain and noise included.
    clean
        ``(time, cell)`` spikes per second that the movie alone would evoke.
    """
    flat = video.reshape(len(video), -1).astype(np.float32)
    flat = (flat - flat.mean()) / flat.std()
    filters = population.spatial.reshape(2, len(population.cells), -1).astype(np.float32)
    signal_parts = np.stack([flat @ part.T for part in filters])
    # noise with the space-time statistics of slowly changing pictures, projected through the same receptive fields
    noise = ndimage.gaussian_filter(
        rng.standard_normal(video.shape, dtype=np.float32), (0.06 * frame_rate, 1.5, 1.5)
    ).reshape(flat.shape)
    noise /= noise.std()
    noise_parts = np.stack([noise @ part.T for part in filters])
    noise_parts *= drive_noise * signal_parts.std(axis=(0, 1)) / noise_parts.std(axis=(0, 1))
    noisy_drive = _drives(population, signal_parts + noise_parts)

    blind = (population.cells["type"] == "blind").to_numpy()
    clean = _normalize(population, _drives(population, signal_parts))
    # a cell that nothing on the screen drives stays silent
    scale = population.cells["mean_rate"].to_numpy() / np.maximum(clean.mean(axis=0), 1e-6)
    clean = clean * scale
    rates = _normalize(population, noisy_drive) * scale
    # blind cells follow a slow rhythm of their own
    own = np.exp(ndimage.gaussian_filter1d(rng.standard_normal(rates.shape), 0.5 * frame_rate, axis=0) * 4.0)
    own *= population.cells["mean_rate"].to_numpy() / own.mean(axis=0)
    rates[:, blind] = own[:, blind]
    clean[:, blind] = population.cells["mean_rate"].to_numpy()[blind]
    return saturate(rates * gain), clean


def saturate(rates: np.ndarray) -> np.ndarray:
    """Bend rates (spikes per second) so that none is above the highest that a cell reaches."""
    return MAX_RATE * np.tanh(rates / MAX_RATE)


def _drives(population: Population, parts: np.ndarray) -> np.ndarray:
    """Filter in time and combine the quadrature parts, by cell type: ``(time, cell)``, non-negative."""
    kernels = population.temporal
    first = [_causal_filter(part, kernels[0]) for part in parts]
    second = [_causal_filter(part, kernels[1]) for part in parts]
    kinds = population.cells["type"].to_numpy()
    simple = first[0]
    energy = np.sqrt(first[0] ** 2 + first[1] ** 2)
    # quadrature in space and in time: motion one way adds, the other way cancels
    motion = np.sqrt((first[0] - second[1]) ** 2 + (first[1] + second[0]) ** 2) / np.sqrt(2)
    drive = np.where(kinds == "complex", energy, np.where(kinds == "direction", motion, simple))
    drive = drive / np.maximum(drive.std(axis=0), 1e-6)
    # thresholds keep simple cells silent half of the time and let energy cells start from their mean
    threshold = np.where(kinds == "simple", 0.0, drive.mean(axis=0) * 0.6)
    return np.clip(drive - threshold, 0, None)


def _causal_filter(signal: np.ndarray, kernels: np.ndarray) -> np.ndarray:
    """Filter each column of ``(time, cell)`` with its own causal kernel ``(cell, lag)``."""
    out = np.zeros_like(signal)
    for lag, weights in enumerate(kernels.T):
        out[lag:] += signal[: len(signal) - lag] * weights.astype(np.float32)
    return out


def _normalize(population: Population, drive: np.ndarray) -> np.ndarray:
    """Divide by the pooled activity of cells with nearby receptive fields (Heeger 1992)."""
    place = population.cells[["row", "column"]].to_numpy()
    distance = np.linalg.norm(place[:, None] - place[None], axis=2)
    # a cell that is alone is its own pool
    pool = np.exp(-(distance**2) / (2 * max(0.2 * distance.max(), 1.0) ** 2))
    pool /= pool.sum(axis=1, keepdims=True)
    pooled = drive @ pool.T.astype(np.float32)
    exponent = population.cells["exponent"].to_numpy()
    return drive**exponent / (0.5 * pooled.mean(axis=0) + pooled) ** (0.6 * exponent)
