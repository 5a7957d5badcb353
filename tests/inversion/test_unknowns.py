from dataclasses import replace

import numpy as np
import pytest
import torch
from linear import MEAN, SHAPE, LinearEncoder, movie_prior, responses_to, sample_video

from nwbrecon.config import InversionSettings
from nwbrecon.encoding.shared_gain import SharedGain
from nwbrecon.inversion.evidence import Margins, gather_evidence
from nwbrecon.inversion.objective import Objective
from nwbrecon.inversion.reconstructor import Reconstructor
from nwbrecon.inversion.setup import invert
from nwbrecon.inversion.unknowns import GainPrior
from nwbrecon.metrics import dynamic_correlation

ROIS = 40
LOADING = np.random.default_rng(0).uniform(0.3, 0.9, ROIS)


def prior(n_frames=SHAPE[0], seconds=0.1):
    return GainPrior(SharedGain(LOADING, seconds), n_frames, 30.0)


def witness(gain=None, noise=0.05, shared=None):
    """Responses that rise with the movie, and with a gain ``(1, time)`` that all ROIs share."""

    class Rising(LinearEncoder):
        def predict_rates(self, video, behavior):
            return 5 + super().predict_rates(video - MEAN, behavior) / 30

    encoder = Rising.random(ROIS)
    evidence = responses_to(encoder, sample_video(1), noise=noise, weights=torch.full((ROIS,), noise**-2).double())
    shared = shared or prior()
    if gain is not None:
        # the noise stays as it is
        rates = replace(evidence, shared=shared, gain=gain).rates(torch.from_numpy(sample_video(1))[None])
        without = evidence.rates(torch.from_numpy(sample_video(1))[None])
        for seen in evidence.observations:
            seen.measured += seen.expected(rates) - seen.expected(without)
    return evidence, shared


def test_the_gradient_is_that_of_the_value():
    gain = torch.linspace(-0.5, 0.7, SHAPE[0])[None].double()
    evidence, shared = witness(gain)
    objective = Objective([replace(evidence, shared=shared)], movie_prior(), prior_weight=0.7)
    generator = torch.Generator().manual_seed(0)
    movie = torch.randn(1, *objective.prior.coordinates, generator=generator, dtype=torch.float64)
    point = objective.point([movie, torch.randn(shared.shape, generator=generator, dtype=torch.float64)])
    evaluation = objective(point)
    hidden = torch.arange(len(point)) >= movie.numel()
    for seed in range(2):
        direction = torch.randn(len(point), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        for part in (direction, direction * hidden):
            forth, back = (objective(point + sign * 1e-5 * part).value for sign in (1, -1))
            slope = float((evaluation.gradient * part).sum())
            assert (forth - back) / 2e-5 == pytest.approx(slope, rel=1e-4)


def test_a_gain_that_all_share_is_found_and_no_longer_taken_for_the_picture():
    smooth = prior()
    gain = smooth.values(torch.randn(smooth.shape, generator=torch.Generator().manual_seed(3))).double()
    evidence, shared = witness(gain, shared=smooth)
    fits = {}
    for name, one in (("told nothing", evidence), ("sought", replace(evidence, shared=shared))):
        fits[name] = Reconstructor([one], movie_prior(), Margins(0, 0))
        fits[name].run(60)
    assert fits["told nothing"].gain is None
    assert np.corrcoef(fits["sought"].gain[0], gain[0].numpy())[0, 1] > 0.95
    errors = {name: float(np.abs(fit.video - sample_video(1)).mean()) for name, fit in fits.items()}
    assert errors["sought"] < 0.7 * errors["told nothing"]
    # the witnesses then know the gain
    told = fits["sought"].evidence[0]
    np.testing.assert_allclose(told.gain[0].numpy(), fits["sought"].gain[0], rtol=1e-5)


def test_the_metric_is_the_inverse_of_the_hessian_where_every_frame_tells_as_much():
    evidence, shared = witness(noise=1.0)
    shared.observe(evidence.observations, evidence.likelihoods, evidence.weights)
    total = sum(
        float((seen.known * (seen.measured.mean(dim=1) * torch.from_numpy(LOADING[seen.rois])) ** 2).sum())
        for seen in evidence.observations
    )
    assert shared.information == pytest.approx(total / SHAPE[0], rel=1e-4)
    gradient = torch.randn(shared.shape, generator=torch.Generator().manual_seed(0))
    back = shared.metric(gradient)
    again = shared.process.filter(back[0], 1 + shared.process.amplitude**2 * shared.information)
    torch.testing.assert_close(again, gradient[0], rtol=1e-3, atol=1e-3)


QUICK = InversionSettings(prior_weight=1.0, iterations=5, uncertainty=False, device="cpu")


def test_trials_have_a_gain_each_and_stretches_share_theirs(small_setup, small_mouse, small_encoder):
    aligned, trials = small_mouse.aligned, small_mouse.aligned.trials_in("test")[:2]
    margins = small_setup.margins
    known = small_encoder.shared_gain
    small_encoder.shared_gain = SharedGain(np.full(small_encoder.n_rois, 0.4), 0.5)
    try:
        witnesses = [
            one
            for trial in trials
            for one in gather_evidence(small_encoder, aligned, trial, margins, shared_gain=True, stretch_seconds=1.5)
        ]
        assert len(witnesses) > 4
        assert len({id(one.shared) for one in witnesses}) == 2
        whole, parts = (
            invert(small_setup, [(small_encoder, aligned)], (tuple(trials),), settings)
            for settings in (QUICK, QUICK.model_copy(update={"stretch_seconds": 1.5}))
        )
        assert whole.fit.gain.shape == (2, whole.fit.video.shape[0])
        np.testing.assert_allclose(parts.fit.gain, whole.fit.gain, atol=0.05)
        assert parts.outcome.value == pytest.approx(whole.outcome.value, rel=1e-4)
        without = invert(
            small_setup,
            [(small_encoder, aligned)],
            (tuple(trials),),
            QUICK.model_copy(update={"shared_gain": False}),
        )
        assert without.fit.gain is None
        scores = [
            dynamic_correlation(made.fit.video, aligned.trial(trials[0]).video, small_setup.mask)
            for made in (whole, without)
        ]
        assert scores[0] > scores[1] - 0.05
    finally:
        small_encoder.shared_gain = known


def test_an_encoder_that_knows_of_no_gain_seeks_none(small_setup, small_mouse, small_encoder):
    known = small_encoder.shared_gain
    trial = small_mouse.aligned.trials_in("test")[0]
    try:
        for unknown in (None, SharedGain(np.zeros(small_encoder.n_rois), 0.5)):
            small_encoder.shared_gain = unknown
            (one,) = gather_evidence(small_encoder, small_mouse.aligned, trial, small_setup.margins, shared_gain=True)
            assert one.unknowns == []
    finally:
        small_encoder.shared_gain = known
