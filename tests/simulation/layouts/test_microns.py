import h5py
import numpy as np
import pytest

from nwbrecon.simulation.layouts import write_recording


@pytest.fixture
def recording(recordings):
    return recordings["microns"]


def test_each_plane_has_its_raw_fluorescence_on_its_own_clock(read, recording):
    ophys = read("microns").processing["ophys"]
    for number, plane in enumerate(recording.planes, start=1):
        series = ophys["Fluorescence"][f"RoiResponseSeries{number}"]
        np.testing.assert_array_equal(series.data[:], plane.fluorescence)
        np.testing.assert_array_equal(series.timestamps[:], plane.timestamps)
        assert series.rois.table.name == f"PlaneSegmentation{number}"
        assert series.rois.table.imaging_plane.name == f"ImagingPlane{number}"
        assert series.rois.table["image_mask"].data.shape == (5, 80, 64)
        assert set(series.rois.table["mask_type"].data[:]) == {"soma"}
    first, second = (ophys["Fluorescence"][f"RoiResponseSeries{n}"].timestamps[:3] for n in (1, 2))
    assert (second > first).all()
    assert set(ophys.data_interfaces) == {"Fluorescence", "ImageSegmentation"}


def test_the_stagger_can_be_hidden(recording, tmp_path):
    write_recording(recording, tmp_path / "a.nwb", "microns", hidden_stagger=True)
    with h5py.File(tmp_path / "a.nwb") as file:
        series = [file[f"processing/ophys/Fluorescence/RoiResponseSeries{n}"] for n in (1, 2)]
        samples = len(recording.planes[1].timestamps)
        assert samples == len(recording.planes[0].timestamps) - 1
        for stored, plane in zip(series, recording.planes, strict=True):
            np.testing.assert_array_equal(stored["timestamps"][:], recording.planes[0].timestamps[:samples])
            np.testing.assert_array_equal(stored["data"][:], plane.fluorescence[:samples])


def test_the_video_holds_each_frame_twice_in_three_channels(read, recording):
    video = read("microns").acquisition["stimulus_video"]
    movie, times = video.data[:], video.timestamps[:]
    assert movie.dtype == np.uint8
    assert movie.shape[1:] == (36, 64, 3)
    assert (movie == movie[..., :1]).all()
    for row in recording.schedule.itertuples():
        shown = (times >= row.onset - 1e-6) & (times < row.offset - 1e-6)
        np.testing.assert_array_equal(movie[shown][..., 0], np.repeat(recording.clips[row.clip], 2, axis=0))
        np.testing.assert_allclose(times[shown] - row.onset, np.arange(150) / 60, atol=1e-9)
    between = (times >= recording.schedule["offset"][0] - 1e-6) & (times < recording.schedule["onset"][1] - 1e-6)
    assert between.sum() == 44  # 0.73 s at 60 Hz
    assert (movie[between] == 117).all()


def test_repeats_have_the_same_hash(read, recording):
    table = read("microns").intervals["Clip"].to_dataframe()
    assert list(table.index) == list(range(len(recording.schedule)))
    np.testing.assert_allclose(table["start_time"], recording.schedule["onset"])
    np.testing.assert_allclose(table["stop_time"], recording.schedule["offset"])
    np.testing.assert_allclose(table["duration"], 2.5)
    pairs = set(zip(table["condition_hash"], recording.schedule["clip"], strict=True))
    assert len(pairs) == table["condition_hash"].nunique() == 3
    assert set(table["stimulus_type"]) == {"stimulus.Clip"}
    assert set(table["movie_name"]) == {"film"}


def test_a_clip_without_a_film_is_its_own_film(make_recording, tmp_path):
    write_recording(make_recording(film=""), tmp_path / "a.nwb", "microns")
    with h5py.File(tmp_path / "a.nwb") as file:
        assert set(file["intervals/Clip/movie_name"].asstr()) == {"clip 0", "clip 1", "clip 2"}


def test_the_treadmill_is_stored_in_cm_and_converts_to_meters(read, recording):
    treadmill = read("microns").acquisition["treadmill_velocity"]
    assert (treadmill.unit, treadmill.conversion) == ("m/s", 0.01)
    np.testing.assert_array_equal(treadmill.data[:], recording.running["speed"])
    np.testing.assert_allclose(treadmill.get_data_in_units(), recording.running["speed"] / 100)
    np.testing.assert_array_equal(treadmill.timestamps[:], recording.running["timestamps"])


def test_the_pupil_has_gaps_and_one_clock(read, files, recording):
    nwbfile = read("microns")
    pupil = nwbfile.acquisition["PupilTracking"]
    minor, major = pupil["pupil_minor_radius"], pupil["pupil_major_radius"]
    seen = recording.pupil.iloc[2:-1]
    np.testing.assert_array_equal(major.data[:], seen["radius"])
    np.testing.assert_array_equal(major.timestamps[:], seen["timestamps"])
    assert np.isnan(minor.data[:]).sum() == 3
    ratio = (minor.data[:] / major.data[:])[~np.isnan(minor.data[:])]
    np.testing.assert_allclose(ratio, np.cos(np.radians(20)))
    with h5py.File(files["microns"]) as file:
        assert isinstance(
            file.get("acquisition/PupilTracking/pupil_major_radius/timestamps", getlink=True), h5py.SoftLink
        )
    eye = nwbfile.acquisition["EyeTracking"]["eye_position"]
    np.testing.assert_allclose(eye.data[:], [160, 120] + seen[["gaze_x", "gaze_y"]].to_numpy() * [3, -3])


def test_no_two_clocks_are_alike(read):
    nwbfile = read("microns")
    clocks = [
        nwbfile.processing["ophys"]["Fluorescence"]["RoiResponseSeries1"],
        nwbfile.processing["ophys"]["Fluorescence"]["RoiResponseSeries2"],
        nwbfile.acquisition["stimulus_video"],
        nwbfile.acquisition["treadmill_velocity"],
        nwbfile.acquisition["PupilTracking"]["pupil_minor_radius"],
    ]
    starts = [series.timestamps[1] for series in clocks]
    assert len(set(starts)) == len(starts)
    assert np.std(np.diff(clocks[3].timestamps[:])) > 1e-3
