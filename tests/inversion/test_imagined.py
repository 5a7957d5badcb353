from copy import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from small import FRAME_RATE, FRAME_SIZE

from nwbrecon.alignment import responses_in_bins, responses_on_frames
from nwbrecon.inversion import imagined
from nwbrecon.inversion.imagined import Beat, Imagination, OtherMovies, responses_on_steps

BEAT = Beat(frames=3, lead=4, tail=8)
N_STEPS = 10


@pytest.fixture(scope="module")
def imagination(small_mouse, small_encoder):
    return Imagination(small_encoder, small_mouse.aligned, small_mouse.aligned.trials_in("train"), BEAT)


def test_steps_of_one_frame_are_frames(small_mouse):
    aligned = small_mouse.aligned
    (trial, *_) = aligned.trials_in("train")
    on_steps = responses_on_steps(aligned, trial, Beat(1, 5, 7), 0, 120)
    np.testing.assert_allclose(on_steps, responses_on_frames(aligned, trial, 5, 7), rtol=1e-5, atol=1e-6)


def test_a_step_holds_what_its_frames_hold(small_mouse):
    aligned = small_mouse.aligned
    (trial, *_) = aligned.trials_in("train")
    frames = responses_on_frames(aligned, trial, 12, 24)
    steps = responses_on_steps(aligned, trial, BEAT, 0, 40)
    np.testing.assert_allclose(steps, frames.reshape(BEAT.around(40), 3, -1).sum(axis=1), rtol=1e-4, atol=1e-5)
    later = responses_on_steps(aligned, trial, BEAT, 30, 20)
    np.testing.assert_allclose(later, steps[10 : 10 + BEAT.around(20)], rtol=1e-4, atol=1e-5)
    assert [BEAT.steps(n) for n in (1, 3, 4)] == [1, 1, 2]


def test_without_noise_the_responses_are_what_the_encoder_predicts(imagination, small_mouse, small_encoder):
    aligned = small_mouse.aligned
    silent = copy(imagination)
    silent._residuals = [[np.zeros_like(one) for one in of] for of in imagination._residuals]
    # one host, and behavior that is not known throughout, as it is outside the trial
    aligned = replace(aligned, behavior=np.full_like(aligned.behavior, np.nan))
    silent.aligned, silent.trials = aligned, aligned.trials_in("train")[:1]
    movie = np.random.default_rng(1).uniform(0, 255, (1, imagination.frames(N_STEPS), *FRAME_SIZE)).astype(np.float32)
    random = np.random.default_rng(5)
    trial, start = silent._host(N_STEPS, np.random.default_rng(5))
    made = silent.responses(movie, N_STEPS, random)[0, 0]
    assert made.shape == (BEAT.around(N_STEPS), aligned.n_rois)
    assert np.isfinite(made).all()

    behavior = torch.full((1, movie.shape[1], 1), torch.nan)
    rates = small_encoder.predict_rates(torch.from_numpy(movie)[:, None], behavior)[0].numpy().astype(float)
    edges = (
        aligned.trials.at[trial, "onset"] + (start - imagination.before + np.arange(movie.shape[1] + 1)) / FRAME_RATE
    )
    area = np.concatenate([np.zeros((1, len(rates.T[0]))), np.cumsum(rates.T, axis=0)])
    steps = BEAT.edges(aligned.trials.at[trial, "onset"], start, N_STEPS, FRAME_RATE)
    first = 0
    for group in aligned.groups:
        rois = slice(first, first + group.n_rois)
        first = rois.stop
        # what falls between samples, spread evenly over the time between them
        inside = (group.timestamps > edges[0]) & (group.timestamps < edges[-1])
        times = group.timestamps[inside]
        integral = np.stack([np.interp(times, edges, column) for column in area[:, rois].T], axis=1)
        counts = np.diff(integral, axis=0, prepend=integral[:1])
        expected = responses_in_bins(replace(group, timestamps=times, activity=counts), steps[:-1], steps[1:])
        np.testing.assert_allclose(made[:, rois], expected, rtol=1e-3, atol=1e-4)


def test_noise_is_as_strong_as_on_validation_clips(imagination, small_encoder):
    first = 0
    for index, group in enumerate(imagination.aligned.groups):
        rois = slice(first, first + group.n_rois)
        first = rois.stop
        strength = np.mean(np.concatenate([of[index] for of in imagination._residuals]) ** 2, axis=0)
        within = strength / small_encoder.noise.variance[rois]
        # no factor on the residuals is beyond a half or two
        assert np.median(within) == pytest.approx(1, rel=0.01)


def test_the_same_seed_draws_the_same(imagination):
    movies = np.full((2, imagination.frames(N_STEPS), *FRAME_SIZE), 100.0, np.float32)
    one, again, other = (
        imagination.responses(movies, N_STEPS, np.random.default_rng(seed), draws=2) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).mean() > 0.01
    # other noise for each movie, and each time
    for axis in (0, 1):
        assert np.abs(np.diff(one, axis=axis)).mean() > 0.01


def test_other_movies_are_changed_and_made_ones(small_mouse, monkeypatch):
    monkeypatch.setattr(imagined, "_MADE", 2)
    aligned = small_mouse.aligned
    trials = aligned.trials_in("train")
    # longer than any clip
    movies = OtherMovies(aligned, trials, 150, np.random.default_rng(0))
    shown, made = movies.draw(3, 0.0), movies.draw(3, 1.0)
    for drawn in (shown, made):
        assert drawn.shape == (3, 150, *FRAME_SIZE)
        assert 0 <= drawn.min() < drawn.max() <= 255
    assert not np.allclose(made[0], made[1])
