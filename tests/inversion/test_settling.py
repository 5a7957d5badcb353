import copy
from functools import partial

import numpy as np
import pytest
import torch

from nwbrecon.config import InversionSettings
from nwbrecon.inversion import kinds
from nwbrecon.inversion.denoiser import DenoiserPrior, train_denoiser
from nwbrecon.inversion.priors import autocovariance
from nwbrecon.inversion.settling import _judged, _learned_from, _spread_over_films, make_setup

FIXED = InversionSettings(prior="ridge", prior_weight=1.0, iterations=4, device="cpu")


def showings(aligned):
    return [((trial,),) for trial in aligned.trials_in("test")]


def test_margins_are_the_memory_and_the_tail(small_setup, small_encoder):
    assert small_setup.margins.lead == small_encoder.warm_up
    assert small_setup.margins.tail == 9


def test_the_spectrum_is_that_of_training_movies(small_setup, small_mouse):
    aligned = small_mouse.aligned
    movies = [aligned.trial(trial).video for trial in aligned.trials_in("train")]
    assert small_setup.mean == pytest.approx(np.mean([movie.mean() for movie in movies]))
    # clips of four seconds know all lags up to three
    expected = autocovariance(movies, (90, 19, 31), small_setup.mean)
    np.testing.assert_allclose(small_setup.covariances["movie"], expected)
    # what the linear decoder leaves unexplained of clips that it was not fitted to
    missed = [
        aligned.trial(trial).video - small_setup.ridges[0].predict(aligned, trial)
        for trial in aligned.trials_in("validation")
    ]
    assert small_setup.covariances["ridge"][0, 0, 0] == pytest.approx(np.mean(np.square(missed)), rel=1e-4)


def test_fixed_settings_leave_nothing_to_choose(small_setup):
    assert (small_setup.prior, small_setup.prior_weight, small_setup.choice) == ("ridge", 1.0, [])
    assert small_setup.error_model is not None
    assert small_setup.error_model.n_clips == 3


CHOOSING = InversionSettings(
    prior="auto",
    candidate_weights=(1.0, 300.0),
    selection_trials=2,
    iterations=6,
    uncertainty=False,
    device="cpu",
)


@pytest.mark.parametrize(
    ("choose_by", "stretch_seconds"), [("validation", 10.0), ("held-out", 10.0), ("held-out", 1.5)]
)
def test_prior_and_weight_are_chosen_where_nothing_is_fixed(small_mouse, small_encoder, choose_by, stretch_seconds):
    aligned = small_mouse.aligned
    settings = CHOOSING.model_copy(update={"choose_by": choose_by, "stretch_seconds": stretch_seconds})
    made = make_setup([(small_encoder, aligned)], showings(aligned), settings, "map")
    assert made.error_model is None
    assert len(made.choice) == 4
    # a kind that predicts ROIs that were not fitted worse than the plain one is not taken
    refused = {row["prior"] for row in made.choice if row.get("refused")}
    assert "movie" not in refused
    rows = [row for row in made.choice if row["prior"] not in refused]
    best = {
        "validation": lambda: max(rows, key=lambda row: row["explained"]),
        "held-out": lambda: min(rows, key=lambda row: row["held_out"]),
    }[choose_by]()
    assert (made.prior, made.prior_weight) == (best["prior"], best["weight"])
    # a prior hundreds of times too strong is not what the responses want
    assert made.prior_weight == 1.0


def test_a_denoiser_takes_part_beside_the_plain_prior(small_mouse, small_encoder, monkeypatch):
    aligned = small_mouse.aligned
    monkeypatch.setattr(kinds, "train_denoiser", partial(train_denoiser, steps=20))
    settings = CHOOSING.model_copy(update={"prior": "denoiser", "prior_weight": 1.0, "iterations": 4})
    made = make_setup([(small_encoder, aligned)], showings(aligned), settings, "map")
    assert {row["prior"] for row in made.choice} == {"movie", "denoiser"}
    assert all({"explained", "held_out", "gain", "refused"} <= row.keys() for row in made.choice)
    left = [row for row in made.choice if not row["refused"]]
    assert made.prior == max(left, key=lambda row: row["explained"])["prior"]
    assert isinstance(made.prior_for("denoiser", aligned.trial(0).video, torch.device("cpu")), DenoiserPrior)


def test_the_generic_prior_is_one_by_itself(small_mouse, small_encoder):
    aligned = small_mouse.aligned
    settings = CHOOSING.model_copy(update={"prior": "generic", "prior_weight": 1.0, "iterations": 2})
    made = make_setup([(small_encoder, aligned)], showings(aligned), settings, "map")
    assert (made.prior, made.prior_weight, made.choice) == ("generic", 1.0, [])
    own, general = made.covariances["movie"], made.covariances["generic"]
    assert general.shape == own.shape
    assert general[0, 0, 0] == pytest.approx(own[0, 0, 0])
    # noise that is smooth over a pixel or so has less to tell from afar than natural movies
    assert general[0, 0, 4] > 2 * own[0, 0, 4]


def test_an_encoder_that_does_not_see_leaves_the_linear_decoder(small_mouse, small_encoder):
    aligned = small_mouse.aligned
    made = make_setup([(small_encoder, aligned)], showings(aligned), FIXED, "ridge")
    assert made.covariances == {}
    assert made.error_model is None
    assert made.coverage.max() == 1
    np.testing.assert_array_equal(made.mask, made.coverage >= 0.5)
    assert made.mask.any()


def test_test_clips_are_not_looked_at(small_setup, small_mouse, small_encoder):
    aligned = copy.copy(small_mouse.aligned)
    aligned.video = aligned.video.copy()
    for trial in aligned.trials_in("test"):
        row = aligned.trials.loc[trial]
        aligned.video[row["first_frame"] : row["first_frame"] + row["n_frames"]] = 0
    blanked = make_setup([(small_encoder, aligned)], showings(aligned), FIXED, "map")
    np.testing.assert_array_equal(blanked.mask, small_setup.mask)
    np.testing.assert_array_equal(blanked.ridges[0].weights, small_setup.ridges[0].weights)
    np.testing.assert_array_equal(blanked.error_model.weights, small_setup.error_model.weights)
    for kind, values in small_setup.covariances.items():
        np.testing.assert_array_equal(blanked.covariances[kind], values)


def test_calibration_takes_a_clip_of_every_film_before_another_of_one(small_mouse):
    aligned = copy.copy(small_mouse.aligned)
    aligned.trials = aligned.trials.copy()
    trials = aligned.trials_in("train")[:5]
    aligned.trials.loc[trials, "film"] = ["a", "a", "b", "", ""]
    order = _spread_over_films(aligned, [((trial,),) for trial in trials])
    assert [showing[0][0] for showing in order] == [trials[index] for index in (0, 2, 3, 4, 1)]


def test_films_that_validation_lacks_are_made_up_for_by_training_films(small_mouse, small_encoder):
    aligned = copy.copy(small_mouse.aligned)
    aligned.trials = aligned.trials.copy()
    train, validation = aligned.trials_in("train"), [((trial,),) for trial in aligned.trials_in("validation")]
    # three validation clips, each a film of its own: five more
    found = _learned_from([(small_encoder, aligned)], validation)
    assert [showing[0][0] for showing in found] == train[:5]
    aligned.trials.loc[train, "film"] = "one"
    assert _learned_from([(small_encoder, aligned)], validation) == [((train[0],),)]
    # a film that is in both is no witness for what is not learned
    aligned.trials.loc[[showing[0][0] for showing in validation], "film"] = "one"
    assert _learned_from([(small_encoder, aligned)], validation) == []


def test_rois_judge_that_had_no_part(small_setup, small_mouse, small_encoder):
    aligned, recordings = small_mouse.aligned, [(small_encoder, small_mouse.aligned)]
    trial = aligned.trials_in("validation")[0]
    cells = [np.arange(aligned.n_rois) // 2]
    clip = _judged(small_setup, recordings, ((trial,),), FIXED, cells, 0)
    (held_out,) = clip.held_out
    np.testing.assert_array_equal(held_out[::2], held_out[1::2])
    without = small_setup.ridges[0].predict(aligned, trial, held_out)
    np.testing.assert_allclose(clip.first, np.clip(without, 0, 255), atol=1e-3)
    np.testing.assert_allclose(clip.prior_for("ridge").mean[small_setup.margins.lead], without[0], atol=1e-3)
