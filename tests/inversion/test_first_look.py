from dataclasses import replace

import numpy as np
import pytest
import torch

from nwbrecon.config import InversionSettings
from nwbrecon.inversion.blending import Blend, fit_blend
from nwbrecon.inversion.first_look import first_look, gradient_step, step_direction
from nwbrecon.inversion.metric import Metric
from nwbrecon.inversion.objective import Objective
from nwbrecon.inversion.priors import MoviePrior
from nwbrecon.inversion.settling import _calibrate_step, make_setup
from nwbrecon.inversion.setup import gather, in_range

STEP = InversionSettings(iterations=0, gradient_step=True, uncertainty=False, device="cpu")


@pytest.fixture(scope="module")
def stepping(small_mouse, small_encoder):
    """A setup for steps from the linear decoder's movie."""
    return make_setup([(small_encoder, small_mouse.aligned)], [], STEP, "map")


class Wanting:
    """A witness that wants some frames to be those of a movie."""

    def __init__(self, target, frames):
        self.target, self.frames = target, frames

    def loss(self, video):
        return 0.5 * (video - self.target[:, self.frames]).square().sum()


def tiny_prior():
    lags = np.indices((3, 3, 4))
    covariance = 400 * np.exp(-(lags[0] / 3 + lags[1] / 2 + lags[2] / 2))
    return MoviePrior(covariance, (4, 3, 4), 100.0)


def test_pulling_back_is_the_transpose_of_coloring():
    prior = tiny_prior()
    generator = torch.Generator().manual_seed(3)
    white = torch.randn(1, *prior.coordinates, generator=generator, requires_grad=True)
    gradient = torch.randn(1, 4, 3, 4, generator=generator)
    (expected,) = torch.autograd.grad(prior.video(white), white, gradient)
    torch.testing.assert_close(prior.pulled_back(gradient), expected, rtol=1e-5, atol=1e-5)


def test_the_direction_is_the_colored_metric_of_the_gradient():
    prior = tiny_prior()
    sensitivity = np.zeros((2, 3, 4), np.float32)
    sensitivity[0, 0, 0] = 0.01
    metric = Metric(sensitivity, prior, 0.3)
    size = int(np.prod(prior.coordinates))
    with torch.no_grad():
        units = torch.eye(size).view(size, *prior.coordinates)
        coloring = (prior.video(units) - 100.0).flatten(1).T.double()
    assert coloring.shape == (48, size)
    shaped = metric(torch.ones(1, *prior.coordinates)).flatten().double()

    generator = torch.Generator().manual_seed(0)
    video, target = 100 + 30 * torch.randn(2, 1, 4, 3, 4, generator=generator)
    early, late = Wanting(target, slice(0, 3)), Wanting(target, slice(1, 4))
    found = step_direction([early, late], prior, metric, video)
    # frames that both look at count twice
    times = torch.tensor([1.0, 2.0, 2.0, 1.0])[:, None, None]
    gradient = (times * (video - target)).flatten().double()
    expected = -coloring @ (shaped * (coloring.T @ gradient))
    torch.testing.assert_close(found.flatten().double(), expected, rtol=1e-4, atol=1e-4)


def test_a_short_step_makes_the_responses_likelier(stepping, small_mouse, small_encoder):
    aligned = small_mouse.aligned
    recordings, showing = [(small_encoder, aligned)], ((aligned.trials_in("test")[0],),)
    guess = in_range(stepping.guess(recordings, showing))
    step = gradient_step(stepping, recordings, showing, STEP, guess)
    assert step.shape == guess.shape
    evidence = gather(recordings, showing, stepping.margins, STEP)
    prior = stepping.prior_for(stepping.prior, guess, torch.device("cpu"))
    objective = Objective(evidence, prior)
    told = objective.told(objective.point([torch.zeros(1, *prior.coordinates)]))

    def loss(movie):
        video = torch.from_numpy(stepping.margins.pad(movie.astype(np.float32)))[None]
        return sum(float(witness.loss(video[:, witness.frames])) for witness in told)

    before = loss(guess)
    lengths = [1e-3, 3e-3, 1e-2]
    falls = [before - loss(guess + length * (step - stepping.mean)) for length in lengths]
    assert 0 < falls[0] < falls[1] < falls[2]
    # in proportion to the length, while that is short
    assert falls[1] == pytest.approx(3 * falls[0], rel=0.2)


def test_the_step_is_as_long_as_is_best_on_validation_clips(stepping, small_mouse, small_encoder):
    aligned = small_mouse.aligned
    recordings = [(small_encoder, aligned)]
    clips = []
    for trial in aligned.trials_in("validation"):
        guess = in_range(stepping.guess(recordings, ((trial,),)))
        step = gradient_step(stepping, recordings, ((trial,),), STEP, guess)
        clips.append((step, guess, aligned.trial(trial).video))
        np.testing.assert_array_equal(
            first_look(stepping, recordings, ((trial,),), STEP), stepping.blended(step, guess)
        )
    fitted = fit_blend(clips, stepping.mask, aligned.frame_rate)
    np.testing.assert_allclose(stepping.blend.weights, fitted.weights, rtol=1e-6, atol=1e-9)
    unmoved = fit_blend([(0 * step, guess, true) for step, guess, true in clips], stepping.mask, aligned.frame_rate)
    assert fitted.explained > unmoved.explained + 0.01


def test_without_a_step_the_decoders_movie_is_given(stepping, small_mouse, small_encoder):
    aligned = small_mouse.aligned
    recordings, showing = [(small_encoder, aligned)], ((aligned.trials_in("test")[0],),)
    still = STEP.model_copy(update={"gradient_step": False})
    np.testing.assert_array_equal(
        first_look(stepping, recordings, showing, still), in_range(stepping.guess(recordings, showing))
    )


@pytest.mark.parametrize("prior", ["ridge", "generic"])
def test_repeats_and_other_priors_step_too(small_mouse, small_encoder, prior):
    aligned, settings = small_mouse.aligned, STEP.model_copy(update={"prior": prior})
    recordings = [(small_encoder, aligned)]
    setup = make_setup(recordings, [], settings, "map")
    trials = aligned.trials_in("test")
    showing = (tuple(aligned.showings_like(trials[0])[:2]),)
    guess = in_range(setup.guess(recordings, showing))
    both = gradient_step(setup, recordings, showing, settings, guess) - setup.mean
    alone = [gradient_step(setup, recordings, ((trial,),), settings, guess) - setup.mean for trial in showing[0]]
    # gradients of showings add, under a metric that knows that there are two
    assert np.corrcoef(both.ravel(), sum(alone).ravel())[0, 1] > 0.9
    assert np.abs(both).max() < np.abs(sum(alone)).max()
    assert setup.metric_for(setup.prior_for("movie", guess, torch.device("cpu")), showing).factor.shape


def test_where_no_shared_clips_say_how_long_there_is_no_step(stepping, small_mouse, small_encoder):
    aligned = small_mouse.aligned
    recordings, showing = [(small_encoder, aligned)], ((aligned.trials_in("test")[0],),)
    setup = replace(stepping, blend=Blend.of_first())
    _calibrate_step(setup, recordings, [], STEP)
    assert setup.blend == Blend.of_second()
    np.testing.assert_allclose(
        first_look(setup, recordings, showing, STEP), in_range(setup.decode(recordings, showing)), atol=1e-3
    )
