import numpy as np
import pytest
import torch
from linear import LinearEncoder, movie_prior, responses_to, sample_video

from nwbrecon.inversion.evidence import Margins
from nwbrecon.inversion.objective import Objective, evaluate
from nwbrecon.inversion.reconstructor import Reconstructor
from nwbrecon.inversion.together import search_together


class Counting:
    """A linear encoder that remembers how many movies it was shown at a time."""

    warm_up = 0

    def __init__(self):
        self.encoder, self.batches = LinearEncoder.random(8), []

    @property
    def now(self):
        return self.encoder.now

    def predict_rates(self, video, behavior):
        self.batches.append(len(video))
        return self.encoder.predict_rates(video, behavior)


def fits_of(encoder, count=4, witnesses=1, **options):
    prior = movie_prior()
    start = torch.zeros(1, *prior.coordinates, dtype=torch.float64)
    return [
        Reconstructor(
            [
                responses_to(encoder, sample_video(clip), noise=1.0, seed=10 * clip + trial)
                for trial in range(witnesses)
            ],
            prior,
            Margins(1, 0),
            start=start,
            **options,
        )
        for clip in range(count)
    ]


@pytest.mark.parametrize(("optimizer", "witnesses"), [("lbfgs", 1), ("lbfgs", 2), ("adam", 1)])
def test_side_by_side_they_find_what_each_finds_alone(optimizer, witnesses):
    encoder = Counting()
    alone = fits_of(encoder, witnesses=witnesses, optimizer=optimizer)
    # some stop sooner than others
    tolerances = [1e-1, 1e-3, 1e-5, 1e-2]
    expected = [fit.run(25, tolerance=tolerance) for fit, tolerance in zip(alone, tolerances, strict=True)]
    fits = fits_of(encoder, witnesses=witnesses, optimizer=optimizer)
    encoder.batches.clear()
    outcomes = search_together(fits, lambda fit: fit.run(25, tolerance=tolerances[fits.index(fit)]))
    for fit, other, outcome, before in zip(fits, alone, outcomes, expected, strict=True):
        np.testing.assert_allclose(fit.video, other.video, atol=1e-3)
        assert (outcome.n_iterations, outcome.n_evaluations) == (before.n_iterations, before.n_evaluations)
        assert outcome.value == pytest.approx(before.value, rel=1e-9)
        np.testing.assert_allclose(fit.history["objective"], other.history["objective"], rtol=1e-9)
    # all in one batch at first; who is done drops out
    assert encoder.batches[0] == 4
    assert sum(encoder.batches) == witnesses * sum(outcome.n_evaluations for outcome in outcomes)
    assert len(encoder.batches) == witnesses * max(outcome.n_evaluations for outcome in outcomes)
    assert encoder.batches == sorted(encoder.batches, reverse=True)
    # and afterwards each goes on by itself
    encoder.batches.clear()
    fits[0].run(2, tolerance=0)
    assert set(encoder.batches) == {1}


def test_a_batch_is_as_large_as_it_may_be():
    encoder = Counting()
    fits = fits_of(encoder)
    encoder.batches.clear()
    search_together(fits, lambda fit: fit.run(3, tolerance=0), at_once=3)
    assert encoder.batches[:2] == [3, 1]


def test_where_memory_does_not_hold_a_batch_it_is_halved(monkeypatch):
    encoder = Counting()
    fits, alone = fits_of(encoder), fits_of(encoder)
    predict = encoder.predict_rates

    def short_of_memory(video, behavior):
        if len(video) > 2:
            raise torch.OutOfMemoryError("no memory")
        return predict(video, behavior)

    monkeypatch.setattr(encoder, "predict_rates", short_of_memory)
    encoder.batches.clear()
    search_together(fits, lambda fit: fit.run(3, tolerance=0))
    assert encoder.batches[:2] == [2, 2]
    for fit, other in zip(fits, alone, strict=True):
        other.run(3, tolerance=0)
        np.testing.assert_allclose(fit.video, other.video, atol=1e-3)


def test_an_error_in_one_search_ends_all():
    fits = fits_of(Counting())

    def search(fit):
        fit.run(2, tolerance=0)
        if fit is fits[2]:
            raise ValueError("of the third")
        return fit.run(50, tolerance=0)

    with pytest.raises(ValueError, match="of the third"):
        search_together(fits, search)


def test_the_memory_of_a_single_clip_is_not_enough(monkeypatch):
    fits = fits_of(Counting(), count=2)

    def none_at_all(video, behavior):
        raise torch.OutOfMemoryError("no memory")

    for fit in fits:
        monkeypatch.setattr(fit.objective.evidence[0].encoder, "predict_rates", none_at_all)
    with pytest.raises(torch.OutOfMemoryError):
        search_together(fits, lambda fit: fit.run(2))


def test_clips_of_different_lengths_are_not_mixed_up():
    encoder = Counting()
    short, long = movie_prior((5, 5, 6)), movie_prior((9, 5, 6))
    videos = [sample_video(1, (5, 5, 6)), sample_video(2, (9, 5, 6)), sample_video(3, (5, 5, 6))]
    objectives = [
        Objective([responses_to(encoder, video, noise=1.0)], prior, prior_weight=0.5)
        for video, prior in zip(videos, (short, long, short), strict=True)
    ]
    points = [
        torch.randn(1, *one.prior.coordinates, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        for seed, one in enumerate(objectives)
    ]
    encoder.batches.clear()
    together = evaluate(objectives, points)
    assert encoder.batches == [2, 1]
    for objective, point, found in zip(objectives, points, together, strict=True):
        expected = objective(point)
        assert found.value == pytest.approx(expected.value, rel=1e-10)
        torch.testing.assert_close(found.gradient, expected.gradient)
