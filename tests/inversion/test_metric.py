import numpy as np
import pytest
import torch
from linear import SHAPE, LinearEncoder, design, movie_prior, posterior_mean, responses_to, sample_video
from small import FRAME_SIZE

from nwbrecon.inversion.evidence import Margins
from nwbrecon.inversion.information import backprojections
from nwbrecon.inversion.metric import Metric, power_by_lag, sensitivity
from nwbrecon.inversion.reconstructor import Reconstructor


def sensitivity_of(evidence, n_probes=40):
    """What the responses of the linear world say of a frame, by lag."""
    video = torch.as_tensor(sample_video())[None].double()
    probes = backprojections([evidence], video, n_probes=n_probes, generator=torch.Generator().manual_seed(0))
    total = sum(power_by_lag(probe, SHAPE[0] - 1) for _, probe in probes)
    return (total / n_probes / SHAPE[0]).numpy()


@pytest.fixture(scope="module")
def evidence():
    return responses_to(LinearEncoder.random(8), sample_video(), noise=1.0)


def noise(prior, seed):
    return torch.randn(1, *prior.coordinates, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_backprojections_have_the_fisher_information_for_covariance(evidence):
    matrix, _, precision = design(evidence)
    video = torch.as_tensor(sample_video())[None].double()
    probes = list(backprojections([evidence], video, n_probes=2000, generator=torch.Generator().manual_seed(0)))
    assert all(frames == slice(None) for frames, _ in probes)
    flat = torch.stack([probe.flatten() for _, probe in probes]).numpy()
    expected = matrix.T @ np.diag(precision) @ matrix
    np.testing.assert_allclose(flat.T @ flat / len(flat), expected, atol=0.12 * expected.max())


def test_products_by_lag_are_those_of_a_slow_sum():
    field = np.random.default_rng(0).normal(size=(5, 3, 4))
    found = power_by_lag(torch.from_numpy(field), 2).numpy()
    assert found.shape == (3, 3, 4)
    for lag, row, column in np.ndindex(found.shape):
        late = field[lag:]
        early = field[: 5 - lag]
        products = [
            (late[:, max(0, r) : 3 + min(0, r), max(0, c) : 4 + min(0, c)]
            * early[:, max(0, -r) : 3 + min(0, -r), max(0, -c) : 4 + min(0, -c)]).sum()
            for r in (row, -row)
            for c in (column, -column)
        ]  # fmt: skip
        assert found[lag, row, column] == pytest.approx(np.mean(products))


def test_the_metric_is_symmetric_and_positive(evidence):
    prior = movie_prior()
    metric = Metric(sensitivity_of(evidence), prior, 0.7)
    one, other = noise(prior, 1), noise(prior, 2)
    assert float((metric(one) * other).sum()) == pytest.approx(float((one * metric(other)).sum()))
    assert float((metric(one) * one).sum()) > 0
    assert (metric.factor > 0).all()
    # never more than the prior alone leaves, and less where the responses tell something
    assert metric.factor.max() <= 1 / 0.7 + 1e-6
    assert metric.factor.min() < 0.2 * metric.factor.max()


def test_where_nothing_is_known_it_is_the_prior_s():
    prior = movie_prior()
    metric = Metric(np.zeros((3, *SHAPE[1:])), prior, 4.0)
    white = noise(prior, 0)
    torch.testing.assert_close(metric(white), white / 4, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prior_weight", [0.2, 1.0])
def test_a_search_with_it_needs_fewer_evaluations_to_the_posterior_mean(prior_weight):
    # many cells, as in a recording: what few dense fields tell has no spectrum to speak of
    evidence = responses_to(LinearEncoder.random(60), sample_video(), noise=1.0)
    expected = posterior_mean([evidence], prior_weight).clip(0, 255)
    needed = {}
    for name, known in (("plain", None), ("metric", sensitivity_of(evidence))):
        prior = movie_prior()
        start = torch.zeros(1, *prior.coordinates, dtype=torch.float64)
        options = {"prior_weight": prior_weight, "start": start, "sensitivity": known}
        fit = Reconstructor([evidence], prior, Margins(0, 0), **options)
        first = np.abs(fit.video - expected).mean()
        while np.abs(fit.video - expected).mean() > 0.15 * first:
            needed[name] = fit.run(1, tolerance=0).n_evaluations
            assert needed[name] < 200
    assert needed["metric"] < 0.6 * needed["plain"]


def test_it_changes_the_way_and_not_the_end(evidence):
    prior = movie_prior()
    start = torch.zeros(1, *prior.coordinates, dtype=torch.float64)
    fit = Reconstructor([evidence], prior, Margins(0, 0), start=start, sensitivity=0.1 * sensitivity_of(evidence))
    fit.run(400, tolerance=1e-12)
    np.testing.assert_allclose(fit.video, posterior_mean([evidence]).clip(0, 255), atol=0.5)


def test_of_an_encoder_it_is_what_training_clips_tell(small_mouse, small_encoder):
    aligned = small_mouse.aligned
    trials = aligned.trials_in("train")[:2]
    found, again = (sensitivity(small_encoder, aligned, trials) for _ in range(2))
    assert found.shape == (round(aligned.frame_rate) + 1, *FRAME_SIZE)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, again)
    # a pixel tells most of itself, and receptive fields do not reach across the screen
    assert found[0, 0, 0] == found.max() > 0
    assert abs(found[0, FRAME_SIZE[0] // 2, 0]) < 0.3 * found[0, 0, 0]
    parts = sensitivity(small_encoder, aligned, trials, stretch_seconds=1.5)
    assert parts[0, 0, 0] == pytest.approx(found[0, 0, 0], rel=0.3)
