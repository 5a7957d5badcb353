from functools import partial

import numpy as np
import pytest
import torch
from linear import SHAPE, LinearEncoder, covariance, movie_prior, responses_to, sample_video

from nwbrecon.config import InversionSettings
from nwbrecon.inversion import kinds
from nwbrecon.inversion.denoiser import train_denoiser
from nwbrecon.inversion.evidence import Margins
from nwbrecon.inversion.kinds import denoiser_of, generic_covariance, kinds_of, without_inventors
from nwbrecon.inversion.natural import NATURAL
from nwbrecon.inversion.priors import MoviePrior
from nwbrecon.inversion.selection import Candidates, Choice, Judged, choose_by_held_out

CANDIDATES = Candidates(("movie", "other"), (0.5, 1.0), iterations=40, tolerance=1e-8)


@pytest.mark.parametrize(
    ("prior", "expected"),
    [
        ("movie", ("movie",)),
        ("generic", ("generic",)),
        ("auto", ("movie", "ridge")),
        # a denoiser never stands alone
        ("denoiser", ("movie", "denoiser")),
    ],
)
def test_kinds_that_take_part(prior, expected):
    assert kinds_of(InversionSettings(prior=prior)) == expected


def test_the_generic_spectrum_has_the_contrast_of_the_session():
    settings = InversionSettings(degrees_per_pixel=4.0)
    found = generic_covariance(covariance((5, 4, 6), deviation=20.0), 15.0, settings)
    expected = NATURAL.at_level(20.0).autocovariance((14, 11, 17), 15.0, 4.0)
    np.testing.assert_allclose(found, expected)
    # blank movies have none
    blank = generic_covariance(np.zeros((15, 12, 18)), 15.0, settings)
    assert blank[0, 0, 0] == pytest.approx(NATURAL.deviation**2)


def test_the_denoiser_learns_from_training_clips_alone(small_mouse, monkeypatch):
    learned = []

    def few_steps(movies, **options):
        learned.append(movies)
        return train_denoiser(movies, **options, steps=2)

    monkeypatch.setattr(kinds, "train_denoiser", few_steps)
    aligned = small_mouse.aligned
    one, twice = (denoiser_of([aligned] * count, InversionSettings()).arrays() for count in (1, 2))
    assert len(learned[0]) == len(aligned.trials_in("train"))
    for movie, trial in zip(learned[0], aligned.trials_in("train"), strict=True):
        np.testing.assert_array_equal(movie, aligned.trial(trial).video)
    # a clip that two sessions saw is one
    for name, values in one.items():
        np.testing.assert_array_equal(values, twice[name])


def judged(priors, seed=0):
    weights = torch.full((40,), 1e-2, dtype=torch.float64)
    encoder, video = LinearEncoder.random(40, seed=seed), sample_video(seed)
    evidence = responses_to(encoder, video, noise=10.0, weights=weights, seed=seed)
    return Judged([evidence], priors.__getitem__, [np.arange(40) % 5 == 0])


def table(of_movie, of_other):
    """As if validation clips had chosen."""
    explained = {("movie", 0.5): of_movie - 0.1, ("movie", 1.0): of_movie}
    explained |= {("other", 0.5): of_other, ("other", 1.0): of_other - 0.1}
    rows = [{"prior": kind, "weight": weight, "explained": value} for (kind, weight), value in explained.items()]
    return Choice("other", 0.5, rows)


INVENTOR = MoviePrior(covariance(deviation=3.0), SHAPE, 255 - sample_video(7))


def test_a_prior_that_makes_things_up_is_refused_by_rois_that_it_was_not_fitted_to():
    clips = [judged({"movie": movie_prior(), "other": INVENTOR}, seed) for seed in range(2)]
    choice = without_inventors(table(0.5, 0.9), clips, Margins(0, 0), CANDIDATES)
    assert (choice.prior, choice.weight) == ("movie", 1.0)
    plain, other = (
        next(row for row in choice.table if (row["prior"], row["weight"]) == best)
        for best in (("movie", 1.0), ("other", 0.5))
    )
    assert (plain["refused"], other["refused"]) == (False, True)
    assert other["held_out"] > plain["held_out"] + 0.02 * plain["gain"]
    # the test is reported for the best weight of each kind
    assert [("held_out" in row) for row in choice.table] == [False, True, True, False]


def test_what_predicts_them_as_well_is_chosen_by_how_it_does():
    clips = [judged({"movie": movie_prior(), "other": movie_prior(deviation=29.0)}, seed) for seed in range(2)]
    for explained, best in (((0.5, 0.6), ("other", 0.5)), ((0.6, 0.5), ("movie", 1.0))):
        choice = without_inventors(table(*explained), clips, Margins(0, 0), CANDIDATES)
        assert (choice.prior, choice.weight) == best
        assert not any(row.get("refused") for row in choice.table)


def test_where_held_out_rois_have_chosen_they_are_not_asked_again(monkeypatch):
    clips = [judged({"movie": movie_prior(), "other": INVENTOR}, seed) for seed in range(2)]
    chosen = choose_by_held_out(clips, Margins(0, 0), CANDIDATES)
    monkeypatch.setattr(kinds, "choose_by_held_out", partial(pytest.fail, "asked again"))
    choice = without_inventors(chosen, clips, Margins(0, 0), CANDIDATES)
    assert (choice.prior, choice.weight) == (chosen.prior, chosen.weight)
    assert choice.prior == "movie"
    assert {row["prior"] for row in choice.table if row.get("refused")} == {"other"}
