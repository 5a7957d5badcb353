import json

import numpy as np
import pandas as pd
import pytest
import torch

from nwbrecon.alignment import AlignedGroup, AlignedSession
from nwbrecon.encoding.calibration import dispersion, gate, wrong_clips, wrong_movie
from nwbrecon.encoding.likelihoods import Gaussian, Poisson
from nwbrecon.session import SignalKind

N_ROIS, CLIP_FRAMES, N_CLIPS = 24, 600, 12
INTERVAL = 2 / 15


class Steady:
    """Predicts the same rate, half a unit a sample, whatever is shown."""

    warm_up = 0

    def __init__(self, level=0.5):
        self.level = level

    def predict_rates(self, video, behavior):
        return torch.full((len(video), N_ROIS, video.shape[2]), self.level / (30 * INTERVAL))


def session_with(residuals, mean=0.5, kind=SignalKind.EVENTS):
    """Gray clips with responses that are `mean` and the residuals, ``(sample, roi)`` on a clock of 7.5 Hz."""
    clock = np.arange(len(residuals)) * INTERVAL
    group = AlignedGroup(
        "plane", kind, clock, (mean + residuals).astype(np.float32), np.ones(N_ROIS), pd.DataFrame(index=range(N_ROIS))
    )
    onsets = 0.2 + np.arange(N_CLIPS) * (CLIP_FRAMES / 30 + 0.5)
    return AlignedSession.from_arrays(
        [np.full((CLIP_FRAMES, 4, 4), 127.0)] * N_CLIPS,
        [group],
        onsets=onsets,
        clips=[str(n) for n in range(N_CLIPS)],
        splits=["validation"] * N_CLIPS,
        frame_rate=30.0,
    )


N_SAMPLES = int((0.2 + N_CLIPS * (CLIP_FRAMES / 30 + 0.5)) / INTERVAL) + 5


def white(seed=0):
    return np.random.default_rng(seed).standard_normal((N_SAMPLES, N_ROIS))


def found(residuals, likelihood=None, **options):
    kind = SignalKind.DFF if isinstance(likelihood, Gaussian) else SignalKind.EVENTS
    aligned = session_with(residuals, kind=kind)
    level = Steady(0.5 * 30 * INTERVAL) if kind is SignalKind.DFF else Steady()
    return dispersion(level, aligned, aligned.trials_in("validation"), [likelihood or Poisson()], **options)


@pytest.mark.parametrize("truth", [0.2, 1.0, 5.0])
def test_white_residuals_have_the_dispersion_of_their_variance(truth):
    estimate = found(np.sqrt(truth * 0.5) * white())
    assert np.median(estimate) == pytest.approx(truth, rel=0.08)
    assert np.abs(np.log(estimate / truth)).max() < 0.4


def test_counts_have_a_dispersion_of_one():
    counts = np.random.default_rng(1).poisson(0.5, (N_SAMPLES, N_ROIS))
    assert np.median(found(counts - 0.5)) == pytest.approx(1, rel=0.08)


def test_noise_that_is_smeared_in_time_counts_in_full():
    # three samples share each event: the variance of a sample falls to a third, that of a long sum does not
    residuals = np.sqrt(0.5) * white()
    residuals[2:] = (residuals[2:] + residuals[1:-1] + residuals[:-2]) / 3
    assert residuals.var() == pytest.approx(0.5 / 3, rel=0.05)
    # a block of a second is cut at both ends: 8 samples of noise lose 8/9 of one
    assert np.median(found(residuals)) == pytest.approx(1 - 8 / 9 / 8, rel=0.08)
    assert np.median(found(residuals, block_seconds=4.0)) == pytest.approx(1, rel=0.1)
    assert np.median(found(residuals, block_seconds=0.1)) == pytest.approx(1 / 3, rel=0.05)


def test_noise_that_alternates_counts_little():
    residuals = np.diff(np.sqrt(0.25) * white(), axis=0, prepend=0)
    assert residuals[1:].var() == pytest.approx(0.5, rel=0.05)
    assert np.median(found(residuals)) == pytest.approx(1 / 8, rel=0.15)


def test_fluorescence_is_measured_against_a_variance_of_one():
    assert np.median(found(1.5 * white(), Gaussian())) == pytest.approx(2.25, rel=0.08)


def test_each_roi_has_its_own_drawn_a_little_to_the_others():
    truth = np.logspace(-1, 1, N_ROIS)
    estimate = found(np.sqrt(0.5 * truth) * white())
    slope = np.polyfit(np.log(truth), np.log(estimate), 1)[0]
    assert slope == pytest.approx(0.8, abs=0.05)


def test_an_roi_that_was_not_measured_is_taken_for_a_typical_one():
    residuals = np.sqrt(0.5 * 3) * white()
    residuals[:, 0] = np.nan
    estimate = found(residuals)
    assert estimate[0] == pytest.approx(np.median(estimate), rel=0.05)
    # where half is missing, the other half counts
    residuals = np.sqrt(0.5 * 3) * white()
    residuals[::2, :12] = np.nan
    assert np.median(found(residuals)[:12]) == pytest.approx(3, rel=0.15)


class Shuffled:
    """Another's predictions, given to the wrong ROIs."""

    def __init__(self, encoder, seed=0):
        self.encoder, self.warm_up = encoder, encoder.warm_up
        self.order = torch.from_numpy(np.random.default_rng(seed).permutation(encoder.n_rois))

    def predict_rates(self, video, behavior):
        return self.encoder.predict_rates(video, behavior)[:, self.order]


class Blind:
    """Knows what the animal does, and nothing of what it sees."""

    def __init__(self, encoder):
        self.encoder, self.warm_up = encoder, encoder.warm_up

    def predict_rates(self, video, behavior):
        return self.encoder.predict_rates(torch.full_like(video, 127.0), behavior)


def verdict(mouse, encoder, linear_scores):
    return gate(encoder, mouse.aligned, mouse.aligned.trials_in("validation"), linear_scores)


def test_a_trained_encoder_sees(small_mouse, small_encoder):
    found = verdict(small_mouse, small_encoder, small_encoder.linear_scores)
    assert found.sees
    assert found.true > 0.25
    assert abs(found.wrong) < 0.1
    assert found.low < found.gap < found.high
    assert found.gap == pytest.approx(found.true - found.wrong, abs=1e-6)
    assert "the encoder sees" in found.sentence
    assert f"{found.true:.3f}" in found.sentence


def test_an_encoder_that_mixes_up_its_rois_does_not_see(small_mouse, small_encoder):
    found = verdict(small_mouse, Shuffled(small_encoder), small_encoder.linear_scores)
    assert not found.sees
    assert abs(found.gap) < 0.1
    assert "does not see" in found.sentence


def test_an_encoder_that_follows_behavior_alone_does_not_see(small_mouse, small_encoder):
    found = verdict(small_mouse, Blind(small_encoder), small_encoder.linear_scores)
    assert not found.sees
    assert found.true == found.wrong
    assert found.gap == 0


def test_only_visual_cells_are_asked(small_mouse, small_encoder):
    scores = np.zeros(small_encoder.n_rois)
    visual = np.argsort(small_encoder.validation_scores)[-5:]
    scores[visual] = 0.5
    found = verdict(small_mouse, small_encoder, scores)
    assert found.n_visual == 5
    assert found.true == pytest.approx(small_encoder.validation_scores[visual].mean(), abs=1e-5)


@pytest.mark.parametrize("scores", [np.zeros(40), np.full(40, np.nan), np.eye(40)[0]])
def test_without_visual_cells_there_is_nothing_to_see(small_mouse, small_encoder, scores):
    found = verdict(small_mouse, small_encoder, scores)
    assert not found.sees
    assert "nothing to invert" in found.sentence


def test_one_validation_clip_is_compared_with_a_training_clip(small_mouse, small_encoder):
    trials = small_mouse.aligned.trials_in("validation")[:1]
    found = gate(small_encoder, small_mouse.aligned, trials, small_encoder.linear_scores)
    assert found.sees
    assert found.wrong < found.true - 0.1


def test_the_verdict_is_plain(small_encoder):
    assert json.loads(json.dumps(small_encoder.gate)) == small_encoder.gate


def shown(clips, films, lengths, splits):
    group = AlignedGroup(
        "plane",
        SignalKind.EVENTS,
        np.arange(400) * INTERVAL,
        np.zeros((400, 2), np.float32),
        np.ones(2),
        pd.DataFrame(index=range(2)),
    )
    aligned = AlignedSession.from_arrays(
        [
            10.0 * number + np.linspace(0, 1, length)[:, None, None] + np.zeros((1, 2, 2))
            for number, length in enumerate(lengths)
        ],
        [group],
        onsets=0.2 + 4.0 * np.arange(len(clips)),
        clips=clips,
        splits=splits,
        frame_rate=30.0,
    )
    aligned.trials["film"] = films
    return aligned


def wrong(aligned, trial, trials, count):
    return [wrong_movie(aligned, trial, label) for label in wrong_clips(aligned, trial, trials, count)]


def levels(movies):
    return [round(float(movie[0, 0, 0, 0, 0])) for movie in movies]


def test_wrong_movies_are_of_other_films_first():
    aligned = shown(
        ["a", "b", "c", "d", "e", "f"],
        ["cat", "cat", "dog", "dog", "owl", "fox"],
        [60, 90, 30, 45, 50, 80],
        ["validation"] * 4 + ["train"] * 2,
    )
    trials = aligned.trials_in("validation")
    found = wrong(aligned, trials[0], trials, 10)
    # one of each film, validation clips before training clips and the longer before the shorter; its own film last
    assert levels(found) == [30, 50, 40, 20, 10]
    assert all(movie.shape == (1, 1, 60, 2, 2) for movie in found)
    assert levels(wrong(aligned, trials[0], trials, 2)) == levels(found)[:2]


def test_the_same_clip_is_no_wrong_movie():
    aligned = shown(["a", "a", "b"], ["", "", ""], [30, 30, 30], ["validation", "validation", "train"])
    trials = aligned.trials_in("validation")
    assert levels(wrong(aligned, trials[0], trials, 4)) == [20]


def test_where_nothing_else_was_shown_the_clip_runs_backwards():
    aligned = shown(["a", "a"], ["", ""], [30, 30], ["validation", "train"])
    (found,) = wrong(aligned, 0, [0], 4)
    np.testing.assert_array_equal(found[0, 0].numpy(), aligned.trial(0).video[::-1])


class Confusing:
    """Takes one movie for another."""

    def __init__(self, encoder, one, other):
        self.encoder, self.warm_up, self.one, self.other = encoder, encoder.warm_up, one, other

    def predict_rates(self, video, behavior):
        same = video.shape == self.one.shape and torch.equal(video, self.one)
        return self.encoder.predict_rates(self.other if same else video, behavior)


def test_a_single_wrong_movie_does_not_decide(small_mouse, small_encoder):
    aligned = small_mouse.aligned
    trial = aligned.trials_in("validation")[0]
    clips = wrong_clips(aligned, trial, [trial], 4)
    assert len(clips) == 4
    true = torch.from_numpy(aligned.trial(trial).video.copy())[None, None]
    scores = small_encoder.linear_scores
    usual = gate(small_encoder, aligned, [trial], scores)
    # as if one wrong movie happened to look like the true one
    alike = gate(Confusing(small_encoder, wrong_movie(aligned, trial, clips[0]), true), aligned, [trial], scores)
    assert alike.true == usual.true
    assert alike.wrong - usual.wrong > 0.05
    assert alike.wrong < usual.wrong + 0.5 * (usual.true - usual.wrong)
    assert alike.gap > 0.1
