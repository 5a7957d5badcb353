import numpy as np
import pandas as pd
import pytest

from nwbrecon.config import ResponseSettings
from nwbrecon.session import ResponseGroup, Signal, SignalKind, activity
from nwbrecon.session.activity import ROIS_AT_ONCE
from nwbrecon.session.deconvolution import deconvolve


def stored(values, kind, path="processing/ophys/x"):
    values = np.asarray(values, dtype=np.float32)
    return Signal(path, kind, "n.a.", lambda start, stop: values[start:stop].copy(), values.shape)


def group(values, kind, rate=10.0, **more):
    n_samples, n_rois = np.shape(values)
    return ResponseGroup(
        "plane", stored(values, kind), np.arange(n_samples) / rate, pd.DataFrame(index=range(n_rois)), **more
    )


def simulate(n_rois=5, seconds=300, rate=10.0, decay=0.8, seed=0):
    rng = np.random.default_rng(seed)
    n_samples = int(seconds * rate)
    spikes = rng.poisson(0.3 / rate, (n_samples, n_rois)).astype(float)
    level = np.zeros_like(spikes)
    for k in range(n_samples):
        level[k] = spikes[k] + (level[k - 1] * np.exp(-1 / rate / decay) if k else 0)
    drift = 1 + 0.3 * np.sin(np.arange(n_samples) / n_samples * 5)[:, None]
    f0 = drift * rng.uniform(80, 300, n_rois)
    neuropil = 50 + 10 * np.cumsum(rng.normal(0, 0.2, (n_samples, 1)), axis=0) * rng.uniform(0.5, 1, n_rois)
    raw = f0 * (1 + 0.5 * level + rng.normal(0, 0.05, spikes.shape)) + 0.7 * neuropil
    return spikes, 0.5 * level, raw, neuropil


def correlation(a, b):
    good = np.isfinite(a) & np.isfinite(b)
    return np.mean([np.corrcoef(x[g], y[g])[0, 1] for x, y, g in zip(a.T, b.T, good.T, strict=True)])


def test_raw_fluorescence_becomes_dff_without_its_neuropil():
    _, dff, raw, neuropil = simulate()
    made = group(raw, SignalKind.RAW, neuropil=stored(neuropil, SignalKind.NEUROPIL, "processing/ophys/np"))
    found = activity(made, ResponseSettings(deconvolve=False))
    assert found.kind is SignalKind.DFF
    assert "0.7 times processing/ophys/np" in found.origin
    # a running 10th percentile lies a little under the true baseline, by about 1.3 standard deviations of the noise
    assert np.median(np.abs(found.values - dff - np.median(found.values - dff))) < 0.06
    assert correlation(found.values, dff) > 0.94
    without = activity(made, ResponseSettings(deconvolve=False, neuropil_factor=0))
    assert correlation(without.values, dff) < correlation(found.values, dff)


@pytest.mark.parametrize("kind", [SignalKind.RAW, SignalKind.CORRECTED, SignalKind.DFF])
def test_spikes_are_found_again(kind):
    spikes, dff, raw, neuropil = simulate()
    values = {SignalKind.RAW: raw, SignalKind.CORRECTED: raw - 0.7 * neuropil, SignalKind.DFF: dff}[kind]
    more = {"neuropil": stored(neuropil, SignalKind.NEUROPIL)} if kind is SignalKind.RAW else {}
    found = activity(group(values, kind, indicator="GCaMP6m", **more))
    assert found.kind is SignalKind.EVENTS
    assert found.values.dtype == np.float32
    assert np.isnan(found.values[0]).all()
    assert (found.values[1:] >= 0).all()
    assert correlation(found.values, spikes) > 0.9
    assert "a decay of 0.7 s (usual for GCaMP6m)" in found.origin
    estimated = activity(group(values, kind, **more))
    assert "(estimated from the autocovariance)" in estimated.origin
    assert correlation(estimated.values, spikes) > 0.85


def test_a_baseline_that_was_subtracted_is_not_divided_by_again():
    spikes, dff, _, _ = simulate()
    noisy = dff + np.random.default_rng(1).normal(0, 0.1, dff.shape)
    found = activity(group(noisy, SignalKind.RAW), ResponseSettings(deconvolve=False))
    np.testing.assert_array_equal(found.values, noisy.astype(np.float32))
    assert "subtracted already" in found.origin
    assert correlation(activity(group(noisy, SignalKind.RAW)).values, spikes) > 0.8


def test_a_drift_that_dff_has_kept_is_no_activity():
    _, dff, _, _ = simulate()
    noisy = dff + np.random.default_rng(1).normal(0, 0.05, dff.shape)
    drift = np.linspace(0, 1, len(dff))[:, None]
    still = activity(group(noisy, SignalKind.DFF, indicator="GCaMP6m")).values
    drifting = activity(group(noisy + drift, SignalKind.DFF, indicator="GCaMP6m")).values
    assert correlation(drifting, still) > 0.97
    assert np.nanmean(drifting) == pytest.approx(np.nanmean(still), rel=0.15)


def test_the_level_of_a_silent_trace_is_found_under_its_noise():
    noise = np.random.default_rng(1).normal(0, 0.1, (3000, 4))
    found = activity(group(noise + 0.3, SignalKind.DFF, indicator="GCaMP6s")).values
    around_zero = deconvolve(noise.T, np.arange(3000) / 10, 1.0).T
    assert np.nanmean(found) == pytest.approx(np.nanmean(around_zero), rel=0.3)
    assert np.nanmean(found) < 0.3 * np.nanmean(deconvolve(noise.T + 0.1, np.arange(3000) / 10, 1.0))


def test_stored_events_are_taken_as_they_are():
    events = np.random.default_rng(0).poisson(0.2, (100, 3)).astype(np.float32)
    found = activity(group(events, SignalKind.EVENTS))
    np.testing.assert_array_equal(found.values, events)
    events[3, 1] = -0.5
    found = activity(group(events, SignalKind.EVENTS))
    assert found.values[3, 1] == 0
    assert "1 negative values set to 0" in found.origin


def test_settings_choose_another_stored_signal():
    events = np.ones((50, 2))
    made = group(events, SignalKind.EVENTS, alternatives={"d": stored(np.full((50, 2), 0.5), SignalKind.DFF, "d")})
    found = activity(made, ResponseSettings(signal="dff", deconvolve=False))
    np.testing.assert_array_equal(found.values, np.full((50, 2), 0.5))


def test_dead_and_missing_rois_do_no_harm():
    spikes, _, raw, _ = simulate(n_rois=ROIS_AT_ONCE + 3)
    raw[:, 1], raw[:, 2], raw[:, 3] = 0, np.nan, 100
    raw[500:520, 4] = np.inf
    found = activity(group(raw, SignalKind.RAW)).values
    assert (found[1:, [1, 3]] == 0).all()
    assert np.isnan(found[:, 2]).all()
    assert np.isnan(found[500:521, 4]).all()
    assert np.isfinite(found[521:, 4]).all()
    alive = [0, *range(4, raw.shape[1])]
    assert correlation(found[:, alive], spikes[:, alive]) > 0.8


def test_a_threshold_leaves_fewer_events():
    spikes, dff, _, _ = simulate()
    noisy = dff + np.random.default_rng(1).normal(0, 0.3, dff.shape)
    plain = activity(group(noisy, SignalKind.DFF)).values
    found = activity(group(noisy, SignalKind.DFF), ResponseSettings(threshold=True))
    assert "noise" in found.origin
    assert np.count_nonzero(found.values > 0) < 0.7 * np.count_nonzero(plain > 0)
    assert correlation(found.values, spikes) > correlation(plain, spikes) - 0.02


def test_a_given_decay_is_used():
    _, dff, _, _ = simulate()
    found = activity(group(dff, SignalKind.DFF), ResponseSettings(decay_seconds=0.4))
    assert "decay of 0.4 s (given)" in found.origin
