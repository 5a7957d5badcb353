import numpy as np
import pytest
import torch
from small import FRAME_SIZE

from nwbrecon.config import InversionSettings
from nwbrecon.inversion.priors import autocovariance
from nwbrecon.inversion.setup import Setup, _best_blend, make_setup

CPU = torch.device("cpu")
FIXED = InversionSettings(prior="ridge", prior_weight=1.0, iterations=4, device="cpu")


def showings(aligned):
    return [((trial,),) for trial in aligned.trials_in("test")]


@pytest.fixture(scope="module")
def setup(small_mouse, small_encoder):
    aligned = small_mouse.aligned
    return make_setup([(small_encoder, aligned)], showings(aligned), FIXED, "map")


def test_margins_are_the_memory_and_the_tail(setup, small_encoder):
    assert setup.margins.lead == small_encoder.warm_up
    assert setup.margins.tail == 9


def test_the_spectrum_is_that_of_training_movies(setup, small_mouse):
    aligned = small_mouse.aligned
    movies = [aligned.trial(trial).video for trial in aligned.trials_in("train")]
    assert setup.mean == pytest.approx(np.mean([movie.mean() for movie in movies]))
    # clips of four seconds know all lags up to three
    expected = autocovariance(movies, (90, 19, 31), setup.mean)
    np.testing.assert_allclose(setup.covariances["movie"], expected)
    # what the linear decoder leaves unexplained of clips that it was not fitted to
    missed = [
        aligned.trial(trial).video - setup.ridges[0].predict(aligned, trial)
        for trial in aligned.trials_in("validation")
    ]
    assert setup.covariances["ridge"][0, 0, 0] == pytest.approx(np.mean(np.square(missed)), rel=1e-4)


def test_fixed_settings_leave_nothing_to_choose(setup):
    assert (setup.prior, setup.prior_weight, setup.choice) == ("ridge", 1.0, [])
    assert setup.error_model is not None
    assert setup.error_model.n_clips == 3


def test_priors_stand_around_the_clip(setup):
    movie = np.random.default_rng(0).uniform(0, 255, (50, *FRAME_SIZE)).astype(np.float32)
    plain, centered = (setup.prior_for(kind, movie, CPU) for kind in ("movie", "ridge"))
    assert plain.shape == centered.shape == (50 + setup.margins.lead + 9, *FRAME_SIZE)
    assert float(plain.mean) == pytest.approx(setup.mean)
    lead = setup.margins.lead
    np.testing.assert_array_equal(centered.mean[lead:-9], movie)
    np.testing.assert_array_equal(centered.mean[0], movie[0])
    np.testing.assert_array_equal(centered.mean[-1], movie[-1])
    for kind, prior in (("movie", plain), ("ridge", centered)):
        assert prior.variance == pytest.approx(setup.covariances[kind][0, 0, 0], rel=1e-5)


def test_what_was_kept_is_what_is_read(setup, small_mouse, tmp_path):
    setup.write(tmp_path)
    back = Setup.read(tmp_path)
    aligned = small_mouse.aligned
    (trial, *_) = aligned.trials_in("test")
    np.testing.assert_array_equal(back.ridges[0].predict(aligned, trial), setup.ridges[0].predict(aligned, trial))
    np.testing.assert_array_equal(back.mask, setup.mask)
    assert back.mask.dtype == bool
    np.testing.assert_array_equal(back.coverage, setup.coverage)
    assert back.covariances.keys() == setup.covariances.keys()
    for kind, values in setup.covariances.items():
        np.testing.assert_array_equal(back.covariances[kind], values)
    np.testing.assert_array_equal(back.error_model.weights, setup.error_model.weights)
    for name in ("margins", "mean", "prior", "prior_weight", "choice", "blend"):
        assert getattr(back, name) == getattr(setup, name)
    assert (back.error_model.scale, back.ridges[0].penalty) == (setup.error_model.scale, setup.ridges[0].penalty)


def test_inversion_and_linear_decoder_are_weighed_where_the_truth_is_known():
    rng = np.random.default_rng(0)
    mask = rng.random(FRAME_SIZE) < 0.5
    clips = []
    for _ in range(3):
        inverted, decoded = rng.uniform(0, 255, (2, 20, *FRAME_SIZE))
        true = np.where(mask, 0.7 * inverted + 0.2 * decoded - 10, 0)
        clips.append((inverted, decoded, true))
    np.testing.assert_allclose(_best_blend(clips, mask), (0.7, 0.2, -10), atol=1e-6)
    # nothing is taken away from the other, and what says nothing gets nothing
    opposed = [(inverted, 255 - decoded, true) for inverted, decoded, true in clips]
    of_inverted, of_decoded, _ = _best_blend(opposed, mask)
    assert of_decoded == 0
    assert of_inverted == pytest.approx(0.7, abs=0.02)
    assert _best_blend([(255 - one, 255 - other, true) for one, other, true in clips], mask) == (1.0, 0.0, 0.0)


def test_the_blend_is_what_is_best_on_validation_clips(setup, small_mouse, small_encoder):
    assert setup.blend[0] > 0
    movie = np.random.default_rng(0).uniform(0, 255, (2, 5, *FRAME_SIZE))
    blended = setup.blended(*movie)
    assert blended.dtype == np.float32
    of_inverted, of_decoded, level = setup.blend
    expected = np.clip(of_inverted * movie[0] + of_decoded * movie[1] + level, 0, 255)
    np.testing.assert_allclose(blended, expected, rtol=1e-5)


def test_held_out_rois_choose_where_nothing_is_fixed(small_mouse, small_encoder):
    aligned = small_mouse.aligned
    settings = InversionSettings(
        candidate_weights=(1.0, 300.0), selection_trials=2, iterations=6, uncertainty=False, device="cpu"
    )
    made = make_setup([(small_encoder, aligned)], showings(aligned), settings, "map")
    assert made.error_model is None
    assert len(made.choice) == 4
    best = min(made.choice, key=lambda row: row["held_out"])
    assert (made.prior, made.prior_weight) == (best["prior"], best["weight"])
    # a prior hundreds of times too strong is not what the responses want
    assert made.prior_weight == 1.0


def test_an_encoder_that_does_not_see_leaves_the_linear_decoder(small_mouse, small_encoder):
    aligned = small_mouse.aligned
    made = make_setup([(small_encoder, aligned)], showings(aligned), FIXED, "ridge")
    assert made.covariances == {}
    assert made.error_model is None
    assert made.coverage.max() == 1
    np.testing.assert_array_equal(made.mask, made.coverage >= 0.5)
    assert made.mask.any()


def test_test_clips_are_not_looked_at(setup, small_mouse, small_encoder):
    import copy

    aligned = copy.copy(small_mouse.aligned)
    aligned.video = aligned.video.copy()
    for trial in aligned.trials_in("test"):
        row = aligned.trials.loc[trial]
        aligned.video[row["first_frame"] : row["first_frame"] + row["n_frames"]] = 0
    blanked = make_setup([(small_encoder, aligned)], showings(aligned), FIXED, "map")
    np.testing.assert_array_equal(blanked.mask, setup.mask)
    np.testing.assert_array_equal(blanked.ridges[0].weights, setup.ridges[0].weights)
    np.testing.assert_array_equal(blanked.error_model.weights, setup.error_model.weights)
    for kind, values in setup.covariances.items():
        np.testing.assert_array_equal(blanked.covariances[kind], values)
