"""Done again from the results file alone, a run gives the same movies."""

import gzip
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from nwbrecon.errors import ResultsError, SettingsError
from nwbrecon.pipeline.reproduce import reproduce
from nwbrecon.results import read_results


@pytest.mark.slow
def test_a_run_is_reproduced_to_the_last_bit(ran, mouse, tmp_path):
    again = reproduce(ran.results_path, mouse, out=tmp_path / "again.nwb")
    assert again.identical
    assert again.reproduced
    assert again.same == {"source": True, "training_data": True, "encoder": True, "mask": True}
    assert again.software == {}
    assert len(again.clips) == len(ran.results.reconstructions)
    for one, other in again.scores.values():
        assert one == pytest.approx(other, abs=1e-12)
    assert "the same to the last bit" in str(again)
    assert json.dumps(again.to_dict())
    back = read_results(tmp_path / "again.nwb")
    assert back.provenance["reproduces"] == ran.results_path.name
    np.testing.assert_array_equal(back.reconstructions[0].video, ran.results.reconstructions[0].video)
    assert [path.name for path in tmp_path.iterdir()] == ["again.nwb"]


@pytest.mark.slow
def test_what_was_changed_is_found(ran, mouse, tmp_path):
    changed = shutil.copy(ran.results_path, tmp_path / "changed.nwb")
    with h5py.File(changed, "r+") as file:
        movie = file["processing/reconstruction/reconstructed_movie/data"]
        movie[:20] = movie[:20][:, ::-1]
        table = file["processing/reconstruction/provenance"]
        paths = [name.decode() for name in table["path"][:]]
        table["value"][paths.index("software.numpy")] = '"1.0"'
        table["value"][paths.index("encoder.weights")] = '"0"'
    # the recording is found beside the results by its name
    shutil.copy(mouse, tmp_path / mouse.name)
    again = reproduce(changed)
    assert not again.reproduced
    assert not again.clips[0].identical
    assert again.clips[-1].identical
    assert again.same["encoder"] is False
    assert again.software["numpy"] == ("1.0", np.__version__)
    assert "NOT reproduced" in str(again)


def test_a_recording_that_is_not_found_is_asked_for(ran, tmp_path, monkeypatch):
    results = shutil.copy(ran.results_path, tmp_path / "results.nwb")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ResultsError, match=r"mouse\.nwb, which is not beside it.*--source"):
        reproduce(results)


def test_another_recording_is_refused(ran, spoiled):
    def rename(file):
        file["identifier"][()] = "another"

    with pytest.raises(ResultsError, match="identifier"):
        reproduce(ran.results_path, spoiled(rename))


def test_what_exists_is_not_replaced(ran, mouse):
    with pytest.raises(SettingsError, match="exists already"):
        reproduce(ran.results_path, mouse, out=ran.results_path)


def test_results_that_do_not_say_how_they_were_made(tmp_path):
    stored = gzip.decompress((Path(__file__).parents[1] / "data" / "results_v1.nwb.gz").read_bytes())
    (tmp_path / "old.nwb").write_bytes(stored)
    with pytest.raises(ResultsError, match="does not say with which settings of"):
        reproduce(tmp_path / "old.nwb")


def test_the_results_say_nothing_of_this_computer(ran):
    text = json.dumps(ran.results.provenance)
    assert str(ran.folder) not in text
    assert str(ran.folder.parents[1]) not in text
    assert str(Path.home()) not in text
    assert ran.results.provenance["source"]["location"] == "mouse.nwb"
    assert ran.results.provenance["encoder"]["session"]["location"] == "mouse.nwb"
