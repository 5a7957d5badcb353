"""How well the demo's simulated mouse is reconstructed, beside the linear decoder.

Simulates mice, writes and reads their NWB files, aligns, trains, reconstructs every single trial of the test clips and
scores it against the movie that was shown, as `nwbrecon run` does. Prints a table and writes JSON.

    python benchmarks/reconstruction.py --seeds 1 2
    python benchmarks/reconstruction.py --seeds 1 2 --movies movies.npz
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import pandas as pd
from uncertainty import held

import nwbrecon as nr
from nwbrecon.config import AlignmentSettings, SimulationSettings
from nwbrecon.metrics import bootstrap_interval
from nwbrecon.progress import progress_shown
from nwbrecon.storage import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="one simulated mouse each")
    parser.add_argument("--movies", type=Path, help="npz or folder of movies to show instead of made ones")
    parser.add_argument("--layout", default="microns", help="layout of the NWB file")
    parser.add_argument("--rois", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=6.0, help="minutes of unique training movie")
    parser.add_argument("--out", type=Path, default=Path("reconstruction.json"))
    arguments = parser.parse_args()

    scores, costs = [], []
    for seed in arguments.seeds:
        settings = SimulationSettings(
            seed=seed,
            layout=arguments.layout,
            rois=arguments.rois,
            minutes=arguments.minutes,
            movies=arguments.movies,
            test_clip_seconds=6.0,
        )
        table, cost = one_mouse(settings)
        scores.append(table.assign(seed=seed))
        costs.append({"seed": seed, **cost})
        print(f"mouse {seed}: " + ", ".join(f"{name} {value:.3g}" for name, value in cost.items()), flush=True)
    trials = pd.concat(scores, ignore_index=True)

    metrics = ["pixel_correlation", "dynamic_correlation", "frame_correlation", "pixel_correlation_full", "chance"]
    clips = trials.groupby(["method", "seed", "clip"], sort=False)[metrics].mean()
    rows = []
    for method, of_method in clips.groupby("method", sort=False):
        row = {"method": method}
        for metric in metrics:
            mean, low, high = bootstrap_interval(of_method[metric].to_numpy())
            row[metric] = f"{mean:.3f} ({low:.3f}-{high:.3f})"
        rows.append(row)
    print(f"\nsingle trials, mean over {len(clips) // len(rows)} clips of {len(arguments.seeds)} mice (95 % interval)")
    print(pd.DataFrame(rows).to_string(index=False))

    wide = clips.reset_index().pivot(index=["seed", "clip"], columns="method", values=metrics[:3])
    for metric in metrics[:3]:
        difference = wide[metric, "map"] - wide[metric, "ridge"]
        mean, low, high = bootstrap_interval(difference.to_numpy())
        print(
            f"map - ridge, {metric}: {mean:+.3f} ({low:+.3f} to {high:+.3f}); "
            f"higher on {(difference > 0).sum()} of {len(difference)} clips"
        )
    write_json(arguments.out, {"trials": trials.to_dict(orient="list"), "costs": costs, "arguments": vars(arguments)})


def one_mouse(settings: SimulationSettings) -> tuple[pd.DataFrame, dict[str, float]]:
    """Scores of every trial, and what the steps took."""
    cost: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, progress_shown(False):
        path = Path(folder) / "mouse.nwb"
        started = time.perf_counter()
        nr.simulate(path, settings)
        cost["simulate_s"] = time.perf_counter() - started
        started = time.perf_counter()
        with nr.open_session(path) as session:
            aligned = nr.align(session, AlignmentSettings())
        cost["align_s"] = time.perf_counter() - started
        started = time.perf_counter()
        encoder = nr.train(aligned)
        cost["train_s"] = time.perf_counter() - started
        started = time.perf_counter()
        reconstructions = nr.reconstruct(encoder, aligned)
        cost["reconstruct_s"] = time.perf_counter() - started
        cost["seconds_per_clip"] = float(pd.Series([item.info.get("seconds", 0) for item in reconstructions]).mean())
        scores = nr.evaluate(reconstructions, aligned)
    cost["encoder_correlation"] = float(encoder.gate["true"])
    cost["mask_share"] = scores.mask_fraction
    curve = scores.lags[scores.lags["method"] == reconstructions.method]
    cost["best_lag_frames"] = float(curve["lag"].iloc[int(curve["pixel_correlation"].argmax())])
    cost["below_best_at_lag_0"] = float(
        curve["pixel_correlation"].max() - curve.loc[curve["lag"] == 0, "pixel_correlation"].iloc[0]
    )
    if all(item.std is not None for item in reconstructions):
        trues = [aligned.trial(item.trials[0]).video for item in reconstructions]
        cost |= held(list(reconstructions), trues, reconstructions.mask)
    return scores.trials, cost


if __name__ == "__main__":
    main()
