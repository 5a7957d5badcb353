import numpy as np
import pytest

from nwbrecon.simulation.layouts import write_recording
from nwbrecon.simulation.layouts.common import delta_f_over_f


@pytest.fixture
def recording(recordings):
    return recordings["plain"]


def test_each_plane_has_its_dff(read, recording):
    ophys = read("plain").processing["ophys"]
    for number, plane in enumerate(recording.planes, start=1):
        series = ophys["DfOverF"][f"RoiResponseSeries_plane_{number}"]
        np.testing.assert_array_equal(series.data[:], delta_f_over_f(plane))
        np.testing.assert_allclose(series.get_timestamps(), plane.timestamps, atol=1e-6)
        assert series.timestamps is None
        assert series.rate == pytest.approx(7.1)
        assert series.rois.table.imaging_plane.name == f"plane_{number}"
        assert series.rois.table["image_mask"].data.shape == (5, 80, 64)


def test_an_irregular_clock_is_written_sample_by_sample(make_recording, tmp_path):
    from pynwb import read_nwb

    recording = make_recording()
    recording.planes[0].timestamps[7:] += 1e-4
    write_recording(recording, tmp_path / "a.nwb", "plain")
    nwbfile = read_nwb(tmp_path / "a.nwb")
    series = nwbfile.processing["ophys"]["DfOverF"]["RoiResponseSeries_plane_1"]
    np.testing.assert_array_equal(series.timestamps[:], recording.planes[0].timestamps)
    nwbfile.read_io.close()


def test_trials_refer_to_their_frames(read, recording):
    nwbfile = read("plain")
    trials = nwbfile.trials.to_dataframe()
    assert list(trials["clip"]) == list(recording.schedule["clip"])
    assert set(trials["film"]) == {"film"}
    movies = nwbfile.stimulus["natural_movies"]
    for trial, row in zip(trials.itertuples(), recording.schedule.itertuples(), strict=True):
        ((first, count, series),) = trial.timeseries
        assert series is movies
        np.testing.assert_array_equal(movies.data[first : first + count], recording.clips[row.clip])
        np.testing.assert_allclose(movies.timestamps[first : first + count], row.onset + np.arange(75) / 30)
        assert movies.timestamps[first + count] == pytest.approx(row.offset)
        assert (movies.data[first + count] == 117).all()


def test_films_without_names_get_no_column(make_recording, tmp_path):
    from pynwb import read_nwb

    write_recording(make_recording(film=""), tmp_path / "a.nwb", "plain")
    nwbfile = read_nwb(tmp_path / "a.nwb")
    assert "film" not in nwbfile.trials.colnames
    nwbfile.read_io.close()


def test_behavior_is_in_units_of_its_own(read, recording):
    behavior = read("plain").processing["behavior"]
    seen = recording.pupil.iloc[2:-1]
    running = behavior["BehavioralTimeSeries"]["running_speed"]
    assert running.unit == "m/s"
    np.testing.assert_allclose(running.data[:], recording.running["speed"] / 100)
    np.testing.assert_array_equal(running.timestamps[:], recording.running["timestamps"])
    np.testing.assert_allclose(behavior["PupilTracking"]["pupil_diameter"].data[:], 2 * seen["radius"])
    np.testing.assert_array_equal(behavior["EyeTracking"]["gaze"].data[:], seen[["gaze_x", "gaze_y"]])
