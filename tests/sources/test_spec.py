import io
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from pynwb import NWBHDF5IO

from nwbrecon.errors import SourceError
from nwbrecon.sources import resolve, sessions_in
from nwbrecon.storage import digest


def test_a_path_is_opened_and_identified(nwb_path):
    source = resolve(str(nwb_path))
    (file,) = source.open()
    assert source.location == str(nwb_path)
    assert file.identity == {
        "location": str(nwb_path),
        "identifier": "id-1",
        "object_id": file.nwbfile.object_id,
        "session_id": "1",
        "session_start_time": "2020-01-02T03:04:05+00:00",
    }
    np.testing.assert_array_equal(file.nwbfile.acquisition["a"].data[:], [1.0, 2.0])
    file.close()
    assert resolve(source) is source


def test_the_home_folder_and_relative_paths_are_understood(nwb_path, monkeypatch):
    monkeypatch.setenv("HOME", str(nwb_path.parent))
    assert len(resolve(f"~/{nwb_path.name}").open()) == 1
    monkeypatch.chdir(nwb_path.parent)
    assert resolve(nwb_path.name).location == str(nwb_path)


def test_the_file_is_never_written_to(nwb_path):
    before = digest(nwb_path)
    nwb_path.chmod(0o400)
    (file,) = resolve(nwb_path).open()
    with pytest.raises((OSError, KeyError, ValueError)):
        file.nwbfile.acquisition["a"].data.file.create_group("new")
    file.close()
    assert digest(nwb_path) == before


def test_the_digest_is_that_of_the_bytes(nwb_path, make_nwb, tmp_path):
    assert resolve(nwb_path).digest() == digest(nwb_path)
    with nwb_path.open("rb") as file:
        assert resolve(file).digest() == digest(nwb_path)
    other = make_nwb(tmp_path / "two" / "b.nwb")
    assert resolve([nwb_path, other]).digest() == digest([digest(nwb_path), digest(other)])
    with NWBHDF5IO(nwb_path, "r") as stream:
        assert resolve(stream.read()).digest() is None
    with h5py.File(nwb_path) as file:
        assert resolve(file).digest() is None


def test_what_is_open_stays_open(nwb_path):
    with h5py.File(nwb_path) as handed:
        (file,) = resolve(handed).open()
        assert file.identity["identifier"] == "id-1"
        file.close()
        assert handed.id.valid
    with nwb_path.open("rb") as handed:
        (file,) = resolve(handed).open()
        assert file.identity["location"] == str(nwb_path)
        file.close()
        assert not handed.closed
    with NWBHDF5IO(nwb_path, "r") as stream:
        nwbfile = stream.read()
        source = resolve(nwbfile)
        (file,) = source.open()
        assert file.nwbfile is nwbfile
        assert source.location == str(nwb_path)
        file.close()
        assert nwbfile.acquisition["a"].data[0] == 1
    (file,) = resolve(io.BytesIO(nwb_path.read_bytes())).open()
    assert file.identity["location"] == "BytesIO object"
    file.close()


def test_a_file_made_in_memory_is_a_source(new_nwb):
    source = resolve(new_nwb())
    assert "in memory" in source.location
    assert source.open()[0].identity["session_id"] == "1"


@pytest.mark.parametrize("spec", [None, 3, [], [1, 2], b"bytes", object()])
def test_what_is_no_source_is_refused(spec):
    with pytest.raises(SourceError, match="not something that NWB can be read from"):
        resolve(spec)


def test_a_folder_named_as_a_dandiset_is_a_folder(make_nwb, tmp_path, monkeypatch):
    make_nwb(tmp_path / "000402" / "sub-1_ses-2_ophys.nwb")
    monkeypatch.chdir(tmp_path)
    assert len(resolve("000402").files) == 1


def bad_files(folder: Path, good: bytes) -> dict[str, Path]:
    contents = {
        "empty.nwb": b"",
        "short.nwb": good[: len(good) // 2],
        "cut.nwb": good[:-1],
        "text.nwb": b"# not HDF5\n" * 400,
        "signature.nwb": good[:8],
        "broken.nwb": good[:96] + b"\xff" * 4000 + good[4096:],
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    with h5py.File(folder / "plain.nwb", "w") as file:
        file["volume"] = np.zeros(3)
    with h5py.File(folder / "empty_hdf5.nwb", "w"):
        pass
    with h5py.File(folder / "one.nwb", "w") as file:
        file["nwb_version"] = "NWB-1.0.5"
    with h5py.File(folder / "hollow.nwb", "w") as file:
        file.attrs["neurodata_type"], file.attrs["namespace"], file.attrs["object_id"] = "NWBFile", "core", "x"
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("empty.nwb", "is empty"),
        ("short.nwb", "is cut short"),
        ("cut.nwb", "is cut short"),
        ("text.nwb", "is not an HDF5 file"),
        ("signature.nwb", "cannot be opened as HDF5"),
        ("broken.nwb", "cannot be (opened|read)|pynwb cannot read"),
        ("plain.nwb", "HDF5, but not NWB: at its root it holds volume"),
        ("empty_hdf5.nwb", "holds nothing"),
        ("one.nwb", "an NWB 1 file"),
        ("hollow.nwb", "pynwb cannot read it"),
    ],
)
def test_each_way_of_not_being_nwb_has_its_own_words(tmp_path, nwb_path, name, words):
    path = bad_files(tmp_path, nwb_path.read_bytes())[name]
    with pytest.raises(SourceError, match=words) as caught:
        resolve(path).open()
    assert name in str(caught.value)
    # nothing holds the file open afterwards
    path.unlink()
    if path.name not in {"empty.nwb"}:
        with pytest.raises(SourceError, match="no file"):
            resolve(path)


def test_bytes_that_are_not_nwb_are_said_too():
    with pytest.raises(SourceError, match="BytesIO object is not an HDF5 file"):
        resolve(io.BytesIO(b"nothing" * 100)).open()


def test_a_file_that_vanishes_after_it_was_found_is_said(nwb_path):
    source = resolve(nwb_path)
    nwb_path.unlink()
    with pytest.raises(SourceError, match="no file"):
        source.open()


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.nwb")
    with pytest.raises(SourceError, match="neither a file nor a folder"):
        resolve(tmp_path / "pipe.nwb")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can stop being itself")
@pytest.mark.parametrize("closed", ["file", "folder"])
def test_a_file_that_may_not_be_read_is_said(nwb_path, closed):
    (nwb_path if closed == "file" else nwb_path.parent).chmod(0)
    for parent in list(nwb_path.parents)[1:3] + ([nwb_path.parent] if closed == "file" else []):
        parent.chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(SourceError, match="permission denied"):
            resolve(nwb_path).open()
    finally:
        os.seteuid(0)
        nwb_path.parent.chmod(0o755)


def test_a_file_that_is_being_written_is_said(nwb_path):
    program = "import h5py, sys; file = h5py.File(sys.argv[1], 'a'); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, nwb_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(SourceError, match="is being written by another program"):
            resolve(nwb_path).open()
        other.communicate()
    resolve(nwb_path).open()[0].close()


def test_the_sessions_of_a_folder_are_listed_and_can_be_opened(make_nwb, tmp_path):
    folder = tmp_path / "recordings"
    folder.mkdir()
    for name in ("sub-1_ses-b-acq-1_ophys", "sub-1_ses-b-acq-2_ophys", "sub-1_ses-a_ophys"):
        make_nwb(folder / f"{name}.nwb")
    first, second = sessions_in(folder)
    assert [(one.subject, one.session, one.n_files) for one in (first, second)] == [("1", "a", 1), ("1", "b", 2)]
    assert first.name == f"{folder}/sub-1_ses-a_ophys.nwb"
    assert first.size == (folder / "sub-1_ses-a_ophys.nwb").stat().st_size
    assert first.source.location == str(folder / "sub-1_ses-a_ophys.nwb")
    assert [file.path.name for file in second.source.files] == [
        "sub-1_ses-b-acq-1_ophys.nwb",
        "sub-1_ses-b-acq-2_ophys.nwb",
    ]


def test_what_can_only_be_one_session_is_not_listed(nwb_path, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert sessions_in(nwb_path) == []
    assert sessions_in("https://example.org/a.nwb") == []
    with h5py.File(nwb_path) as file:
        assert sessions_in(file) == []
    with pytest.raises(SourceError, match="holds no NWB file"):
        sessions_in(empty)
