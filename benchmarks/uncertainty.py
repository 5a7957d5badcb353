"""What the information map is worth: coverage of its intervals, and whether it tells where the error is larger.

Simulates mice that are shown two kinds of movies in one session, natural ones (``--movies``; noise without it) and made
ones, trains an encoder each on both, and reconstructs test clips of both. The map is calibrated on validation clips of
one kind, then of the other, so that half of the figures are of a kind of movie that it was not calibrated on, and that
nothing but the encoder has seen: linear decoder and prior are of the one kind too. Coverage
of 95 % intervals over the pixels of the mask is printed overall, for the clip of least coverage, and in five bins each
of contrast (within 5 x 5 pixels of the true movie), motion (change from frame to frame) and eccentricity (distance from
the center of the screen); beside it stand the rank correlation of standard deviation and error within clips, and what
it would be if the root mean square of the errors nearby (within 9 x 9 pixels and a third of a second) were known.

    python benchmarks/uncertainty.py --out uncertainty --movies movies.npz
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.stats import spearmanr

import nwbrecon as nr
from nwbrecon.alignment import AlignedSession
from nwbrecon.config import AlignmentSettings, InversionSettings, SimulationSettings
from nwbrecon.encoding import EncoderEnsemble
from nwbrecon.inversion import Reconstruction, Reconstructions
from nwbrecon.progress import progress_shown
from nwbrecon.stimuli.dead_leaves import dead_leaves_movie
from nwbrecon.stimuli.files import load_movies
from nwbrecon.storage import write_json

RATE, SIZE = 30.0, (36, 64)
REPEATS, N_BINS = 2, 5
SHOWN, MADE = "shown", "made"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for what is done")
    parser.add_argument("--movies", type=Path, help="npz or folder of natural movies; noise without it")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="one simulated mouse each")
    parser.add_argument("--rois", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=6.0, help="minutes of unique training movie, of both kinds")
    parser.add_argument("--clips", type=int, default=12, help="test clips, each of another film")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a test clip")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    overall, bins = [], []
    for seed in arguments.seeds:
        encoder, aligned = mouse(arguments, seed)
        for told in (SHOWN, MADE):
            items = reconstructed(arguments, seed, encoder, calibrated_on(aligned, told))
            for tested in (SHOWN, MADE):
                some = [item for item in items if kind_of(aligned, item.trials[0]) == tested]
                trues = [aligned.trial(item.trials[0]).video for item in some]
                named = {"mouse": seed, "calibrated on": told, "tested on": tested}
                overall.append({**named, **held(some, trues, items.mask)})
                bins += [{**named, **row} for row in by_bin(some, trues, items.mask)]
        print(pd.DataFrame(overall).round(3).to_string(index=False), flush=True)
    table = pd.DataFrame(bins)
    columns = ["calibrated on", "tested on", "by"]
    print("\ncoverage of 95 % intervals from the lowest fifth to the highest (mean over mice)")
    print(table.pivot_table(index=columns, columns="bin", values="covered").round(3).to_string())
    write_json(
        arguments.out / "uncertainty.json",
        {"overall": pd.DataFrame(overall).to_dict(orient="list"), "bins": table.to_dict(orient="list")},
    )


def mouse(arguments: argparse.Namespace, seed: int) -> tuple[EncoderEnsemble, AlignedSession]:
    """Simulate a mouse that sees both kinds of movies, and train its encoder, unless that was done."""
    movies, recording = arguments.out / "movies.npz", arguments.out / f"mouse-{seed}.nwb"
    if not movies.exists():
        np.savez_compressed(movies, allow_pickle=False, **both_kinds(arguments))
    with progress_shown(False):
        if not recording.exists():
            settings = SimulationSettings(
                seed=seed,
                movies=movies,
                rois=arguments.rois,
                minutes=arguments.minutes,
                test_clips=arguments.clips,
                test_clip_seconds=arguments.seconds,
                test_repeats=REPEATS,
            )
            nr.simulate(recording, settings)
        aligned = aligned_with_both(recording)
        folder = arguments.out / f"encoder-{seed}"
        if not folder.exists():
            nr.train(aligned, state=arguments.out / f"training-{seed}").save(folder)
    encoder = EncoderEnsemble.load(folder)
    print(f"mouse {seed}: {encoder.gate['sentence']}", flush=True)
    return encoder, aligned


def both_kinds(arguments: argparse.Namespace) -> dict[str, np.ndarray]:
    """Films of ten seconds, as many made ones as others up to sixteen, by name."""
    rng = np.random.default_rng(0)
    if arguments.movies is not None:
        shown = load_movies(arguments.movies, RATE, SIZE)
    else:
        shown = {f"noise {index + 1:02d}": noise_movie(rng) for index in range(16)}
    made = [dead_leaves_movie(300, SIZE, RATE, rng=rng) for _ in range(min(16, len(shown)))]
    return {f"{SHOWN} {name}": movie for name, movie in shown.items()} | {
        f"{MADE} {index + 1:02d}": np.rint(movie).astype(np.uint8) for index, movie in enumerate(made)
    }


def noise_movie(rng: np.random.Generator) -> np.ndarray:
    """Slowly changing blobs, ``(time, height, width)`` uint8."""
    movie = ndimage.gaussian_filter(rng.standard_normal((300, *SIZE)), (4, 2.5, 2.5))
    return np.clip(127 + 50 * movie / movie.std(), 0, 255).astype(np.uint8)


def aligned_with_both(recording: Path) -> AlignedSession:
    """Align with the first seed by which validation and training have two films of each kind."""
    for seed in range(20):
        with nr.open_session(recording) as session:
            settings = AlignmentSettings(min_test_repeats=REPEATS, validation_share=0.25, seed=seed)
            aligned = nr.align(session, settings)
        films = aligned.trials.assign(kind=[kind_of(aligned, trial) for trial in aligned.trials.index])
        counts = films.groupby(["split", "kind"])["film"].nunique()
        if all(counts.get((split, kind), 0) >= 2 for split in ("train", "validation") for kind in (SHOWN, MADE)):
            return aligned
    raise SystemExit("No choice of validation films has both kinds of movies: ask for more minutes.")


def kind_of(aligned: AlignedSession, trial: int) -> str:
    """Tell the kind of movie of a trial by the name of its film."""
    return str(aligned.trials.at[trial, "film"]).split()[0]


def calibrated_on(aligned: AlignedSession, kind: str) -> AlignedSession:
    """Leave out training and validation clips of the other kind."""
    other = np.array([kind_of(aligned, trial) != kind for trial in aligned.trials.index])
    known = aligned.trials["split"].isin(["train", "validation"]).to_numpy()
    split = aligned.trials["split"].where(~(other & known), "")
    return replace(aligned, trials=aligned.trials.assign(split=split))


def reconstructed(
    arguments: argparse.Namespace, seed: int, encoder: EncoderEnsemble, aligned: AlignedSession
) -> Reconstructions:
    """First showings of all test clips."""
    kind = kind_of(aligned, aligned.trials_in("validation")[0])
    with progress_shown(False):
        trials = aligned.trials_in("test", repeats=[0])
        return nr.reconstruct(encoder, aligned, trials, InversionSettings(), state=arguments.out / f"{kind}-{seed}")


def held(items: list[Reconstruction], trues: list[np.ndarray], mask: np.ndarray) -> dict[str, float]:
    """Coverage of 95 % intervals and rank correlation of standard deviation and error, means over reconstructions."""
    covered, ranked, bound = [], [], []
    for item, true in zip(items, trues, strict=True):
        assert item.std is not None
        error = np.abs(item.video - true)
        local = np.sqrt(ndimage.uniform_filter(error**2, (10, 9, 9)))
        inside = [values[:, mask].ravel() for values in (error, item.std, local)]
        covered.append(np.mean(inside[0] < 1.96 * inside[1]))
        ranked.append(spearmanr(inside[0], inside[1]).statistic)
        bound.append(spearmanr(inside[0], inside[2]).statistic)
    return {
        "covered_by_95": float(np.mean(covered)),
        "least_covered": float(np.min(covered)),
        "error_rank_correlation": float(np.mean(ranked)),
        "if_local_error_were_known": float(np.mean(bound)),
    }


def by_bin(items: list[Reconstruction], trues: list[np.ndarray], mask: np.ndarray) -> Iterator[dict[str, object]]:
    """Coverage in bins of what the true movie shows and where."""
    covered = np.concatenate(
        [
            (np.abs(item.video - true) < 1.96 * item.std)[:, mask].ravel()
            for item, true in zip(items, trues, strict=True)
            if item.std is not None
        ]
    )
    rows, columns = np.indices(mask.shape)
    away = np.hypot(rows - (mask.shape[0] - 1) / 2, columns - (mask.shape[1] - 1) / 2)
    measures = {
        "contrast": [np.sqrt(np.clip(nearby(t**2) - nearby(t) ** 2, 0, None)) for t in trues],
        "motion": [ndimage.uniform_filter(np.abs(np.gradient(t, axis=0)), (5, 5, 5)) for t in trues],
        "eccentricity": [np.broadcast_to(away, t.shape) for t in trues],
    }
    for name, values in measures.items():
        inside = np.concatenate([movie[:, mask].ravel() for movie in values])
        edges = np.quantile(inside, np.linspace(0, 1, N_BINS + 1))
        place = np.clip(np.searchsorted(edges, inside, side="right") - 1, 0, N_BINS - 1)
        for index in range(N_BINS):
            if (place == index).any():
                yield {"by": name, "bin": index + 1, "covered": float(covered[place == index].mean())}


def nearby(movie: np.ndarray) -> np.ndarray:
    """Mean over 5 x 5 pixels."""
    return ndimage.uniform_filter(movie, (1, 5, 5))


if __name__ == "__main__":
    main()
