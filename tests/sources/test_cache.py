import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from nwbrecon.errors import SettingsError
from nwbrecon.sources import cache as module
from nwbrecon.sources.cache import Cache, cache_entries, clear_cache, default_cache

ABOUT = {"location": "dandi:000402@draft/a.nwb", "size": 5000}


@pytest.fixture
def store(tmp_path):
    return Cache(tmp_path / "cache", limit=1e6)


def files(store):
    return sorted(path.name for path in store.folder.glob("*/*"))


def test_a_block_comes_back_as_it_was(store):
    shelf = store.shelf("key", ABOUT)
    assert shelf.get(0, 5) is None
    assert not shelf.has(0, 5)
    shelf.put(0, b"abcde")
    shelf.put(10, b"")
    assert store.shelf("key", ABOUT).get(0, 5) == b"abcde"
    assert shelf.has(0, 5)
    assert shelf.get(10, 10) == b""
    assert shelf.get(0, 4) is None
    assert store.shelf("other key", ABOUT).get(0, 5) is None


@pytest.mark.parametrize("damage", [b"", b"ab", b"abcdX1234", b"abcde\0\0\0\0", b"abcdef" * 10])
def test_a_block_that_is_not_sound_is_not_there(store, damage):
    shelf = store.shelf("key", ABOUT)
    shelf.put(0, b"abcde")
    (block,) = shelf.folder.glob("*.block")
    block.write_bytes(damage)
    assert shelf.get(0, 5) is None
    assert not block.exists()
    shelf.put(0, b"abcde")
    assert shelf.get(0, 5) == b"abcde"


def test_a_stop_in_the_middle_of_writing_leaves_nothing(store, monkeypatch):
    shelf = store.shelf("key", ABOUT)
    shelf.put(0, b"before")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        shelf.put(6, b"after")
    assert files(store) == ["0-6.block", "about.json"]


def test_the_blocks_used_least_recently_go_first(store):
    shelves = [store.shelf(f"key {n}", {**ABOUT, "location": f"file {n}"}) for n in range(3)]
    now = time.time()
    for age, shelf in enumerate(shelves):
        shelf.put(0, bytes(300_000))
        os.utime(shelf.folder / "0-300000.block", (now - 1000 + age,) * 2)
    assert shelves[0].get(0, 300_000) is not None  # now the most recently used
    shelves[2].put(300_000, bytes(300_000))
    assert [shelf.has(0, 300_000) for shelf in shelves] == [True, False, True]
    assert {entry.location for entry in store.entries()} == {"file 0", "file 2"}


def test_the_limit_holds_however_much_is_written(store):
    for n in range(100):
        store.shelf(f"key {n % 7}", ABOUT).put(n * 50_000, bytes(50_000))
        held = sum(path.stat().st_size for path in store.folder.glob("*/*"))
        assert held < 1.06e6
    assert held > 0.8e6


def test_other_processes_blocks_count(store):
    Cache(store.folder, 1e9).shelf("theirs", ABOUT).put(0, bytes(3_000_000))
    store.shelf("ours", ABOUT).put(0, b"abc")
    assert sum(path.stat().st_size for path in store.folder.glob("*/*")) < 1e6
    assert store.shelf("ours", ABOUT).has(0, 3)


def test_the_disk_is_not_filled(store, monkeypatch):
    usage = module.shutil.disk_usage(store.folder.parent)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=int(module.RESERVE) - 1))
    store.shelf("key", ABOUT).put(0, bytes(1000))
    assert not list(store.folder.glob("*/*.block"))


def test_a_limit_of_nothing_keeps_nothing(tmp_path):
    store = Cache(tmp_path / "cache", 0)
    store.shelf("key", ABOUT).put(0, b"abc")
    assert not store.folder.exists()


def test_a_disk_that_cannot_be_written_to_is_said_once_and_hinders_nothing(tmp_path, caplog):
    (tmp_path / "cache").write_text("a file where the folder should be")
    store = Cache(tmp_path / "cache")
    shelf = store.shelf("key", ABOUT)
    for start in (0, 3, 6):
        shelf.put(start, b"abc")
        assert shelf.get(start, start + 3) is None
    assert [record.message.startswith("Nothing more is kept in the cache") for record in caplog.records] == [True]


def test_a_folder_that_another_process_cleared_is_made_again(store, monkeypatch):
    shelf = store.shelf("key", ABOUT)
    shelf.put(0, b"abc")
    store.clear()
    assert not shelf.folder.exists()
    shelf.put(0, b"abc")
    assert shelf.get(0, 3) == b"abc"

    def cleared_meanwhile(path, _):
        module._remove(path.parent)
        raise FileNotFoundError

    monkeypatch.setattr(Path, "write_bytes", cleared_meanwhile)
    shelf.put(3, b"abc")
    assert shelf.get(3, 6) is None


def test_what_is_left_of_a_process_that_was_killed_goes_in_time(store):
    shelf = store.shelf("key", ABOUT)
    shelf.put(0, b"abc")
    old, young = (shelf.folder / f".0-3.block.{n}.partial" for n in "ab")
    for path in (old, young):
        path.write_bytes(b"torn")
    os.utime(old, (time.time() - 1e6,) * 2)
    store.sweep()
    assert (old.exists(), young.exists()) == (False, True)


def test_entries_say_what_is_there(store):
    shelf = store.shelf("key", {**ABOUT, "identity": {"dandiset": "000402"}})
    shelf.put(0, bytes(1000))
    shelf.put(2000, bytes(500))
    (entry,) = store.entries()
    assert (entry.location, entry.size, entry.cached, entry.whole) == (ABOUT["location"], 5000, 1508, False)
    assert abs(entry.last_used.timestamp() - time.time()) < 60
    assert entry.about["identity"] == {"dandiset": "000402"}


def test_what_is_known_is_brought_up_to_date(store):
    store.shelf("key", ABOUT).describe()
    assert not store.folder.exists()
    store.shelf("key", ABOUT).put(0, b"abc")
    store.shelf("key", {**ABOUT, "location": "moved"}).describe()
    assert store.entries()[0].location == "moved"


def test_clearing_takes_what_is_named_and_touches_nothing_else(store):
    store.shelf("a", ABOUT).put(0, bytes(100))
    store.shelf("b", {**ABOUT, "location": "https://lab.org/b.nwb"}).put(0, bytes(200))
    mine = store.folder / "mine" / "about.json"
    mine.parent.mkdir()
    mine.write_text("{}")
    among = store.shelf("a", ABOUT).folder / "notes.txt"
    among.write_text("somebody's")
    assert store.clear("dandi:000402") == 104
    assert [entry.location for entry in store.entries()] == ["https://lab.org/b.nwb"]
    assert store.clear() == 204
    assert mine.exists()
    assert among.exists()


def test_entries_survive_damage(store):
    store.shelf("a", ABOUT).put(0, bytes(100))
    (store.shelf("a", ABOUT).folder / "about.json").write_text("{")
    assert [entry.location for entry in store.entries()] == [""]
    assert store.clear() == 104


def test_whole_files_stay_while_blocks_go(store):
    whole = store.shelf("whole", ABOUT)
    whole.put(0, b"abc")
    (whole.folder / "whole.nwb").write_bytes(bytes(900_000))
    for n in range(10):
        store.shelf("blocks", ABOUT).put(n * 50_000, bytes(50_000))
    assert whole.whole is not None
    assert store.room() == 100_000
    assert sum(path.stat().st_size for path in store.folder.glob("*/*")) < 1.06e6


def test_the_environment_says_where_and_how_much(tmp_path, monkeypatch):
    monkeypatch.setenv("NWBRECON_CACHE", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("NWBRECON_CACHE_GIGABYTES", "1.5")
    store = default_cache()
    assert (store.folder, store.limit) == (tmp_path / "elsewhere" / "remote", 1.5e9)
    assert default_cache() is store
    store.shelf("key", ABOUT).put(0, b"abc")
    assert len(cache_entries()) == 1
    assert clear_cache("dandi:000402") == 7
    assert cache_entries() == []
    monkeypatch.setenv("NWBRECON_CACHE_GIGABYTES", "plenty")
    with pytest.raises(SettingsError, match="NWBRECON_CACHE_GIGABYTES is 'plenty'"):
        default_cache()
    monkeypatch.delenv("NWBRECON_CACHE")
    monkeypatch.delenv("NWBRECON_CACHE_GIGABYTES")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    if sys.platform == "linux":
        assert default_cache().folder == tmp_path / "xdg" / "nwbrecon" / "remote"
    assert default_cache().limit == 50e9


def test_what_was_written_is_what_was_read_whatever_the_order(store):
    rng = np.random.default_rng(0)
    content = rng.bytes(20_000)
    shelf = store.shelf("key", ABOUT)
    for _ in range(300):
        start = int(rng.integers(0, 19)) * 1000
        kept = shelf.get(start, start + 1000)
        assert kept in (None, content[start : start + 1000])
        if rng.random() < 0.5:
            shelf.put(start, content[start : start + 1000])
        if rng.random() < 0.02:
            store.clear()
