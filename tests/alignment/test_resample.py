"""Every function against a slow oracle that does exact arithmetic on one bin and one interval at a time."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nwbrecon.alignment.resample import (
    bin_averages,
    bin_counts,
    coverage,
    held_averages,
    held_weights,
    interval_weights,
    overlaps,
)
from nwbrecon.errors import AlignmentError

TICK = Fraction(1, 1024)
"""Times on this grid are exact in floating point, so that no bin is covered only almost."""


def seconds(ticks):
    return np.array([float(tick * TICK) for tick in ticks])


@st.composite
def clocks(draw, min_size=2, max_size=12):
    """Ticks of an irregular clock with an offset and now and then a gap."""
    steps = draw(
        st.lists(
            st.one_of(st.integers(1, 60), st.integers(1, 60), st.integers(200, 900)),
            min_size=min_size - 1,
            max_size=max_size - 1,
        )
    )
    start = draw(st.sampled_from([0, -500, 10**6, 10**8])) + draw(st.integers(0, 50))
    return np.cumsum([start, *steps])


@st.composite
def bins_near(draw, ticks):
    """Bins of one width in any order, some of them outside of what the ticks span."""
    width = draw(st.integers(3, 120))
    starts = draw(st.lists(st.integers(int(ticks[0]) - 100, int(ticks[-1]) + 20), min_size=1, max_size=8))
    return np.array(starts), np.array(starts) + width


@st.composite
def samples_and_bins(draw):
    ticks = draw(clocks())
    starts, stops = draw(bins_near(ticks))
    values = draw(
        st.lists(
            st.one_of(st.integers(-50, 50), st.integers(-50, 50), st.just(None)),
            min_size=len(ticks),
            max_size=len(ticks),
        )
    )
    longest = draw(st.sampled_from([10, 60, 150, 10**6]))
    return ticks, values, starts, stops, longest


def shared(a, b, c, d):
    return max(min(b, d) - max(a, c), 0)


def as_floats(values):
    return np.array([np.nan if value is None else float(value) for value in values])


def compare(found, expected):
    np.testing.assert_allclose(found, as_floats(expected), rtol=1e-9, atol=1e-9)


@given(samples_and_bins())
@settings(max_examples=120, deadline=None)
def test_counts_fall_to_bins_in_proportion_to_time(case):
    ticks, counts, starts, stops, longest = case
    expected = []
    for start, stop in zip(starts, stops, strict=True):
        total, known = Fraction(0), 0
        for (before, at), count in zip(pairwise(ticks), counts[1:], strict=True):
            common = int(shared(start, stop, before, at))
            if at - before > longest or count is None or not common:
                continue
            total += Fraction(count * common, int(at - before))
            known += common
        expected.append(total if known == stop - start else None)
    found = bin_counts(
        seconds(ticks), as_floats(counts), seconds(starts), seconds(stops), longest=float(longest * TICK)
    )
    compare(found, expected)


@given(samples_and_bins())
@settings(max_examples=120, deadline=None)
def test_point_samples_are_averaged_along_straight_lines(case):
    ticks, values, starts, stops, longest = case
    expected = []
    for start, stop in zip(starts, stops, strict=True):
        # one tick at a time: between ticks the line's mean is its value half-way
        total, known = Fraction(0), True
        for tick in range(start, stop):
            line = [
                (before, at, a, b)
                for (before, at), (a, b) in zip(pairwise(ticks), pairwise(values), strict=True)
                if before <= tick < at and at - before <= longest and a is not None and b is not None
            ]
            if not line:
                known = False
                break
            before, at, a, b = line[0]
            total += a + Fraction(b - a) * (Fraction(tick) + Fraction(1, 2) - int(before)) / int(at - before)
        expected.append(total / int(stop - start) if known else None)
    found = bin_averages(
        seconds(ticks), as_floats(values), seconds(starts), seconds(stops), longest=float(longest * TICK)
    )
    compare(found, expected)


@given(samples_and_bins(), st.sampled_from([1, 7, 30]))
@settings(max_examples=120, deadline=None)
def test_held_values_stand_until_the_next_sample(case, usual):
    ticks, values, starts, stops, longest = case
    standing = {}
    for at, following, value in zip(ticks, [*ticks[1:], None], values, strict=True):
        held = following is not None and following - at <= longest
        end = following if held else at + usual if following is None else min(at + usual, following)
        standing.update(dict.fromkeys(range(at, end), value))
    expected = []
    for start, stop in zip(starts, stops, strict=True):
        stood = [standing.get(tick) for tick in range(start, stop)]
        expected.append(None if None in stood else Fraction(sum(stood), len(stood)))
    found = held_averages(
        seconds(ticks),
        as_floats(values),
        seconds(starts),
        seconds(stops),
        longest=float(longest * TICK),
        usual=float(usual * TICK),
    )
    compare(found, expected)


@given(clocks(), st.integers(3, 80), st.integers(1, 12), st.integers(-100, 200), st.sampled_from([60, 10**6]))
@settings(max_examples=120, deadline=None)
def test_interval_weights_are_shares_of_frames(ticks, width, n_frames, shift, longest):
    frames = ticks[0] + shift + width * np.arange(n_frames)
    expected = np.zeros((len(ticks), n_frames))
    covered = np.zeros(len(ticks), dtype=bool)
    for k, (before, at) in enumerate(pairwise(ticks), start=1):
        if at - before > longest:
            continue
        common = [shared(frame, frame + width, before, at) for frame in frames]
        expected[k] = np.array(common) / width
        covered[k] = sum(common) == at - before
    found, found_covered = interval_weights(
        seconds(frames), float(width * TICK), seconds(ticks), longest=float(longest * TICK)
    )
    np.testing.assert_allclose(found, expected, atol=1e-9)
    np.testing.assert_array_equal(found_covered, covered)


@given(clocks(min_size=3), st.data())
@settings(max_examples=80, deadline=None)
def test_displayed_frames_are_weighted_by_time(edges, data):
    starts, stops = data.draw(bins_near(edges))
    expected = np.array(
        [
            [float(shared(start, stop, a, b)) for a, b in pairwise(edges)]
            for start, stop in zip(starts, stops, strict=True)
        ]
    )
    total = expected.sum(axis=1, keepdims=True)
    expected = np.divide(expected, total, out=np.zeros_like(expected), where=total > 0)
    np.testing.assert_allclose(held_weights(seconds(edges), seconds(starts), seconds(stops)).toarray(), expected)


@given(samples_and_bins())
@settings(max_examples=80, deadline=None)
def test_coverage_is_where_counts_are_known(case):
    ticks, counts, starts, stops, longest = case
    arguments = seconds(starts), seconds(stops)
    known = bin_counts(seconds(ticks), as_floats(counts), *arguments, longest=float(longest * TICK))
    present = np.isfinite(as_floats(counts))
    np.testing.assert_array_equal(
        coverage(seconds(ticks), present, *arguments, longest=float(longest * TICK)), np.isfinite(known)
    )


@given(st.integers(0, 2**32 - 1), st.floats(5, 40), st.floats(5, 40), st.floats(0, 1e5))
@settings(max_examples=50, deadline=None)
def test_area_is_kept_through_jitter_and_offset(seed, sampling_rate, frame_rate, offset):
    rng = np.random.default_rng(seed)
    times = offset + np.cumsum(rng.uniform(0.8, 1.2, 200)) / sampling_rate
    counts = rng.poisson(2, (200, 3)).astype(float)
    edges = np.arange(times[0], times[-1], 1 / frame_rate)
    edges = np.append(edges[: edges.size - (edges[-1] > times[-1] - 1e-3)], times[-1])
    binned = bin_counts(times, counts, edges[:-1], edges[1:])
    np.testing.assert_allclose(binned.sum(axis=0), counts[1:].sum(axis=0), rtol=1e-6)


@given(st.integers(0, 2**32 - 1), st.floats(0, 1e5))
@settings(max_examples=50, deadline=None)
def test_weights_undo_what_binning_did_where_frames_are_finer(seed, offset):
    rng = np.random.default_rng(seed)
    frame_times = offset + np.arange(120) / 30
    # samples at frame edges: what falls to frames must come back whole
    samples = np.unique(np.concatenate([[0, 120], rng.choice(np.arange(1, 120), 25, replace=False)]))
    times = offset + samples / 30
    counts = rng.poisson(3, len(times)).astype(float)
    per_frame = bin_counts(times, counts, frame_times, frame_times + 1 / 30)
    weights, covered = interval_weights(frame_times, 1 / 30, times)
    assert covered[1:].all()
    assert not covered[0]
    np.testing.assert_allclose(weights @ per_frame, [0, *counts[1:]], rtol=1e-6, atol=1e-9)


def test_fast_fluctuations_do_not_fold_into_slow_ones():
    times = np.arange(0, 20, 1 / 1000)
    values = np.sin(2 * np.pi * 29.5 * times)
    starts = np.arange(1, 18, 1 / 30)
    averaged = bin_averages(times, values, starts, starts + 1 / 30)
    # picking every 33rd sample would give a sine of 0.5 Hz and amplitude 1; a box of 1/30 s leaves sinc(29.5/30)
    assert np.abs(averaged).max() < 1.05 * np.sinc(29.5 / 30)


def test_a_column_with_a_missing_value_does_not_spoil_the_others():
    times = np.arange(5.0)
    counts = np.ones((5, 2))
    counts[2, 0] = np.nan
    found = bin_counts(times, counts, times[:-1], times[1:])
    np.testing.assert_array_equal(found[:, 1], 1)
    np.testing.assert_array_equal(np.isnan(found[:, 0]), [False, True, False, False])


@pytest.mark.parametrize("times", [[], [1.0]])
def test_without_intervals_nothing_is_covered(times):
    found = bin_counts(np.array(times), np.ones((len(times), 2)), np.array([0.0, 1.0]), np.array([1.0, 2.0]))
    assert found.shape == (2, 2)
    assert np.isnan(found).all()
    found = bin_averages(np.array(times), np.ones(len(times)), np.array([0.0]), np.array([1.0]))
    assert np.isnan(found).all()
    found = held_averages(np.array(times), np.ones(len(times)), np.array([0.0]), np.array([1.0]), usual=0.0)
    assert np.isnan(found).all()


@pytest.mark.parametrize("times", [[0.0, 1.0, 1.0], [0.0, 2.0, 1.0], [0.0, np.nan, 1.0], [0.0, 1.0, np.inf]])
def test_clocks_that_do_not_increase_are_refused(times):
    times, bins = np.array(times), (np.array([0.0]), np.array([0.5]))
    for call in (
        lambda: bin_counts(times, np.ones(3), *bins),
        lambda: bin_averages(times, np.ones(3), *bins),
        lambda: coverage(times, np.ones(3, bool), *bins),
        lambda: held_averages(times, np.ones(3), *bins, usual=1.0),
        lambda: held_weights(times, *bins),
        lambda: interval_weights(np.array([0.0]), 1.0, times),
        lambda: interval_weights(times, 1.0, np.array([0.0, 1.0])),
    ):
        with pytest.raises(AlignmentError, match=r"do not increase near entry [01] of 3"):
            call()


def test_overlaps_skip_gaps_between_sources():
    found = overlaps(np.array([0.0, 4.0]), np.array([10.0, 5.0]), np.array([1.0, 6.0]), np.array([3.0, 7.0]))
    np.testing.assert_array_equal(found.toarray(), [[2, 1], [0, 0]])
