"""Peak memory of aligning a large recording trial by trial.

A file of the size (70 GB) and shape of a MICrONS session (8 fields of 1,250 ROIs, each on a clock of its own, 84
minutes of movie in color at 60 Hz, raw two-photon movies, image masks) is laid out so that it takes little room: the
responses are really there, the movie is made of a few hundred compressed pieces, and the rest are holes. Another
process aligns it, then goes through all trials, and says how much memory it needed.

    python benchmarks/memory.py [--minutes 84] [--fields 8] [--rois 10000] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from streaming import write_large

MOST_GIGABYTES = 4.0
PIECES, FRAMES_A_PIECE, HEIGHT, WIDTH = 256, 8, 144, 256
ROWS_AT_ONCE = 4096


def fill(path, seed=0):
    """Put responses and a movie where holes were."""
    rng = np.random.default_rng(seed)
    with h5py.File(path, "r+") as file:
        for series in file["processing/ophys/Fluorescence"].values():
            data = series["data"]
            level = rng.uniform(100, 500, data.shape[1]).astype(np.float32)
            for first in range(0, len(data), ROWS_AT_ONCE):
                n_rows = min(ROWS_AT_ONCE, len(data) - first)
                noise = rng.standard_normal((n_rows, data.shape[1]), dtype=np.float32)
                data[first : first + n_rows] = level * (1 + 0.1 * noise + 0.3 * np.maximum(noise[:, ::-1], 1.5))
        video = file["acquisition/Video"]
        (n_frames, *_), attributes = video["data"].shape, dict(video["data"].attrs)
        del video["data"]
        chunk = (FRAMES_A_PIECE, HEIGHT, WIDTH, 3)
        data = video.create_dataset(
            "data", (n_frames, *chunk[1:]), np.uint8, chunks=chunk, compression="gzip", compression_opts=1
        )
        data.attrs.update(attributes)
        pieces = [zlib.compress(_piece(rng).tobytes(), 1) for _ in range(PIECES)]
        for first in range(0, n_frames, FRAMES_A_PIECE):
            data.id.write_direct_chunk((first, 0, 0, 0), pieces[rng.integers(PIECES)])


def _piece(rng):
    """Make a few frames of coarse blocks."""
    levels = rng.integers(0, 256, (FRAMES_A_PIECE // 4, HEIGHT // 16, WIDTH // 16, 3), dtype=np.uint8)
    return levels.repeat(4, axis=0).repeat(16, axis=1).repeat(16, axis=2)


def align_all(path):
    """Align, go through all trials, and print what it took as JSON."""
    import nwbrecon as nr
    from nwbrecon.alignment import responses_on_frames

    imported, began = _peak(), time.perf_counter()
    with nr.open_session(path) as session:
        opened, spent_opening = _peak(), time.perf_counter() - began
        began = time.perf_counter()
        aligned = nr.align(session, cache_dir=Path(path).parent / "aligned")
    after, spent_aligning = _peak(), time.perf_counter() - began
    began = time.perf_counter()
    total = 0.0
    for label in aligned.trials.index:
        total += float(aligned.trial(label).video.mean()) + float(np.nanmean(responses_on_frames(aligned, label)))
    report = {
        "rois": aligned.n_rois,
        "trials": len(aligned.trials),
        "minutes": float(aligned.trials["n_frames"].sum() / aligned.frame_rate / 60),
        "mean": total / len(aligned.trials),
        "peak_gigabytes": {"imported": imported, "opened": opened, "aligned": after, "all trials": _peak()},
        "seconds": {
            "opened": spent_opening,
            "aligned": spent_aligning,
            "all trials": time.perf_counter() - began,
        },
    }
    print(json.dumps(report))


def _peak():
    """Gigabytes that this process has needed so far, pages of mapped files included."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (1e9 if sys.platform == "darwin" else 1e6)


def main():
    """Write the large file, and align it in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=84.0)
    parser.add_argument("--fields", type=int, default=8)
    parser.add_argument("--rois", type=int, default=10_000, help="over all fields")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.file is not None:
        align_all(options.file)
        return
    with tempfile.TemporaryDirectory() as folder:
        # most clips are shown once, a tenth of them again
        n_clips = int(options.minutes * 60 / 10) - 1
        path = write_large(
            Path(folder) / "large.nwb",
            options.minutes,
            options.fields,
            options.rois // options.fields,
            unique_clips=max(2, round(0.9 * n_clips)),
            raw_size=(180, 320),
        )
        fill(path)
        stored = path.stat()
        print(f"{stored.st_size / 1e9:.1f} GB, of which {stored.st_blocks * 512 / 1e9:.1f} GB are no holes")
        ran = subprocess.run(
            [sys.executable, __file__, "--file", str(path)], check=True, stdout=subprocess.PIPE, text=True
        )
    report = json.loads(ran.stdout) | {"file_bytes": stored.st_size, "fields": options.fields}
    print(f"{report['rois']} ROIs in {options.fields} fields, {report['trials']} trials, {report['minutes']:.1f} min")
    print(f"{'':12} {'peak GB':>8} {'s':>8}")
    for step, peak in report["peak_gigabytes"].items():
        print(f"{step:12} {peak:8.2f} {report['seconds'].get(step, 0):8.1f}")
    if options.json:
        options.json.write_text(json.dumps(report, indent=2))
    if report["peak_gigabytes"]["all trials"] > MOST_GIGABYTES:
        sys.exit(f"more than {MOST_GIGABYTES:g} GB")


if __name__ == "__main__":
    main()
