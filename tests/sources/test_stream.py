import io
import subprocess
import sys

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nwbrecon.errors import SourceError
from nwbrecon.sources import stream as module
from nwbrecon.sources.cache import Cache
from nwbrecon.sources.stream import Stream

BLOCK = 16


class Served:
    """Bytes, and which ranges of them were asked for."""

    def __init__(self, size, seed=0):
        self.content = np.random.default_rng(seed).bytes(size)
        self.asked = []

    def read(self, start, stop):
        assert 0 <= start < stop <= len(self.content)
        self.asked.append((start, stop))
        return self.content[start:stop]

    @property
    def sent(self):
        return sum(stop - start for start, stop in self.asked)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", BLOCK)
    monkeypatch.setattr(module, "MEMORY", 8)
    monkeypatch.setattr(module, "LONGEST_RUN", 8)
    monkeypatch.setattr(module, "LONGEST_AHEAD", 4)


@given(
    size=st.integers(1, 700),
    reads=st.lists(st.tuples(st.integers(0, 800), st.integers(0, 400), st.sampled_from([0, 1, 2])), max_size=30),
    kept=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_it_reads_as_a_file_does(tmp_path_factory, size, reads, kept):
    served = Served(size)
    shelf = Cache(tmp_path_factory.mktemp("c")).shelf("key", {"location": "a"}) if kept else None
    remote, local = Stream(served.read, size, shelf), io.BytesIO(served.content)
    for offset, length, whence in reads:
        if whence == io.SEEK_END:
            offset = -min(offset, size)
        assert remote.seek(offset, whence) == local.seek(offset, whence)
        assert remote.read(length) == local.read(length)
        assert remote.tell() == local.tell()
    remote.seek(0)
    assert remote.read() == served.content
    assert remote.readable()
    assert remote.seekable()


def test_a_place_before_the_start_is_none():
    with pytest.raises(ValueError, match="before the start"):
        Stream(Served(10).read, 10).seek(-1)


def test_a_read_takes_the_blocks_that_it_needs():
    served = Served(1000)
    stream = Stream(served.read, 1000)
    stream.seek(100)
    stream.read(10)
    assert served.asked == [(96, 112)]
    stream.seek(110)
    stream.read(60)
    assert served.asked[1:] == [(112, 176)]
    stream.seek(100)
    stream.read(70)
    assert len(served.asked) == 2


def test_reading_in_a_row_reads_ahead_more_and_more():
    served = Served(1600)
    stream = Stream(served.read, 1600)
    while stream.read(BLOCK):
        pass
    lengths = [(stop - start) // BLOCK for start, stop in served.asked]
    assert lengths[:5] == [1, 2, 4, 4, 4]
    assert served.sent == 1600


def test_several_places_are_read_in_a_row_at_once(monkeypatch):
    monkeypatch.setattr(module, "MEMORY", 64)
    served = Served(8000)
    stream = Stream(served.read, 8000)
    for step in range(10):
        for place in (0, 3200, 6400):
            stream.seek(place + step * BLOCK)
            stream.read(BLOCK)
    assert len(served.asked) == 3 * 4


def test_reading_here_and_there_reads_nothing_ahead():
    served = Served(16_000)
    stream = Stream(served.read, 16_000)
    for place in np.random.default_rng(0).permutation(300)[:100]:
        stream.seek(int(place) * 3 * BLOCK)
        stream.read(4)
    assert served.sent == 100 * BLOCK


def test_memory_is_bounded():
    served = Served(10_000)
    stream = Stream(served.read, 10_000)
    assert stream.read(10_000) == served.content
    assert len(stream._blocks) == 8
    assert max(stop - start for start, stop in served.asked) == 8 * BLOCK


def test_what_the_disk_has_is_not_transferred_again(tmp_path):
    served = Served(1000)
    shelf = Cache(tmp_path).shelf("key", {"location": "a"})
    first = Stream(served.read, 1000, shelf)
    first.seek(320)
    first.read(64)
    again = Stream(served.read, 1000, shelf)
    served.asked.clear()
    again.seek(320)
    assert again.read(64) == served.content[320:384]
    assert served.asked == []
    again.seek(288)
    assert again.read(160) == served.content[288:448]
    assert served.asked == [(288, 320), (384, 448)]


def test_the_end_of_a_file_that_is_no_whole_block_is_kept(tmp_path):
    served = Served(1001)
    shelf = Cache(tmp_path).shelf("key", {"location": "a"})
    for _ in range(2):
        stream = Stream(served.read, 1001, shelf)
        stream.seek(-3, io.SEEK_END)
        assert stream.read(10) == served.content[-3:]
    assert served.asked == [(992, 1001)]


def test_hdf5_reads_through_it(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 4096)
    path = tmp_path / "a.h5"
    values = np.random.default_rng(0).normal(size=(3000, 20))
    with h5py.File(path, "w") as file:
        file.create_dataset("chunked", data=values, chunks=(100, 20), compression="gzip")
        file["plain"] = values
    content = path.read_bytes()
    sent = []

    def read(start, stop):
        sent.append(stop - start)
        return content[start:stop]

    with h5py.File(Stream(read, len(content)), "r") as file:
        np.testing.assert_array_equal(file["chunked"][1234:1236], values[1234:1236])
        np.testing.assert_array_equal(file["plain"][7], values[7])
        assert sum(sent) < 100_000
        np.testing.assert_array_equal(file["chunked"][:], values)


def test_a_failure_comes_through_hdf5_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 4096)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["plain"] = np.arange(100_000)
    content = path.read_bytes()
    failing = []

    def read(start, stop):
        if failing:
            raise failing[0]
        return content[start:stop]

    with h5py.File(Stream(read, len(content)), "r") as file:
        failing.append(SourceError("the server is gone"))
        with pytest.raises(SourceError, match="the server is gone"):
            file["plain"][50_000:]
        failing[0] = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            file["plain"][50_000:]
        failing.clear()
        assert file["plain"][99_999] == 99_999


@pytest.mark.parametrize("kept", ["file", "dataset"])
def test_python_ends_well_with_a_stream_open(tmp_path, kept):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["plain"] = np.arange(100_000)
    script = f"""
import h5py
from nwbrecon.sources.stream import Stream
content = open({str(path)!r}, "rb").read()
file = h5py.File(Stream(lambda start, stop: content[start:stop], len(content), name="Mäuse"), "r")
dataset = file["plain"]
if {kept!r} == "dataset":
    del file
print(dataset[-1])
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "99999\n", "")
