import numpy as np
import pytest
import torch
from linear import SHAPE, LinearEncoder, covariance, movie_prior, pixel_covariance, responses_to, sample_video

from nwbrecon.inversion.denoiser import Denoiser, DenoiserPrior, coarse, train_denoiser
from nwbrecon.inversion.objective import Objective
from nwbrecon.stimuli.dead_leaves import dead_leaves_movie

PATCH = (8, 14, 14)
SCALES = (1.5, 2.4, 2.4)


def random_denoiser(seed=0):
    """Of any weights, not small."""
    denoiser = Denoiser(110.0, 30.0, 6.0).double().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for layer in denoiser.convolutions:
        layer.weight.normal_(0, 0.3, generator=generator)
        layer.bias.normal_(0, 0.3, generator=generator)
    return denoiser


@pytest.fixture(scope="module")
def gaussian():
    """A denoiser of Gaussian movies, and some of these that it has not seen, as coarse as it looks at them."""
    prior = movie_prior(PATCH, scales=SCALES)
    white = torch.randn(300, *prior.coordinates, generator=torch.Generator().manual_seed(0))
    movies = prior.video(white)
    return train_denoiser(list(movies[:260].numpy()), steps=120), coarse(movies[260:]).numpy()


def test_a_denoiser_of_gaussian_movies_comes_near_the_wiener_filter(gaussian):
    denoiser, movies = gaussian
    generator = torch.Generator().manual_seed(1)
    noisy = movies + denoiser.noise * torch.randn(movies.shape, generator=generator).numpy()
    with torch.no_grad():
        cleaned = denoiser(torch.from_numpy(noisy)).numpy()
    # in closed form, from the covariance of all pixels
    frames, rows, columns = PATCH
    basis = torch.eye(frames * rows * columns).view(-1, *PATCH)
    pool = coarse(basis).flatten(1).T.double().numpy()
    cov = pool @ pixel_covariance(PATCH, scales=SCALES) @ pool.T
    wiener = cov @ np.linalg.inv(cov + denoiser.noise**2 * np.eye(len(cov)))
    best = 110 + ((noisy.reshape(len(noisy), -1) - 110) @ wiener).reshape(noisy.shape)
    left, least = (np.square(one - movies).mean() / denoiser.noise**2 for one in (cleaned, best))
    assert least < 0.55
    assert left < 1.1 * least
    assert np.corrcoef((cleaned - noisy).ravel(), (best - noisy).ravel())[0, 1] > 0.95


def test_its_step_is_down_the_slope_of_its_energy():
    denoiser, video = random_denoiser(), torch.from_numpy(sample_video())[None].double()

    def energy(coarse_video):
        fine = coarse_video.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        return float(denoiser.energy(fine))

    with torch.no_grad():
        step = video - denoiser(video)
    generator = torch.Generator().manual_seed(2)
    for _ in range(4):
        direction = torch.randn(video.shape, generator=generator, dtype=torch.float64)
        forth, back = (energy(video + sign * 1e-4 * direction) for sign in (1, -1))
        slope = float((step * direction).sum()) / denoiser.noise**2
        assert (forth - back) / 2e-4 == pytest.approx(slope, rel=1e-6, abs=1e-6)


def test_the_gradient_of_the_objective_is_that_of_finite_differences():
    prior = DenoiserPrior(covariance(), SHAPE, 110.0, random_denoiser(), strength=0.6)
    evidence = [responses_to(LinearEncoder.random(6), sample_video(), noise=1.0)]
    objective = Objective(evidence, prior, prior_weight=0.7)
    generator = torch.Generator().manual_seed(3)
    white = torch.randn(1, *prior.coordinates, generator=generator, dtype=torch.float64)
    gradient = objective(white).gradient
    for _ in range(4):
        direction = torch.randn(1, *prior.coordinates, generator=generator, dtype=torch.float64)
        forth, back = (objective(white + sign * 1e-4 * direction).value for sign in (1, -1))
        assert (forth - back) / 2e-4 == pytest.approx(float((gradient * direction).sum()), rel=1e-5, abs=1e-3)


def test_it_adds_to_the_gaussian():
    denoiser = random_denoiser()
    gaussian, without, with_it = (
        movie_prior(),
        DenoiserPrior(covariance(), SHAPE, 110.0, denoiser, strength=0.0),
        DenoiserPrior(covariance(), SHAPE, 110.0, denoiser, strength=0.5),
    )
    white = torch.randn(1, *gaussian.coordinates, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plain, none, some = (prior.negative_log_probability(white) for prior in (gaussian, without, with_it))
    assert none.value == plain.value == pytest.approx(0.5 * float(white.square().sum()))
    torch.testing.assert_close(none.gradient, plain.gradient)
    assert some.value - plain.value == pytest.approx(0.5 * float(denoiser.energy(gaussian.video(white))))


def test_what_is_far_away_does_not_count(gaussian):
    denoiser, _ = gaussian
    video = torch.full((1, 20, 21, 22), 110.0)
    changed = video.clone()
    changed[0, 10, 10, 10] += 60
    with torch.no_grad():
        moved = (denoiser(changed) - denoiser(video))[0].abs() > 1e-4
    frames, rows, columns = torch.nonzero(moved, as_tuple=True)
    for places in (frames, rows, columns):
        assert places.min() >= 4
        assert places.max() <= 16
    assert len(frames) > 27


def test_it_learns_what_edges_are():
    rng = np.random.default_rng(0)
    movies = [dead_leaves_movie(10, (20, 20), 30.0, rng=rng).astype(np.float32) for _ in range(12)]
    denoiser = train_denoiser(movies[:10], steps=60)
    generator = torch.Generator().manual_seed(0)
    fine = torch.from_numpy(np.stack(movies[10:]))
    clean = coarse(fine)
    noise = denoiser.noise * torch.randn(clean.shape, generator=generator)
    with torch.no_grad():
        left = (denoiser(clean + noise) - clean).square().mean() / denoiser.noise**2
        order = torch.randperm(fine.numel(), generator=generator)
        natural, scrambled = (
            float(denoiser.energy(movie).sum()) for movie in (fine, fine.flatten()[order].view(fine.shape))
        )
    assert left < 0.6
    # pixels of the same levels in disorder are much less probable
    assert scrambled > 3 * natural


def test_it_is_made_the_same_under_a_seed_and_of_what_is_kept():
    movies = [np.random.default_rng(0).uniform(0, 255, (9, 8, 7)).astype(np.float32), np.zeros((5, 8, 7), np.float32)]
    one, again, other = (train_denoiser(movies, seed=seed, steps=3).arrays() for seed in (0, 0, 1))
    for name, values in one.items():
        np.testing.assert_array_equal(values, again[name])
    assert any((values != other[name]).any() for name, values in one.items())
    trained = train_denoiser(movies, steps=3)
    back = Denoiser.of(trained.arrays(), **trained.scales())
    video = torch.from_numpy(movies[0])[None]
    torch.testing.assert_close(back.energy(video), trained.energy(video), rtol=0, atol=0)


def test_what_it_looks_at_are_means_of_pixels():
    video = torch.arange(3 * 5 * 6, dtype=torch.float64).view(1, 3, 5, 6)
    found = coarse(video)
    assert found.shape == (1, 3, 3, 3)
    assert float(found[0, 1, 1, 2]) == pytest.approx(float(video[0, 1, 2:4, 4:6].mean()))
    assert float(found[0, 1, 2, 2]) == pytest.approx(float(video[0, 1, 4, 4:6].mean()))


def test_blank_movies_are_survived():
    denoiser = train_denoiser([np.full((6, 5, 5), 127, np.uint8)], steps=2)
    assert torch.isfinite(denoiser.energy(torch.full((1, 6, 5, 5), 127.0))).all()


@pytest.mark.gpu
def test_on_a_gpu_it_is_the_same(gpu, gaussian):
    denoiser, _ = gaussian
    priors = [
        DenoiserPrior(covariance(), SHAPE, 110.0, Denoiser.of(denoiser.arrays(), **denoiser.scales())).to(
            torch.device(device)
        )
        for device in ("cpu", gpu)
    ]
    white = torch.randn(1, *priors[0].coordinates, generator=torch.Generator().manual_seed(0))
    here, there = (prior.negative_log_probability(white.to(prior.amplitude.device)) for prior in priors)
    assert there.value == pytest.approx(here.value, rel=1e-3)
    torch.testing.assert_close(there.gradient.cpu(), here.gradient, rtol=1e-2, atol=1e-2)
