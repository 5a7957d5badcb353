"""A recording that is streamed is the recording that is read from disk, at the price of the bytes that are used."""

import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

import nwbrecon
from nwbrecon.config import SimulationSettings
from nwbrecon.simulation.layouts import write_recording
from nwbrecon.simulation.session import simulate_recording
from nwbrecon.sources import cache_entries

PATH = "sub-17797/sub-17797_ses-4-scan-7_behavior+image+ophys.nwb"
NEVER_READ = ("image_mask", "acquisition/TwoPhotonSeries")


@pytest.fixture(scope="module")
def recording_path(tmp_path_factory):
    """A simulated session with the image masks and the raw movies of a real one beside it."""
    size = {"rois": 24, "planes": 2, "minutes": 1.0, "clip_seconds": 5.0, "test_clips": 1, "test_repeats": 3}
    path = tmp_path_factory.mktemp("simulated") / "mouse.nwb"
    write_recording(simulate_recording(SimulationSettings(layout="microns", **size)), path, "microns")
    with h5py.File(path, "a") as file:
        masks = file["processing/ophys/ImageSegmentation"]
        for table in masks.values():
            attributes = dict(table["image_mask"].attrs)
            rois = len(table["id"])
            del table["image_mask"]
            table["image_mask"] = np.ones((rois, 248, 440), np.float32)
            table["image_mask"].attrs.update(attributes)
        if "TwoPhotonSeries1" not in file["acquisition"]:
            series = next(iter(file["processing/ophys/Fluorescence"].values()))
            raw = file["acquisition"].create_group("TwoPhotonSeries1")
            raw.attrs.update({**dict(file["acquisition/stimulus_video"].attrs), "neurodata_type": "TwoPhotonSeries"})
            raw["data"] = np.ones((len(series["timestamps"]), 256, 256), np.int16)
            raw["data"].attrs.update({"unit": "n.a.", "conversion": 1.0, "resolution": -1.0, "offset": 0.0})
            raw["timestamps"] = series["timestamps"]
            raw["imaging_plane"] = h5py.SoftLink(next(iter(file["general/optophysiology"].values())).name)
    return path


@pytest.fixture
def streamed(archive, recording_path, monkeypatch):
    archive.add_asset("000402", PATH, recording_path)
    monkeypatch.setenv("DANDI_INSTANCE", archive.api)
    return "dandi:000402"


def forbidden(path):
    """Where in the file the arrays lie that nobody needs."""
    places = []

    def visit(name, item):
        if isinstance(item, h5py.Dataset) and item.nbytes > 1_000_000 and any(part in name for part in NEVER_READ):
            places.append((item.id.get_offset(), item.id.get_offset() + item.id.get_storage_size()))

    with h5py.File(path) as file:
        file.visititems(visit)
    assert len(places) == 3
    return places


def transferred(archive):
    """Ranges that were sent."""
    for one in archive.asked:
        if one.kind == "blob":
            first, last = one.headers["Range"].removeprefix("bytes=").split("-")
            yield int(first), int(last) + 1


def read_one_clip(session):
    """Movie and responses of one presentation."""
    label = session.stimulus.presentations.query("kind == 'movie'").index[5]
    shown = session.stimulus.presentations.loc[label]
    movie = session.stimulus.read(label)
    values = {
        name: group.signal.read(*np.searchsorted(group.timestamps, [shown["onset"], shown["offset"]]))
        for name, group in session.responses.items()
    }
    return movie, values


def test_a_clip_takes_a_small_part_of_the_file(archive, streamed, recording_path):
    size = recording_path.stat().st_size
    with nwbrecon.open_session(streamed) as session:
        opening, requests = archive.sent(), archive.count("blob")
        assert opening < 0.06 * size
        assert requests < 25
        movie, values = read_one_clip(session)
        assert archive.sent() < 0.12 * size
        assert archive.count("blob") < 45
        assert archive.count("link") == 1
    for start, stop in forbidden(recording_path):
        for first, last in transferred(archive):
            overlap = min(stop, last) - max(start, first)
            # a block may reach over the edge of what is needed
            assert overlap < 600_000
    with nwbrecon.open_session(recording_path) as local:
        expected_movie, expected = read_one_clip(local)
    np.testing.assert_array_equal(movie, expected_movie)
    for name in expected:
        np.testing.assert_array_equal(values[name], expected[name])


def test_the_whole_session_is_the_same_and_comes_once(archive, streamed, recording_path):
    options = {"frame_rate": 10.0, "frame_size": (12, 20)}
    with nwbrecon.open_session(recording_path) as session:
        expected = nwbrecon.align(session, **options)
    for run in range(2):
        archive.forget()
        with nwbrecon.open_session(streamed) as session:
            assert session.identity["path"] == PATH
            aligned = nwbrecon.align(session, **options)
        np.testing.assert_array_equal(aligned.video, expected.video)
        for group, other in zip(aligned.groups, expected.groups, strict=True):
            np.testing.assert_array_equal(group.activity, other.activity)
        if run == 0:
            assert 0 < archive.sent() < 0.5 * recording_path.stat().st_size
        else:
            assert archive.sent() == 0
            assert {one.kind for one in archive.asked} == {"api"}


def test_a_link_that_expires_in_the_middle_and_a_server_that_stumbles_are_not_noticed(archive, streamed, no_waiting):
    with nwbrecon.open_session(streamed) as session:
        archive.expire_links()
        archive.fail("blob", 503, times=2)
        archive.cut("blob", 1000)
        movie, _ = read_one_clip(session)
    assert np.isfinite(movie).all()
    assert archive.count("link") == 2


READER = """
import sys
import numpy as np
import nwbrecon
from nwbrecon.sources import resolve

(file,) = resolve(sys.argv[1]).open()
series = file.nwbfile.acquisition["stimulus_video"].data
order = np.random.default_rng(int(sys.argv[2])).permutation(len(series) // 60)
total = sum(int(series[n * 60 : n * 60 + 2].astype(int).sum()) for n in order)
file.close()
print(total)
"""


def reader(spec, seed):
    return subprocess.Popen(
        [sys.executable, "-c", READER, spec, str(seed)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell that runs the tests in the background has it ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.fixture
def total(recording_path):
    with h5py.File(recording_path) as file:
        series = file["acquisition/stimulus_video/data"]
        return sum(int(series[n * 60 : n * 60 + 2].astype(int).sum()) for n in range(len(series) // 60))


@pytest.mark.slow
def test_processes_share_a_cache_that_is_too_small_for_them(archive, streamed, total, monkeypatch):
    monkeypatch.setenv("NWBRECON_CACHE_GIGABYTES", "0.002")
    processes = [reader(streamed, seed) for seed in range(3)]
    for process in processes:
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, output, errors) == (0, f"{total}\n", "")
    assert sum(entry.cached for entry in cache_entries()) < 3e6


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_a_reader_that_is_stopped_leaves_a_sound_cache(archive, streamed, total, stop):
    archive.latency = 0.05
    process = reader(streamed, 0)
    while archive.count("blob") < 10:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(stop)
    process.communicate(timeout=60)
    assert process.returncode != 0
    archive.latency = 0.0
    archive.forget()
    assert reader(streamed, 1).communicate(timeout=60) == (f"{total}\n", "")
    archive.forget()
    with nwbrecon.open_session(streamed) as session:
        read_one_clip(session)
    assert archive.sent("blob") < 3_000_000
