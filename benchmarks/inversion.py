"""Inversion side by side: ours, its fast preset, the published method, and the linear decoder, on the same clips.

Simulates mice that all see the same movies, trains one encoder each, and reconstructs the first showing of every test
clip with each method, by the same encoders. The published method, which takes long, runs for ``--iterations``, and each
clip by it in one of the mice, who take turns (``--every-clip``: in all of them). Its best iteration is chosen with the
true movie, which nobody has: an upper bound. Then clips are reconstructed from two mice together, and from four
showings, and under each of many prior weights, to tell how far the choices among these are from the best
(``selection.py``).

Everything that takes long is kept in ``--out``, so that the same command goes on where it was stopped.

    python benchmarks/inversion.py --out inversion
    python benchmarks/inversion.py --out inversion-real --movies movies.npz
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from selection import selection
from uncertainty import held

import nwbrecon as nr
from nwbrecon.alignment import AlignedSession
from nwbrecon.config import AlignmentSettings, Bauer2026Settings, InversionSettings, SimulationSettings
from nwbrecon.encoding import EncoderEnsemble
from nwbrecon.evaluation.evaluate import METRICS, likeness
from nwbrecon.inversion.bauer2026 import reconstruct_bauer2026
from nwbrecon.inversion.first_look import first_look
from nwbrecon.inversion.reconstruction import Reconstructions
from nwbrecon.inversion.setup import invert
from nwbrecon.metrics import bootstrap_interval
from nwbrecon.progress import progress_shown
from nwbrecon.storage import read_arrays, write_arrays, write_json

REPEATS = 4
# clips that are timed, and iterations of the published method on each
ROUNDS, TIMED = 4, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for what is done")
    parser.add_argument("--movies", type=Path, help="npz or folder of movies to show instead of made ones")
    parser.add_argument("--mice", type=int, default=2)
    parser.add_argument("--clips", type=int, default=8, help="test clips, each of another film")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a test clip")
    parser.add_argument("--rois", type=int, default=600)
    parser.add_argument("--minutes", type=float, default=10.0, help="minutes of unique training movie")
    parser.add_argument("--iterations", type=int, default=1000, help="of the published method; 0 leaves it out")
    parser.add_argument("--every-clip", action="store_true", help="the published method on every clip of every mouse")
    parser.add_argument("--published-clips", type=int, help="of each mouse, at most, by the published method")
    parser.add_argument("--no-fusion", action="store_true", help="leave out several mice and showings")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first mouse, and of the movies")
    parser.add_argument(
        "--selection-clips", type=int, default=8, help="on which choices of a weight are tried; 0: none"
    )
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    mice = [mouse(arguments, arguments.seed + index) for index in range(arguments.mice)]
    rows, costs = [], []
    for index, (encoder, aligned) in enumerate(mice):
        made, cost = one_mouse(arguments, index, encoder, aligned)
        rows += [{"mouse": index, **row} for row in made]
        costs.append(cost)
    if not arguments.no_fusion:
        rows += fusion(arguments, mice)
    table = pd.DataFrame(rows)
    summarize(table, pd.DataFrame(costs))
    report = {"clips": table.to_dict(orient="list"), "costs": costs}
    if arguments.selection_clips:
        weights = selection(mice, arguments.out, arguments.seed, arguments.selection_clips)
        report["selection"] = weights.to_dict(orient="list")
    write_json(arguments.out / "inversion.json", report)


def mouse(arguments: argparse.Namespace, seed: int) -> tuple[EncoderEnsemble, AlignedSession]:
    """Simulate a mouse and train its encoder, unless that was done."""
    recording, folder = arguments.out / f"mouse-{seed}.nwb", arguments.out / f"encoder-{seed}"
    with progress_shown(False):
        if not recording.exists():
            settings = SimulationSettings(
                seed=seed,
                stimulus_seed=arguments.seed,
                movies=arguments.movies,
                rois=arguments.rois,
                minutes=arguments.minutes,
                test_clips=arguments.clips,
                test_clip_seconds=arguments.seconds,
                test_repeats=REPEATS,
            )
            nr.simulate(recording, settings)
        with nr.open_session(recording) as session:
            aligned = nr.align(session, AlignmentSettings(min_test_repeats=REPEATS))
        if not folder.exists():
            nr.train(aligned, state=arguments.out / f"training-{seed}").save(folder)
    encoder = EncoderEnsemble.load(folder)
    print(f"mouse {seed}: {encoder.gate['sentence']}", flush=True)
    return encoder, aligned


def one_mouse(
    arguments: argparse.Namespace, index: int, encoder: EncoderEnsemble, aligned: AlignedSession
) -> tuple[list[dict], dict]:
    """Scores of each clip by each method, and what a clip costs."""
    seed = arguments.seed + index
    trials = aligned.trials_in("test", repeats=[0])
    ours = inverted(arguments, f"map-{seed}", encoder, aligned, trials, InversionSettings())
    mask, rows = ours.mask, []
    for item in ours:
        true = aligned.trial(item.trials[0]).video
        rows.append({"clip": item.clip, "method": "map", **likeness(item.video, true, mask)})
        rows.append({"clip": item.clip, "method": "ridge", **likeness(item.baselines["ridge"], true, mask)})
    fast = inverted(arguments, f"fast-{seed}", encoder, aligned, trials, InversionSettings(preset="fast"))
    for item in fast:
        true = aligned.trial(item.trials[0]).video
        rows.append({"clip": item.clip, "method": "fast", **likeness(item.video, true, mask)})
    cost = {"mouse": seed, **side_by_side(encoder, aligned, trials, ours, fast)}
    for name, made in (("map", ours), ("fast", fast)):
        cost[f"{name}_settling_s"] = made.info["settling_seconds"]
    cost |= held(list(ours), [aligned.trial(item.trials[0]).video for item in ours], mask)
    if arguments.iterations:
        turns = trials if arguments.every_clip else trials[index :: arguments.mice]
        for trial in turns[: arguments.published_clips]:
            snapshots = published(arguments, seed, encoder, aligned, trial)
            true = aligned.trial(trial).video
            curve = [likeness(video.astype(np.float32), true, mask) for video in snapshots]
            best = int(np.nanargmax([row["pixel_correlation"] for row in curve]))
            clip = aligned.trials.at[trial, "clip"]
            rows.append({"clip": clip, "method": f"published, {arguments.iterations} iterations", **curve[-1]})
            rows.append({"clip": clip, "method": "published, best iteration (oracle)", **curve[best]})
            last, picked = curve[-1]["pixel_correlation"], curve[best]["pixel_correlation"]
            print(f"mouse {seed}, {clip}: published {last:.3f}, best {picked:.3f}", flush=True)
    return rows, cost


def side_by_side(
    encoder: EncoderEnsemble, aligned: AlignedSession, trials: list[int], ours: Reconstructions, fast: Reconstructions
) -> dict[str, float]:
    """Processor time of a clip (s) by each method, one after the other on the same clips.

    Ours is all that a clip takes once the clips' setup is settled; of the published method some iterations are timed,
    and scaled to a thousand.
    """
    recordings, settings = [(encoder, aligned)], InversionSettings()
    spent: dict[str, list[float]] = {"map_s": [], "fast_s": [], "published_1000_s": []}

    searching, decoding = ours.setup, fast.setup
    assert searching is not None
    assert decoding is not None

    def by_map(trial: int) -> None:
        searching.finished(invert(searching, recordings, ((trial,),), settings), settings.seed)

    def by_fast(trial: int) -> None:
        first_look(decoding, recordings, ((trial,),), InversionSettings(preset="fast"))

    def by_published(trial: int) -> None:
        reconstruct_bauer2026(encoder, aligned, trial, Bauer2026Settings(iterations=TIMED))

    with progress_shown(False):
        # the first time of everything is slower
        for trial in [trials[0], *trials[:ROUNDS]]:
            for times, do, scale in zip(
                spent.values(), (by_map, by_fast, by_published), (1.0, 1.0, 1000 / TIMED), strict=True
            ):
                started = time.process_time()
                do(trial)
                times.append(scale * (time.process_time() - started))
    cost = {name: float(np.mean(times[1:])) for name, times in spent.items()}
    return cost | {"ratio": cost["published_1000_s"] / cost["map_s"]}


def inverted(
    arguments: argparse.Namespace,
    name: str,
    encoder: EncoderEnsemble | list[EncoderEnsemble],
    aligned: AlignedSession | list[AlignedSession],
    trials: list[int],
    settings: InversionSettings,
) -> Reconstructions:
    with progress_shown(False):
        return nr.reconstruct(encoder, aligned, trials, settings, state=arguments.out / name)


def published(
    arguments: argparse.Namespace, seed: int, encoder: EncoderEnsemble, aligned: AlignedSession, trial: int
) -> np.ndarray:
    """Movies of the published method along its way.

    It is free to move every pixel: all methods are scored on the pixels of our mask.
    """
    kept = arguments.out / f"published-{seed}-{trial}-{arguments.iterations}"
    if not kept.with_suffix(".safetensors").exists():
        with progress_shown(False):
            item = reconstruct_bauer2026(
                encoder,
                aligned,
                trial,
                Bauer2026Settings(iterations=arguments.iterations),
                record_every=max(1, arguments.iterations // 100),
            )
        write_arrays(kept.with_suffix(".safetensors"), {"snapshots": item.snapshots})
    return read_arrays(kept.with_suffix(".safetensors"))["snapshots"]


def fusion(arguments: argparse.Namespace, mice: list[tuple[EncoderEnsemble, AlignedSession]]) -> list[dict]:
    """Scores of clips from several mice, and from several showings, on the first mouse's pixels."""
    rows = []
    encoder, aligned = mice[0]
    trials = aligned.trials_in("test", repeats=[0])
    plain, repeats = InversionSettings(uncertainty=False), InversionSettings(uncertainty=False, fuse="repeats")
    mask = inverted(arguments, f"map-{arguments.seed}", encoder, aligned, trials, InversionSettings()).mask
    every = aligned.trials_in("test")
    made = {f"{REPEATS} showings": inverted(arguments, "repeats", encoder, aligned, every, repeats)}
    if len(mice) > 1:
        both = [list(column) for column in zip(*mice[:2], strict=True)]
        made["2 mice"] = inverted(arguments, "mice", *both, trials, plain)
        other = mice[1][1]
        clips = aligned.trials.loc[trials, "clip"]
        same = [
            int(other.trials.index[(other.trials["clip"] == clip) & (other.trials["repeat"] == 0)][0]) for clip in clips
        ]
        made["second mouse, same pixels"] = inverted(
            arguments, f"map-{arguments.seed + 1}", mice[1][0], other, sorted(same), InversionSettings()
        )
    for method, items in made.items():
        owner = mice[1][1] if method.startswith("second") else aligned
        for item in items:
            true = owner.trial(item.trials[0]).video
            rows.append({"mouse": "fusion", "clip": item.clip, "method": method, **likeness(item.video, true, mask)})
    return rows


def summarize(table: pd.DataFrame, costs: pd.DataFrame) -> None:
    """Print means over clips with 95 % intervals, and differences clip by clip."""
    lines = []
    for (group, method), of_method in table.groupby([table["mouse"].eq("fusion"), "method"], sort=False):
        line = {"": "first mouse's pixels" if group else "each mouse's pixels", "method": method, "n": len(of_method)}
        for metric in METRICS:
            mean, low, high = bootstrap_interval(of_method[metric].to_numpy())
            line[metric] = f"{mean:.3f} ({low:.3f}-{high:.3f})"
        lines.append(line)
    print("\ncorrelation, mean over clips and mice (95 % interval)")
    print(pd.DataFrame(lines).to_string(index=False))
    single = table[table["mouse"] != "fusion"]
    wide = single.pivot(index=["mouse", "clip"], columns="method", values=list(METRICS))
    for method in [name for name in single["method"].unique() if name != "map"]:
        for metric in METRICS:
            difference = (wide[metric, "map"] - wide[metric, method]).dropna().to_numpy()
            mean, low, high = bootstrap_interval(difference)
            below = int((difference < -0.02).sum())
            print(
                f"map - {method}, {metric}: {mean:+.3f} ({low:+.3f} to {high:+.3f}); "
                f"lower by more than 0.02 on {below} of {len(difference)} clips"
            )
    shares = single[single["method"].isin(["map", "fast"])].groupby("method")[list(METRICS)].mean()
    print("\nfast over map, mean over clips and mice")
    print((shares.loc["fast"] / shares.loc["map"]).round(3).to_string())
    print(
        "\nprocessor seconds a clip (the published method's scaled to 1000 iterations), and seconds that settling takes"
    )
    print(costs.to_string(index=False), flush=True)
    print(f"a clip, fast over map: {(costs['fast_s'] / costs['map_s']).mean():.2f}")
    total = {name: costs[f"{name}_s"] + costs[f"{name}_settling_s"] for name in ("map", "fast")}
    print(f"from encoder to first movie, fast over map: {(total['fast'] / total['map']).mean():.2f}", flush=True)


if __name__ == "__main__":
    main()
