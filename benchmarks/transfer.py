"""What a mouse gains from another mouse's core: shared in training, or taken over for a few minutes of movie.

Simulates mice with cells of their own. (a) Trains the first alone, and together with a second that saw the same movies,
or other movies. (b) Trains a third, which saw other movies, on its first minutes alone: from scratch, with the core of
the first mouse as it is, and with that core tuned. Training makes as many gradient steps however few the minutes are.
Prints single-trial correlations, means over ROIs, and writes JSON.

    python benchmarks/transfer.py
    python benchmarks/transfer.py --movies movies.npz --minutes 6 --few 2 5
    python benchmarks/transfer.py --minutes 8 --few 5 --donor-minutes 16 --skip-sharing
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mice import simulated

import nwbrecon as nr
from nwbrecon.config import SimulationSettings, TrainingSettings
from nwbrecon.encoding.prediction import single_trial_correlation
from nwbrecon.metrics import bootstrap_interval
from nwbrecon.progress import progress_shown
from nwbrecon.storage import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="of the first mouse")
    parser.add_argument("--movies", type=Path, help="npz or folder of movies to show instead of made ones")
    parser.add_argument("--rois", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=6.0, help="minutes of unique training movie of each mouse")
    parser.add_argument(
        "--donor-minutes", type=float, help="of the first mouse, whose core is taken over; default: same"
    )
    parser.add_argument("--few", type=float, nargs="*", default=[2.0, 5.0], help="minutes of (b)")
    parser.add_argument("--epochs", type=int, default=TrainingSettings().epochs)
    parser.add_argument("--skip-sharing", action="store_true", help="leave (a) out but for the first mouse alone")
    parser.add_argument("--out", type=Path, default=Path("transfer.json"))
    arguments = parser.parse_args()

    def mouse(seed: int, stimulus_seed: int, minutes: float | None = None) -> nr.AlignedSession:
        return simulated(
            SimulationSettings(
                seed=seed,
                stimulus_seed=stimulus_seed,
                rois=arguments.rois,
                minutes=minutes or arguments.minutes,
                movies=arguments.movies,
                test_clip_seconds=6.0,
            )
        )

    training = TrainingSettings(epochs=arguments.epochs)
    seed = arguments.seed
    rows: list[dict[str, Any]] = []
    with progress_shown(False):
        first = mouse(seed, seed, arguments.donor_minutes)
        alone, seconds = timed(first, training)
        base = report(rows, "mouse 1", "alone", alone, first, seconds)
        if not arguments.skip_sharing:
            for name, stimulus_seed in (("same movies", seed), ("other movies", seed + 1)):
                second = mouse(seed + 100, stimulus_seed)
                (shared, _), seconds = timed([first, second], training)
                report(rows, "mouse 1", f"with a second mouse, {name}", shared, first, seconds, base)
        new = mouse(seed + 200, seed + 2)
        for minutes in arguments.few:
            fewer = first_minutes(new, minutes)
            n_train, n_few = (
                session.trials.loc[session.trials_in("train"), "n_frames"].sum() for session in (new, fewer)
            )
            scale = n_train / n_few
            longer = training.model_copy(
                update={"epochs": round(training.epochs * scale), "patience": round(training.patience * scale)}
            )
            scratch, seconds = timed(fewer, longer)
            base = report(rows, f"new mouse, {minutes:g} min", "from scratch", scratch, fewer, seconds)
            for how, tune_core in (("core of mouse 1", False), ("core of mouse 1, tuned", True)):
                settings = longer.model_copy(update={"tune_core": tune_core})
                given, seconds = timed(fewer, settings, core=alone)
                report(rows, f"new mouse, {minutes:g} min", how, given, fewer, seconds, base)
    print("\n" + pd.DataFrame(rows).to_string(index=False))
    write_json(arguments.out, {"rows": rows, "arguments": vars(arguments)})


def timed(sessions: Any, training: TrainingSettings, **options: Any) -> tuple[Any, float]:
    started = time.perf_counter()
    return nr.train(sessions, training=training, **options), time.perf_counter() - started


def first_minutes(aligned: nr.AlignedSession, minutes: float) -> nr.AlignedSession:
    """Leave out what comes after the first minutes of training movie; what is set apart stays as it is."""
    trials = aligned.trials.copy()
    training = aligned.trials_in("train")
    starts = trials.loc[training, "n_frames"].cumsum() - trials.loc[training, "n_frames"]
    trials.loc[starts.index[starts >= minutes * 60 * aligned.frame_rate], "split"] = ""
    return replace(aligned, trials=trials)


def report(
    rows: list[dict[str, Any]],
    session: str,
    how: str,
    encoder: nr.EncoderEnsemble,
    aligned: nr.AlignedSession,
    seconds: float,
    base: dict[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Add a row: scores, and, beside another way, by how much they are higher with a 95 % interval over ROIs."""
    scores = {
        split: np.nan_to_num(single_trial_correlation(encoder, aligned, aligned.trials_in(split)))
        for split in ("validation", "test")
    }
    row: dict[str, Any] = {"session": session, "core": how}
    for split, values in scores.items():
        row[split] = round(float(values.mean()), 4)
        row[f"{split} gain"] = ""
        if base is not None:
            mean, low, high = bootstrap_interval(values - base[split])
            row[f"{split} gain"] = f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"
    # what the movie explains, behavior aside
    row["true - wrong"] = round(float(encoder.gate["gap"]), 4)
    row["best epoch"] = int(encoder.history["epoch"].iloc[int(encoder.history["validation_correlation"].argmax())])
    row["seconds"] = round(seconds)
    rows.append(row)
    print(", ".join(f"{name}: {value}" for name, value in row.items() if value != ""), flush=True)
    return scores


if __name__ == "__main__":
    main()
