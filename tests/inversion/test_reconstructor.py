from dataclasses import replace

import numpy as np
import pytest
import torch
from linear import MEAN, SHAPE, LinearEncoder, movie_prior, posterior_mean, responses_to, sample_video

from nwbrecon.errors import InversionError
from nwbrecon.inversion.evidence import Margins
from nwbrecon.inversion.reconstructor import Reconstructor

NO_MARGINS = Margins(0, 0)


def fit_of(*evidence, prior=None, margins=NO_MARGINS, **options):
    prior = prior or movie_prior()
    start = torch.zeros(1, *prior.coordinates, dtype=torch.float64)
    return Reconstructor(evidence, prior, margins, **{"start": start} | options)


@pytest.fixture
def evidence():
    return responses_to(LinearEncoder.random(8), sample_video(), noise=1.0)


@pytest.mark.parametrize("prior_weight", [0.2, 1.0, 5.0])
def test_in_a_linear_gaussian_world_it_finds_the_posterior_mean(evidence, prior_weight):
    fit = fit_of(evidence, prior_weight=prior_weight)
    outcome = fit.run(200, tolerance=1e-12)
    expected = posterior_mean([evidence], prior_weight)
    # far from the center, and from the movie: something was learned, and not everything
    assert np.abs(expected - MEAN).mean() > 5
    np.testing.assert_allclose(fit.video, expected.clip(0, 255), atol=0.3)
    assert outcome.converged
    assert outcome.n_iterations < 150


def test_witnesses_are_fused():
    video = sample_video()
    witnesses = [responses_to(LinearEncoder.random(4, seed=seed), video, noise=1.0, seed=seed) for seed in range(3)]
    fit = fit_of(*witnesses)
    fit.run(200, tolerance=1e-12)
    np.testing.assert_allclose(fit.video, posterior_mean(witnesses).clip(0, 255), atol=0.3)
    errors = [np.abs(posterior_mean(witnesses[:count]) - video).mean() for count in (1, 2, 3)]
    assert errors[2] < errors[1] < errors[0]


def test_weights_and_missing_values_are_heeded():
    known = (torch.rand(1, SHAPE[0] // 2, 8, generator=torch.Generator().manual_seed(1)) > 0.3).double()
    evidence = responses_to(
        LinearEncoder.random(8), sample_video(), noise=1.0, weights=torch.logspace(-1, 1, 8).double(), known=known
    )
    fit = fit_of(evidence)
    fit.run(300, tolerance=1e-12)
    np.testing.assert_allclose(fit.video, posterior_mean([evidence]).clip(0, 255), atol=0.3)


def test_rois_that_are_not_chosen_have_no_say():
    evidence = responses_to(LinearEncoder.random(8), sample_video(), noise=1.0)
    chosen = torch.tensor([1.0, 1, 0, 1, 0, 1, 1, 0]).double()
    fit = fit_of(evidence, chosen=[chosen])
    fit.run(200, tolerance=1e-12)
    evidence.weights = evidence.weights * chosen
    np.testing.assert_allclose(fit.video, posterior_mean([evidence]).clip(0, 255), atol=0.3)


def test_margins_are_inferred_and_cut_off(evidence):
    fit = fit_of(evidence, margins=Margins(2, 1))
    fit.run(200, tolerance=1e-12)
    assert fit.video.shape == (SHAPE[0] - 3, *SHAPE[1:])
    np.testing.assert_allclose(fit.video, posterior_mean([evidence])[2:-1].clip(0, 255), atol=0.3)


def test_the_prior_may_be_centered_on_a_movie(evidence):
    center = sample_video(5)
    fit = fit_of(evidence, prior=movie_prior(mean=center))
    np.testing.assert_allclose(fit.video, center.clip(0, 255), atol=1e-3)
    fit.run(200, tolerance=1e-12)
    np.testing.assert_allclose(fit.video, posterior_mean([evidence], mean=center).clip(0, 255), atol=0.3)


def test_the_objective_falls_from_row_to_row(evidence):
    fit = fit_of(evidence)
    outcome = fit.run(12, tolerance=0)
    table = fit.history
    assert table["iteration"].tolist() == list(range(13))
    assert (np.diff(table["objective"]) < 0).all()
    np.testing.assert_allclose(
        table["objective"], table["negative_log_likelihood"] + table["negative_log_prior"], rtol=1e-9
    )
    assert table["negative_log_prior"].iloc[0] == 0
    assert (np.diff(table["seconds"]) >= 0).all()
    assert not outcome.converged
    assert outcome.n_iterations == 12
    assert outcome.n_evaluations >= 13
    assert outcome.value == table["objective"].iloc[-1]


def test_going_on_is_the_same_as_going_through(evidence):
    through, on = fit_of(evidence), fit_of(evidence)
    through.run(9, tolerance=0, snapshots=(0, 2, 7))
    on.run(4, tolerance=0, snapshots=(0, 2, 7))
    on.run(5, tolerance=0, snapshots=(0, 2, 7))
    torch.testing.assert_close(on.white, through.white, rtol=0, atol=0)
    columns = ["iteration", "objective", "negative_log_likelihood", "negative_log_prior"]
    assert on.history[columns].equals(through.history[columns])
    np.testing.assert_array_equal(on.snapshots, through.snapshots)
    assert on.snapshot_iterations == through.snapshot_iterations == [0, 2, 7]


def test_other_evidence_leads_on_from_where_it_is(evidence):
    other = responses_to(LinearEncoder.random(8, seed=1), sample_video(1), noise=1.0)
    fit = fit_of(evidence)
    first = fit.run(5, tolerance=0)
    before = fit.video
    fit.judge_by([other])
    np.testing.assert_array_equal(fit.video, before)
    outcome = fit.run(300, tolerance=1e-12)
    np.testing.assert_allclose(fit.video, posterior_mean([other]).clip(0, 255), atol=0.3)
    assert fit.history["iteration"].tolist() == list(range(outcome.n_iterations + 1))
    assert outcome.n_evaluations > first.n_evaluations + outcome.n_iterations - 5


def test_snapshots_show_the_way(evidence):
    fit = fit_of(evidence)
    assert fit.snapshots.shape == (0, *SHAPE)
    fit.run(1, snapshots=(0, 1, 50))
    blank, first = fit.snapshots
    assert (blank == round(MEAN)).all()
    np.testing.assert_array_equal(first, np.round(fit.video))
    assert first.dtype == np.uint8


def test_it_stops_where_the_objective_no_longer_falls(evidence):
    fit = fit_of(evidence)
    outcome = fit.run(500, tolerance=1e-3)
    assert outcome.converged
    falls = -np.diff(fit.history["objective"]) / fit.history["objective"].iloc[:-1]
    assert falls.iloc[-1] < 1e-3
    assert (falls.iloc[:-1] >= 1e-3).all()


def test_grey_levels_stay_within_those_of_a_screen():
    evidence = responses_to(LinearEncoder.random(12), 4 * (sample_video() - MEAN) + MEAN, noise=0.1)
    fit = fit_of(evidence)
    fit.run(100)
    assert fit.video.min() == 0
    assert fit.video.max() == 255
    assert fit.video.dtype == np.float64 or fit.video.dtype == np.float32


def test_nothing_measured_is_refused():
    known = torch.zeros(1, SHAPE[0] // 2, 4, dtype=torch.float64)
    empty = responses_to(LinearEncoder.random(4), sample_video(), known=known)
    for evidence in ([], [empty]):
        with pytest.raises(InversionError, match="No response was measured"):
            fit_of(*evidence)
    # one witness that saw something is enough
    fit_of(empty, responses_to(LinearEncoder.random(4), sample_video()))


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_a_search_that_was_saved_goes_on_as_if_nothing_had_happened(evidence, optimizer, tmp_path):
    through, first = (fit_of(evidence, optimizer=optimizer) for _ in range(2))
    whole = through.run(8, tolerance=0, snapshots=(0, 2, 7))
    first.run(4, tolerance=0, snapshots=(0, 2, 7))
    assert first.save(tmp_path / "search") == tmp_path / "search"
    # built anew from the same, as in another process
    same = responses_to(LinearEncoder.random(8), sample_video(), noise=1.0)
    on = fit_of(same, optimizer=optimizer)
    on.load(tmp_path / "search")
    np.testing.assert_array_equal(on.video, first.video)
    outcome = on.run(4, tolerance=0, snapshots=(0, 2, 7))
    torch.testing.assert_close(on.point, through.point, rtol=0, atol=0)
    columns = ["iteration", "objective", "negative_log_likelihood", "negative_log_prior"]
    assert on.history[columns].equals(through.history[columns])
    assert (np.diff(on.history["seconds"]) >= 0).all()
    np.testing.assert_array_equal(on.snapshots, through.snapshots)
    assert on.snapshot_iterations == [0, 2, 7]
    assert replace(outcome, seconds=0) == replace(whole, seconds=0)


def test_a_search_of_something_else_is_not_taken_up(evidence, tmp_path):
    fit = fit_of(evidence)
    fit.run(2)
    fit.save(tmp_path)
    weighed = replace(evidence, weights=2 * evidence.weights)
    told = replace(evidence, behavior=torch.ones(1, SHAPE[0], 1))
    seen, *rest = evidence.observations
    measured = replace(evidence, observations=[replace(seen, measured=seen.measured + 1), *rest])
    for other in (
        fit_of(responses_to(LinearEncoder.random(8, seed=1), sample_video(), noise=1.0)),
        *(fit_of(one) for one in (weighed, told, measured)),
        fit_of(evidence, evidence),
        fit_of(evidence, prior_weight=2.0),
        fit_of(evidence, prior=movie_prior(mean=sample_video(5))),
        fit_of(evidence, margins=Margins(1, 0)),
        fit_of(evidence, optimizer="gradient"),
        fit_of(evidence, chosen=[torch.ones(8)]),
    ):
        with pytest.raises(InversionError, match="was for another movie"):
            other.load(tmp_path)
    with pytest.raises(InversionError, match="holds no search"):
        fit.load(tmp_path / "nowhere")


def test_a_search_that_has_not_begun_or_has_other_evidence_can_be_saved_too(evidence, tmp_path):
    other = responses_to(LinearEncoder.random(8, seed=1), sample_video(1), noise=1.0)
    fit, through = fit_of(evidence), fit_of(evidence)
    for one in (fit, through):
        one.run(3, tolerance=0)
        one.judge_by([other])
    fit.save(tmp_path)
    on = fit_of(other)
    on.load(tmp_path)
    for one in (on, through):
        outcome = one.run(3, tolerance=0)
    torch.testing.assert_close(on.white, through.white, rtol=0, atol=0)
    assert on.history["objective"].equals(through.history["objective"])
    assert outcome.n_iterations == 6


def test_adam_does_not_stop_at_the_first_step_uphill(evidence):
    fit = fit_of(evidence, optimizer="adam")
    outcome = fit.run(300, tolerance=1e-4)
    assert outcome.n_iterations > 30
    assert (np.diff(fit.history["objective"]) <= 0).all()
    assert np.abs(fit.video - posterior_mean([evidence]).clip(0, 255)).mean() < 3
