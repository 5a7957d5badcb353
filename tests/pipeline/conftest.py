"""A run of a small mouse, made once, and spoiled recordings."""

import shutil

import h5py
import pytest

from nwbrecon.config import RunSettings
from nwbrecon.pipeline.run import run

TINY = RunSettings.model_validate(
    {
        "alignment": {"frame_rate": 15, "frame_size": [18, 32]},
        "encoder": {"channels": 16, "kernel_size": 7},
        "training": {"epochs": 6},
        "inversion": {"iterations": 8, "candidate_weights": [1.0, 2.0], "selection_trials": 1},
        "results": {"include_stimulus": True},
    }
)


@pytest.fixture(scope="session")
def tiny():
    return TINY


@pytest.fixture(scope="session")
def ran(mouse, tmp_path_factory):
    """A complete run: not to be written to."""
    return run(mouse, tmp_path_factory.mktemp("run") / "out", TINY, command_line="nwbrecon run mouse.nwb --out out")


@pytest.fixture
def copied(ran, tmp_path):
    """A complete run that may be written to."""
    return shutil.copytree(ran.folder, tmp_path / "out")


@pytest.fixture
def spoiled(mouse, tmp_path):
    """Make a copy of the recording and change it through h5py."""

    def spoil(change):
        path = shutil.copy(mouse, tmp_path / "spoiled.nwb")
        with h5py.File(path, "r+") as file:
            change(file)
        return path

    return spoil
