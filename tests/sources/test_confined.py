import h5py
import numpy as np
import pytest

from nwbrecon.errors import SourceError
from nwbrecon.sources.confined import require_confined


@pytest.fixture
def folder(tmp_path):
    """A folder with a file to link to, beside it another."""
    for name in ("inner", "outside"):
        (tmp_path / name).mkdir()
        with h5py.File(tmp_path / name / "other.h5", "w") as file:
            file["data"] = np.arange(5.0)
    return tmp_path / "inner"


def linked(folder, target):
    path = folder / "file.nwb"
    with h5py.File(path, "w") as file:
        file["a/own"] = np.zeros(3)
        file["a/link"] = h5py.ExternalLink(target, "data")
        file["a/soft"] = h5py.SoftLink("/a/own")
    return h5py.File(path, "r")


def test_what_lies_beside_the_file_may_be_used(folder):
    with linked(folder, "other.h5") as file:
        assert require_confined(file, "it", folder) == []


def test_what_is_not_there_is_said(folder):
    with linked(folder, "raw.h5") as file:
        assert require_confined(file, "it", folder) == ["a/link is kept in raw.h5, which is not there."]


@pytest.mark.parametrize("target", ["../outside/other.h5", "{outside}/other.h5", "x/../../outside/other.h5"])
def test_what_lies_elsewhere_is_refused(folder, target):
    (folder / "x").mkdir()
    with (
        linked(folder, target.format(outside=folder.parent / "outside")) as file,
        pytest.raises(SourceError, match=r"it would have a/link read from .*, which is outside the folder"),
    ):
        require_confined(file, "it", folder)


def test_a_name_that_is_found_where_the_program_was_started_is_refused(folder, monkeypatch):
    """HDF5 looks there too."""
    (folder.parent / "outside" / "here.h5").write_bytes((folder / "other.h5").read_bytes())
    monkeypatch.chdir(folder.parent / "outside")
    with linked(folder, "here.h5") as file, pytest.raises(SourceError, match="outside the folder"):
        require_confined(file, "it", folder)


def test_a_remote_file_names_nothing_on_this_computer(folder):
    with linked(folder, str(folder / "other.h5")) as file, pytest.raises(SourceError, match="outside the folder"):
        require_confined(file, "it", None)
    with linked(folder, "other.h5") as file:
        assert len(require_confined(file, "it", None)) == 1


def test_a_virtual_data_set_of_its_own_file_is_no_other_file(folder):
    with h5py.File(folder / "file.nwb", "w") as file:
        file["data"] = np.arange(5.0)
        layout = h5py.VirtualLayout((5,), "f8")
        layout[:] = h5py.VirtualSource(".", "data", (5,))
        file.create_virtual_dataset("same", layout)
        assert require_confined(file, "it", folder) == []


def test_files_that_link_to_each_other_are_looked_through_once(folder):
    for name, target in (("one.h5", "two.h5"), ("two.h5", "one.h5")):
        with h5py.File(folder / name, "w") as file:
            file["data"] = h5py.ExternalLink(target, "data")
    with h5py.File(folder / "one.h5", "r") as file:
        assert require_confined(file, "it", folder) == []


def test_a_clock_of_which_nothing_is_there_is_refused(folder):
    with h5py.File(folder / "file.nwb", "w") as file:
        file.create_dataset("movie", (10**6, 1000, 1000), "u1", chunks=(1, 100, 100))
        assert require_confined(file, "it", folder) == []
        file.create_dataset("clock", (10**10,), "f8", chunks=(1000,))
        with pytest.raises(SourceError, match=r"clock of it claims 8e\+10 bytes"):
            require_confined(file, "it", folder)
