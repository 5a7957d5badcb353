import numpy as np
import pytest
import torch
from linear import MEAN, SHAPE, LinearEncoder, covariance, movie_prior, responses_to, sample_video

from nwbrecon.inversion.evidence import Margins
from nwbrecon.inversion.priors import MoviePrior
from nwbrecon.inversion.selection import (
    Candidates,
    Judged,
    Known,
    choose_by_held_out,
    choose_on_known,
    held_out_neighborhoods,
)


def seen_through_noise(video, seed=0, n_rois=40, noise=10.0):
    """A clip that was seen through noise of a known strength, which its weights know too."""
    weights = torch.full((n_rois,), noise**-2, dtype=torch.float64)
    return responses_to(LinearEncoder.random(n_rois, seed=seed), video, noise=noise, weights=weights, seed=seed)


def judged(priors, seed=0, video=None):
    evidence = seen_through_noise(sample_video(seed) if video is None else video, seed)
    return Judged([evidence], priors.__getitem__, [np.arange(40) % 5 == 0])


def candidates(kinds=("movie",), weights=(1.0,)):
    return Candidates(kinds, weights, iterations=60, tolerance=1e-9)


def choose(clips, kinds=("movie",), weights=(1.0,)):
    return choose_by_held_out(clips, Margins(0, 0), candidates(kinds, weights))


BOTH = ("movie", "ridge")


def known(priors, seed, decoded=None):
    video = sample_video(seed)
    decoded = np.full(SHAPE, MEAN) if decoded is None else decoded
    return Known([seen_through_noise(video, seed)], priors.__getitem__, decoded, video)


def choose_known(clips, kinds=("movie",), weights=(1.0,), mask=None):
    mask = np.ones(SHAPE[1:], bool) if mask is None else mask
    return choose_on_known(clips, Margins(0, 0), candidates(kinds, weights), mask, 30.0)


@pytest.mark.parametrize(("deviation", "best"), [(3.0, 0.01), (30.0, 1.0), (300.0, 100.0)])
def test_held_out_rois_choose_the_weight_that_is_true(deviation, best):
    # a prior with a tenth of the true deviation is right with a hundredth of its weight, and so on
    choice = choose(
        [judged({"movie": movie_prior(deviation=deviation)}, seed) for seed in range(3)], weights=(0.01, 1.0, 100.0)
    )
    assert (choice.prior, choice.weight) == ("movie", best)


def test_held_out_rois_choose_the_prior_that_is_true():
    right, wrong = movie_prior(), MoviePrior(covariance(scales=(0.4, 0.4, 0.4)), SHAPE, MEAN)
    for named in ({"movie": right, "ridge": wrong}, {"movie": wrong, "ridge": right}):
        choice = choose([judged(named, seed) for seed in range(2)], BOTH)
        assert named[choice.prior] is right
    # a good first guess is better than none
    video = sample_video(0)
    guess = MoviePrior(covariance(deviation=6.0), SHAPE, video + 5)
    assert choose([judged({"movie": right, "ridge": guess}, video=video)], BOTH).prior == "ridge"


def test_the_table_says_how_it_came_about():
    clips = [judged({"movie": movie_prior(), "ridge": movie_prior(deviation=5.0)}, seed) for seed in range(2)]
    choice = choose(clips, BOTH, (0.5, 2.0))
    rows = {(row["prior"], row["weight"]): row for row in choice.table}
    assert set(rows) == {("movie", 0.5), ("movie", 2.0), ("ridge", 0.5), ("ridge", 2.0)}
    best = min(choice.table, key=lambda row: row["held_out"])
    assert (best["prior"], best["weight"]) == (choice.prior, choice.weight)
    assert best["gain"] == max(row["gain"] for row in choice.table)
    # a movie says more than a gray screen
    assert best["gain"] > 0


def test_the_fit_to_the_fitted_rois_is_not_asked():
    # with little prior the fitted are fitted best, and the others badly
    assert choose([judged({"movie": movie_prior()})], weights=(1e-4, 1.0)).weight == 1.0


def test_judges_and_judged_are_apart():
    clip = judged({"movie": movie_prior()})
    video = torch.from_numpy(sample_video(1))[None].double()
    (evidence,), (fitted,) = clip.evidence, clip.fitted
    assert clip.judge(video) == pytest.approx(float(evidence.loss(video)) - float(evidence.loss(video, fitted)))
    assert float(fitted.sum()) == 32


def test_the_judges_of_all_witnesses_are_asked():
    priors = {"movie": movie_prior()}
    one, other = judged(priors, 0, sample_video(0)), judged(priors, 1, sample_video(0))
    both = Judged(one.evidence + other.evidence, one.prior_for, one.held_out + other.held_out)
    video = torch.from_numpy(sample_video(0))[None].double()
    assert both.judge(video) == pytest.approx(one.judge(video) + other.judge(video))
    # two say more about the movie than one
    assert choose([both]).table[0]["gain"] > choose([one]).table[0]["gain"] + choose([other]).table[0]["gain"]


@pytest.mark.parametrize(("deviation", "best"), [(3.0, 0.01), (30.0, 1.0), (300.0, 100.0)])
def test_known_movies_choose_the_weight_that_is_true(deviation, best):
    clips = [known({"movie": movie_prior(deviation=deviation)}, seed) for seed in range(2)]
    choice = choose_known(clips, weights=(0.01, 1.0, 100.0))
    assert (choice.prior, choice.weight) == ("movie", best)
    assert {row["weight"]: row["explained"] for row in choice.table}[best] == max(
        row["explained"] for row in choice.table
    )


def test_known_movies_choose_the_prior_that_is_true():
    priors = {"movie": MoviePrior(covariance(scales=(0.4, 0.4, 0.4)), SHAPE, MEAN), "ridge": movie_prior()}
    choice = choose_known([known(priors, seed) for seed in range(2)], BOTH)
    assert choice.prior == "ridge"
    assert len(choice.table) == 2


def test_what_the_linear_decoder_knows_counts_whatever_the_prior():
    # beside a decoder that knows all, every candidate explains all
    priors = {"movie": movie_prior()}
    clips = [known(priors, seed, decoded=sample_video(seed)) for seed in range(2)]
    assert choose_known(clips, weights=(1e-3, 1.0)).table[0]["explained"] == pytest.approx(1, abs=1e-6)


def test_pixels_outside_the_mask_do_not_choose():
    mask = np.zeros(SHAPE[1:], bool)
    mask[: SHAPE[1] // 2] = True
    priors = {"movie": movie_prior()}
    clips, spoiled = ([known(priors, seed) for seed in range(2)] for _ in range(2))
    for clip in spoiled:
        clip.true = np.where(mask, clip.true, 255 - clip.true)
    assert choose_known(clips, mask=mask).table == choose_known(spoiled, mask=mask).table


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


def test_rois_of_one_cell_are_held_out_together_across_borders():
    # pairs of ROIs on either side of a border between neighborhoods
    positions = np.array([[7.9, 4.0], [8.1, 4.0], [20.0, 4.0], [4.0, 15.9], [4.0, 16.1], [30.0, 30.0]])
    cells = np.array([0, 0, 1, 2, 2, 3])
    together = [held_out_neighborhoods(positions, 0.4, seed, cells) for seed in range(20)]
    for held_out in together:
        assert held_out[0] == held_out[1]
        assert held_out[3] == held_out[4]
        assert held_out.any()
        assert not held_out.all()
    apart = [held_out_neighborhoods(positions, 0.4, seed) for seed in range(20)]
    assert any(held_out[0] != held_out[1] for held_out in apart)


def test_one_cell_in_two_planes_is_not_split_to_have_someone_judged():
    assert held_out_neighborhoods(np.zeros((4, 2)), 0.5, 0, np.array([0, 0, 1, 1])).sum() == 2


def test_the_curve_tells_how_the_held_out_are_predicted_on_the_way():
    clips = [judged({"movie": movie_prior()}, seed) for seed in range(2)]
    choice = choose_by_held_out(clips, Margins(0, 0), Candidates(("movie",), (1.0, 2.0), 10, 1e-9))
    assert [row["iteration"] for row in choice.curve] == list(range(21))
    centers = [clip.judge(torch.full((1, *SHAPE), MEAN, dtype=torch.float64)) for clip in clips]
    assert choice.curve[0]["held_out"] == pytest.approx(sum(centers), rel=1e-5)
    # where it ends is what the choice was made by, but for the iterations that candidates have
    best = min(row["held_out"] for row in choice.table)
    assert choice.curve[-1]["held_out"] == pytest.approx(best, rel=0.05)
    assert choice.curve[-1]["held_out"] < choice.curve[0]["held_out"]


def test_a_search_for_judges_begins_where_it_is_told():
    video = sample_video(0)
    clip = judged({"movie": movie_prior()}, video=video)
    clip.first = video
    choice = choose_by_held_out([clip], Margins(0, 0), Candidates(("movie",), (1.0, 2.0), 1, 1e-9))
    assert choice.curve[0]["held_out"] < judged({"movie": movie_prior()}, video=video).judge(
        torch.full((1, *SHAPE), MEAN, dtype=torch.float64)
    )
