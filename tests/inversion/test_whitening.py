from dataclasses import replace

import numpy as np
import pytest
import torch
from linear import LinearEncoder, movie_prior, responses_to, sample_video
from scipy.signal import lfilter

from nwbrecon.encoding.likelihoods import Poisson
from nwbrecon.encoding.noise import ResidualNoise
from nwbrecon.encoding.observation import Observation
from nwbrecon.inversion.objective import Objective
from nwbrecon.inversion.whitening import Whitening, whitening_for
from nwbrecon.session import SignalKind

N_SAMPLES, N_ROIS = 9, 4


def tensor(values):
    return torch.as_tensor(np.asarray(values), dtype=torch.float64)


def seen_with(known, seed=0):
    """Measurements of a plane whose samples each sum two frames."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.zeros(1, N_SAMPLES, 2 * N_SAMPLES, dtype=torch.float64)
    for sample in range(N_SAMPLES):
        weights[0, sample, 2 * sample : 2 * sample + 2] = 1
    measured = torch.randn(1, N_SAMPLES, N_ROIS, generator=generator, dtype=torch.float64)
    # what is not known may hold anything
    measured = torch.where(known > 0, measured, 1e3)
    return Observation(slice(1, 1 + N_ROIS), weights, measured, known, SignalKind.EVENTS)


def rates(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, N_ROIS + 2, 2 * N_SAMPLES, generator=generator, dtype=torch.float64)


def gappy():
    return (torch.rand(1, N_SAMPLES, N_ROIS, generator=torch.Generator().manual_seed(3)) > 0.25).double()


@pytest.mark.parametrize("chosen", [None, tensor([0, 1, 0, 1, 1, 0])])
def test_shared_noise_is_that_of_the_whole_covariance(chosen):
    known, scale = gappy(), 0.5 + rates(4)[:, :N_SAMPLES, :N_ROIS].new_ones(1, N_SAMPLES, N_ROIS)
    seen, loading = seen_with(known), tensor([0.8, -0.3, 0.5, 0.0])
    whitening = Whitening(scale, torch.zeros(N_ROIS).double(), loading)
    counts = known if chosen is None else known * chosen[1 : 1 + N_ROIS]
    residual = ((seen.measured - seen.expected(rates())) * scale)[0].numpy()
    expected = 0.0
    for row, here in zip(residual, counts[0].numpy() > 0, strict=True):
        covariance = np.outer(loading[here], loading[here]) + np.diag(1 - loading[here] ** 2)
        expected += 0.5 * row[here] @ np.linalg.solve(covariance, row[here])
    assert float(whitening.loss(seen, rates(), chosen)) == pytest.approx(expected)


def test_autoregressive_noise_is_that_of_the_whole_covariance_and_begins_anew_after_gaps():
    known, scale = gappy(), torch.full((1, N_SAMPLES, N_ROIS), 0.7).double()
    seen, coefficient = seen_with(known), np.array([0.6, -0.4, 0.0, 0.9])
    whitening = Whitening(scale, tensor(coefficient), torch.zeros(N_ROIS).double())
    residual = ((seen.measured - seen.expected(rates())) * scale)[0].numpy()
    expected = 0.0
    for roi, here in enumerate(known[0].numpy().T > 0):
        places = np.flatnonzero(here)
        for run in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1):
            covariance = coefficient[roi] ** np.abs(run[:, None] - run) if len(run) else np.zeros((0, 0))
            expected += 0.5 * residual[run, roi] @ np.linalg.solve(covariance, residual[run, roi])
    assert float(whitening.loss(seen, rates())) == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["shared", "autoregressive"])
def test_right_whitening_makes_right_squares(kind):
    """Twice the loss of noise that is as told is as large as there are samples; of white noise told so it is not."""
    n_samples, n_rois = 4000, 5
    rng = np.random.default_rng(0)
    coefficient, loading = np.full(n_rois, 0.7), np.linspace(0.3, 0.8, n_rois)
    white = rng.standard_normal((n_samples, n_rois))
    residual = (
        lfilter([np.sqrt(1 - 0.7**2)], [1, -0.7], white, axis=0)
        if kind == "autoregressive"
        else rng.standard_normal((n_samples, 1)) * loading + white * np.sqrt(1 - loading**2)
    )
    mean = 2.0
    noise = ResidualNoise(np.full(n_rois, 0.5), np.full(n_rois, 3.0), coefficient, loading)
    dispersion = torch.full((n_rois,), 3.0).double()
    rates = torch.full((1, n_rois, 1), mean).double()

    def loss(values):
        deviation = np.sqrt(3 * (mean + Poisson.floor + 0.5))
        seen = Observation(
            slice(0, n_rois),
            torch.ones(1, n_samples, 1).double(),
            tensor(mean + deviation * values)[None],
            torch.ones(1, n_samples, n_rois).double(),
            SignalKind.EVENTS,
        )
        return float(whitening_for(seen, Poisson(), rates, noise, dispersion, kind).loss(seen, rates))

    assert 2 * loss(residual) / residual.size == pytest.approx(1, rel=0.03)
    assert 2 * loss(white) / white.size > 1.2


@pytest.mark.parametrize("kind", ["shared", "autoregressive"])
def test_the_gradient_is_that_of_finite_differences(kind):
    known = torch.ones(1, 3, 6, dtype=torch.float64)
    known[:, 1, ::2] = 0
    evidence = responses_to(LinearEncoder.random(6), sample_video(), noise=1.0, known=known)
    rng = np.random.default_rng(0)
    noise = ResidualNoise(*(rng.uniform(0.2, 0.8, 6) for _ in range(4)))
    video = torch.from_numpy(sample_video(1)).double()[None]
    objective = Objective([replace(evidence, noise=noise).whitened(video, kind)], movie_prior(), prior_weight=0.7)
    generator = torch.Generator().manual_seed(0)
    white, *directions = (
        torch.randn(1, *objective.prior.coordinates, generator=generator, dtype=torch.float64) for _ in range(4)
    )
    gradient = objective(white).gradient
    for direction in directions:
        forth, back = (objective(white + sign * 1e-4 * direction).value for sign in (1, -1))
        assert (forth - back) / 2e-4 == pytest.approx(float((gradient * direction).sum()), rel=1e-4, abs=1e-3)


def test_noise_without_correlations_is_the_gaussian_likelihood():
    evidence = responses_to(LinearEncoder.random(4), sample_video(), noise=1.0, weights=tensor([0.5, 1, 2, 0.1]))
    video = torch.from_numpy(sample_video(1)).double()[None]
    noise = ResidualNoise(np.zeros(4), np.array([2, 1, 0.5, 10]), np.zeros(4), np.zeros(4))
    for kind in ("shared", "autoregressive"):
        whitened = replace(evidence, noise=noise).whitened(video, kind)
        torch.testing.assert_close(whitened.loss(video), evidence.loss(video))
