import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import uniform_filter1d

import nwbrecon as nr
from nwbrecon.alignment import AlignedGroup, AlignedSession, population_latency
from nwbrecon.session.model import SignalKind

SIZE = (9, 16)


def recording(make_session, make_movie, **more):
    clips = {f"{n}": make_movie(n, 8.0) for n in range(10)}
    return make_session(clips, [(clip, 3 + 8.0 * n) for n, clip in enumerate(clips)], **more)


@pytest.mark.parametrize(
    ("planes", "imaging_rate"), [(1, 30.0), (1, 7.0), (4, 7.0), (3, 6.3)], ids=["fast", "slow", "staggered", "odd"]
)
@pytest.mark.parametrize("latency", [0.1, 0.05])
def test_a_known_delay_is_found(make_session, make_movie, planes, imaging_rate, latency):
    session = recording(make_session, make_movie, planes=planes, imaging_rate=imaging_rate, latency=latency)
    found = population_latency(nr.align(session, frame_size=SIZE))
    assert found.best == pytest.approx(latency, abs=0.02)
    assert found.clear
    assert found.warning == ""
    assert found.correlation.max() > 0.5


@pytest.mark.parametrize("latency", [-0.2, 0.6])
def test_clocks_that_disagree_are_said(make_session, make_movie, latency):
    found = population_latency(nr.align(recording(make_session, make_movie, latency=latency), frame_size=SIZE))
    assert found.best == pytest.approx(latency, abs=0.03)
    assert f"by {1000 * found.best:.0f} ms" in found.warning


@pytest.mark.parametrize("imaging_rate", [2.0, 30.0])
def test_cells_that_ignore_the_movie_check_nothing(make_session, make_movie, imaging_rate):
    aligned = nr.align(recording(make_session, make_movie, imaging_rate=imaging_rate), frame_size=SIZE)
    rng = np.random.default_rng(0)
    for _ in range(10):
        for group in aligned.groups:
            # noise that is smeared in time, as calcium is
            group.activity = uniform_filter1d(rng.normal(size=group.activity.shape), 5, axis=0)
        found = population_latency(aligned, longest=0.5)
        assert not found.clear
        assert "too weak to check the clocks" in found.warning


def test_dff_is_timed_by_its_rise(make_session, make_movie):
    session = recording(make_session, make_movie, imaging_rate=20.0, planes=1, kind=SignalKind.DFF)
    for group in session.responses.values():
        events = group.signal.read(0, group.signal.shape[0])
        trace = np.zeros_like(events)
        for k in range(1, len(events)):
            trace[k] = 0.95 * trace[k - 1] + events[k]
        group.signal.read = lambda start, stop, trace=trace: trace[start:stop]
    found = population_latency(nr.align(session, frame_size=SIZE))
    assert found.best == pytest.approx(0.1, abs=0.03)


def test_without_samples_within_the_trials_nothing_is_known():
    times = np.arange(0, 100, 5.0)
    group = AlignedGroup("plane", SignalKind.EVENTS, times, np.ones((20, 1)), np.ones(1), pd.DataFrame(index=[0]))
    aligned = AlignedSession.from_arrays(
        [np.zeros((60, 4, 4))], [group], onsets=[11.0], clips=["a"], splits=["train"], frame_rate=30.0
    )
    found = population_latency(aligned)
    assert np.isnan(found.best)
    assert "too weak" in found.warning
