import numpy as np
import pytest

from nwbrecon.inversion.natural import NATURAL, NaturalSpectrum
from nwbrecon.inversion.priors import MoviePrior

SPECTRUM = NaturalSpectrum(falloff=2.3, tail=1.8, speed=2.0, coarsest=0.01, deviation=50.0)


def slope(power, at, factor=1.01):
    return np.log(power(at * factor) / power(at)) / np.log(factor)


def test_power_falls_as_the_formula_says():
    # still pictures, far above the coarsest frequency
    assert slope(lambda f: SPECTRUM.power(f, 0.0), 5.0) == pytest.approx(-3.3, abs=1e-3)
    # flicker that is faster than anything moves
    assert slope(lambda w: SPECTRUM.power(0.1, w), 1e4) == pytest.approx(-1.8, abs=1e-3)
    # power goes by speed: the same share of each spatial frequency lies below the speed that is usual
    for spatial in (0.5, 5.0):
        share = SPECTRUM.power(spatial, 2.0 * spatial) / SPECTRUM.power(spatial, 0.0)
        assert share == pytest.approx(2**-0.9, rel=1e-3)
    # what is larger than the screen has no more power
    assert SPECTRUM.power(0.0, 0.0) == pytest.approx(0.01**-3.3)


def test_space_and_time_do_not_separate():
    slow, fast = (SPECTRUM.power(np.array([0.02, 0.2]), w) for w in (0.05, 5.0))
    # of what is fast, more is fine
    assert fast[1] / fast[0] > 5 * slow[1] / slow[0]


def test_the_autocovariance_is_the_sum_of_its_waves():
    lags, rate, degrees = (3, 2, 2), 20.0, 3.0
    found = SPECTRUM.autocovariance(lags, rate, degrees)
    frequencies = [
        np.fft.fftfreq(2 * lag, spacing) for lag, spacing in zip(lags, (1 / rate, degrees, degrees), strict=True)
    ]
    expected = np.zeros_like(found)
    for lag in np.ndindex(*expected.shape):
        for temporal in frequencies[0]:
            for down in frequencies[1]:
                for across in frequencies[2]:
                    phase = lag[0] * temporal / rate + (lag[1] * down + lag[2] * across) * degrees
                    power = SPECTRUM.power(np.array(np.hypot(down, across)), np.array(temporal))
                    expected[lag] += power * np.cos(2 * np.pi * phase)
    np.testing.assert_allclose(found, 2500 * expected / expected[0, 0, 0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("lags", "rate", "degrees"),
    [((90, 35, 63), 30.0, 2.2), ((7, 4, 5), 7.5, 10.0), ((180, 17, 20), 60.0, 0.3), ((1, 1, 1), 30.0, 2.2)],
)
def test_it_is_a_covariance_at_any_size_and_rate(lags, rate, degrees):
    found = NATURAL.autocovariance(lags, rate, degrees)
    assert found.shape == tuple(lag + 1 for lag in lags)
    assert found[0, 0, 0] == pytest.approx(NATURAL.deviation**2)
    # on the torus of which these are all distances no eigenvalue is negative
    distances = np.ix_(*(np.minimum(np.arange(2 * lag), 2 * lag - np.arange(2 * lag)) for lag in lags))
    eigenvalues = np.fft.fftn(found[distances]).real
    assert eigenvalues.min() > 0
    prior = MoviePrior(found, (10, lags[1] + 1, lags[2] + 1), 100.0)
    assert prior.variance == pytest.approx(NATURAL.deviation**2, rel=1e-4)


def test_a_prior_of_it_hardly_needs_a_floor():
    found = NATURAL.autocovariance((90, 35, 63), 30.0, 2.2)
    prior = MoviePrior(found, (113, 36, 64), 100.0)
    floor = float(prior.amplitude.min())
    assert float((prior.amplitude <= 1.001 * floor).float().mean()) < 0.01


def test_it_follows_the_geometry_of_the_screen_and_the_frame_rate():
    fine = NATURAL.autocovariance((40, 40, 40), 30.0, 1.0)
    coarse = NATURAL.autocovariance((40, 20, 20), 30.0, 2.0)
    slow = NATURAL.autocovariance((20, 40, 40), 15.0, 1.0)
    # the same distance of the visual field, the same time: but for what is finer than a pixel or a frame
    np.testing.assert_allclose(fine[:, ::2, ::2] / fine[0, 0, 0], coarse / coarse[0, 0, 0], atol=0.03)
    np.testing.assert_allclose(fine[::2] / fine[0, 0, 0], slow / slow[0, 0, 0], atol=0.03)
    # the wrong geometry is told apart
    assert np.abs(fine[:, :21, :21] - coarse).max() > 0.08 * fine[0, 0, 0]


def test_the_level_is_set_apart_from_the_form():
    one, other = (NATURAL.at_level(level).autocovariance((5, 5, 5), 30.0, 2.2) for level in (10.0, 30.0))
    np.testing.assert_allclose(other, 9 * one)
