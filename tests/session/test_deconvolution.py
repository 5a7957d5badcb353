import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from nwbrecon.session import deconvolution
from nwbrecon.session.deconvolution import deconvolve, estimate_decay, noise_level


def response_matrix(times, decay):
    lag = times[:, None] - times[None]
    return np.where(lag >= 0, np.exp(-np.maximum(lag, 0) / decay), 0)


def calcium(spike_times, times, decay):
    lag = times[:, None] - np.asarray(spike_times)[None]
    return np.where(lag >= 0, np.exp(-np.maximum(lag, 0) / decay), 0).sum(axis=1)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_samples=st.integers(2, 60),
    rate=st.sampled_from([3.0, 7.0, 30.0]),
    decay=st.floats(0.05, 3),
    level=st.floats(-2, 2),
)
def test_it_is_the_non_negative_least_squares_solution(seed, n_samples, rate, decay, level):
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.2, 1.8, n_samples)) / rate
    trace = rng.normal(level, 1, n_samples)
    expected, _ = nnls(response_matrix(times, decay), trace, maxiter=10_000)
    found = deconvolve(trace[None], times, decay)[0]
    assert np.isnan(found[0])
    np.testing.assert_allclose(found[1:], expected[1:], atol=1e-6)


@pytest.mark.parametrize("reach", [0.1, 1.0, 10.0])
def test_stretches_are_joined_without_a_seam(monkeypatch, reach):
    rng = np.random.default_rng(0)
    times = np.arange(2000) / 30
    trace = calcium(rng.uniform(0, times[-1], 60), times, 0.5) + rng.normal(0, 0.4, len(times))
    whole = deconvolve(trace[None], times, 0.5)
    monkeypatch.setattr(deconvolution, "LONGEST_REACH", reach)
    np.testing.assert_allclose(deconvolve(trace[None], times, 0.5), whole, atol=1e-6)


def test_hours_at_a_fast_decay_do_not_overflow():
    times = np.arange(50_000) / 7
    trace = np.random.default_rng(0).normal(0, 1, len(times))
    whole = deconvolve(trace[None], times, 0.3)[0]
    assert np.isfinite(whole[1:]).all()
    # what is far away has no influence
    part = deconvolve(trace[None, 30_000:31_000], times[30_000:31_000], 0.3)[0]
    np.testing.assert_allclose(part[100:-100], whole[30_100:30_900], atol=1e-5)


@pytest.mark.parametrize("rate", [7.0, 30.0])
def test_sample_k_is_the_activity_of_the_interval_before_it(rate):
    times = 100 + np.arange(int(60 * rate)) / rate
    spikes = 100 + np.array([5.02, 12.345, 20.61, 33.333, 47.9])
    found = deconvolve(calcium(spikes, times, 0.8)[None], times, 0.8)[0]
    (where,) = np.nonzero(np.nan_to_num(found) > 1e-4)
    assert len(where) == len(spikes)
    assert (times[where - 1] < spikes).all()
    assert (spikes <= times[where]).all()
    # the calcium of a spike has fallen a little by the time it is first measured
    np.testing.assert_allclose(found[where], np.exp(-(times[where] - spikes) / 0.8), rtol=1e-4)


def test_missing_samples_split_a_trace_and_stay_missing():
    times = np.arange(200) / 10
    trace = calcium([3.05, 8.02, 15.05], times, 0.7)
    gapped = trace.copy()
    gapped[75:90] = np.nan
    found = deconvolve(gapped[None], times, 0.7)[0]
    # the calcium is known to fall through the gap, and what happened in it belongs to no one interval
    assert np.isnan(found[75:91]).all()
    assert np.isfinite(found[1:75]).all()
    assert np.isfinite(found[91:]).all()
    np.testing.assert_allclose(found[91:], deconvolve(trace[None], times, 0.7)[0, 91:], atol=1e-6)


def test_traces_without_anything_give_nothing():
    times = np.arange(50) / 10
    traces = np.stack([np.zeros(50), np.full(50, -3.0), np.full(50, np.nan), np.where(np.arange(50) == 7, 1, np.nan)])
    found = deconvolve(traces, times, 1.0)
    assert (found[:2, 1:] == 0).all()
    assert np.isnan(found[2:]).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_gives_the_least_sum_that_the_noise_allows(seed):
    rng = np.random.default_rng(seed)
    times, decay, noise = np.arange(400) / 10, 0.6, 0.3
    trace = calcium([0.55, 1.72, 3.1, 11, 25, 25.3], times, decay) + rng.normal(0, noise, 400)
    matrix = response_matrix(times, decay)
    found = deconvolution._sparsest_jumps(trace, times / decay, noise)
    # the conditions of Karush, Kuhn and Tucker for: least sum(s) with s >= 0 and squared error <= noise**2 * samples
    assert found.min() >= 0
    residual = trace - matrix @ found
    assert np.sum(residual**2) == pytest.approx(400 * noise**2, rel=1e-3)
    slope = matrix.T @ residual
    assert np.ptp(slope[found > 1e-9]) < 1e-6
    assert slope.max() <= slope[found > 1e-9].max() + 1e-6
    plain = deconvolution._jumps(trace, times / decay)
    assert np.count_nonzero(found) < np.count_nonzero(plain)
    np.testing.assert_allclose(deconvolve(trace[None], times, decay, np.array([noise]))[0, 1:], found[1:], rtol=1e-5)


@pytest.mark.parametrize("sigma", [0.2, 1.0])
def test_noise_is_told_from_calcium(sigma):
    rng = np.random.default_rng(1)
    times = np.arange(9000) / 30
    traces = np.stack([calcium(rng.uniform(0, 300, n), times, 0.7) for n in (0, 30, 100)])
    found = noise_level(traces + rng.normal(0, sigma, traces.shape))
    np.testing.assert_allclose(found, sigma, rtol=0.1)


@pytest.mark.parametrize(("rate", "decay"), [(7.0, 1.0), (30.0, 0.5)])
def test_the_decay_is_found_from_the_autocovariance(rate, decay):
    rng = np.random.default_rng(2)
    times = np.arange(int(600 * rate)) / rate
    traces = np.stack([calcium(rng.uniform(0, 600, 200), times, decay) for _ in range(10)])
    traces += rng.normal(0, 0.3, traces.shape)
    traces[0] = np.nan
    traces[1] = 1.0
    assert 0.5 * decay < estimate_decay(traces, 1 / rate) < 1.1 * decay
    # slow changes of all activity, as by arousal, must not pass for a slow indicator
    slow = 0.5 * np.sin(times / 15)
    assert estimate_decay(traces + slow, 1 / rate) == pytest.approx(estimate_decay(traces, 1 / rate), rel=0.1)


def test_no_decay_is_made_up():
    assert estimate_decay(np.zeros((2, 100)), 0.1) is None
    assert estimate_decay(np.full((2, 100), np.nan), 0.1) is None
