import numpy as np
import pytest
from pynwb import TimeSeries
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
