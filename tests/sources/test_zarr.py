import json
import sys

import hdmf_zarr
import numpy as np
import pytest
from pynwb import NWBHDF5IO, TimeSeries

from nwbrecon.errors import SourceError
from nwbrecon.sources import resolve


@pytest.fixture
def store(new_nwb, tmp_path):
    """NWB in Zarr, written by hdmf-zarr."""
    path = tmp_path / "sub-m1_ses-1_ophys.nwb.zarr"
    nwb = new_nwb()
    nwb.add_acquisition(TimeSeries(name="b", data=np.arange(1000.0).reshape(100, 10), unit="V", rate=1.0))
    with hdmf_zarr.NWBZarrIO(str(path), "w") as io:
        io.write(nwb)
    return path


def test_a_store_is_opened_and_identified(store):
    for spec in (store, str(store), store.parent):
        (file,) = resolve(spec).open()
        assert file.nwbfile.acquisition["a"].data[:].tolist() == [1.0, 2.0]
        np.testing.assert_array_equal(file.nwbfile.acquisition["b"].data[5:7, 3], [53.0, 63.0])
        assert file.identity["location"] == str(store)
        assert file.identity["session_id"] == "1"
        file.close()


def test_the_digest_is_that_of_all_its_files(store):
    before = resolve(store).digest()
    assert resolve(store).digest() == before
    chunk = next(path for path in (store / "acquisition" / "b" / "data").iterdir() if path.name[0].isdigit())
    chunk.write_bytes(chunk.read_bytes()[::-1])
    assert resolve(store).digest() != before


def test_a_store_that_is_damaged_or_none_of_nwb_is_refused(store):
    (store / "acquisition" / "a" / "data" / ".zarray").write_text("{")
    (store / ".zmetadata").unlink(missing_ok=True)
    with pytest.raises(SourceError, match=r"is a Zarr store, but cannot be read as NWB"):
        resolve(store).open()


def test_pickles_are_not_read(store):
    for array in store.rglob(".zarray"):
        metadata = json.loads(array.read_text())
        metadata["filters"] = [{"id": "pickle", "protocol": 5}]
        metadata["dtype"] = "|O"
        array.write_text(json.dumps(metadata))
    (store / ".zmetadata").unlink(missing_ok=True)
    with pytest.raises(SourceError, match=r"Python pickles.*HDF5"):
        resolve(store).open()


def test_without_hdmf_zarr_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "hdmf_zarr", None)
    path = tmp_path / "a.nwb.zarr"
    path.mkdir()
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    with pytest.raises(SourceError, match=r'is NWB in Zarr.*pip install "nwbrecon\[zarr\]"'):
        resolve(path).open()


def test_a_recording_read_from_zarr_is_that_read_from_hdf5(tmp_path):
    from nwbrecon.config import SimulationSettings
    from nwbrecon.session import open_session
    from nwbrecon.simulation.layouts import write_recording
    from nwbrecon.simulation.session import simulate_recording

    size = {"rois": 6, "planes": 2, "minutes": 0.15, "clip_seconds": 3.0, "test_clips": 1, "test_repeats": 3}
    path, store = tmp_path / "mouse.nwb", tmp_path / "mouse.nwb.zarr"
    write_recording(simulate_recording(SimulationSettings(layout="microns", **size)), path, "microns")
    with NWBHDF5IO(path, "r") as source, hdmf_zarr.NWBZarrIO(str(store), "w") as target:
        target.export(src_io=source, write_args={"link_data": False})
    with open_session(path) as expected, open_session(store) as session:
        assert session.stimulus.presentations.equals(expected.stimulus.presentations)
        label = session.stimulus.presentations.index[0]
        np.testing.assert_array_equal(session.stimulus.read(label), expected.stimulus.read(label))
        for name, group in expected.responses.items():
            np.testing.assert_array_equal(session.responses[name].signal.read(0, 20), group.signal.read(0, 20))
            np.testing.assert_array_equal(session.responses[name].timestamps, group.timestamps)
        for name, series in expected.behavior.items():
            np.testing.assert_array_equal(session.behavior[name].values, series.values)
