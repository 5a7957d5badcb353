import numpy as np
import pytest

from nwbrecon.errors import SourceError
from nwbrecon.simulation.truth import read_truth, write_truth


def test_the_truth_comes_back(make_recording, tmp_path):
    recording = make_recording()
    path = write_truth(recording, tmp_path / "mouse.nwb")
    assert [file.name for file in tmp_path.iterdir()] == ["mouse.truth.npz"]
    truth = read_truth(tmp_path / "mouse.nwb")
    assert truth.keys() == read_truth(path).keys()
    for name, clip in recording.clips.items():
        np.testing.assert_array_equal(truth[f"clips/{name}"], clip)
    for column in recording.schedule:
        np.testing.assert_array_equal(truth[f"schedule/{column}"], recording.schedule[column])
    for number, plane in enumerate(recording.planes, start=1):
        np.testing.assert_array_equal(truth[f"planes/{number}/timestamps"], plane.timestamps)
        np.testing.assert_array_equal(truth[f"planes/{number}/cells"], plane.cells)
        np.testing.assert_array_equal(truth[f"planes/{number}/positions"], plane.positions)
        assert truth[f"planes/{number}/depth"] == plane.depth
    for name, values in recording.truth.items():
        np.testing.assert_array_equal(truth[name], values)
    assert (truth["frame_rate"], truth["gray"], truth["duration"]) == (30, 117, recording.duration)


def test_objects_are_refused_and_nothing_is_left(make_recording, tmp_path):
    recording = make_recording()
    recording.truth["mixed"] = np.array([1, "a"], dtype=object)
    with pytest.raises(ValueError, match="mixed"):
        write_truth(recording, tmp_path / "mouse.nwb")
    recording.truth = {"gray": np.zeros(1)}
    with pytest.raises(ValueError, match="gray"):
        write_truth(recording, tmp_path / "mouse.nwb")
    assert not list(tmp_path.iterdir())


def test_a_missing_or_damaged_side_file_is_said(tmp_path):
    with pytest.raises(SourceError, match=r"no .*mouse\.truth\.npz"):
        read_truth(tmp_path / "mouse.nwb")
    for content in (b"", b"PK\x03\x04 cut off", b"\x80\x04K\x01."):
        (tmp_path / "mouse.truth.npz").write_bytes(content)
        with pytest.raises(SourceError, match="cannot be read"):
            read_truth(tmp_path / "mouse.nwb")
