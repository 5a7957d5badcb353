"""A small DwiseNeuro with random weights, and what the published code computes with it."""

from pathlib import Path

import numpy as np
import pytest

from nwbrecon.encoding.dwiseneuro import read_checkpoint

DATA = Path(__file__).parents[2] / "data" / "dwiseneuro"


@pytest.fixture(scope="session")
def data_folder():
    return DATA


@pytest.fixture(scope="session")
def vectors():
    return np.load(DATA / "small_io.npz")


@pytest.fixture
def network():
    return read_checkpoint(DATA / "small.pth").network
