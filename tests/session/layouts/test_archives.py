"""Recordings laid out as archives have them are read without a flag, and what is read is what was written."""

import numpy as np
import pytest

import nwbrecon as nr

from .archives import LAYOUTS


@pytest.fixture(scope="module", params=LAYOUTS, ids=str)
def truth(request, tmp_path_factory):
    return LAYOUTS[request.param](tmp_path_factory.mktemp("layout"))


@pytest.fixture
def session(truth):
    with nr.open_session(truth.source, **truth.options) as session:
        yield session


def test_responses_are_of_the_cells_on_their_clocks(truth, session):
    assert list(session.responses) == list(truth.planes)
    for name, plane in truth.planes.items():
        group = session.responses[name]
        assert (group.signal.path, group.kind.value) == (plane.path, plane.kind)
        np.testing.assert_allclose(group.timestamps, plane.times, rtol=0, atol=1e-9)
        assert group.signal.shape == plane.values.shape
        np.testing.assert_allclose(group.signal.read(0, len(plane.times)), plane.values, rtol=1e-6)
        np.testing.assert_allclose(group.signal.read(7, 31), plane.values[7:31], rtol=1e-6)
        assert set(group.rois.get("area", [""])) == {plane.area}


def test_each_frame_is_shown_when_it_was(truth, session):
    shown = session.stimulus.shown
    np.testing.assert_allclose(shown["onset"], [onset for onset, _, _ in truth.shown], atol=1e-6)
    np.testing.assert_allclose(shown["offset"], [offset for _, offset, _ in truth.shown], atol=1e-6)
    for label, (onset, offset, frames) in zip(shown.index, truth.shown, strict=True):
        np.testing.assert_allclose(session.stimulus.read(label), frames, atol=0.01)
        clock = session.stimulus.clocks(label)
        np.testing.assert_allclose(clock.onsets, np.linspace(onset, offset, len(frames) + 1)[:-1], atol=1e-6)
        assert clock.end == pytest.approx(offset)


def test_clips_are_equal_where_their_frames_are(truth, session):
    names = session.stimulus.shown["clip"].to_list()
    pixels = [frames.tobytes() for _, _, frames in truth.shown]
    for name, own in zip(names, pixels, strict=True):
        assert [other == name for other in names] == [other == own for other in pixels]


def test_behavior_is_in_common_units(truth, session):
    assert set(session.behavior) == set(truth.behavior)
    for name, (times, values, unit) in truth.behavior.items():
        series = session.behavior[name]
        np.testing.assert_allclose(series.timestamps, times)
        np.testing.assert_allclose(series.values, values, rtol=1e-6)
        assert series.unit == unit


def test_what_is_odd_is_said(truth, session):
    said = " ".join(session.warnings)
    for words in truth.said:
        assert words in said
    np.testing.assert_array_equal(session.invalid_times, np.array(truth.invalid).reshape(-1, 2))


def test_the_aligned_movie_is_what_was_shown(truth, session):
    """At the movie's own rate and size every frame of the aligned movie is a frame that was shown."""
    aligned = nr.align(
        session,
        frame_rate=truth.rate,
        frame_size=(12, 20),
        min_clip_seconds=1.0,
        min_test_repeats=2,
        guard_seconds=0.0,
        # the responses are noise, of which no event is left
        responses__deconvolve=False,
    )
    movies = {onset: frames for onset, _, frames in truth.shown if len(frames) / truth.rate > 1}
    seen = 0
    for label, row in aligned.trials.iterrows():
        (onset,) = (start for start in movies if start - 1e-6 <= row["onset"] < start + len(movies[start]) / truth.rate)
        first = round((row["onset"] - onset) * truth.rate)
        trial = aligned.trial(label)
        np.testing.assert_allclose(trial.video, movies[onset][first : first + row["n_frames"]], atol=0.51)
        seen += row["n_frames"]
    assert seen > 100
    valid = aligned.valid
    for trial_label in aligned.trials.index:
        trial = aligned.trial(trial_label)
        for first, last in truth.invalid:
            inside = (trial.times < last) & (trial.times > first)
            start = int(aligned.trials.at[trial_label, "first_frame"])
            assert not valid[start : start + len(trial.times)][inside].any()


@pytest.mark.parametrize(("name", "staggered"), [("000402, one clock", True), ("000402, a clock a field", False)])
def test_one_clock_for_all_fields_is_pointed_out(name, staggered, tmp_path):
    """The writer of 000402 gives every field the time of the first; the others were scanned up to a frame later."""
    with nr.open_session(LAYOUTS[name](tmp_path).source) as session:
        aligned = nr.align(session, frame_size=(6, 10), min_clip_seconds=1.0, min_test_repeats=2, guard_seconds=0.0)
    assert any("3 planes have the same time stamps" in words for words in aligned.warnings) is staggered
