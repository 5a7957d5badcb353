"""What is in the NWB file itself, and how it is written."""

import tracemalloc
import warnings

import h5py
import numpy as np
import pytest
from dandi.validate._core import validate
from nwbinspector import Importance, inspect_nwbfile, load_config
from pynwb import read_nwb
from pynwb import validate as validate_schema

import nwbrecon as nr
from nwbrecon.converters import import_sensorium
from nwbrecon.converters.mouse_file import GAP_SECONDS, LICENSE

from .release import write_release


def test_cells_keep_their_ids_and_depths(session, made):
    rois = session.responses["all_planes"].rois
    np.testing.assert_array_equal(rois.index, made.unit_ids)
    np.testing.assert_array_equal(rois[["motor_x", "motor_y", "depth"]], made.coordinates)
    assert set(rois["area"]) == {"VISp"}


def test_nothing_is_made_up_between_trials(session):
    assert set(session.stimulus.presentations["kind"]) == {"movie"}
    assert "2 of 14 trials were left out: no responses" in " ".join(nr.align(session).warnings)
    pauses = session.stimulus.shown["onset"].to_numpy()[1:] - session.stimulus.shown["offset"].to_numpy()[:-1]
    np.testing.assert_allclose(pauses, GAP_SECONDS)


def test_a_single_trial(tmp_path):
    made = write_release(tmp_path, tiers=["train"], clips=[0])
    import_sensorium(made.path, tmp_path / "mouse.nwb")
    with nr.open_session(tmp_path / "mouse.nwb") as session:
        np.testing.assert_array_equal(session.stimulus.read(0), np.moveaxis(made.videos[0], 2, 0))


def test_the_file_says_what_is_made_up_and_under_which_license_it_is(path):
    nwbfile = read_nwb(path)
    assert nwbfile.notes == LICENSE
    assert "does not say when" in nwbfile.session_description
    nwbfile.read_io.close()


def test_the_same_folder_gives_the_same_file(made, path, tmp_path):
    import_sensorium(made.path, tmp_path / "again.nwb")
    with h5py.File(path) as one, h5py.File(tmp_path / "again.nwb") as other:
        assert one["identifier"][()] == other["identifier"][()]
        data = "processing/ophys/deconvolved/data"
        np.testing.assert_array_equal(one[data][:], other[data][:])


def test_nwbinspector_finds_nothing_of_weight(path):
    messages = list(inspect_nwbfile(nwbfile_path=path, config=load_config("dandi")))
    assert {message.importance for message in messages} <= {Importance.BEST_PRACTICE_SUGGESTION}
    # what the release does not tell
    assert {message.check_function_name for message in messages} <= {
        "check_session_start_time_old_date",
        "check_experimenter_exists",
        "check_institution",
    }
    assert not validate_schema(path=path)


def test_dandi_finds_no_error(path, monkeypatch):
    monkeypatch.setenv("DANDI_NO_ET", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of dandi and of what it uses are not ours
        findings = list(validate(path))
    assert not [finding for finding in findings if finding.severity is not None and finding.severity.name == "ERROR"]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_session(tmp_path):
    def peak(n_trials):
        folder = tmp_path / str(n_trials)
        made = write_release(
            folder, tiers=["train"] * n_trials, clips=[0] * n_trials, lengths=(60,), padded=60, n_cells=1500
        )
        tracemalloc.start()
        import_sensorium(made.path, folder / "mouse.nwb")
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    added = 12 * 1500 * 60 * np.dtype(np.float32).itemsize
    few, many = peak(4), peak(16)
    assert many - few < added / 5
