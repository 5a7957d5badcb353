"""Time and memory of an inversion, by length of the clip and by number of ROIs.

A default encoder with random weights is inverted, given responses of noise in three planes: what the search costs does
not depend on what it finds. Each case runs in a process of its own, which says how long an evaluation of the objective
with its gradient took (processor time, which a busy machine changes less than the clock's), and by how much its peak
memory grew from when the responses were there to the search's end.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --seconds 3 30 300 --rois 300 10000 --json scaling.json
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from nwbrecon.alignment import AlignedGroup, AlignedSession
from nwbrecon.config import EncoderSettings, InversionSettings
from nwbrecon.encoding import EncoderEnsemble, VideoEncoder
from nwbrecon.encoding.device import device_of
from nwbrecon.inversion.evidence import Margins, gather_evidence
from nwbrecon.inversion.priors import MoviePrior
from nwbrecon.inversion.reconstructor import Reconstructor
from nwbrecon.session import SignalKind

FRAME_RATE, FRAME_SIZE, PLANES, PLANE_RATE = 30.0, (36, 64), 3, 7.0
BEHAVIOR = ("running_speed", "pupil_size", "gaze_x", "gaze_y")
USUAL_SECONDS, USUAL_ROIS = 5.0, 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, nargs="+", default=[2.5, 5.0, 10.0, 20.0, 40.0, 80.0])
    parser.add_argument("--rois", type=int, nargs="+", default=[100, 300, 1000, 3000, 10000])
    parser.add_argument("--iterations", type=int, default=InversionSettings().iterations)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", type=float, nargs=2, metavar=("SECONDS", "ROIS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.one:
        print(json.dumps(inverted(arguments.one[0], int(arguments.one[1]), arguments.iterations)))
        return

    report = {}
    cases = {
        f"clips, {USUAL_ROIS} ROIs": [(seconds, USUAL_ROIS) for seconds in arguments.seconds],
        f"ROIs, clips of {USUAL_SECONDS:g} s": [(USUAL_SECONDS, rois) for rois in arguments.rois],
    }
    for name, sizes in cases.items():
        rows = [alone(seconds, rois, arguments) for seconds, rois in sizes]
        growing = "seconds" if name.startswith("clips") else "rois"
        table = pd.DataFrame(rows)
        factor = table[growing] / table[growing].iloc[0]
        table["size_x"], table["time_x"] = factor, table["evaluation_s"] / table["evaluation_s"].iloc[0]
        table["memory_x"] = table["memory_mb"] / table["memory_mb"].iloc[0]
        print(f"\n{name}: how much more than the first row")
        print(table.round(3).to_string(index=False), flush=True)
        report[name] = table.to_dict(orient="list")
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


def alone(seconds: float, rois: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Measure one case in a process of its own, so that no other case's memory is counted."""
    command = [sys.executable, __file__, "--one", str(seconds), str(rois)]
    command += ["--iterations", str(arguments.iterations), "--threads", str(arguments.threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def inverted(seconds: float, rois: int, iterations: int) -> dict[str, float]:
    """Invert one clip; gives what it cost."""
    made = search(*recording(seconds, rois))
    before, started = peak_megabytes(), time.process_time()
    outcome = made.run(iterations, tolerance=0)
    spent = time.process_time() - started
    return {
        "seconds": seconds,
        "rois": rois,
        "evaluations": outcome.n_evaluations,
        "evaluation_s": spent / outcome.n_evaluations,
        "search_s": spent,
        "memory_mb": peak_megabytes() - before,
    }


def recording(seconds: float, rois: int) -> tuple[EncoderEnsemble, AlignedSession]:
    """One trial of noise, and an encoder whose ROIs look all over the frame."""
    aligned = session_of_noise(seconds, rois)
    encoder = VideoEncoder(
        EncoderSettings(), n_rois=rois, frame_size=FRAME_SIZE, frame_rate=FRAME_RATE, behavior_names=BEHAVIOR
    )
    with torch.no_grad():
        for parameter in (encoder.readout.linear, encoder.readout.energy):
            parameter.normal_(std=0.05, generator=torch.Generator().manual_seed(0))
        encoder.readout.position.normal_(std=6, generator=torch.Generator().manual_seed(1))
    return ensemble_of(encoder, aligned), aligned


def session_of_noise(seconds: float, rois: int) -> AlignedSession:
    """Make a session of one trial, movie and responses of noise."""
    rng = np.random.default_rng(0)
    groups = []
    for plane, members in enumerate(np.array_split(np.arange(rois), PLANES)):
        clock = np.arange(0.05 * plane, seconds + 6, 1 / PLANE_RATE)
        activity = rng.gamma(1, 1, (len(clock), len(members))).astype(np.float32)
        table = pd.DataFrame(index=range(len(members)))
        groups.append(AlignedGroup(f"plane{plane}", SignalKind.EVENTS, clock, activity, np.ones(len(members)), table))
    n_frames = round(seconds * FRAME_RATE)
    return AlignedSession.from_arrays(
        [rng.uniform(0, 255, (n_frames, *FRAME_SIZE)).astype(np.float32)],
        groups,
        onsets=[2.0],
        clips=["noise"],
        splits=["test"],
        frame_rate=FRAME_RATE,
        behaviors=[rng.normal(size=(n_frames, len(BEHAVIOR)))],
        behavior_names=list(BEHAVIOR),
    )


def ensemble_of(encoder: Any, aligned: AlignedSession) -> EncoderEnsemble:
    """Make an ensemble of this encoder, of which nothing is known."""
    rois = aligned.n_rois
    return EncoderEnsemble(
        [encoder],
        rois=aligned.rois,
        kinds=[group.kind for group in aligned.groups],
        dispersion=np.ones(rois),
        linear_scores=np.ones(rois),
        validation_scores=np.ones(rois),
        gate={"sentence": ""},
        history=pd.DataFrame(),
        info={"training": {"likelihood": "auto"}},
    )


def search(encoder: EncoderEnsemble, aligned: AlignedSession) -> Reconstructor:
    """Set up the search for the movie of the trial, at the defaults."""
    settings, n_frames = InversionSettings(), len(aligned.trial(0).video)
    margins = Margins.needed(encoder, settings, FRAME_RATE)
    evidence = gather_evidence(encoder, aligned, 0, margins, stretch_seconds=settings.stretch_seconds)
    lags = np.meshgrid(*(np.arange(size) for size in (round(3 * FRAME_RATE) + 1, *FRAME_SIZE)), indexing="ij")
    covariance = 50.0**2 * np.exp(-0.5 * sum((lag / 6) ** 2 for lag in lags))
    prior = MoviePrior(covariance, (margins.around(n_frames), *FRAME_SIZE), 120.0).to(device_of(encoder))
    return Reconstructor(evidence, prior, margins)


def peak_megabytes() -> float:
    """Most memory that this process has held (MB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    main()
