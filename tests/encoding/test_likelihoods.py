from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from nwbrecon.encoding.likelihoods import Gaussian, Poisson, ZeroInflatedGamma, fit_likelihoods, likelihood_for
from nwbrecon.errors import SettingsError
from nwbrecon.session import SignalKind


def test_poisson_loss_is_the_negative_logarithm_of_the_probability_of_counts():
    counts, expected = np.meshgrid(np.arange(6), [0.5, 1.0, 2.5, 7.0], indexing="ij")
    loss = Poisson().loss(torch.from_numpy(expected), torch.from_numpy(counts)).numpy()
    truth = -stats.poisson.logpmf(counts, expected)
    # up to what does not depend on the expected value
    np.testing.assert_allclose(loss - loss[:, :1], truth - truth[:, :1], atol=1e-2)


def test_gaussian_loss_is_the_negative_logarithm_of_the_probability():
    measured, expected = np.meshgrid([-1.0, 0.0, 2.5], [-0.5, 1.0, 3.0], indexing="ij")
    loss = Gaussian().loss(torch.from_numpy(expected), torch.from_numpy(measured)).numpy()
    truth = -stats.norm.logpdf(measured, expected, 1)
    np.testing.assert_allclose(loss - loss[0, 0], truth - truth[0, 0], atol=1e-12)


@pytest.mark.parametrize("likelihood", [Poisson(), Gaussian()])
@pytest.mark.parametrize("measured", [0.3, 1.0, 4.2])
def test_what_was_measured_is_the_best_prediction(likelihood, measured):
    expected = torch.linspace(0.01, 6, 1000, dtype=torch.float64)
    best = expected[likelihood.loss(expected, torch.tensor(measured, dtype=torch.float64)).argmin()]
    assert float(best) == pytest.approx(measured, abs=0.01)


def test_a_silent_prediction_has_a_finite_loss_and_gradient():
    expected = torch.zeros(3, requires_grad=True)
    loss = Poisson().loss(expected, torch.tensor([0.0, 1.0, 50.0]))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(expected.grad).all()


def test_variances_are_those_of_the_distributions():
    expected = torch.tensor([0.5, 2.0, 9.0])
    torch.testing.assert_close(Poisson().variance(expected), expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(Gaussian().variance(expected), torch.ones(3))


@pytest.mark.parametrize(
    ("kind", "name", "chosen"),
    [
        (SignalKind.EVENTS, "auto", "poisson"),
        (SignalKind.SPIKES, "auto", "poisson"),
        (SignalKind.DFF, "auto", "gaussian"),
        (SignalKind.EVENTS, "gaussian", "gaussian"),
        (SignalKind.DFF, "gaussian", "gaussian"),
    ],
)
def test_the_kind_of_signal_decides(kind, name, chosen):
    assert likelihood_for(kind, name).name == chosen


def test_counts_are_not_seen_in_what_can_be_negative():
    with pytest.raises(SettingsError, match="dF/F, which can be negative"):
        likelihood_for(SignalKind.DFF, "poisson")


SIZES, SHAPES = np.array([0.5, 1.0, 3.0]), np.array([1.0, 2.5, 8.0])


def zig():
    return ZeroInflatedGamma(torch.from_numpy(SIZES), torch.from_numpy(SHAPES))


def distribution(expected):
    """Probability of a zero, and values with their weights in an integral over the density, ``(value, roi)``."""
    likelihood, mean = zig(), torch.full((3,), expected, dtype=torch.float64)
    grid = np.geomspace(likelihood.zero, 60.0 + 10 * expected, 4000)
    # evenly spaced in the logarithm: a value stands for as much as it is large
    width = np.gradient(np.log(grid)) * grid
    values = torch.from_numpy(grid[:, None]).expand(-1, 3)
    density = torch.exp(-likelihood.loss(mean, values)) * torch.from_numpy(width[:, None])
    return torch.exp(-likelihood.loss(mean, torch.zeros(3, dtype=torch.float64))), values, density


class TestZeroInflatedGamma:
    @pytest.mark.parametrize("expected", [0.05, 0.5, 2.0, 10.0])
    def test_it_is_a_distribution_whose_mean_is_what_is_expected(self, expected):
        silent, values, density = distribution(expected)
        np.testing.assert_allclose(silent + density.sum(dim=0), 1, atol=2e-3)
        np.testing.assert_allclose((values * density).sum(dim=0), expected, rtol=3e-3)
        np.testing.assert_allclose(silent, np.exp(-expected / SIZES), rtol=1e-3)
        variance = (values**2 * density).sum(dim=0) - expected**2
        found = zig().variance(torch.full((3,), expected, dtype=torch.float64))
        np.testing.assert_allclose(found, variance, rtol=5e-3)

    def test_values_that_are_not_zero_are_gamma_distributed(self):
        values = np.array([0.2, 1.0, 5.0])
        chance = 1 - np.exp(-2 / SIZES)
        truth = -stats.gamma.logpdf(values, SHAPES, scale=2 / chance / SHAPES) - np.log(chance)
        loss = zig().loss(torch.full((3,), 2.0, dtype=torch.float64), torch.from_numpy(values))
        np.testing.assert_allclose(loss, truth, atol=1e-3)

    @pytest.mark.parametrize("expected", [0.1, 1.0, 6.0])
    def test_on_average_the_truth_is_the_best_prediction(self, expected):
        silent, values, density = distribution(expected)
        guesses = torch.linspace(0.5, 1.5, 101, dtype=torch.float64)[:, None] * expected
        likelihood = zig()
        mean_loss = torch.stack(
            [
                silent * likelihood.loss(guess, torch.zeros(3)) + (density * likelihood.loss(guess, values)).sum(dim=0)
                for guess in guesses
            ]
        )
        best = guesses[mean_loss.argmin(dim=0), 0]
        np.testing.assert_allclose(best, expected, rtol=0.011)

    def test_gradients_are_those_of_finite_differences(self):
        expected = torch.tensor([[1e-3, 0.3, 2.0], [5.0, 40.0, 0.02]], dtype=torch.float64, requires_grad=True)
        measured = torch.tensor([[0.0, 1e-4, 0.4], [3.0, 0.0, 7.0]], dtype=torch.float64)
        assert torch.autograd.gradcheck(lambda x: zig().loss(x, measured), expected)

    def test_a_silent_prediction_has_a_finite_loss_and_gradient(self):
        expected = torch.zeros(3, requires_grad=True)
        for measured in (0.0, 1.0, 50.0):
            loss = zig().loss(expected, torch.full((3,), measured))
            (gradient,) = torch.autograd.grad(loss.sum(), expected)
            assert loss.dtype == torch.float32
            assert torch.isfinite(loss).all()
            assert torch.isfinite(gradient).all()

    def test_its_parameters_are_found_again(self):
        rng = np.random.default_rng(0)
        chance = 1 - np.exp(-0.8 / SIZES)
        activity = rng.gamma(SHAPES, 0.8 / chance / SHAPES, (20_000, 3)) * (rng.random((20_000, 3)) < chance)
        activity[rng.random(activity.shape) < 0.2] = np.nan
        found = ZeroInflatedGamma.fit(activity)
        np.testing.assert_allclose(found.size, SIZES, rtol=0.05)
        np.testing.assert_allclose(found.shape, SHAPES, rtol=0.05)

    def test_an_roi_that_says_little_is_taken_for_a_typical_one(self):
        rng = np.random.default_rng(0)
        activity = rng.gamma(2.0, 1.0, (500, 4)) * (rng.random((500, 4)) < 0.4)
        activity[5:, 0], activity[:, 1] = 0, np.nan
        found = ZeroInflatedGamma.fit(activity)
        for values in (found.size, found.shape):
            np.testing.assert_allclose(values[:2], np.median(values[2:]), rtol=0.05)
        silent = ZeroInflatedGamma.fit(np.zeros((50, 2)))
        assert torch.isfinite(silent.size).all()
        assert torch.isfinite(silent.shape).all()

    def test_activity_without_zeros_is_gamma_distributed(self):
        activity = np.random.default_rng(0).gamma(3.0, 1.0, (5000, 2))
        found = ZeroInflatedGamma.fit(activity)
        np.testing.assert_allclose(found.shape, 3, rtol=0.1)
        expected = torch.full((2,), 3.0)
        np.testing.assert_allclose(found.variance(expected), 3, rtol=0.1)

    def test_it_is_fitted_to_the_training_trials_of_each_group(self, small_mouse):
        aligned = small_mouse.aligned
        first, second = fit_likelihoods(aligned, aligned.trials_in("train"), "zig")
        assert (len(first.size), len(second.size)) == tuple(group.n_rois for group in aligned.groups)
        other, _ = fit_likelihoods(aligned, aligned.trials_in("train")[:3], "zig")
        assert not torch.equal(first.size, other.size)
        assert [one.name for one in fit_likelihoods(aligned, [], "auto")] == ["poisson", "poisson"]

    @pytest.mark.parametrize("kind", [SignalKind.DFF, SignalKind.SPIKES])
    def test_other_signals_are_refused(self, small_mouse, kind):
        group = replace(small_mouse.aligned.groups[0], kind=kind)
        with pytest.raises(SettingsError, match="plane 1 measured is"):
            fit_likelihoods(replace(small_mouse.aligned, groups=[group]), [0], "zig")
