import numpy as np
import pytest

from nwbrecon.simulation.behavior import EYE_CAMERA_RATE, PIXELS_PER_DEGREE, RUNNING_RATE, make_behavior

DURATION = 400.0


@pytest.fixture(scope="module")
def behavior():
    return make_behavior(DURATION, np.random.default_rng(0), gaze_pixels=1.5)


@pytest.fixture(scope="module")
def eye(behavior):
    return behavior.measured_eye()


def test_the_mouse_runs_at_times_and_rests_at_others(behavior):
    assert behavior.speed.min() >= 0
    assert 0.2 < (behavior.speed == 0).mean() < 0.9
    # centimeters a second, as mice run
    assert 5 < np.quantile(behavior.speed, 0.95) < 60


def test_the_wheel_measures_the_speed_on_a_clock_of_its_own(behavior):
    measured = behavior.measured_running()
    times = measured["timestamps"].to_numpy()
    assert (np.diff(times) > 0).all()
    assert np.diff(times).std() > 1e-5
    assert np.median(np.diff(times)) == pytest.approx(1 / RUNNING_RATE, rel=0.02)
    assert 0 <= times[0] < 0.1
    assert DURATION - 2 < times[-1] < DURATION
    error = measured["speed"] - behavior.at(behavior.speed, times)
    assert error.std() == pytest.approx(0.15, rel=0.1)


def test_the_eye_camera_loses_all_it_measures_in_blinks_and_nothing_else(eye):
    missing = eye[["radius", "gaze_x", "gaze_y"]].isna()
    assert (missing.nunique(axis=1) == 1).all()
    blinks = np.diff(missing["radius"].astype(int))
    assert 10 < (blinks == 1).sum() < 60
    assert 0.003 < missing["radius"].mean() < 0.05
    assert eye["timestamps"].notna().all()
    assert np.median(np.diff(eye["timestamps"])) == pytest.approx(1 / EYE_CAMERA_RATE, rel=0.01)


def test_the_pupil_follows_arousal(behavior, eye):
    seen = eye.dropna()
    arousal = behavior.at(behavior.arousal, seen["timestamps"].to_numpy())
    assert np.corrcoef(np.log(seen["radius"]), arousal)[0, 1] > 0.98
    # a radius in pixels of the eye camera
    assert seen["radius"].median() == pytest.approx(22, rel=0.15)


def test_gaze_is_measured_in_degrees_to_the_right_and_up_and_not_quite_rightly(behavior, eye):
    seen = eye.dropna()
    shift = behavior.at(behavior.shift, seen["timestamps"].to_numpy())
    assert behavior.shift.std() / 1.5 == pytest.approx(np.sqrt((0.6**2 + 1.2**2) / 2), rel=0.15)
    # eyes that look to the right and up move the picture to the left and down on the retina
    for name, pixels in (("gaze_x", -shift[:, 1]), ("gaze_y", shift[:, 0])):
        measured = seen[name] * PIXELS_PER_DEGREE
        assert 0.75 < np.corrcoef(measured, pixels)[0, 1] < 0.98
        slope = np.polyfit(pixels, measured, 1)[0]
        assert 0.6 < slope < 1.4


def test_behavior_is_the_same_for_the_same_seed(behavior):
    again = make_behavior(DURATION, np.random.default_rng(0), gaze_pixels=1.5)
    np.testing.assert_array_equal(again.shift, behavior.shift)
    np.testing.assert_array_equal(again.speed, behavior.speed)
