import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nwbrecon as nr
from nwbrecon.session import SignalKind


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    path = tmp_path_factory.mktemp("extension") / "extended.nwb"
    script = Path(__file__).with_name("write_extension.py")
    subprocess.run([sys.executable, "-W", "ignore", script, path], check=True)
    return path


def test_types_of_an_absent_extension_are_read_by_what_they_have(extended):
    with nr.open_session(extended) as session:
        (group,) = session.responses.values()
        assert group.signal.path == "processing/ophys/detection"
        assert group.kind is SignalKind.EVENTS
        np.testing.assert_array_equal(group.signal.read(0, 50), np.arange(150.0).reshape(50, 3))
        blinking = np.isin(np.arange(40), (10, 11, 12, 13))
        radius = np.where(blinking | (np.arange(40) == 30), np.nan, 3 + np.arange(40.0))
        pupil = session.behavior["pupil_size"]
        np.testing.assert_allclose(pupil.values, radius)
        np.testing.assert_allclose(pupil.timestamps, np.arange(40) / 20)
        assert "radius of the circle of the same area; acquisition/EyeTracking/pupil_tracking/area" in pupil.origin
        gaze = np.where(blinking, np.nan, np.arange(1.0, 80, 2))
        np.testing.assert_array_equal(session.behavior["gaze_y"].values, gaze)
