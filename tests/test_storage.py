import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from nwbrecon.errors import ResultsError
from nwbrecon.storage import (
    atomic_directory,
    atomic_path,
    digest,
    keep_work_of,
    read_arrays,
    read_json,
    write_arrays,
    write_json,
)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as path:
        path.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_a_failed_directory_leaves_the_old_one(tmp_path: Path):
    target = tmp_path / "encoder"
    with atomic_directory(target) as folder:
        (folder / "weights").write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_directory(target) as folder:
        (folder / "weights").write_text("half")
        raise KeyboardInterrupt
    assert (target / "weights").read_text() == "old"
    with atomic_directory(target) as folder:
        (folder / "weights").write_text("new")
    assert (target / "weights").read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["encoder"]


def test_a_directory_that_cannot_take_its_place_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    target, rename, renamed = tmp_path / "encoder", Path.rename, []

    def interrupted(path: Path, to: Path) -> Path:
        renamed.append(path)
        if len(renamed) == 2:
            raise KeyboardInterrupt
        return rename(path, to)

    target.mkdir()
    (target / "weights").write_text("old")
    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), atomic_directory(target) as folder:
        (folder / "weights").write_text("new")
    assert (target / "weights").read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["encoder"]


@pytest.mark.parametrize("existing", [True, False])
def test_of_two_writers_the_first_to_finish_is_kept_and_the_other_told(tmp_path: Path, existing: bool):
    target = tmp_path / "a.txt"
    if existing:
        target.write_text("old")
    with pytest.raises(ResultsError, match="another program"), atomic_path(target) as slow:
        slow.write_text("slow")
        with atomic_path(target) as fast:
            fast.write_text("fast")
    assert target.read_text() == "fast"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("name", ["a.nwb", "[odd] name*.nwb"])
def test_what_a_killed_writer_left_goes_after_a_day(tmp_path: Path, name: str):
    old, fresh, other = (
        tmp_path / f".{of}.{key}.partial.nwb" for of, key in ((name, "x"), (name, "y"), ("b.nwb", "z"))
    )
    for path in (old, fresh, other):
        path.write_text("half")
    folder = tmp_path / f".{name}.w.partial"
    folder.mkdir()
    yesterday = time.time() - 25 * 3600
    for path in (old, other, folder):
        os.utime(path, (yesterday, yesterday))
    with atomic_path(tmp_path / name) as path:
        path.write_text("whole")
    assert {path.name for path in tmp_path.iterdir()} == {name, fresh.name, other.name}


def test_a_folder_that_is_a_file_is_said(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="could not be written"), atomic_path(tmp_path / "file" / "a.txt"):
        pass


def test_an_error_of_the_source_is_not_blamed_on_the_target(tmp_path: Path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt"):
        (tmp_path / "missing").read_text()


def test_arrays_round_trip(tmp_path: Path):
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "b": torch.arange(3),
        "single": torch.tensor(2.5),
        "none": np.zeros((0, 4)),
    }
    write_arrays(tmp_path / "a.safetensors", arrays, {"made": "here"})
    back = read_arrays(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(back["a"], arrays["a"])
    np.testing.assert_array_equal(back["b"], [0, 1, 2])
    assert back["single"].shape == ()
    assert back["single"] == 2.5
    assert back["none"].shape == (0, 4)


def test_damaged_files_are_named(tmp_path: Path):
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "a.safetensors").write_bytes(b"\0\1")
    with pytest.raises(ResultsError, match=r"a\.json"):
        read_json(tmp_path / "a.json")
    with pytest.raises(ResultsError, match=r"a\.safetensors"):
        read_arrays(tmp_path / "a.safetensors")


def test_json_takes_numpy(tmp_path: Path):
    write_json(tmp_path / "a.json", {"n": np.int64(3), "v": np.arange(2), "p": tmp_path})
    assert json.loads((tmp_path / "a.json").read_text()) == {"n": 3, "v": [0, 1], "p": str(tmp_path)}


def test_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"abc")
    assert digest(tmp_path / "a") == digest(b"abc")


def test_a_folder_holds_the_files_of_one_piece_of_work(tmp_path: Path):
    key, ours, other = (
        tmp_path / "work" / "key.json",
        tmp_path / "work" / "part-1.json",
        tmp_path / "work" / "notes.txt",
    )
    keep_work_of("first", key, ["part-*.json"])
    for file in (ours, other):
        file.write_text("{}")
    keep_work_of("first", key, ["part-*.json"])
    assert ours.exists()
    keep_work_of("second", key, ["part-*.json"])
    assert (ours.exists(), other.exists(), read_json(key)) == (False, True, "second")
