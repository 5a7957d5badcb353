import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import nwbrecon as nr
from nwbrecon.alignment.delays import delays_by_order, estimate_delays, shared_clock, stated_delays
from nwbrecon.alignment.model import AlignedGroup
from nwbrecon.config import ResponseSettings, SimulationSettings
from nwbrecon.errors import AlignmentError
from nwbrecon.session.model import SignalKind

FRAME_RATE, IMAGING_RATE = 30.0, 6.5


@pytest.fixture
def planes(make_session, make_movie):
    """Four planes, the last of which has a clock of its own."""
    clips = {f"{n}": make_movie(n, 3.0) for n in range(8)}
    session = make_session(clips, [(clip, 4.0 * n) for n, clip in enumerate(clips)], planes=4, imaging_rate=5.0)
    groups = session.responses
    for name in ("plane 2", "plane 3"):
        groups[name].timestamps = groups["plane 1"].timestamps.copy()
    groups["plane 3"].timestamps = groups["plane 3"].timestamps[:-1]
    return session


def test_planes_that_share_a_clock_are_found(planes):
    assert shared_clock(planes.responses) == [["plane 1", "plane 2", "plane 3"]]


def test_by_order_the_planes_share_the_interval(planes):
    delays = delays_by_order(planes.responses)
    assert delays == pytest.approx({"plane 1": 0, "plane 2": 0.2 / 3, "plane 3": 0.4 / 3, "plane 4": 0})
    assert stated_delays(planes.responses, ResponseSettings(plane_delays="order")) == pytest.approx(delays)


def test_what_is_stated_counts_more_than_what_the_session_says(planes):
    planes.responses["plane 2"].delay = 0.05
    planes.responses["plane 4"].delay = 0.07
    stated = stated_delays(planes.responses, ResponseSettings(plane_delays={"plane 4": 0.01}))
    assert stated == {"plane 1": 0.0, "plane 2": 0.05, "plane 3": 0.0, "plane 4": 0.01}
    with pytest.raises(AlignmentError, match=r"plane_delays names plane 9\. The recording has plane 1"):
        stated_delays(planes.responses, ResponseSettings(plane_delays={"plane 9": 0.0}))


def test_a_hidden_stagger_is_pointed_out_unless_delays_are_given(planes):
    del planes.responses["plane 3"]
    said = (
        "2 planes have the same time stamps, every 200 ms. Unless they were scanned at once, the last ones are up to "
        "100 ms late"
    )
    assert any(said in warning for warning in nr.align(planes, frame_size=(9, 16)).warnings)
    for delays in ("order", {"plane 2": 0.0}):
        aligned = nr.align(planes, frame_size=(9, 16), responses__plane_delays=delays)
        assert not any("same time stamps" in warning for warning in aligned.warnings)
    planes.responses["plane 2"].delay = 0.03
    aligned = nr.align(planes, frame_size=(9, 16))
    assert not any("same time stamps" in warning for warning in aligned.warnings)
    assert aligned.info["plane_delays"]["plane 2"] == 0.03


def recording(stagger, *, noise=1.0, seconds=240.0, rois=40, kind=SignalKind.EVENTS, latency=0.1, seed=0):
    """Cells that respond to the local change on the screen, in planes scanned ``stagger`` later than they say."""
    rng = np.random.default_rng(seed)
    n = int(seconds * FRAME_RATE)
    video = gaussian_filter(rng.normal(size=(n, 18, 32)), (1.5, 2, 2))
    video = 128 + 40 * video / video.std()
    change = np.abs(np.diff(video, axis=0, prepend=video[:1]))
    edges = np.arange(n + 1) / FRAME_RATE
    groups = []
    for plane, delay in enumerate(stagger):
        said = np.arange(1.0, seconds - 1, 1 / IMAGING_RATE)
        rows, columns = rng.integers(2, 16, rois), rng.integers(2, 30, rois)
        drive = change[:, rows, columns] ** 2
        drive /= drive.mean(axis=0)
        # exact integral over what was really between two scans
        area = np.concatenate([np.zeros((1, rois)), np.cumsum(drive, axis=0) / FRAME_RATE])
        # each cell has a latency of its own
        latencies = latency + rng.normal(0, 0.02, rois)
        sums = [np.interp(said + delay - latencies[roi], edges, area[:, roi]) for roi in range(rois)]
        counts = np.diff(np.stack(sums, axis=1), axis=0, prepend=0)
        counts = rng.gamma(1 / noise, noise, counts.shape) * counts
        values = counts if kind is SignalKind.EVENTS else np.cumsum(counts - counts.mean(axis=0), axis=0)
        groups.append(AlignedGroup(f"plane {plane + 1}", kind, said, values.astype(np.float32), np.ones(rois), None))
    videos = [video[first : first + 300] for first in range(0, n, 300)]
    return groups, videos, np.arange(len(videos)) * 10.0


@pytest.mark.parametrize("kind", [SignalKind.EVENTS, SignalKind.DFF])
def test_a_hidden_stagger_is_estimated(kind):
    truth = np.array([0.0, 0.04, 0.11, 0.02])
    groups, videos, onsets = recording(truth, kind=kind)
    found = estimate_delays(groups, videos, onsets, FRAME_RATE)
    assert found.clear
    error = np.array(list(found.delays.values())) - truth
    assert found.delays["plane 1"] == 0
    # latencies scatter by 20 ms over 40 cells, that is 3 ms a plane
    assert np.abs(error - error.mean()).max() < 0.015
    assert 0 < max(found.errors.values()) < 0.02


def test_planes_in_step_have_no_delay():
    found = estimate_delays(*recording([0.0, 0.0, 0.0], seed=1), FRAME_RATE)
    assert found.clear
    assert np.ptp(list(found.delays.values())) < 0.015


@pytest.mark.slow
def test_errors_tell_how_far_off_the_estimate_is():
    """Over many recordings the standard errors are as large as the errors."""
    errors, told = [], []
    for seed in range(8):
        found = estimate_delays(*recording([0.0, 0.05], noise=6, seconds=120, rois=12, seed=seed), FRAME_RATE)
        if found.clear:
            errors.append(found.delays["plane 2"] - 0.05)
            told.append(found.errors["plane 1"] * np.sqrt(2))
    assert len(errors) >= 5
    assert 0.4 < np.std(errors) / np.mean(told) < 2.5


def test_cells_that_do_not_see_tell_nothing(planes):
    groups, videos, onsets = recording([0.0, 0.05])
    rng = np.random.default_rng(0)
    groups[1].activity = rng.gamma(1.0, 1.0, groups[1].activity.shape)
    found = estimate_delays(groups, videos, onsets, FRAME_RATE)
    assert not found.clear
    assert set(found.delays.values()) == {0.0}
    assert "could not be estimated" in found.sentence(planes.responses)


def test_too_short_a_recording_tells_nothing():
    groups, videos, onsets = recording([0.0, 0.05], seconds=15)
    assert not estimate_delays(groups, videos, onsets, FRAME_RATE).clear


def test_one_plane_has_nothing_to_be_compared_with():
    assert not estimate_delays(*recording([0.0], seconds=60), FRAME_RATE).clear


def test_align_adds_what_it_estimates(make_session, make_movie):
    clips = {f"{n}": make_movie(n, 8.0) for n in range(20)}
    session = make_session(
        clips, [(clip, 2 + 8.0 * n) for n, clip in enumerate(clips)], planes=2, imaging_rate=7.0, rois=20, noise=0.1
    )
    first, second = session.responses.values()
    # scanned half an interval later than it says
    second.timestamps = first.timestamps[: len(second.timestamps)]
    aligned = nr.align(session, frame_size=(18, 32), responses__plane_delays="estimate")
    assert aligned.info["plane_delays"]["plane 2"] == pytest.approx(0.5 / 7, abs=0.015)
    np.testing.assert_allclose(
        aligned.groups[1].timestamps - second.timestamps, aligned.info["plane_delays"]["plane 2"]
    )
    np.testing.assert_array_equal(aligned.groups[0].timestamps, first.timestamps)
    (said,) = (warning for warning in aligned.warnings if "Delays of the planes" in warning)
    assert "plane 2 +" in said
    assert "(+71)" in said


@pytest.mark.slow
def test_a_simulated_hidden_stagger_is_estimated(tmp_path):
    from nwbrecon.simulation.layouts import write_recording
    from nwbrecon.simulation.session import simulate_recording

    size = {"rois": 240, "planes": 2, "minutes": 4.0, "test_clips": 1, "test_repeats": 2}
    simulated = simulate_recording(SimulationSettings(layout="microns", **size))
    write_recording(simulated, tmp_path / "mouse.nwb", "microns", hidden_stagger=True)
    with nr.open_session(tmp_path / "mouse.nwb") as session:
        aligned = nr.align(session, frame_size=(18, 32), responses__plane_delays="estimate")
    found = list(aligned.info["plane_delays"].values())
    assert np.diff(found)[0] == pytest.approx(np.diff(simulated.truth["plane_delays"])[0], abs=0.03)
