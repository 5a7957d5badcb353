import numpy as np
import pytest
import torch
from scipy import stats

from nwbrecon.encoding.likelihoods import Gaussian, Poisson, likelihood_for
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
