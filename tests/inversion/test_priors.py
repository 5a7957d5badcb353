import itertools

import numpy as np
import pytest
import torch
from linear import SHAPE, covariance, movie_prior, pixel_covariance

from nwbrecon.inversion.priors import MoviePrior, autocovariance


def by_brute_force(videos, max_lags, mean=0.0):
    """Mean product of all pairs of pixels at each distance, lag by lag."""
    found = np.full([lag + 1 for lag in max_lags], np.nan)
    for lag in np.ndindex(*found.shape):
        total = count = 0.0
        for video in videos:
            deviation = video - mean
            frames, height, width = deviation.shape
            for t, y, x in np.ndindex(*deviation.shape):
                # to either side in space; later in time
                for sign_y, sign_x in itertools.product((1, -1), repeat=2):
                    t2, y2, x2 = t + lag[0], y + sign_y * lag[1], x + sign_x * lag[2]
                    if t2 < frames and 0 <= y2 < height and 0 <= x2 < width:
                        total += deviation[t, y, x] * deviation[t2, y2, x2]
                        count += 1
        if count:
            found[lag] = total / count
    return found


def test_autocovariance_is_that_of_all_pairs_of_pixels():
    rng = np.random.default_rng(0)
    videos = [rng.normal(size=(6, 4, 5)), rng.normal(size=(3, 4, 5))]
    found = autocovariance(videos, (4, 3, 4))
    np.testing.assert_allclose(found, by_brute_force(videos, (4, 3, 4)), atol=1e-12)
    np.testing.assert_allclose(
        autocovariance(videos, (2, 1, 2), mean=0.3), by_brute_force(videos, (2, 1, 2), 0.3), atol=1e-12
    )


def test_lags_longer_than_any_clip_repeat_the_last_known():
    videos = [np.random.default_rng(0).normal(size=(4, 3, 3))]
    found = autocovariance(videos, (6, 2, 2))
    np.testing.assert_allclose(found[:4], by_brute_force(videos, (3, 2, 2)), atol=1e-12)
    for lag in (4, 5, 6):
        np.testing.assert_array_equal(found[lag], found[3])


def test_the_variance_stands_at_lag_zero():
    videos = [np.random.default_rng(0).normal(5, 2, (20, 8, 8)).astype(np.float32)]
    assert autocovariance(videos, (1, 1, 1), mean=5.0)[0, 0, 0] == pytest.approx(4, rel=0.1)
    assert autocovariance(videos, (1, 1, 1))[0, 0, 0] == pytest.approx(29, rel=0.05)


@pytest.mark.parametrize("shape", [SHAPE, (8, 6, 7)])
def test_samples_have_the_covariance_asked_for(shape):
    prior = movie_prior(shape)
    white = torch.randn(4000, *prior.coordinates, generator=torch.Generator().manual_seed(0))
    samples = prior.video(white).flatten(1).double().numpy()
    np.testing.assert_allclose(samples.mean(axis=0), 110, atol=2.5)
    found, expected = np.cov(samples.T), pixel_covariance(shape)
    # 4000 samples leave an error of 900 / sqrt(4000) = 14 or so
    np.testing.assert_allclose(found, expected, atol=6 * 900 / np.sqrt(4000))
    assert np.abs(found - expected).mean() < 14
    assert np.mean(np.diag(found)) == pytest.approx(900, rel=0.03)


def test_covariance_between_any_two_pixels_is_that_of_their_distance():
    # exactly, from the linear map itself
    prior = movie_prior((4, 3, 3))
    basis = torch.eye(int(np.prod(prior.coordinates))).view(-1, *prior.coordinates)
    columns = (prior.video(basis) - prior.mean).flatten(1).double().numpy()
    np.testing.assert_allclose(columns.T @ columns, pixel_covariance((4, 3, 3)), atol=0.5)


def test_the_last_frame_does_not_neighbor_the_first():
    # a movie that forgets in a few frames: its ends must not know of one another
    shape = (20, 4, 4)
    lags = np.arange(20)
    slow = 900 * np.exp(-lags / 4)[:, None, None] * np.exp(-np.indices((4, 4)).sum(axis=0) / 10)
    prior = MoviePrior(slow, shape, 0.0)
    white = torch.randn(3000, *prior.coordinates, generator=torch.Generator().manual_seed(0))
    samples = prior.video(white).numpy()
    time, rows = (
        np.mean(samples[:, -1] * samples[:, 0]) / 900,
        np.mean(samples[:, :, -1] * samples[:, :, 0]) / np.mean(samples**2),
    )
    assert abs(time) < 0.08
    # rows keep the correlation of their distance, three, not that of neighbors
    assert rows == pytest.approx(np.exp(-0.3), abs=0.03)


def test_the_variance_is_that_of_every_pixel():
    for shape in (SHAPE, (8, 6, 7), (5, 5, 9)):
        assert movie_prior(shape).variance == pytest.approx(900, rel=1e-3)


def test_the_torus_leaves_room_and_suits_fourier():
    prior = movie_prior((30, 18, 32))
    assert prior.torus[0] >= 30 + 15
    assert prior.torus[1] >= 18 + 12
    assert prior.torus[2] >= 32 + 12
    for size in prior.torus:
        assert size % 2 == 0
        for factor in (2, 3, 5):
            while size % factor == 0:
                size //= factor
        assert size == 1


@pytest.mark.parametrize("mean", [90.0, np.random.default_rng(0).uniform(0, 255, SHAPE)])
def test_white_zero_is_the_center(mean):
    prior = movie_prior(mean=mean)
    video = prior.video(torch.zeros(2, *prior.coordinates))
    assert video.shape == (2, *SHAPE)
    np.testing.assert_allclose(video[1], np.broadcast_to(mean, SHAPE), rtol=1e-5)


def test_estimates_that_are_no_covariance_are_survived():
    # noise in the estimate makes negative eigenvalues
    noisy = covariance() + np.random.default_rng(0).normal(0, 40, covariance().shape)
    prior = MoviePrior(noisy, SHAPE, 0.0)
    assert torch.isfinite(prior.amplitude).all()
    assert (prior.amplitude > 0).all()
    # a blank movie has no spectrum at all
    assert (MoviePrior(np.zeros((3, 3, 3)), SHAPE, 0.0).amplitude > 0).all()


def test_the_log_probability_is_that_of_the_covariance_of_pixels():
    # of what can be seen of the torus, the best: its negative log-density under the covariance of its pixels
    prior = movie_prior((4, 3, 3))
    basis = torch.eye(int(np.prod(prior.coordinates)), dtype=torch.float64).view(-1, *prior.coordinates)
    coloring = (prior.video(basis) - prior.mean).flatten(1).T.double()
    video = prior.video(torch.randn(1, *prior.coordinates, generator=torch.Generator().manual_seed(0)))
    deviation = (video - prior.mean).flatten().double()
    white = torch.linalg.lstsq(coloring, deviation, driver="gelsd").solution.view(1, *prior.coordinates)
    covariance_of_pixels = (coloring @ coloring.T).numpy()
    expected = 0.5 * deviation.numpy() @ np.linalg.solve(covariance_of_pixels, deviation.numpy())
    found = prior.negative_log_probability(white)
    assert found.value == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(found.gradient, white)


def test_a_rough_movie_gives_the_coordinates_of_what_is_to_be_believed_of_it():
    prior = movie_prior((24, 16, 18))
    generator = torch.Generator().manual_seed(0)
    video = prior.video(torch.randn(1, *prior.coordinates, generator=generator))[0]
    noise = prior.variance**0.5 * torch.randn(video.shape, generator=generator)
    believed = prior.video(prior.white(video + noise))[0]
    # what is smooth is kept, and of the noise little
    assert float((believed - video).square().mean()) < 0.25 * prior.variance
    nothing = prior.video(prior.white(prior.mean + noise))[0] - prior.mean
    assert float(nothing.square().mean()) < 0.1 * prior.variance
    center = np.full((24, 16, 18), float(prior.mean))
    assert float(prior.white(center).abs().max()) == 0
