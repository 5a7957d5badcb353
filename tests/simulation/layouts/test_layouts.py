"""What holds for every layout, and the choice between them."""

import warnings

import h5py
import numpy as np
import pytest
from dandi.validate._core import validate
from nwbinspector import Importance, inspect_nwbfile, load_config
from pynwb import validate as validate_schema

from nwbrecon.errors import SettingsError
from nwbrecon.simulation.layouts import write_recording

LAYOUTS = ("microns", "visual-coding", "plain")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nwbinspector_finds_nothing_critical(files, layout):
    messages = list(inspect_nwbfile(nwbfile_path=files[layout], config=load_config("dandi")))
    grave = [message for message in messages if message.importance.value >= Importance.CRITICAL.value]
    assert not grave
    known = {"check_regular_timestamps", "check_spatial_series_unit"} if layout == "microns" else set()
    known |= {"check_regular_timestamps"} if layout == "visual-coding" else set()
    assert {message.check_function_name for message in messages} <= known


@pytest.mark.parametrize("layout", LAYOUTS)
def test_dandi_finds_no_error(files, layout, monkeypatch):
    monkeypatch.setenv("DANDI_NO_ET", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of dandi and of what it uses are not ours
        findings = list(validate(files[layout]))
    assert not [finding for finding in findings if finding.severity is not None and finding.severity.name == "ERROR"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_file_follows_the_schema(files, layout):
    assert not validate_schema(path=files[layout])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_truth_stays_out(files, layout, recordings):
    names: list[str] = []
    with h5py.File(files[layout]) as file:
        file.visit(names.append)
    leaves = {name.rsplit("/", 1)[-1] for name in names}
    assert not leaves & ({"split", "repeat"} | set(recordings[layout].truth))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_head_of_the_file(read, recordings, layout):
    nwbfile = read(layout)
    assert nwbfile.subject.species == "Mus musculus"
    assert nwbfile.session_start_time.tzinfo is not None
    assert "imulated" in nwbfile.session_description
    for plane, imaged in zip(recordings[layout].planes, nwbfile.imaging_planes.values(), strict=True):
        assert imaged.imaging_rate == recordings[layout].imaging_rate
        assert imaged.origin_coords[2] == pytest.approx(plane.depth * 1e-6)


def test_identity_comes_from_what_was_simulated(make_recording, tmp_path):
    def identity(layout, seed):
        write_recording(make_recording(seed=seed, planes=1), tmp_path / "a.nwb", layout)
        with h5py.File(tmp_path / "a.nwb") as file:
            return file["identifier"][()], file["general/subject/subject_id"][()]

    plain, again, other, microns = (
        identity(*case) for case in [("plain", 1), ("plain", 1), ("plain", 2), ("microns", 1)]
    )
    assert plain == again
    assert not set(plain) & set(other)
    assert (plain[0] != microns[0], plain[1] == microns[1]) == (True, True)


def test_a_write_that_fails_leaves_the_old_file(make_recording, tmp_path):
    recording = make_recording()
    (tmp_path / "a.nwb").write_text("old")
    # the movie is handed out chunk by chunk while the file is being written
    recording.clips["clip 2"] = recording.clips["clip 2"][:, :10]
    with pytest.raises(ValueError, match="shape"):
        write_recording(recording, tmp_path / "a.nwb", "microns")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.nwb", "old")]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_recording_without_behavior(make_recording, tmp_path, layout):
    recording = make_recording(planes=1)
    recording.running = recording.running.iloc[:0]
    recording.pupil["radius"] = np.nan
    write_recording(recording, tmp_path / "a.nwb", layout)
    with h5py.File(tmp_path / "a.nwb") as file:
        assert "behavior" not in file["processing"]
        assert set(file["acquisition"]) <= {"stimulus_video"}


def test_what_cannot_be_written_is_said_and_leaves_nothing(make_recording, tmp_path):
    recording = make_recording(planes=2)
    with pytest.raises(SettingsError, match="2 planes"):
        write_recording(recording, tmp_path / "a.nwb", "visual-coding")
    with pytest.raises(SettingsError, match="no layout 'sideways'"):
        write_recording(recording, tmp_path / "a.nwb", "sideways")
    with pytest.raises(SettingsError, match=r"does not end in \.nwb"):
        write_recording(recording, tmp_path / "a.h5", "plain")
    with pytest.raises(SettingsError, match="stagger"):
        write_recording(recording, tmp_path / "a.nwb", "plain", hidden_stagger=True)
    assert not list(tmp_path.iterdir())
