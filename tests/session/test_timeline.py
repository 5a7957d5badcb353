import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nwbrecon.session.timeline import Timeline, cut_at_shared_edges, frame_ends, runs


def timeline(frames, onsets=None, indexed=True, dt=1 / 30):
    frames = np.asarray(frames)
    onsets = np.arange(len(frames)) * dt if onsets is None else np.asarray(onsets, dtype=float)
    return Timeline("stimulus/presentation/x", "movie", frames, onsets, frame_ends(onsets), indexed)


def spans(pieces):
    return [(piece.first, piece.last) for piece in pieces]


def test_a_frame_stays_until_the_next_or_for_a_median_interval():
    onsets = np.array([0.0, 0.1, 0.2, 0.35, 2.0, 2.1])
    np.testing.assert_allclose(frame_ends(onsets), [0.1, 0.2, 0.35, 0.45, 2.1, 2.2])


def test_ten_showings_in_a_row_are_ten_runs():
    pieces = runs(timeline(np.tile(np.arange(90), 10)))
    assert spans(pieces) == [(90 * k, 90 * (k + 1)) for k in range(10)]


def test_a_pause_ends_a_run_and_a_dropped_frame_does_not():
    onsets = np.arange(60) / 30
    onsets[20:] += 2 / 30
    onsets[40:] += 1.0
    assert spans(runs(timeline(np.arange(60), onsets))) == [(0, 40), (40, 60)]
    assert spans(runs(timeline(np.arange(60), onsets, indexed=False))) == [(0, 40), (40, 60)]
    frames = np.delete(np.arange(61), 30)
    assert spans(runs(timeline(frames))) == [(0, 60)]


def test_a_jump_ahead_begins_another_run():
    frames = np.concatenate([np.arange(0, 50), np.arange(100, 150), np.arange(50, 100)])
    assert spans(runs(timeline(frames))) == [(0, 50), (50, 100), (100, 150)]


def test_a_movie_may_run_backward_or_by_another_stride():
    assert spans(runs(timeline(np.tile(np.arange(50)[::-1], 2)))) == [(0, 50), (50, 100)]
    assert spans(runs(timeline(np.tile(np.arange(0, 100, 4), 3)))) == [(0, 25), (25, 50), (50, 75)]


def test_images_in_no_order_are_a_run_each():
    assert len(runs(timeline([3, 1, 4, 1, 5, 9, 2, 6]))) == 8
    assert spans(runs(timeline([7, 7, 7, 2, 2, 9]))) == [(0, 3), (3, 5), (5, 6)]


@pytest.mark.parametrize("n", [0, 1])
def test_short_timelines(n):
    assert len(runs(timeline(np.arange(n)))) == n


def test_a_part_shown_alone_is_cut_out_of_the_whole():
    whole, part = timeline(np.arange(100)), timeline(np.arange(30, 60))
    cut = cut_at_shared_edges([*runs(whole), *runs(part)])
    assert [(int(p.frames[0]), int(p.frames[-1])) for p in cut] == [(0, 29), (30, 59), (60, 99), (30, 59)]
    assert [len(p.frames) for p in cut] == [30, 30, 40, 30]


def test_an_edge_that_is_a_frame_off_is_no_edge():
    # the second showing lost its last frame
    cut = cut_at_shared_edges([*runs(timeline(np.arange(100))), *runs(timeline(np.arange(99)))])
    assert [len(p.frames) for p in cut] == [100, 99]


def test_counted_frames_are_not_cut():
    cut = cut_at_shared_edges([*runs(timeline(np.arange(100), indexed=False)), *runs(timeline(np.arange(30, 60)))])
    assert [len(p.frames) for p in cut] == [100, 30]


@settings(max_examples=60, deadline=None)
@given(
    shows=st.lists(
        st.tuples(st.integers(0, 6), st.integers(1, 3), st.floats(0, 3), st.integers(1, 3)), min_size=1, max_size=12
    )
)
def test_whatever_was_shown_is_cut_so_that_pieces_are_equal_or_apart(shows):
    """Clips of a long template, shown in any order and length, with pauses, each frame for one flip or more."""
    frames, onsets, now = [], [], 0.0
    for first, length, pause, flips in shows:
        shown = np.repeat(np.arange(20 * first, 20 * (first + length)), flips)
        frames.append(shown)
        onsets.append(now + np.arange(len(shown)) / 30)
        now = onsets[-1][-1] + 1 / 30 + pause
    line = timeline(np.concatenate(frames), np.concatenate(onsets))
    pieces = runs(line)
    assert [piece.first for piece in pieces[1:]] == [piece.last for piece in pieces[:-1]]
    assert (pieces[0].first, pieces[-1].last) == (0, len(line))
    cut = cut_at_shared_edges(pieces)
    assert sum(len(piece.frames) for piece in cut) == len(line)
    contents = [frozenset(piece.frames.tolist()) for piece in cut]
    assert all(a == b or not a & b for a in contents for b in contents)
    for piece in cut:
        assert (np.diff(piece.frames) >= 0).all()
        assert np.ptp(piece.frames) < 140
