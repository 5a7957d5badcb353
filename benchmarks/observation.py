"""What it gains to compare predictions with each plane's own samples, and to whiten noise.

Simulates a mouse whose planes are scanned slowly, one after the other, and reads its recording in two ways: every plane
on its own clock, as nwbrecon does, and all responses resampled to the frames of the movie beforehand, as is usual. An
encoder is trained and inverted each way. Of the first way, clips are also inverted with noise whitened between ROIs and
in time (``inversion.noise``). All are scored on the same pixels; encoders on each plane's own samples.

    python benchmarks/observation.py
    python benchmarks/observation.py --movies movies.npz
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from mice import simulated

import nwbrecon as nr
from nwbrecon.alignment import AlignedGroup, AlignedSession, responses_on_frames
from nwbrecon.config import InversionSettings, SimulationSettings
from nwbrecon.encoding.prediction import single_trial_correlation
from nwbrecon.evaluation.evaluate import METRICS, likeness
from nwbrecon.metrics import bootstrap_interval, time_band_correlations
from nwbrecon.progress import progress_shown
from nwbrecon.session import SignalKind
from nwbrecon.storage import write_json

EDGES = np.array([0.0, 0.5, 1.0, 2.0, 4.0, 8.0])
BANDS = [f"{low:g}-{high:g} Hz" for low, high in pairwise(EDGES)]
OWN, RESAMPLED = "own sample times", "resampled to frames"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--movies", type=Path, help="npz or folder of movies to show instead of made ones")
    parser.add_argument("--planes", type=int, default=6, help="six or more are scanned at 6 Hz each")
    parser.add_argument("--rois", type=int, default=240)
    parser.add_argument("--minutes", type=float, default=5.0, help="minutes of unique training movie")
    parser.add_argument("--clips", type=int, default=6, help="test clips")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of a clip")
    parser.add_argument("--out", type=Path, default=Path("observation.json"))
    arguments = parser.parse_args()

    with progress_shown(False):
        aligned = recording(arguments)
        sessions = {OWN: aligned, RESAMPLED: resampled(aligned)}
        print(aligned, flush=True)
        encoders, rows = {}, []
        for way, session in sessions.items():
            started = time.perf_counter()
            encoders[way] = nr.train(session)
            values = single_trial_correlation(encoders[way], aligned, aligned.trials_in("test"))
            rows += [{"way": way, "roi": roi, "correlation": value} for roi, value in enumerate(values)]
            print(f"trained with {way}: {time.perf_counter() - started:.0f} s", flush=True)
        by_roi = pd.DataFrame(rows).pivot(index="roi", columns="way", values="correlation")
        print("\nsingle-trial correlation on test clips, at each plane's own samples, mean over ROIs (95 % interval)")
        for way in sessions:
            print(f"  {way:<22} {interval(by_roi[way])}")
        print(f"  {'difference':<22} {interval(by_roi[OWN] - by_roi[RESAMPLED])}", flush=True)

        clips = []
        mask = None
        for way, noise in ((OWN, "dispersion"), (RESAMPLED, "dispersion"), (OWN, "shared"), (OWN, "autoregressive")):
            started = time.perf_counter()
            made = nr.reconstruct(
                encoders[way],
                sessions[way],
                aligned.trials_in("test", repeats=[0]),
                InversionSettings(uncertainty=False, noise=noise),
            )
            mask = made.mask if mask is None else mask
            for item in made:
                true = aligned.trial(item.trials[0]).video
                clips.append({"way": way, "noise": noise, "clip": item.clip, **scores(item.video, true, aligned, mask)})
            print(f"inverted with {way}, {noise}: {time.perf_counter() - started:.0f} s", flush=True)
    table = pd.DataFrame(clips)
    summarize(table)
    write_json(
        arguments.out,
        {"clips": table.to_dict(orient="list"), "rois": by_roi.to_dict(orient="list"), "arguments": vars(arguments)},
    )


def recording(arguments: argparse.Namespace) -> AlignedSession:
    """Simulate a mouse and read its file."""
    settings = SimulationSettings(
        seed=arguments.seed,
        movies=arguments.movies,
        planes=arguments.planes,
        rois=arguments.rois,
        minutes=arguments.minutes,
        clip_seconds=arguments.seconds,
        test_clips=arguments.clips,
    )
    return simulated(settings)


def resampled(aligned: AlignedSession) -> AlignedSession:
    """Make the same session with all responses on the frame clock, as if they had been measured there."""
    # as far beyond the end of each trial as an inversion looks
    tail = round(InversionSettings().tail_seconds * aligned.frame_rate) + 1
    times, activity = [], []
    for trial in aligned.trials.index:
        responses = responses_on_frames(aligned, trial, 1, tail)
        times.append(aligned.trials.at[trial, "onset"] + np.arange(len(responses)) / aligned.frame_rate)
        activity.append(responses)
    values = np.concatenate(activity)
    train = np.concatenate([responses_on_frames(aligned, trial) for trial in aligned.trials_in("train")])
    scale = np.nanstd(train, axis=0)
    tables = [group.rois for group in aligned.groups]
    group = AlignedGroup(
        "all planes",
        SignalKind.EVENTS,
        np.concatenate(times),
        (values / scale).astype(np.float32),
        scale,
        pd.concat(tables).reset_index(drop=True),
    )
    return replace(aligned, groups=[group])


def scores(video: np.ndarray, true: np.ndarray, aligned: AlignedSession, mask: np.ndarray) -> dict[str, float]:
    """Correlations over the mask, and those of what changes at each temporal frequency."""
    bands = time_band_correlations(video, true, aligned.frame_rate, EDGES, mask)
    return {
        **likeness(video, true, mask),
        **dict(zip(BANDS, bands.tolist(), strict=True)),
    }


def summarize(table: pd.DataFrame) -> None:
    """Print means over clips, and differences clip by clip."""
    names = {key: f"{key[0]}, {key[1]}" for key in table.groupby(["way", "noise"], sort=False).groups}
    by_clip = {name: table[(table["way"] == way) & (table["noise"] == noise)] for (way, noise), name in names.items()}
    by_clip = {name: rows.set_index("clip")[[*METRICS, *BANDS]] for name, rows in by_clip.items()}
    first, *others = by_clip
    titles = ((METRICS, "correlation with the true movie"), (BANDS, "correlation by temporal frequency"))
    for columns, title in titles:
        rows = [
            {"responses, noise": name, **{column: interval(values[column]) for column in columns}}
            for name, values in by_clip.items()
        ]
        rows += [
            {
                "responses, noise": f"{name}: difference",
                **{column: interval((by_clip[name] - by_clip[first])[column]) for column in columns},
            }
            for name in others
        ]
        print(f"\n{title}, single trials, mean over {len(by_clip[first])} clips (95 % interval)")
        print(f"differences are to {first}")
        print(pd.DataFrame(rows).to_string(index=False))


def interval(values: pd.Series) -> str:
    """Mean with its interval."""
    mean, low, high = bootstrap_interval(values.to_numpy())
    return f"{mean:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
