"""Requests and bytes for opening a large remote recording, and for one clip's worth of its data.

A file of the size and shape of a MICrONS session (movie of the whole session, four fields, image masks, raw two-photon
movies) is laid out sparsely, so that it takes little room, and served on loopback with the latency of a distant server.

    python benchmarks/streaming.py [--gigabytes 20] [--latency 0.03] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from dandi_server import DandiServer

PATH = "sub-17797/sub-17797_ses-4-scan-7_behavior+image+ophys.nwb"
FIELDS, ROIS, CLIP_SECONDS = 4, 1000, 10.0
IMAGING_RATE, FLIP_RATE = 6.3, 60.0


def write_large(path, minutes, fields=FIELDS, n_rois=ROIS, unique_clips=97, raw_size=(512, 512)):
    """Write a session whose raw movies make up the size, and whose arrays are holes."""
    from pynwb import NWBHDF5IO, NWBFile, TimeSeries
    from pynwb.file import Subject
    from pynwb.image import ImageSeries
    from pynwb.ophys import Fluorescence, ImageSegmentation, OpticalChannel, RoiResponseSeries, TwoPhotonSeries

    n_flips, n_samples = int(minutes * 60 * FLIP_RATE), int(minutes * 60 * IMAGING_RATE)
    nwb = NWBFile("large", "large", datetime(2018, 3, 4, tzinfo=UTC), session_id="4-scan-7")
    nwb.subject = Subject(subject_id="17797", species="Mus musculus", sex="M", age="P75D")
    flips = np.arange(n_flips) / FLIP_RATE
    nwb.add_acquisition(
        ImageSeries(name="Video", data=np.zeros((n_flips, 1, 1, 3), np.uint8), unit="n.a.", timestamps=flips)
    )
    clips = nwb.create_time_intervals(name="Clip", description="clips")
    for name in ("stimulus_type", "condition_hash", "movie_name", "short_movie_name"):
        clips.add_column(name=name, description=name)
    for number in range(int(minutes * 60 / CLIP_SECONDS) - 1):
        words = {"stimulus_type": "Clip", "movie_name": "film", "short_movie_name": "cinematic"}
        start = number * CLIP_SECONDS
        clips.add_row(
            start_time=start, stop_time=start + CLIP_SECONDS - 0.5, condition_hash=f"h{number % unique_clips}", **words
        )
    ophys = nwb.create_processing_module("ophys", "ophys")
    ophys.add(segmentation := ImageSegmentation())
    ophys.add(fluorescence := Fluorescence())
    large = {"acquisition/Video/data": ((n_flips, 144, 256, 3), "u1", True)}
    for field in range(1, fields + 1):
        plane = nwb.create_imaging_plane(
            name=f"ImagingPlane{field}",
            optical_channel=OpticalChannel(name="green", description="green", emission_lambda=510.0),
            description=f"field {field}",
            device=nwb.devices.get("scope") or nwb.create_device(name="scope"),
            excitation_lambda=920.0,
            imaging_rate=np.nan,
            indicator="GCaMP6",
            location="VISp",
        )
        table = segmentation.create_plane_segmentation(
            name=f"PlaneSegmentation{field}", description="ROIs", imaging_plane=plane
        )
        for _ in range(n_rois):
            table.add_roi(image_mask=np.zeros((2, 2), np.float32))
        table.add_column(name="mask_type", description="soma or artifact", data=["soma"] * n_rois)
        rois = table.create_roi_table_region(region=list(range(n_rois)), description="all")
        stamps = (np.arange(n_samples) + (field - 1) / fields) / IMAGING_RATE
        series = RoiResponseSeries(
            name=f"RoiResponseSeries{field}",
            data=np.zeros((n_samples, n_rois), np.float32),
            unit="n.a.",
            rois=rois,
            timestamps=stamps,
        )
        fluorescence.add_roi_response_series(series)
        raw = TwoPhotonSeries(
            name=f"TwoPhotonSeries{field}",
            data=np.zeros((n_samples, 1, 1), np.int16),
            imaging_plane=plane,
            unit="n.a.",
            timestamps=stamps,
        )
        nwb.add_acquisition(raw)
        large[f"processing/ophys/ImageSegmentation/PlaneSegmentation{field}/image_mask"] = (
            (n_rois, 248, 440),
            "f4",
            False,
        )
        large[f"processing/ophys/Fluorescence/RoiResponseSeries{field}/data"] = ((n_samples, n_rois), "f4", True)
        large[f"acquisition/TwoPhotonSeries{field}/data"] = ((n_samples, *raw_size), "i2", False)
    speed = TimeSeries(name="treadmill_velocity", data=np.zeros(n_flips), unit="m/s", conversion=0.01, timestamps=flips)
    nwb.add_acquisition(speed)
    with NWBHDF5IO(path, "w") as io:
        io.write(nwb)
    with h5py.File(path, "a") as file:
        for name, (shape, kind, chunked) in large.items():
            enlarge(file, name, shape, kind, chunked)
    return path


def enlarge(file, name, shape, kind, chunked):
    """Put a dataset in the place of a small one whose room is taken at once and never written to."""
    attributes = dict(file[name].attrs)
    del file[name]
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    if chunked:
        layout.set_chunk(tuple(map(min, (8, *shape[1:]) if len(shape) > 2 else (64, 250), shape)))
    space = h5py.h5s.create_simple(shape)
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(np.dtype(kind)), space, layout, links)
    file[name].attrs.update(attributes)


def measure(server, source, **options):
    """Open, read one clip of every field and of the movie; requests, bytes and seconds of both."""
    import nwbrecon as nr

    rows = []
    server.forget()
    began = time.perf_counter()
    with nr.open_session(source, **options) as session:
        rows.append((server.count(), server.sent(), time.perf_counter() - began))
        server.forget()
        began = time.perf_counter()
        label = session.stimulus.presentations.index[len(session.stimulus.presentations) // 2]
        shown = session.stimulus.presentations.loc[label]
        session.stimulus.read(label)
        for group in session.responses.values():
            start, stop = np.searchsorted(group.timestamps, [shown["onset"], shown["offset"]])
            group.signal.read(int(start), int(stop))
        rows.append((server.count(), server.sent(), time.perf_counter() - began))
    return rows


def main():
    """Write the large file, serve it, and measure every reader."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=20.0)
    parser.add_argument("--latency", type=float, default=0.03, help="seconds before each answer")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as folder, DandiServer() as server:
        os.environ["NWBRECON_CACHE"] = folder + "/cache"
        path = write_large(Path(folder) / "large.nwb", 2 * options.gigabytes)
        size = path.stat().st_size
        server.add_asset("000402", PATH, path, digests=())
        url = server.add_file("large.nwb", path)
        server.latency = options.latency
        taken = path.stat().st_blocks * 512
        print(f"{size / 1e9:.1f} GB, of which {taken / 1e6:.0f} MB are no holes; {options.latency:g} s latency")
        print(f"{'reader':24} {'':8} {'requests':>8} {'MB':>8} {'s':>7}")
        for name, source, more in readers(server, url):
            for what, row in zip(("open", "one clip"), measure(server, source(), **more), strict=True):
                print(f"{name:24} {what:8} {row[0]:8d} {row[1] / 1e6:8.2f} {row[2]:7.2f}")
                results.append({"reader": name, "what": what, "requests": row[0], "bytes": row[1], "seconds": row[2]})
    if options.json:
        options.json.write_text(json.dumps({"file_bytes": size, "latency": options.latency, "rows": results}, indent=2))


def readers(server, url):
    """Name, what to open, options."""
    dandi = {"dandi_instance": server.api}
    yield "nwbrecon", lambda: "dandi:000402", dandi
    yield "nwbrecon, warm cache", lambda: "dandi:000402", dandi
    yield "nwbrecon, URL", lambda: url, {}
    try:
        import remfile

        yield "remfile", lambda: remfile.File(url), {}
    except ImportError:
        print("remfile is not installed")
    try:
        import aiohttp  # noqa: F401 - what fsspec needs for http
        import fsspec

        yield "fsspec", lambda: fsspec.open(url, "rb").open(), {}
        yield "fsspec, blockcache", lambda: fsspec.open(url, "rb", cache_type="blockcache").open(), {}
    except ImportError:
        print("fsspec with aiohttp is not installed")


if __name__ == "__main__":
    main()
