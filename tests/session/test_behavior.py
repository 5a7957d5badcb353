import numpy as np
import pytest
from hdmf.common import DynamicTable, VectorData
from pynwb import NWBHDF5IO, TimeSeries
from pynwb.behavior import BehavioralTimeSeries, EyeTracking, PupilTracking, SpatialSeries

import nwbrecon as nr
from nwbrecon.session.behavior import cm_per_second

from .conftest import new_file, with_movie, with_responses

rng = np.random.default_rng(0)


@pytest.fixture
def nwb():
    return with_movie(with_responses(new_file()))


def trace(name, data=None, unit="a.u.", kind=TimeSeries, **more):
    data = np.abs(rng.normal(10, 2, 100)) if data is None else data
    more = more or {"rate": 20.0, "starting_time": 0.5}
    if kind is SpatialSeries:
        more["reference_frame"] = "the camera's corner"
    return kind(name=name, data=data, unit=unit, **more)


def behavior(nwb):
    session = nr.open_session(nwb)
    return session.behavior, " ".join(session.warnings)


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("cm/s", 1), ("cm/sec", 1), ("cm s-1", 1), ("cm*s^-1", 1), ("m/s", 100), ("meters/second", 100), ("mm/s", 0.1),
     ("centimeters per second", 1), ("inches/s", 2.54), ("M/S", 100), ("rad/s", None), ("cm", None), ("", None),
     ("cm/s^2", None), ("frames/s", None)],
)  # fmt: skip
def test_units_of_speed(unit, factor):
    assert cm_per_second(unit) == (None if factor is None else pytest.approx(factor))


@pytest.mark.parametrize("place", ["acquisition", "module", "container"])
@pytest.mark.parametrize("name", ["running_speed", "treadmill_velocity", "wheel speed", "speed"])
def test_running_is_found_wherever_it_is(nwb, place, name):
    stored = trace(name, unit="m/s")
    if place == "acquisition":
        nwb.add_acquisition(stored)
    else:
        module = nwb.create_processing_module("running", "running")
        module.add(stored if place == "module" else BehavioralTimeSeries(time_series=stored))
    found, _ = behavior(nwb)
    np.testing.assert_allclose(found["running_speed"].values, stored.data * 100)
    np.testing.assert_allclose(found["running_speed"].timestamps, 0.5 + np.arange(100) / 20)
    assert found["running_speed"].unit == "cm/s"


@pytest.mark.parametrize("continuity", ["step", "continuous", None])
def test_a_series_says_whether_its_values_are_held(nwb, tmp_path, continuity):
    nwb.add_acquisition(trace("running_speed", unit="cm/s", continuity=continuity, rate=20.0))
    with NWBHDF5IO(tmp_path / "a.nwb", "w") as io:
        io.write(nwb)
    with nr.open_session(tmp_path / "a.nwb") as session:
        assert session.behavior["running_speed"].held == (continuity == "step")


def test_of_several_the_speed_is_taken(nwb):
    module = nwb.create_processing_module("running", "running")
    for name in ("running_acceleration", "running_speed_end_times", "speed_unfiltered", "running_wheel_voltage"):
        module.add(trace(name, data=np.full(100, -1.0), unit="cm/s" if "speed" in name else "V"))
    module.add(trace("running_speed", data=np.full(100, 5.0), unit="cm/s"))
    nwb.add_acquisition(trace("pupil_speed", unit="deg/s"))
    found, _ = behavior(nwb)
    np.testing.assert_array_equal(found["running_speed"].values, np.full(100, 5.0))


def test_a_speed_in_an_unknown_unit_is_kept_and_said(nwb):
    nwb.add_acquisition(trace("running_speed", unit="ticks"))
    found, warnings = behavior(nwb)
    assert found["running_speed"].unit == "ticks"
    assert "no speed that is known" in warnings


def test_a_speed_that_no_mouse_reaches_is_said(nwb):
    nwb.add_acquisition(trace("running_speed", unit="m/s"))
    assert "its unit or conversion is probably wrong" in behavior(nwb)[1]


@pytest.mark.parametrize("name", ["running_state", "licks", "stimulus_speed", "temperature"])
def test_what_is_not_running_is_not_taken_for_it(nwb, name):
    nwb.add_acquisition(trace(name))
    found, warnings = behavior(nwb)
    assert found == {}
    assert "no running" in warnings


AREA = np.array([np.pi, 4 * np.pi, np.nan, 9 * np.pi] * 25)


@pytest.mark.parametrize(
    ("name", "data", "unit", "expected", "expected_unit"),
    [
        ("pupil_radius", AREA, "px", AREA, "px"),
        ("pupil_diameter", AREA, "mm", AREA / 2, "mm"),
        ("pupil_area", AREA, "px^2", np.sqrt(AREA / np.pi), "px"),
        ("pupil_area", AREA, "square pixels", np.sqrt(AREA / np.pi), "pixels"),
        ("pupil_size", AREA, "px", AREA, "px"),
        ("PupilArea", AREA, "mm2", np.sqrt(AREA / np.pi), "mm"),
    ],
)
def test_the_pupil_is_a_radius(nwb, name, data, unit, expected, expected_unit):
    nwb.add_acquisition(PupilTracking(time_series=trace(name, data=data, unit=unit)))
    found, _ = behavior(nwb)
    np.testing.assert_allclose(found["pupil_size"].values, expected)
    assert found["pupil_size"].unit == expected_unit


def test_two_radii_are_one(nwb):
    minor, major = trace("pupil_minor_radius"), trace("pupil_major_radius")
    nwb.add_acquisition(PupilTracking(time_series=[minor, major]))
    found, _ = behavior(nwb)
    np.testing.assert_allclose(found["pupil_size"].values, np.sqrt(minor.data * major.data))


def test_two_axes_are_two_diameters(nwb):
    minor, major = trace("pupil_axis_minor"), trace("pupil_axis_major")
    nwb.add_acquisition(PupilTracking(time_series=[minor, major]))
    found, _ = behavior(nwb)
    np.testing.assert_allclose(found["pupil_size"].values, np.sqrt(minor.data * major.data) / 2)


def test_gaze_in_degrees_is_preferred(nwb):
    module = nwb.create_processing_module("behavior", "behavior")
    in_meters = trace("pupil_location", data=rng.normal(size=(100, 2)), unit="m", kind=SpatialSeries)
    in_degrees = trace("pupil_location_spherical", data=rng.normal(size=(100, 2)), unit="degrees", kind=SpatialSeries)
    module.add(EyeTracking(spatial_series=[in_meters, in_degrees]))
    found, _ = behavior(nwb)
    np.testing.assert_array_equal(found["gaze_x"].values, in_degrees.data[:, 0])
    np.testing.assert_array_equal(found["gaze_y"].values, in_degrees.data[:, 1])
    assert found["gaze_x"].unit == "degrees"


def test_gaze_in_two_series_is_one(nwb):
    x, y = (trace(f"pupil_position_{axis}", kind=SpatialSeries) for axis in "xy")
    nwb.add_acquisition(EyeTracking(spatial_series=[x, y]))
    found, _ = behavior(nwb)
    np.testing.assert_array_equal(found["gaze_x"].values, x.data)
    np.testing.assert_array_equal(found["gaze_y"].values, y.data)
    assert "pupil_size" not in found


def test_the_place_of_the_animal_is_not_its_gaze(nwb):
    nwb.add_acquisition(trace("position", data=rng.normal(size=(100, 2)), unit="m", kind=SpatialSeries))
    assert behavior(nwb)[0] == {}


def test_bad_time_stamps_and_values_are_masked(nwb):
    times = np.arange(100) / 20
    times[5], times[50] = np.nan, 99
    data = rng.normal(10, 1, 100)
    data[7] = np.inf
    nwb.add_acquisition(trace("running_speed", data=data, unit="cm/s", timestamps=times))
    found, warnings = behavior(nwb)
    kept = np.delete(np.arange(100), [5, 50])
    np.testing.assert_array_equal(found["running_speed"].timestamps, times[kept])
    np.testing.assert_array_equal(found["running_speed"].values, np.where(np.isinf(data), np.nan, data)[kept])
    assert "2 samples with bad time stamps" in warnings


def test_a_series_without_a_clock_is_left_out(nwb):
    nwb.add_acquisition(trace("running_speed", unit="cm/s", rate=np.nan))
    found, warnings = behavior(nwb)
    assert found == {}
    assert "it has no clock" in warnings


def test_how_far_it_ran_is_differentiated(nwb):
    """A wheel that turns at a speed of its own each second; one position is missing, one interval is long."""
    times = np.delete(np.arange(400) / 40, slice(200, 240))
    speed = 5.0 + 3 * np.sin(times)
    meters = (5 * times - 3 * np.cos(times)) / 100
    meters[30] = np.nan
    nwb.add_acquisition(trace("wheel_position", data=meters, unit="m", timestamps=times))
    found, _ = behavior(nwb)
    series = found["running_speed"]
    assert series.unit == "cm/s"
    known = np.isfinite(series.values)
    assert (~known).sum() == 2
    truth = np.interp(series.timestamps, times, speed)
    np.testing.assert_allclose(series.values[known], truth[known], atol=0.01)
    assert not ((series.timestamps > 5) & (series.timestamps < 5.99)).any()


def test_a_belt_that_begins_anew_is_no_sprint(nwb):
    times = np.arange(200) / 20
    nwb.add_acquisition(trace("treadmill_position", data=(20 * times) % 90, unit="cm", timestamps=times))
    found, warnings = behavior(nwb)
    values = found["running_speed"].values
    assert np.isnan(values).sum() == 2
    np.testing.assert_allclose(values[np.isfinite(values)], 20)
    assert "jumps 2 times" in warnings


def test_a_position_in_no_length_is_kept_in_its_unit(nwb):
    times = np.arange(200) / 20
    turns = (0.5 * times) % 1
    nwb.add_acquisition(trace("wheel_position", data=turns, unit="revolutions", timestamps=times))
    found, warnings = behavior(nwb)
    assert found["running_speed"].unit == "revolutions/s"
    assert np.nanmax(np.abs(found["running_speed"].values - 0.5)) < 1e-9
    assert "no length that is known" in warnings


def test_a_speed_counts_more_than_a_position(nwb):
    nwb.add_acquisition(trace("wheel_position", data=np.arange(100.0), unit="cm"))
    nwb.add_acquisition(trace("wheel_speed", data=np.full(100, 4.0), unit="cm/s"))
    np.testing.assert_array_equal(behavior(nwb)[0]["running_speed"].values, np.full(100, 4.0))


def test_width_and_height_are_two_diameters(nwb):
    width, height = trace("pupil_width"), trace("pupil_height")
    nwb.add_acquisition(PupilTracking(time_series=[width, height]))
    found, _ = behavior(nwb)
    np.testing.assert_allclose(found["pupil_size"].values, np.sqrt(width.data * height.data) / 2)


def test_two_radii_of_different_clocks_are_not_combined(nwb):
    minor, major = trace("pupil_minor_radius"), trace("pupil_major_radius", rate=20.0, starting_time=0.6)
    nwb.add_acquisition(PupilTracking(time_series=[minor, major]))
    np.testing.assert_allclose(behavior(nwb)[0]["pupil_size"].values, minor.data)


def test_a_pupil_of_no_size_was_not_found(nwb):
    data = np.where(np.arange(100) < 7, 0.0, 11.0)
    nwb.add_acquisition(PupilTracking(time_series=trace("pupil_diameter", data=data)))
    found, warnings = behavior(nwb)
    np.testing.assert_array_equal(found["pupil_size"].values, np.where(data == 0, np.nan, 5.5))
    assert "7 of 100 samples" in warnings


def test_a_size_that_was_standardized_keeps_its_zeros(nwb):
    data = np.linspace(-2, 2, 101)
    nwb.add_acquisition(trace("pupil_size", data=data))
    np.testing.assert_array_equal(behavior(nwb)[0]["pupil_size"].values, data)


@pytest.mark.parametrize("rate", [20.0, 60.0, 7.0])
def test_blinks_are_masked_whatever_the_clock_of_who_saw_them(nwb, rate):
    times = 0.5 + np.arange(100) / 20
    n = int(5 * rate) + 1
    told = np.abs(0.5 + np.arange(n) / rate - 3) < 0.4
    blink = trace("likely_blink", data=told, rate=rate, starting_time=0.5)
    pupil = trace("pupil_area", unit="px^2")
    nwb.add_acquisition(PupilTracking(time_series=[pupil, blink], name="EyeTracking"))
    found, _ = behavior(nwb)
    masked = np.isnan(found["pupil_size"].values)
    assert masked[np.abs(times - 3) < 0.4 - 0.5 / rate].all()
    assert not masked[np.abs(times - 3) > 0.4 + 0.5 / rate].any()


def test_blinks_of_another_eye_are_not_this_one_s(nwb):
    for eye, start in (("left", 0), ("right", 50)):
        blink = trace("likely_blink", data=np.isin(np.arange(100), range(start, start + 10)))
        nwb.add_acquisition(PupilTracking(time_series=[trace(f"pupil_radius_{eye}"), blink], name=f"eye_{eye}"))
    found, _ = behavior(nwb)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(found["pupil_size"].values)), np.arange(10))


def test_ellipses_in_a_table_with_a_clock_are_read(nwb):
    n = 50
    columns = {
        "timestamps": np.arange(n) / 30 + 2,
        "center_x": rng.normal(300, 5, n),
        "center_y": rng.normal(200, 5, n),
        "width": rng.uniform(20, 30, n),
        "height": rng.uniform(20, 30, n),
        "phi": rng.normal(0, 1, n),
    }
    module = nwb.create_processing_module("eye_tracking", "ellipses")
    for name, factor in (("eye_ellipse_fits", 5.0), ("pupil_ellipse_fits", 1.0)):
        data = [
            VectorData(name=key, description="in pixels", data=values if key == "timestamps" else factor * values)
            for key, values in columns.items()
        ]
        module.add(DynamicTable(name=name, description="fits", columns=data))
    found, _ = behavior(nwb)
    expected = np.sqrt(columns["width"] * columns["height"]) / 2
    np.testing.assert_allclose(found["pupil_size"].values, expected)
    np.testing.assert_allclose(found["pupil_size"].timestamps, columns["timestamps"])
    assert found["pupil_size"].unit == "pixels"
    np.testing.assert_array_equal(found["gaze_x"].values, columns["center_x"])
    np.testing.assert_array_equal(found["gaze_y"].values, columns["center_y"])
