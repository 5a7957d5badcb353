import h5py
import numpy as np
import pytest

from nwbrecon.simulation.layouts.common import delta_f_over_f, events


@pytest.fixture
def recording(recordings):
    return recordings["visual-coding"]


def test_all_signals_of_the_plane_share_a_clock(read, files, recording):
    ophys = read("visual-coding").processing["ophys"]
    (plane,) = recording.planes
    fluorescence, dff = ophys["Fluorescence"], ophys["DfOverF"]["DfOverF"]
    np.testing.assert_array_equal(fluorescence["Demixed"].data[:], plane.fluorescence)
    np.testing.assert_array_equal(fluorescence["Neuropil"].data[:], plane.neuropil)
    np.testing.assert_array_equal(dff.data[:], delta_f_over_f(plane))
    np.testing.assert_allclose(fluorescence["Corrected"].data[:], plane.fluorescence - 0.7 * plane.neuropil, rtol=1e-5)
    deconvolved = ophys["DfOverF"]["DfOverFEvents"]
    np.testing.assert_array_equal(deconvolved.data[:], events(plane))
    for series in (*fluorescence.roi_response_series.values(), dff, deconvolved):
        np.testing.assert_array_equal(series.timestamps[:], plane.timestamps)
        assert series.rois.table.name == "PlaneSegmentation"
    with h5py.File(files["visual-coding"]) as file:
        folder = file["processing/ophys"]
        links = [folder.get(f"Fluorescence/{name}/timestamps", getlink=True) for name in ("Demixed", "Neuropil")]
        links += [folder.get(f"DfOverF/{name}/timestamps", getlink=True) for name in ("DfOverF", "DfOverFEvents")]
        assert all(isinstance(link, h5py.SoftLink) and "Corrected" in link.path for link in links)


def test_rois_are_pixel_masks_with_an_identity(read, recording):
    table = read("visual-coding").processing["ophys"]["ImageSegmentation"]["PlaneSegmentation"]
    (plane,) = recording.planes
    np.testing.assert_array_equal(table["global_roi_id"].data[:], plane.cells)
    for position, pixels in zip(plane.positions, table["pixel_mask"][:], strict=True):
        x, y = np.array([pixel[0] for pixel in pixels]), np.array([pixel[1] for pixel in pixels])
        assert np.hypot(y - position[0], x - position[1]).max() < 6


def test_templates_and_table_give_the_movie_back(read, recording):
    nwbfile = read("visual-coding")
    table = nwbfile.intervals["natural_movie_presentations"].to_dataframe()
    assert len(nwbfile.stimulus_template) == 3
    assert len(table) == 75 * len(recording.schedule)
    for block, row in enumerate(recording.schedule.itertuples()):
        frames = table[table["stimulus_block"] == block]
        (name,) = frames["stimulus_name"].unique()
        np.testing.assert_array_equal(
            nwbfile.stimulus_template[name].data[:][frames["frame"]], recording.clips[row.clip]
        )
        np.testing.assert_allclose(frames["start_time"], row.onset + np.arange(75) / 30)
        np.testing.assert_allclose(frames["start_time"][1:], frames["stop_time"][:-1])
        assert frames["stop_time"].iloc[-1] == pytest.approx(row.offset)
    assert nwbfile.stimulus_template[name].rate == 30


def test_running_is_on_the_clock_of_the_imaging(read, recording):
    running = read("visual-coding").processing["behavior"]["BehavioralTimeSeries"]["running_speed"]
    times = running.timestamps[:]
    np.testing.assert_array_equal(times, recording.planes[0].timestamps)
    assert running.unit == "cm/s"
    known = (times >= recording.running["timestamps"].iloc[0]) & (times <= recording.running["timestamps"].iloc[-1])
    assert not known[0]
    np.testing.assert_array_equal(np.isnan(running.data[:]), ~known)
    np.testing.assert_allclose(running.data[:][known], 10 + 8 * np.sin(times[known] / 3), atol=0.01)


def test_the_pupil_is_an_area_and_the_gaze_a_place_on_the_screen(read, recording):
    behavior = read("visual-coding").processing["behavior"]
    seen = recording.pupil.iloc[2:-1]
    size = behavior["PupilTracking"]["pupil_size"]
    np.testing.assert_allclose(np.sqrt(size.data[:] / np.pi), seen["radius"])
    location = behavior["EyeTracking"]["pupil_location"]
    np.testing.assert_array_equal(location.timestamps[:], seen["timestamps"])
    np.testing.assert_allclose(np.degrees(np.arctan(location.data[:] / 0.15)), seen[["gaze_x", "gaze_y"]])
    spherical = behavior["CompassDirection"]["pupil_location_spherical"]
    np.testing.assert_array_equal(spherical.data[:], seen[["gaze_x", "gaze_y"]])
