import numpy as np
import pytest

from nwbrecon.encoding.repeats import mean_over_showings, response_powers

N_ROIS = 3


def showings(signal=1.0, noise=2.0, clips=6, repeats=5, frames=2000, seed=0):
    """Responses with a signal and a white noise of known variance, some clips shown more often than others."""
    rng = np.random.default_rng(seed)
    repeats = np.broadcast_to(repeats, clips)
    return [
        3
        + np.sqrt(signal) * rng.standard_normal((frames, N_ROIS))
        + np.sqrt(noise) * rng.standard_normal((n, frames, N_ROIS))
        for n in repeats
    ]


def sahani_linden(runs):
    """Signal power of ``(run, time)`` as the paper has it, plainly computed."""
    n = len(runs)
    return (np.var(runs.sum(axis=0)) - sum(np.var(run) for run in runs)) / (n * (n - 1))


def test_powers_are_those_that_went_in():
    powers = response_powers(showings(), N_ROIS)
    np.testing.assert_allclose(powers.signal, 1, rtol=0.08)
    np.testing.assert_allclose(powers.noise, 2, rtol=0.05)
    np.testing.assert_allclose(powers.of_mean, 1 + 2 / 5, rtol=0.08)
    np.testing.assert_allclose(powers.single_trial_ceiling, np.sqrt(1 / 3), rtol=0.05)
    np.testing.assert_allclose(powers.mean_ceiling, np.sqrt(1 / 1.4), rtol=0.05)


def test_equal_numbers_of_showings_give_the_published_estimate():
    made = showings(clips=4, frames=50)
    powers = response_powers(made, N_ROIS)
    runs = np.concatenate(made, axis=1)
    for roi in range(N_ROIS):
        assert powers.signal[roi] == pytest.approx(sahani_linden(runs[:, :, roi]))
        total = np.mean([np.var(run) for run in runs[:, :, roi]])
        assert powers.noise[roi] == pytest.approx(total - powers.signal[roi])
        assert powers.of_mean[roi] == pytest.approx(np.var(runs[:, :, roi].mean(axis=0)))


def test_showings_may_differ_in_number_and_be_known_in_part():
    made = showings(repeats=(2, 3, 10, 2, 5, 4))
    made[2][4:, :500] = np.nan
    made[0][0] = np.nan
    powers = response_powers(made, N_ROIS)
    np.testing.assert_allclose(powers.signal, 1, rtol=0.1)
    np.testing.assert_allclose(powers.noise, 2, rtol=0.05)
    # a clip that is known once says nothing
    np.testing.assert_allclose(powers.signal, response_powers(made[1:], N_ROIS).signal)


def test_noise_alone_has_no_signal_and_no_ceiling():
    estimates = np.array([response_powers(showings(signal=0, frames=100, seed=n), N_ROIS).signal for n in range(60)])
    spread = estimates.std() / np.sqrt(estimates.size)
    assert abs(estimates.mean()) < 3 * spread
    assert 0.3 < (estimates < 0).mean() < 0.7
    powers = response_powers(showings(signal=0, frames=100), N_ROIS)
    np.testing.assert_array_equal(np.isnan(powers.mean_ceiling), powers.signal <= 0)
    np.testing.assert_array_equal(np.isnan(powers.single_trial_ceiling), powers.signal <= 0)


@pytest.mark.parametrize("made", [[], [np.ones((1, 20, N_ROIS))]])
def test_without_repeats_nothing_is_known(made):
    powers = response_powers(made, N_ROIS)
    for values in (powers.signal, powers.noise, powers.of_mean, powers.mean_ceiling, powers.single_trial_ceiling):
        assert values.shape == (N_ROIS,)
        assert np.isnan(values).all()


def test_the_mean_is_over_what_is_known():
    of_clip = np.array([[[1.0], [2.0], [np.nan]], [[3.0], [np.nan], [np.nan]], [[8.0], [4.0], [5.0]]])
    np.testing.assert_array_equal(mean_over_showings(of_clip), [[4.0], [3.0], [np.nan]])
