import sys

import numpy as np
import pytest

import nwbrecon as nr
from nwbrecon.errors import SessionError

from .conftest import clip_frames


def test_without_pynapple_it_says_what_to_install(plain, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynapple", None)
    with nr.open_session(plain.path) as session, pytest.raises(SessionError, match=r"pip install .*pynapple"):
        session.to_pynapple()


def test_a_session_in_pynapple(plain):
    nap = pytest.importorskip("pynapple")
    with nr.open_session(plain.path) as session:
        found = session.to_pynapple()
        assert list(found) == ["ImagingPlane1", "movie", "presentations"]
        responses = found["ImagingPlane1"]
        assert isinstance(responses, nap.TsdFrame)
        np.testing.assert_allclose(responses.t, 2.5 + np.arange(900) / 15)
        np.testing.assert_allclose(responses.values, plain.dff)
        np.testing.assert_array_equal(responses.columns, session.responses["ImagingPlane1"].rois.index)
        movie, shown = found["movie"], found["presentations"]
        assert isinstance(movie, nap.TsdTensor)
        assert isinstance(shown, nap.IntervalSet)
        np.testing.assert_allclose(shown.start, 10 + 2 * np.arange(4))
        np.testing.assert_allclose(shown.end, 12 + 2 * np.arange(4), atol=2e-6)
        assert list(shown["clip"]) == [f"clip_{k}" for k in plain.clips]
        assert list(shown["split_"]) == list(session.stimulus.shown["split"])
        # what pynapple is for: restrict, by what was shown
        seen = movie.restrict(shown[1])
        np.testing.assert_allclose(seen.t, 12 + np.arange(60) / 30)
        np.testing.assert_allclose(np.asarray(seen.values), clip_frames(8, 60), atol=0.01)
        np.testing.assert_allclose(np.asarray(movie[3:5].values), clip_frames(7, 60)[3:5], atol=0.01)
        assert len(responses.restrict(shown[1])) == 30


def test_behavior_and_several_movies_in_pynapple(visual_coding):
    nap = pytest.importorskip("pynapple")
    with nr.open_session(visual_coding.path) as session:
        found = session.to_pynapple()
        speed = found["running_speed"]
        assert isinstance(speed, nap.Tsd)
        np.testing.assert_allclose(speed.values, visual_coding.speed)
        assert {"natural_movie_one", "natural_scenes"} < set(found)
        scenes = np.asarray(found["natural_scenes"][:].values)
        np.testing.assert_array_equal(scenes, [visual_coding.scenes[k] for k in visual_coding.scene_order])


def test_invalid_times_and_delays_in_pynapple(plain):
    nap = pytest.importorskip("pynapple")
    with nr.open_session(plain.path, plane_delays={"ImagingPlane1": 0.25}) as session:
        session.invalid_times = np.array([[11.0, 12.5]])
        found = session.to_pynapple()
        assert isinstance(found["invalid_times"], nap.IntervalSet)
        np.testing.assert_allclose(found["invalid_times"].values, [[11.0, 12.5]])
        assert found["ImagingPlane1"].t[0] == pytest.approx(2.75)
