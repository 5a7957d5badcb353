import datetime

import pytest
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.file import Subject


@pytest.fixture
def new_nwb():
    def make(subject="m1", session="1"):
        start = datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
        nwb = NWBFile("a session", f"id-{session}", start, session_id=session)
        nwb.subject = Subject(subject_id=subject)
        nwb.add_acquisition(TimeSeries(name="a", data=[1.0, 2.0], unit="V", rate=1.0))
        return nwb

    return make


@pytest.fixture
def make_nwb(new_nwb):
    def make(path, subject="m1", session="1"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with NWBHDF5IO(path, "w") as io:
            io.write(new_nwb(subject, session))
        return path

    return make


@pytest.fixture
def nwb_path(make_nwb, tmp_path):
    return make_nwb(tmp_path / "good" / "a.nwb")
