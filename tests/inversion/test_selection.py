import numpy as np
import pytest
import torch
from linear import MEAN, SHAPE, LinearEncoder, covariance, movie_prior, responses_to, sample_video

from nwbrecon.inversion.objective import Margins
from nwbrecon.inversion.priors import MoviePrior
from nwbrecon.inversion.selection import Case, choose_prior, held_out_neighborhoods


def case_of(priors, seed=0, n_rois=40, noise=10.0, video=None):
    """A clip that was seen through noise of a known strength, which its weights know too."""
    video = sample_video(seed) if video is None else video
    weights = torch.full((n_rois,), noise**-2, dtype=torch.float64)
    evidence = responses_to(LinearEncoder.random(n_rois, seed=seed), video, noise=noise, weights=weights, seed=seed)
    return Case(evidence, priors, np.arange(n_rois) % 5 == 0)


def choose(cases, weights=(1.0,)):
    return choose_prior(cases, Margins(0, 0), weights=weights, iterations=60, tolerance=1e-9)


@pytest.mark.parametrize(("deviation", "best"), [(3.0, 0.01), (30.0, 1.0), (300.0, 100.0)])
def test_held_out_rois_choose_the_weight_that_is_true(deviation, best):
    # a prior with a tenth of the true deviation is right with a hundredth of its weight, and so on
    choice = choose(
        [case_of({"movie": movie_prior(deviation=deviation)}, seed) for seed in range(3)], (0.01, 1.0, 100.0)
    )
    assert (choice.prior, choice.weight) == ("movie", best)


def test_held_out_rois_choose_the_prior_that_is_true():
    right, wrong = movie_prior(), MoviePrior(covariance(scales=(0.4, 0.4, 0.4)), SHAPE, MEAN)
    for named in ({"movie": right, "ridge": wrong}, {"movie": wrong, "ridge": right}):
        choice = choose([case_of(named, seed) for seed in range(2)])
        assert named[choice.prior] is right
    # a good first guess is better than none
    video = sample_video(0)
    guess = MoviePrior(covariance(deviation=6.0), SHAPE, video + 5)
    assert choose([case_of({"movie": right, "ridge": guess}, video=video)]).prior == "ridge"


def test_the_table_says_how_it_came_about():
    cases = [case_of({"movie": movie_prior(), "ridge": movie_prior(deviation=5.0)}, seed) for seed in range(2)]
    choice = choose(cases, (0.5, 2.0))
    rows = {(row["prior"], row["weight"]): row for row in choice.table}
    assert set(rows) == {("movie", 0.5), ("movie", 2.0), ("ridge", 0.5), ("ridge", 2.0)}
    best = min(choice.table, key=lambda row: row["held_out"])
    assert (best["prior"], best["weight"]) == (choice.prior, choice.weight)
    assert best["gain"] == max(row["gain"] for row in choice.table)
    # a movie says more than a gray screen
    assert best["gain"] > 0


def test_the_fit_to_the_fitted_rois_is_not_asked():
    # with little prior the fitted are fitted best, and the others badly
    case = case_of({"movie": movie_prior()})
    choice = choose([case], (1e-4, 1.0))
    assert choice.weight == 1.0


def test_judges_and_judged_are_apart():
    case = case_of({"movie": movie_prior()})
    video = torch.from_numpy(sample_video(1))[None].double()
    whole = float(case.evidence.loss(video))
    fitted = float(case.evidence.loss(video, case.fitted))
    assert case.judge(video) == pytest.approx(whole - fitted)
    assert float(case.fitted.sum()) == 32


def places(n=200, seed=0):
    return np.random.default_rng(seed).normal(0, 12, (n, 2))


def test_whole_neighborhoods_are_held_out():
    positions = places()
    held_out = held_out_neighborhoods(positions, 0.25, seed=0)
    assert 0.1 < held_out.mean() <= 0.25
    cell = np.floor(positions / 8).astype(int)
    for one in np.unique(cell, axis=0):
        inside = (cell == one).all(axis=1)
        assert held_out[inside].all() or not held_out[inside].any()


def test_each_seed_holds_out_other_neighborhoods():
    one, again, other = (held_out_neighborhoods(places(), 0.25, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


@pytest.mark.parametrize("positions", [np.zeros((9, 2)), np.zeros((2, 2)), np.array([[0.0, 0], [50, 50]]), places(3)])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_someone_judges_and_someone_is_judged(positions, share):
    held_out = held_out_neighborhoods(positions, share, seed=3)
    assert held_out.any()
    assert not held_out.all()
