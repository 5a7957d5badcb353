"""What the reader makes of simulated files is what was simulated."""

import numpy as np
import pytest

from nwbrecon.config import SimulationSettings
from nwbrecon.session import SignalKind, open_session
from nwbrecon.simulation.layouts import write_recording
from nwbrecon.simulation.session import simulate_recording

LAYOUTS = ("microns", "visual-coding", "plain")


@pytest.fixture(scope="module")
def recordings():
    size = {"rois": 12, "planes": 2, "minutes": 0.15, "clip_seconds": 3.0, "test_clips": 1, "test_repeats": 3}
    staggered, single = (simulate_recording(SimulationSettings(layout=layout, **size)) for layout in LAYOUTS[:2])
    return dict(zip(LAYOUTS, (staggered, single, staggered), strict=True))


@pytest.fixture(scope="module", params=LAYOUTS)
def pair(request, recordings, tmp_path_factory):
    recording = recordings[request.param]
    path = tmp_path_factory.mktemp("simulated") / "mouse.nwb"
    write_recording(recording, path, request.param)
    with open_session(path) as session:
        yield recording, session, request.param


def test_every_presentation_is_found_with_its_frames(pair):
    recording, session, _ = pair
    found, shown = session.stimulus.presentations.query("kind != 'gray'"), recording.schedule
    np.testing.assert_allclose(found["onset"], shown["onset"], atol=1e-6)
    np.testing.assert_allclose(found["offset"], shown["offset"], atol=1e-3)
    assert len(set(zip(found["clip"], shown["clip"], strict=True))) == shown["clip"].nunique()
    assert not found["split"].any()
    for label, row in zip(found.index, shown.itertuples(), strict=True):
        clock, video = session.stimulus.clocks(label), session.stimulus.read(label)
        clip = recording.clips[row.clip]
        at = np.searchsorted(clock.onsets, row.onset + (np.arange(len(clip)) + 0.5) / 30, side="right") - 1
        np.testing.assert_allclose(video[at], clip, atol=1e-3)


def test_every_plane_is_found_with_its_clock(pair):
    recording, session, layout = pair
    assert len(session.responses) == len(recording.planes)
    kind = {"microns": SignalKind.RAW, "visual-coding": SignalKind.EVENTS, "plain": SignalKind.DFF}[layout]
    for group, plane in zip(session.responses.values(), recording.planes, strict=True):
        assert group.kind is kind
        np.testing.assert_allclose(group.timestamps, plane.timestamps, atol=1e-6)
        assert group.n_rois == len(plane.cells)
        np.testing.assert_allclose(group.rois["depth"], plane.depth)
        if layout == "microns":
            np.testing.assert_array_equal(group.signal.read(0, 50), plane.fluorescence[:50])


def test_behavior_is_found_in_its_units(pair):
    recording, session, _ = pair
    running = session.behavior["running_speed"]
    assert running.unit == "cm/s"
    expected = np.interp(running.timestamps, recording.running["timestamps"], recording.running["speed"])
    known = np.isfinite(running.values)
    assert known.mean() > 0.99
    np.testing.assert_allclose(running.values[known], expected[known], atol=1e-3)
    size = session.behavior["pupil_size"]
    radius = np.interp(size.timestamps, recording.pupil["timestamps"], recording.pupil["radius"])
    known = np.isfinite(size.values) & np.isfinite(radius)
    assert np.corrcoef(size.values[known], radius[known])[0, 1] > 0.98
    for name in ("gaze_x", "gaze_y"):
        gaze = session.behavior[name]
        expected = np.interp(gaze.timestamps, recording.pupil["timestamps"], recording.pupil[name])
        known = np.isfinite(gaze.values) & np.isfinite(expected)
        assert abs(np.corrcoef(gaze.values[known], expected[known])[0, 1]) > 0.999
