"""The space-time spectrum of natural movies: its table for the generic prior, and how well its form fits.

Measures the autocovariance of movies, each film counting the same, and fits the few numbers of
`nwbrecon.inversion.natural.NaturalSpectrum` to their spectrum: to its logarithm, octaves of frequency counting alike.
How well the form fits is the share of the variance of log-power that it explains: on all films, on films that it was
not fitted to (halves), and of made movies, by the same numbers and by numbers of their own. Films with many repeated
frames are left out; they run at another rate than they say.

    python benchmarks/natural_spectrum.py --movies movies.npz
"""

from __future__ import annotations

import argparse
from dataclasses import astuple, fields
from pathlib import Path

import numpy as np
from scipy import fft, optimize

from nwbrecon.inversion.natural import NATURAL, NaturalSpectrum
from nwbrecon.inversion.priors import autocovariance
from nwbrecon.progress import progress_shown
from nwbrecon.stimuli.dead_leaves import dead_leaves_movie
from nwbrecon.stimuli.files import load_movies
from nwbrecon.storage import write_json

FRAME_RATE, FRAME_SIZE = 30.0, (36, 64)
LAGS = (60, FRAME_SIZE[0] - 1, FRAME_SIZE[1] - 1)
MOST_REPEATED = 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--movies", type=Path, required=True, help="npz or folder of natural movies")
    parser.add_argument("--degrees-per-pixel", type=float, default=2.2, help="of the screen, at 36 x 64 pixels")
    parser.add_argument("--made", type=int, default=24, help="made movies to compare with, of 8 s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("natural_spectrum.json"))
    arguments = parser.parse_args()
    degrees = arguments.degrees_per_pixel

    with progress_shown(False):
        films = load_movies(arguments.movies, FRAME_RATE, FRAME_SIZE)
    films = {name: film for name, film in films.items() if repeated(film) < MOST_REPEATED and len(film) > 60}
    rng = np.random.default_rng(arguments.seed)
    made = [dead_leaves_movie(240, FRAME_SIZE, FRAME_RATE, rng=rng) for _ in range(arguments.made)]
    natural, leaves = measured(list(films.values())), measured(made)

    fitted = fit(np.mean(natural, axis=0), degrees)
    of_leaves = fit(np.mean(leaves, axis=0), degrees)
    print(f"{len(films)} films, {sum(map(len, films.values())) / FRAME_RATE:.0f} s; {len(made)} made movies")
    names = [field.name for field in fields(NaturalSpectrum)]
    print("  ".join(f"{name:>9}" for name in ["", *names]))
    for name, numbers in (("natural", fitted), ("made", of_leaves), ("package", NATURAL)):
        print("  ".join([f"{name:>9}", *(f"{number:9.3g}" for number in astuple(numbers))]))

    order = rng.permutation(len(natural))
    halves = [[natural[index] for index in order[part::2]] for part in (0, 1)]
    other = [
        share(np.mean(halves[1 - part], axis=0), fit(np.mean(half, axis=0), degrees), degrees)
        for part, half in enumerate(halves)
    ]
    shares = {
        "films, numbers fitted to them": share(np.mean(natural, axis=0), fitted, degrees),
        "films, numbers of the package": share(np.mean(natural, axis=0), NATURAL, degrees),
        "half of the films, numbers of the other half": float(np.mean(other)),
        "half of the films, spectrum of the other half": float(np.mean([agreement(*halves), agreement(*halves[::-1])])),
        "single films, numbers of the package (median)": float(
            np.median([share(one, NATURAL, degrees) for one in natural])
        ),
        "made movies, numbers fitted to them": share(np.mean(leaves, axis=0), of_leaves, degrees),
        "made movies, numbers of the films": share(np.mean(leaves, axis=0), fitted, degrees),
        "films, spectrum of made movies": agreement(leaves, natural),
    }
    print("\nshare of log-power that is explained")
    for name, value in shares.items():
        print(f"  {value:6.3f}  {name}")
    report = {"films": list(films), "degrees_per_pixel": degrees, "natural": vars(fitted), "made": vars(of_leaves)}
    write_json(arguments.out, report | {"shares": shares})


def repeated(film: np.ndarray) -> float:
    """Share of frames that are like the one before."""
    return float((film[1:] == film[:-1]).all(axis=(1, 2)).mean())


def measured(films: list[np.ndarray]) -> list[np.ndarray]:
    """Autocovariance of each film about the gray level of all, up to two seconds and the whole frame."""
    level = float(np.mean([film.mean() for film in films]))
    return [autocovariance([film], LAGS, level) for film in films]


def spectrum(covariance: np.ndarray) -> np.ndarray:
    """Spectrum at the frequencies of the longest lags, by Bartlett's lag window, which keeps it positive."""
    for axis, size in enumerate(covariance.shape):
        window = 1 - np.arange(size) / size
        covariance = covariance * window.reshape([-1 if other == axis else 1 for other in range(3)])
    return fft.dctn(covariance, type=1)


def weights() -> np.ndarray:
    """Give each octave of spatial and of temporal frequency the same weight."""
    frames, rows, columns = np.indices([lag + 1 for lag in LAGS])
    radius = np.hypot(rows / FRAME_SIZE[0], columns / FRAME_SIZE[1]) * FRAME_SIZE[0]
    return 1 / np.maximum(frames, 0.5) / np.maximum(radius, 0.5) ** 2


def share(covariance: np.ndarray, numbers: NaturalSpectrum, degrees: float) -> float:
    """Share of the variance of measured log-power that the form explains, its level apart."""
    return agreement([covariance], [modeled(numbers, degrees)])


def agreement(ones: list[np.ndarray], others: list[np.ndarray]) -> float:
    """Share of the variance of the first's log-power that the others' explains, levels apart."""
    one, other = (spectrum(np.mean(covariances, axis=0)) for covariances in (ones, others))
    positive = (one > 0) & (other > 0)
    power, predicted, weight = np.log(one[positive]), np.log(other[positive]), weights()[positive]
    return float(1 - variance(power - predicted, weight) / variance(power, weight))


def variance(values: np.ndarray, weight: np.ndarray) -> float:
    center = np.average(values, weights=weight)
    return float(np.average((values - center) ** 2, weights=weight))


def modeled(numbers: NaturalSpectrum, degrees: float) -> np.ndarray:
    return numbers.autocovariance(LAGS, FRAME_RATE, degrees)


def fit(covariance: np.ndarray, degrees: float) -> NaturalSpectrum:
    """Fit the form's numbers by least squares of log-power."""
    power = spectrum(covariance)
    positive = power > 0
    log_power, root = np.log(power[positive]), np.sqrt(weights()[positive])
    deviation = float(np.sqrt(covariance[0, 0, 0]))

    def numbers(logarithms: np.ndarray) -> NaturalSpectrum:
        return NaturalSpectrum(*np.exp(logarithms).tolist(), deviation)

    def residual(logarithms: np.ndarray) -> np.ndarray:
        of_form = np.log(np.maximum(spectrum(modeled(numbers(logarithms), degrees))[positive], 1e-300))
        error = log_power - of_form
        return root * (error - np.average(error, weights=root**2))

    start = np.log([2.0, 2.0, 2.0, 0.01])
    bounds = (np.log([0.5, 1.0, 0.05, 1e-4]), np.log([4.0, 6.0, 100.0, 0.2]))
    return numbers(optimize.least_squares(residual, start, bounds=bounds, diff_step=1e-3, max_nfev=40).x)


if __name__ == "__main__":
    main()
