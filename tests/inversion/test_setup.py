from dataclasses import replace

import numpy as np
import pytest
import torch
from small import FRAME_SIZE

from nwbrecon.config import InversionSettings
from nwbrecon.inversion.blending import Blend
from nwbrecon.inversion.denoiser import train_denoiser
from nwbrecon.inversion.setup import Setup, gather, invert
from nwbrecon.metrics import dynamic_correlation
from nwbrecon.storage import read_json, write_json

CPU = torch.device("cpu")


def test_priors_stand_around_the_clip(small_setup):
    movie = np.random.default_rng(0).uniform(0, 255, (50, *FRAME_SIZE)).astype(np.float32)
    plain, centered = (small_setup.prior_for(kind, movie, CPU) for kind in ("movie", "ridge"))
    assert plain.shape == centered.shape == (50 + small_setup.margins.lead + 9, *FRAME_SIZE)
    assert float(plain.mean) == pytest.approx(small_setup.mean)
    lead = small_setup.margins.lead
    np.testing.assert_array_equal(centered.mean[lead:-9], movie)
    np.testing.assert_array_equal(centered.mean[0], movie[0])
    np.testing.assert_array_equal(centered.mean[-1], movie[-1])
    for kind, prior in (("movie", plain), ("ridge", centered)):
        assert prior.variance == pytest.approx(small_setup.covariances[kind][0, 0, 0], rel=1e-5)


def test_what_was_kept_is_what_is_read(small_setup, small_mouse, tmp_path):
    small_setup = replace(small_setup, of_decoders=Blend.of_second())
    small_setup.write(tmp_path)
    back = Setup.read(tmp_path)
    aligned = small_mouse.aligned
    (trial, *_) = aligned.trials_in("test")
    np.testing.assert_array_equal(back.ridges[0].predict(aligned, trial), small_setup.ridges[0].predict(aligned, trial))
    np.testing.assert_array_equal(back.mask, small_setup.mask)
    assert back.mask.dtype == bool
    np.testing.assert_array_equal(back.coverage, small_setup.coverage)
    assert back.covariances.keys() == small_setup.covariances.keys()
    for kind, values in small_setup.covariances.items():
        np.testing.assert_array_equal(back.covariances[kind], values)
    np.testing.assert_array_equal(back.error_model.weights, small_setup.error_model.weights)
    np.testing.assert_array_equal(back.sensitivity, small_setup.sensitivity)
    for name in ("margins", "mean", "prior", "prior_weight", "choice", "blend", "of_decoders", "seconds"):
        assert getattr(back, name) == getattr(small_setup, name)
    assert (back.error_model.scale, back.ridges[0].penalty) == (
        small_setup.error_model.scale,
        small_setup.ridges[0].penalty,
    )


def test_the_other_kinds_stand_around_gray(small_setup):
    movie = np.random.default_rng(0).uniform(0, 255, (50, *FRAME_SIZE)).astype(np.float32)
    denoiser = train_denoiser([movie], steps=2)
    generic = 2 * small_setup.covariances["movie"]
    setup = replace(small_setup, covariances=small_setup.covariances | {"generic": generic}, denoiser=denoiser)
    plain, learned, general = (setup.prior_for(kind, movie, CPU) for kind in ("movie", "denoiser", "generic"))
    for prior in (learned, general):
        assert float(prior.mean) == pytest.approx(setup.mean)
    torch.testing.assert_close(learned.amplitude, plain.amplitude)
    assert general.variance == pytest.approx(2 * plain.variance, rel=1e-3)
    white = torch.randn(1, *plain.coordinates, generator=torch.Generator().manual_seed(0))
    assert learned.negative_log_probability(white).value > plain.negative_log_probability(white).value


def test_a_denoiser_is_kept(small_setup, tmp_path):
    movie = np.random.default_rng(0).uniform(0, 255, (8, *FRAME_SIZE)).astype(np.float32)
    denoiser = train_denoiser([movie], steps=2)
    replace(small_setup, denoiser=denoiser, prior="denoiser").write(tmp_path)
    back = Setup.read(tmp_path)
    assert back.prior == "denoiser"
    video = torch.from_numpy(movie)[None]
    torch.testing.assert_close(back.denoiser.energy(video), denoiser.energy(video), rtol=0, atol=0)
    # one that was kept before there were denoisers
    kept = read_json(tmp_path / "setup.json")
    del kept["denoiser"]
    write_json(tmp_path / "setup.json", kept)
    assert Setup.read(tmp_path).denoiser is None


def test_the_error_is_predicted_from_the_prior_that_was_used(small_setup):
    rng = np.random.default_rng(0)
    movies = [rng.uniform(0, 255, (6, *FRAME_SIZE)) for _ in range(3)]
    information = rng.uniform(0, 1e-2, (6, *FRAME_SIZE))
    rough = np.zeros_like(small_setup.covariances["movie"])
    rough[0, 0, 0] = 900.0
    setup = replace(small_setup, covariances=small_setup.covariances | {"generic": rough})
    plain, general = (replace(setup, prior=kind).error_features(*movies, information) for kind in ("movie", "generic"))
    # the responses say less about a world in which no pixel tells of another
    assert general[1].mean() > plain[1].mean()
    np.testing.assert_array_equal(general[2:], plain[2:])


def test_the_blend_is_what_is_best_on_validation_clips(small_setup, small_mouse, small_encoder):
    assert np.max(small_setup.blend.weights[0]) > 0
    movie = np.random.default_rng(0).uniform(0, 255, (2, 5, *FRAME_SIZE))
    blended = small_setup.blended(*movie)
    assert blended.dtype == np.float32
    np.testing.assert_allclose(blended, np.clip(small_setup.blend.movie(*movie), 0, 255), rtol=1e-5)


def test_a_clip_is_inverted_from_all_its_showings(small_setup, small_mouse, small_encoder):
    aligned, recordings = small_mouse.aligned, [(small_encoder, small_mouse.aligned)]
    first, second, *_ = aligned.trials_in("test")
    settings = InversionSettings(iterations=2, device="cpu")
    one, both = (invert(small_setup, recordings, (trials,), settings) for trials in ((first,), (first, second)))
    assert (len(one.evidence), len(both.evidence)) == (1, 2)
    assert len(gather(recordings, ((first, second),), small_setup.margins, settings)) == 2
    assert one.outcome.n_iterations == 2
    decoded = np.clip(small_setup.decode(recordings, ((first,),)), 0, 255)
    np.testing.assert_array_equal(one.decoded, decoded)
    assert dynamic_correlation(one.fit.video, aligned.trial(first).video) > 0.1
    information = one.information(seed=0)
    assert information.shape == one.fit.video.shape
    # the same probes, and more of what is known from more showings
    np.testing.assert_array_equal(one.information(seed=0), information)
    assert both.information(seed=0).mean() > 1.2 * information.mean()
    np.testing.assert_allclose(
        small_setup.sensitivity_to(((first, second),)), 2 * small_setup.sensitivity_to(((first,),))
    )


def test_the_movie_is_searched_with_what_is_named(small_setup, small_mouse, small_encoder):
    recordings = [(small_encoder, small_mouse.aligned)]
    showing = ((small_mouse.aligned.trials_in("test")[0],),)
    values = {}
    for name in ("lbfgs", "gradient", "adam"):
        settings = InversionSettings(iterations=3, tolerance=0.0, device="cpu", optimizer=name)
        made = invert(small_setup, recordings, showing, settings)
        assert made.outcome.n_iterations == 3
        values[name] = made.outcome.value
        # Adam may go uphill at first: its point is then still the one that it began at
        assert values[name] <= made.fit.history["objective"].iloc[0]
    assert values["lbfgs"] < min(values["gradient"], values["adam"])


def test_with_the_metric_a_search_gets_further(small_setup, small_mouse, small_encoder):
    recordings = [(small_encoder, small_mouse.aligned)]
    showing = ((small_mouse.aligned.trials_in("test")[0],),)
    settings = InversionSettings(iterations=6, tolerance=0.0, device="cpu")
    plain, known = (
        invert(setup, recordings, showing, settings).outcome
        for setup in (replace(small_setup, sensitivity=None), small_setup)
    )
    assert known.n_evaluations <= plain.n_evaluations
    assert known.value < plain.value


def test_a_clip_is_inverted_in_stretches_to_the_same_movie(small_setup, small_mouse, small_encoder):
    aligned = small_mouse.aligned
    showing = (tuple(aligned.trials_in("test")[:2]),)
    whole, parts = (
        invert(
            small_setup,
            [(small_encoder, aligned)],
            showing,
            InversionSettings(iterations=3, device="cpu", stretch_seconds=seconds),
        )
        for seconds in (10.0, 1.2)
    )
    assert len(whole.evidence) == 2
    assert len(parts.evidence) > 4
    assert parts.outcome.value == pytest.approx(whole.outcome.value, rel=1e-4)
    np.testing.assert_allclose(parts.fit.video, whole.fit.video, atol=0.5)
    assert parts.information(0).shape == whole.information(0).shape


@pytest.mark.parametrize("noise", ["shared", "autoregressive"])
def test_whitened_noise_is_fitted_after_the_first_search(small_setup, small_mouse, small_encoder, noise):
    aligned, recordings = small_mouse.aligned, [(small_encoder, small_mouse.aligned)]
    showing = ((aligned.trials_in("test")[0],),)
    settings = InversionSettings(iterations=6, tolerance=0.0, device="cpu")
    plain, whitened = (
        invert(small_setup, recordings, showing, settings.model_copy(update={"noise": kind}))
        for kind in ("dispersion", noise)
    )
    assert (plain.outcome.n_iterations, whitened.outcome.n_iterations) == (6, 9)
    assert whitened.outcome.n_evaluations >= plain.outcome.n_evaluations + 4
    history = whitened.fit.history
    assert history["iteration"].tolist() == list(range(10))
    assert history["objective"][:7].tolist() == plain.fit.history["objective"].tolist()
    # each search falls by itself: they are of different objectives
    assert (np.diff(history["objective"][7:]) < 0).all()
    assert np.abs(whitened.fit.video - plain.fit.video).mean() > 0.1
    true = aligned.trial(showing[0][0]).video
    scores = [dynamic_correlation(made.fit.video, true, small_setup.mask) for made in (plain, whitened)]
    assert scores[1] > scores[0] - 0.1
    # stretches keep what ROIs share; autoregressions begin anew in each
    stretched = settings.model_copy(update={"noise": noise, "stretch_seconds": 1.2})
    parts = invert(small_setup, recordings, showing, stretched)
    tolerance = {"shared": 1e-3, "autoregressive": 0.05}[noise]
    assert parts.outcome.value == pytest.approx(whitened.outcome.value, rel=tolerance)
