from dataclasses import replace

import pytest
import torch
from linear import SHAPE, LinearEncoder, movie_prior, responses_to, sample_video, white_noise

from nwbrecon.config import EncoderSettings
from nwbrecon.encoding import VideoEncoder
from nwbrecon.encoding.likelihoods import Poisson, ZeroInflatedGamma
from nwbrecon.encoding.observation import Observation
from nwbrecon.inversion.evidence import Evidence
from nwbrecon.inversion.objective import Objective
from nwbrecon.session import SignalKind


class Positive:
    """Another encoder's rates, bent to be above zero."""

    warm_up = 0

    def __init__(self, encoder):
        self.encoder = encoder

    def predict_rates(self, video, behavior):
        return torch.nn.functional.softplus(self.encoder.predict_rates(video, behavior))


def assert_gradient(objective, white):
    """Derivatives along random directions, by finite differences in float64."""
    evaluation = objective(white)
    for seed in range(5):
        direction = white_noise(objective.prior, 100 + seed)
        step = 1e-4
        forth, back = (objective(white + sign * step * direction).value for sign in (1, -1))
        slope = float((evaluation.gradient * direction).sum())
        assert (forth - back) / (2 * step) == pytest.approx(slope, rel=1e-4, abs=1e-3)


def test_the_gradient_is_that_of_finite_differences_in_a_linear_world():
    evidence = [responses_to(LinearEncoder.random(6, seed=seed), sample_video(), noise=1.0) for seed in range(2)]
    objective = Objective(evidence, movie_prior(), prior_weight=0.7)
    assert_gradient(objective, white_noise(objective.prior))


def test_the_gradient_is_that_of_finite_differences_for_our_encoder():
    encoder = VideoEncoder(
        EncoderSettings(channels=4, kernel_size=3, memory_seconds=0.1, stride=1),
        n_rois=4,
        frame_size=SHAPE[1:],
        frame_rate=30.0,
        behavior_names=("running_speed",),
    )
    for index, parameter in enumerate((encoder.readout.linear, encoder.readout.energy, encoder.readout.bias)):
        torch.nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(index))
    encoder = encoder.double().eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    seen = Observation(
        slice(0, 4),
        torch.rand(1, 3, SHAPE[0], generator=generator, dtype=torch.float64),
        torch.rand(1, 3, 4, generator=generator, dtype=torch.float64),
        (torch.rand(1, 3, 4, generator=generator) > 0.2).double(),
        SignalKind.EVENTS,
    )
    behavior = torch.randn(1, SHAPE[0], 1, generator=generator, dtype=torch.float64)
    evidence = Evidence(encoder, [Poisson()], [seen], behavior, torch.tensor([0.5, 1.0, 2.0, 0.1]).double())
    objective = Objective([evidence], movie_prior())
    assert_gradient(objective, white_noise(objective.prior))


def test_the_gradient_is_that_of_finite_differences_for_a_zero_inflated_gamma_likelihood():
    evidence = responses_to(LinearEncoder.random(4), sample_video(), noise=1.0)
    # a softplus keeps what a linear encoder expects above zero, and half of what was measured is nothing
    observations = [
        replace(seen, measured=torch.where(seen.measured > seen.measured.median(), seen.measured.abs(), 0))
        for seen in evidence.observations
    ]
    likelihood = ZeroInflatedGamma(torch.tensor([0.5, 2.0]).double(), torch.tensor([1.5, 4.0]).double())
    encoder = Positive(evidence.encoder)
    evidence = replace(evidence, encoder=encoder, likelihoods=[likelihood] * 2, observations=observations)
    objective = Objective([evidence], movie_prior())
    assert_gradient(objective, white_noise(objective.prior))


def test_the_value_is_likelihood_and_prior():
    evidence = responses_to(LinearEncoder.random(4), sample_video(), noise=1.0)
    prior = movie_prior()
    white = white_noise(prior)
    evaluation = Objective([evidence], prior, prior_weight=0.3)(white)
    parts = evaluation.parts
    assert evaluation.value == pytest.approx(parts["negative_log_likelihood"] + parts["negative_log_prior"])
    assert parts["negative_log_prior"] == pytest.approx(0.15 * float((white**2).sum()))
    assert parts["negative_log_likelihood"] == pytest.approx(float(evidence.loss(prior.video(white))))


def likelihood(witnesses, white, chosen=None):
    return Objective(witnesses, movie_prior(), chosen=chosen)(white).parts["negative_log_likelihood"]


def test_witnesses_add_and_weights_weigh():
    prior = movie_prior()
    white = white_noise(prior)
    video = prior.video(white)
    witnesses = [responses_to(LinearEncoder.random(4, seed=seed), sample_video(1), noise=1.0) for seed in range(2)]
    assert likelihood(witnesses, white) == pytest.approx(float(witnesses[0].loss(video) + witnesses[1].loss(video)))
    weighted = responses_to(LinearEncoder.random(4), sample_video(1), noise=1.0, weights=torch.full((4,), 3.0).double())
    torch.testing.assert_close(weighted.loss(video), 3 * witnesses[0].loss(video))


def test_what_is_not_known_does_not_count():
    known = torch.ones(1, SHAPE[0] // 2, 4, dtype=torch.float64)
    known[:, 1] = 0
    evidence = responses_to(LinearEncoder.random(4), sample_video(), known=known)
    video = torch.from_numpy(sample_video(1)).double()[None]
    before = evidence.loss(video)
    for seen in evidence.observations:
        seen.measured[:, 1] = 1e6
    torch.testing.assert_close(evidence.loss(video), before)


def test_the_fitted_and_the_held_out_make_up_the_whole():
    witnesses = [responses_to(LinearEncoder.random(5, seed=seed), sample_video(), noise=1.0) for seed in range(2)]
    chosen = [torch.tensor([1.0, 0, 1, 0, 1]), torch.tensor([0.0, 0, 1, 1, 1])]
    prior = movie_prior()
    white = white_noise(prior)
    fitted, others = (likelihood(witnesses, white, parts) for parts in (chosen, [1 - part for part in chosen]))
    assert fitted + others == pytest.approx(likelihood(witnesses, white))
    # an ROI that is not fitted has no say
    changed = torch.from_numpy(sample_video(3)).double()
    changed_witness = responses_to(LinearEncoder.random(5), changed, noise=1.0)
    for seen, other in zip(witnesses[0].observations, changed_witness.observations, strict=True):
        mask = 1 - chosen[0][seen.rois]
        seen.measured = seen.measured * (1 - mask) + other.measured * mask
    assert likelihood(witnesses, white, chosen) == pytest.approx(fitted)
