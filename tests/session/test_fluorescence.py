import numpy as np
import pytest

from nwbrecon.session.fluorescence import is_baseline_subtracted, relative_to_baseline, running_baseline

rng = np.random.default_rng(0)


@pytest.mark.parametrize("window", [1, 7, 60, 500, 5000])
@pytest.mark.parametrize("percentile", [0, 10, 50])
def test_the_baseline_is_the_percentile_of_the_window_around(window, percentile):
    n = 500
    traces = np.cumsum(rng.normal(0, 0.05, (3, n)), axis=1) + rng.normal(0, 0.3, (3, n))
    found = running_baseline(traces, window, percentile)
    assert found.shape == traces.shape
    window = min(window, n)
    # at the middle of a window it is exactly that window's percentile
    for first in (0, n - window):
        middle = first + (window - 1) / 2
        if middle == int(middle):
            expected = np.percentile(traces[:, first : first + window], percentile, axis=1)
            np.testing.assert_allclose(found[:, int(middle)], expected, rtol=1e-5)
    # and in between it follows the percentile taken at every sample
    every = [np.percentile(traces[:, k : k + window], percentile, axis=1) for k in range(n - window + 1)]
    middles = slice((window - 1) // 2, (window - 1) // 2 + len(every))
    assert np.abs(found[:, middles] - np.stack(every, axis=1)).mean() < 0.1 * traces.std()


def test_a_drift_is_followed():
    drift = np.linspace(100, 200, 3000)
    trace = drift + rng.exponential(20, 3000) * (rng.random(3000) < 0.3)
    found = running_baseline(trace[None], 300, 10)[0]
    np.testing.assert_allclose(found[150:-150], drift[150:-150], rtol=0.05)


def test_missing_samples_do_not_spread():
    traces = rng.normal(100, 5, (3, 600))
    whole = running_baseline(traces, 100, 10)
    traces[0, 200:230] = np.nan
    traces[0, 400:550] = np.nan
    traces[1] = np.nan
    found = running_baseline(traces, 100, 10)
    assert np.isfinite(found[0]).all()
    np.testing.assert_allclose(found[0], whole[0], rtol=0.05)
    assert np.isnan(found[1]).all()
    np.testing.assert_array_equal(found[2], whole[2])


@pytest.mark.parametrize(
    ("traces", "subtracted"),
    [
        (rng.normal(500, 20, (5, 1000)), False),
        (rng.gamma(2, 30, (5, 1000)) + 60, False),
        (rng.normal(0.1, 0.2, (5, 1000)), True),
        (rng.normal(0, 300, (5, 1000)), True),
        (np.maximum(rng.normal(-1, 1, (5, 1000)), 0), True),
        (np.where(rng.random((5, 1000)) < 0.05, 3.0, 0.0), True),
        (np.full((5, 1000), 7.0), False),
        (np.full((5, 1000), np.nan), False),
        (np.zeros((0, 1000)), False),
    ],
)
def test_a_baseline_that_was_subtracted_is_recognized(traces, subtracted):
    assert is_baseline_subtracted(traces) is subtracted


def test_dff_is_the_change_over_the_baseline():
    traces = np.array([[100.0, 150.0, 80.0]])
    baseline = np.full((1, 3), 100.0)
    np.testing.assert_allclose(relative_to_baseline(traces, baseline, np.array([100.0])), [[0, 0.5, -0.2]])


def test_a_baseline_near_zero_is_not_divided_by():
    # more neuropil was taken away than there was
    traces = np.array([[1.0, 11.0, -4.0]])
    found = relative_to_baseline(traces, np.array([[1.0, 1.0, -5.0]]), np.array([200.0]))
    np.testing.assert_allclose(found, [[0.0, 1.0, 0.1]])
    assert (relative_to_baseline(np.zeros((1, 3)), np.zeros((1, 3)), np.zeros(1)) == 0).all()
