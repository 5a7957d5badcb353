import numpy as np
import pandas as pd
import pytest
import torch
from scipy.signal import lfilter

from nwbrecon.alignment import AlignedGroup, AlignedSession
from nwbrecon.encoding.likelihoods import Gaussian, Poisson
from nwbrecon.encoding.noise import common_factor, fit_noise
from nwbrecon.session import SignalKind

LEVEL, INTERVAL, FRAMES, CLIPS, ROIS = 0.8, 2 / 15, 600, 10, 12
N_SAMPLES = int((0.2 + CLIPS * (FRAMES / 30 + 0.5)) / INTERVAL) + 5


class Steady:
    """Predicts the same, whatever is shown."""

    warm_up = 0

    def predict_rates(self, video, behavior):
        return torch.full((len(video), 2 * ROIS, video.shape[2]), LEVEL / (30 * INTERVAL))


def found(residuals, likelihoods=None):
    """Noise of two planes of like residuals, ``(sample, roi)``, the second scanned later."""
    groups = [
        AlignedGroup(
            f"plane {index}",
            SignalKind.EVENTS,
            0.05 * index + np.arange(N_SAMPLES) * INTERVAL,
            (LEVEL + residuals).astype(np.float32),
            np.ones(ROIS),
            pd.DataFrame(index=range(ROIS)),
        )
        for index in range(2)
    ]
    aligned = AlignedSession.from_arrays(
        [np.full((FRAMES, 4, 4), 127.0)] * CLIPS,
        groups,
        onsets=0.2 + np.arange(CLIPS) * (FRAMES / 30 + 0.5),
        clips=[str(n) for n in range(CLIPS)],
        splits=["validation"] * CLIPS,
        frame_rate=30.0,
    )
    return fit_noise(Steady(), aligned, aligned.trials_in("validation"), likelihoods or [Poisson()] * 2)


def white(seed=0):
    return np.random.default_rng(seed).standard_normal((N_SAMPLES, ROIS))


def autoregressive(coefficient, seed=0):
    return lfilter([np.sqrt(1 - coefficient**2)], [1, -coefficient], white(seed), axis=0)


@pytest.mark.parametrize("coefficient", [-0.4, 0.0, 0.6])
def test_an_autoregressive_process_is_recovered(coefficient):
    noise = found(np.sqrt(2.5 * LEVEL) * autoregressive(coefficient))
    assert np.median(noise.autocorrelation) == pytest.approx(coefficient, abs=0.04)
    assert np.abs(noise.autocorrelation - coefficient).max() < 0.12
    # the floor makes up a twentieth of the variance
    assert np.median(noise.variance) == pytest.approx(2.5 / 1.05, rel=0.1)
    np.testing.assert_allclose(noise.floor, 0.05 * LEVEL, rtol=0.01)
    assert noise.arrays().keys() == {"floor", "variance", "autocorrelation", "loading"}


def test_a_common_factor_is_recovered():
    loading = np.linspace(0.2, 0.9, ROIS)
    factor = np.random.default_rng(1).standard_normal((N_SAMPLES, 1))
    residuals = np.sqrt(LEVEL) * (factor * loading + white() * np.sqrt(1 - loading**2))
    noise = found(residuals)
    # one a plane: both see the same
    np.testing.assert_allclose(noise.loading, np.tile(loading, 2), atol=0.08)
    np.testing.assert_allclose(noise.variance.mean(), 1 / 1.05, rtol=0.1)


def test_white_noise_has_nothing_in_common():
    assert np.abs(found(np.sqrt(LEVEL) * white()).loading).mean() < 0.15


def test_what_is_missing_says_nothing():
    residuals = np.sqrt(2.5 * LEVEL) * autoregressive(0.6)
    residuals[np.random.default_rng(2).random(residuals.shape) < 0.2] = np.nan
    noise = found(residuals)
    assert np.median(noise.autocorrelation) == pytest.approx(0.6, abs=0.04)
    # an ROI that was never measured is a typical one
    residuals[:, 0] = np.nan
    noise = found(residuals)
    assert noise.autocorrelation[0] == pytest.approx(np.median(noise.autocorrelation[:ROIS]), abs=0.02)
    assert noise.variance[0] == pytest.approx(np.median(noise.variance[:ROIS]), rel=0.05)
    assert all(np.isfinite(values).all() for values in noise.arrays().values())


def test_the_variance_is_the_likelihoods():
    noise = found(2 * white(), [Gaussian()] * 2)
    assert np.median(noise.variance) == pytest.approx(4 / 1.05, rel=0.1)
    np.testing.assert_allclose(noise.floor, 0.05)


def test_one_factor_is_that_of_the_correlation_matrix():
    loading = np.array([0.9, -0.5, 0.3, 0.7, 0.0])
    rows = np.random.default_rng(0).standard_normal((4000, 5))
    # rows whose correlation matrix is just that of the factor
    rows = np.linalg.qr(rows)[0] * np.sqrt(len(rows))
    covariance = np.outer(loading, loading) + np.diag(1 - loading**2)
    values = rows @ np.linalg.cholesky(covariance).T * [1, 2, 3, 0.1, 10]
    np.testing.assert_allclose(common_factor(values), loading, atol=1e-3)
    np.testing.assert_allclose(common_factor(-values), loading, atol=1e-3)


def test_of_two_columns_no_factor_can_be_told():
    np.testing.assert_array_equal(common_factor(np.ones((10, 2))), np.zeros(2))
