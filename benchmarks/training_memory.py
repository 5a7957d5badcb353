"""Peak memory of training, for sessions of different length.

Sessions of noise are laid out in files, as `nwbrecon.align` does with those that are larger than
``alignment.memory_gigabytes``, and an encoder is trained on each for an epoch by a process of its own. Printed is the
memory that is the process' own (largest resident anonymous memory, looked at fifty times a second), which the system
cannot take back; the pages of the files it can. Linux only.

    python benchmarks/training_memory.py [--minutes 6 36] [--rois 300] [--encoder quadrature] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd

FRAME_RATE, FRAME_SIZE, CLIP_SECONDS, IMAGING_RATE = 30.0, (36, 64), 10.0, 6.5
# what a session that is six times as long may add
MOST_GROWTH = 0.2


def lay_out(folder, minutes, n_rois):
    """Write movie, behavior and responses of a session, clip by clip."""
    rng = np.random.default_rng(0)
    n_clips, length = round(minutes * 60 / CLIP_SECONDS), round(CLIP_SECONDS * FRAME_RATE)
    shape = (n_clips * length, *FRAME_SIZE)
    video = np.lib.format.open_memmap(folder / "video.npy", "w+", np.float16, shape)
    for clip in range(n_clips):
        video[clip * length : (clip + 1) * length] = rng.integers(0, 256, (length, *FRAME_SIZE))
    np.save(folder / "behavior.npy", rng.standard_normal((len(video), 4)).astype(np.float32))
    n_samples = round((n_clips + 1) * (CLIP_SECONDS + 1) * IMAGING_RATE)
    activity = np.lib.format.open_memmap(folder / "activity.npy", "w+", np.float32, (n_samples, n_rois))
    for start in range(0, n_samples, 1000):
        activity[start : start + 1000] = rng.gamma(0.5, 1.0, (len(activity[start : start + 1000]), n_rois))


def train(folder, encoder):
    """Train for an epoch and print the memory that it took as JSON."""
    import nwbrecon as nr
    from nwbrecon.alignment import AlignedGroup, AlignedSession
    from nwbrecon.config import TrainingSettings
    from nwbrecon.progress import progress_shown
    from nwbrecon.session import SignalKind

    video, behavior, activity = (
        np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("video", "behavior", "activity")
    )
    length = round(CLIP_SECONDS * FRAME_RATE)
    n_clips = len(video) // length
    trials = pd.DataFrame(
        {
            "clip": [f"clip {clip}" for clip in range(n_clips)],
            "film": "",
            "onset": 1.0 + np.arange(n_clips) * (CLIP_SECONDS + 1),
            "first_frame": np.arange(n_clips) * length,
            "n_frames": length,
            "split": ["validation" if clip % 8 == 7 else "train" for clip in range(n_clips)],
            "repeat": 0,
        }
    )
    clock, n_rois = np.arange(len(activity)) / IMAGING_RATE, activity.shape[1]
    rois = pd.DataFrame({"depth": 100.0}, index=range(n_rois))
    group = AlignedGroup("plane", SignalKind.EVENTS, clock, activity, np.ones(n_rois, np.float32), rois)
    names = ("pupil_size", "running_speed", "gaze_x", "gaze_y")
    aligned = AlignedSession(FRAME_RATE, trials, video, behavior, names, np.ones(len(video), bool), [group])
    before, peak = _own(), _Peak()
    began = time.perf_counter()
    with progress_shown(False), peak:
        nr.train(aligned, encoder, TrainingSettings(epochs=1))
    print(json.dumps({"before": before, "peak": peak.gigabytes, "seconds": time.perf_counter() - began}))


class _Peak:
    """Largest memory while it is open."""

    def __enter__(self):
        self.gigabytes, self._done = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self):
        while not self._done.wait(0.02):
            self.gigabytes = max(self.gigabytes, _own())

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()


def _own():
    """Gigabytes of resident anonymous memory of this process."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1e6


def main():
    """Lay the sessions out, and train on each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[6.0, 36.0])
    parser.add_argument("--rois", type=int, default=300)
    parser.add_argument("--encoder", default="factorized")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder is not None:
        train(options.folder, options.encoder)
        return
    rows = []
    print(f"{options.encoder}, {options.rois} ROIs\n{'minutes':>8} {'before GB':>10} {'peak GB':>8} {'s':>6}")
    for minutes in options.minutes:
        with tempfile.TemporaryDirectory() as name:
            lay_out(Path(name), minutes, options.rois)
            command = [sys.executable, __file__, "--folder", name, "--encoder", options.encoder]
            ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows.append({"minutes": minutes, **json.loads(ran.stdout)})
        print("{minutes:8g} {before:10.2f} {peak:8.2f} {seconds:6.0f}".format(**rows[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))
    first, *_, last = [row["peak"] - row["before"] for row in rows]
    if last > (1 + MOST_GROWTH) * first:
        sys.exit(f"training needed {last / first:.2f} times the memory")


if __name__ == "__main__":
    main()
