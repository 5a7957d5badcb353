from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from nwbrecon.alignment import AlignedGroup, AlignedSession
from nwbrecon.encoding.likelihoods import Gaussian
from nwbrecon.encoding.noise import ResidualNoise
from nwbrecon.inversion import amortized, imagined, lessons
from nwbrecon.inversion.amortized import fit_amortized, kept_arrays, read_decoders
from nwbrecon.inversion.imagined import responses_on_steps
from nwbrecon.inversion.ridge import fit_ridge
from nwbrecon.session import SignalKind

# three frames a step, on which movies stand still and responses are summed
RATE, SIZE, FRAMES, STEPS = 30.0, (8, 10), 3, 40
GRAY, N_ROIS, NOISE = 128.0, 30, 400.0


class LinearPopulation(torch.nn.Module):
    """Each ROI's rate is a weighted sum of the picture; what is measured has noise that is white."""

    warm_up, least_frames = 0, 1

    def __init__(self, fields, positions):
        super().__init__()
        self.fields = torch.nn.Parameter(torch.from_numpy(fields).float(), requires_grad=False)
        self.positions, self.likelihoods = positions, [Gaussian()]
        n_rois = len(fields)
        self.noise = ResidualNoise(np.zeros(n_rois), np.full(n_rois, NOISE**2), np.zeros(n_rois), np.zeros(n_rois))

    def predict_rates(self, video, behavior):
        return torch.einsum("bthw,nhw->bnt", video[:, 0] - GRAY, self.fields)


def covariances():
    """Of the steps of a clip and of the pixels of a picture."""
    time = np.subtract.outer(np.arange(STEPS), np.arange(STEPS))
    rows, columns = np.indices(SIZE).reshape(2, -1)
    distance = np.subtract.outer(rows, rows) ** 2 + np.subtract.outer(columns, columns) ** 2
    return np.exp(-np.abs(time) / 8), 35.0**2 * np.exp(-0.5 * distance / 2.0**2) + 1e-3 * np.eye(len(rows))


def make_world(splits=("train",) * 24 + ("validation",) * 4 + ("test",) * 2):
    random = np.random.default_rng(0)
    rows, columns = np.indices(SIZE)
    middles = random.uniform(0, np.array(SIZE) - 1, (N_ROIS, 2))
    fields = np.stack(
        [np.exp(-0.5 * ((rows - y) ** 2 + (columns - x) ** 2) / 1.3**2) * random.choice([-1, 1]) for y, x in middles]
    )
    encoder = LinearPopulation(fields, middles - (np.array(SIZE) - 1) / 2)
    in_time, in_space = (np.linalg.cholesky(one) for one in covariances())
    videos = [
        (GRAY + (in_time @ random.standard_normal((STEPS, in_space.shape[0])) @ in_space.T)).reshape(STEPS, *SIZE)
        for _ in splits
    ]
    videos = [np.repeat(video, FRAMES, axis=0).astype(np.float32) for video in videos]
    onsets = 2.0 + np.arange(len(splits)) * (STEPS * FRAMES / RATE + 1.0)
    clock = np.arange(0, int((onsets[-1] + STEPS * FRAMES / RATE + 2) * 10)) / 10
    values = NOISE * random.standard_normal((len(clock), N_ROIS))
    for onset, video in zip(onsets, videos, strict=True):
        first = round(onset * 10) + 1
        values[first : first + STEPS] += FRAMES * np.einsum("thw,nhw->tn", video[::FRAMES] - GRAY, fields)
    group = AlignedGroup(
        "plane", SignalKind.EVENTS, clock, values.astype(np.float32), np.ones(N_ROIS), pd.DataFrame(index=range(N_ROIS))
    )
    aligned = AlignedSession.from_arrays(
        videos, [group], onsets=onsets, clips=[str(n) for n in range(len(splits))], splits=splits, frame_rate=RATE
    )
    return encoder, aligned


@pytest.fixture(scope="module")
def world():
    return make_world()


@pytest.fixture(scope="module")
def decoder(world):
    return fit_amortized(*world, np.ones(SIZE), seed=0)


@pytest.fixture
def short(monkeypatch):
    """Training of a moment."""
    monkeypatch.setattr(amortized, "_BATCHES", 8)
    monkeypatch.setattr(lessons, "IMAGINED", 16)
    monkeypatch.setattr(imagined, "_MADE", 2)


def bayes(encoder, aligned, trial):
    """Posterior mean of a clip's steps, in closed form."""
    in_time, in_space = covariances()
    fields = FRAMES * encoder.fields.numpy().reshape(N_ROIS, -1).astype(float)
    onset = aligned.trials.at[trial, "onset"]
    first = round(onset * 10) + 1
    measured = aligned.groups[0].activity[first : first + STEPS].astype(float)
    seen = np.kron(in_time, fields @ in_space @ fields.T) + NOISE**2 * np.eye(STEPS * N_ROIS)
    answer = np.linalg.solve(seen, measured.ravel()).reshape(STEPS, N_ROIS)
    return GRAY + (in_time @ answer @ fields @ in_space).reshape(STEPS, *SIZE)


def explained(made, true):
    return 1 - ((made - true) ** 2).mean() / ((true - GRAY) ** 2).mean()


def test_it_comes_near_the_posterior_mean_where_that_is_known(world, decoder):
    encoder, aligned = world
    ridge = fit_ridge(aligned)
    shares = []
    for trial in aligned.trials_in("test"):
        true = aligned.trial(trial).video[1::FRAMES]
        best = explained(bayes(encoder, aligned, trial), true)
        ours = explained(decoder.predict([aligned], [trial])[1::FRAMES], true)
        linear = explained(ridge.predict(aligned, trial)[1::FRAMES], true)
        assert linear < ours < best
        shares.append(ours / best)
    assert np.mean(shares) > 0.85


def test_what_it_explains_of_validation_clips_is_told(world, decoder):
    aligned = world[1]
    whole, changes = decoder.explained
    shares = [
        explained(decoder.predict([aligned], [trial])[1::FRAMES], aligned.trial(trial).video[1::FRAMES])
        for trial in aligned.trials_in("validation")
    ]
    assert whole == pytest.approx(np.mean(shares), abs=0.05)
    assert 0 < changes < 1


def test_showings_are_decoded_from_their_mean(world, decoder):
    aligned = world[1]
    first, second = aligned.trials_in("test")
    (group,) = aligned.groups
    alone, both = decoder.predict([aligned], [first]), decoder.predict([aligned, aligned], [first, first])
    np.testing.assert_allclose(both, alone, atol=1e-3)
    assert np.abs(decoder.predict([aligned] * 2, [first, second]) - alone).mean() > 1
    # what is known in one showing alone counts in full
    halves = []
    for keep in (np.arange(N_ROIS) < 10, np.arange(N_ROIS) >= 10):
        halves.append(replace(aligned, groups=[replace(group, activity=np.where(keep, group.activity, np.nan))]))
    np.testing.assert_allclose(decoder.predict(halves, [first, first]), alone, atol=1e-3)


def test_missing_responses_are_taken_for_the_mean(world, decoder):
    aligned = world[1]
    (trial, *_) = aligned.trials_in("test")
    (group,) = aligned.groups
    blind = replace(aligned, groups=[replace(group, activity=np.full_like(group.activity, np.nan))])
    means = np.broadcast_to(decoder.mean_responses, group.activity.shape)
    steady = replace(aligned, groups=[replace(group, activity=np.asarray(means, dtype=np.float32))])
    np.testing.assert_allclose(decoder.predict([blind], [trial]), decoder.predict([steady], [trial]), atol=1e-2)
    assert np.isnan(responses_on_steps(blind, trial, decoder.beat, 0, STEPS)).all()


def test_what_was_kept_is_what_is_read(world, decoder):
    aligned = world[1]
    (trial, *_) = aligned.trials_in("test")
    (back,) = read_decoders({**kept_arrays([decoder]), "mask": np.ones(3)}, [decoder.numbers()])
    np.testing.assert_array_equal(back.predict([aligned], [trial]), decoder.predict([aligned], [trial]))
    assert (back.beat, back.network.grid, back.explained) == (decoder.beat, decoder.network.grid, decoder.explained)


def test_training_is_the_same_again_and_never_looks_at_test_clips(world, short):
    encoder, aligned = world
    one = fit_amortized(encoder, aligned, np.ones(SIZE), seed=3)
    other = replace(aligned, video=aligned.video.copy(), groups=[replace(aligned.groups[0])])
    (group,) = other.groups
    group.activity = group.activity.copy()
    for trial in aligned.trials_in("test"):
        row = aligned.trials.loc[trial]
        other.video[row["first_frame"] : row["first_frame"] + row["n_frames"]] = 17
        during = (group.timestamps >= row["onset"]) & (group.timestamps < row["onset"] + row["n_frames"] / RATE)
        group.activity[during] = 1e4
    again = fit_amortized(encoder, other, np.ones(SIZE), seed=3)
    for name, values in one.arrays().items():
        np.testing.assert_array_equal(values, again.arrays()[name])
    assert again.explained == one.explained
    changed = fit_amortized(encoder, aligned, np.ones(SIZE), seed=4)
    assert np.abs(changed.arrays()["network.drive"] - one.arrays()["network.drive"]).mean() > 0.01


def test_clips_shorter_than_a_lesson_will_do(short):
    encoder, aligned = make_world(("train",) * 3 + ("validation", "test"))
    brief = aligned.trials.copy()
    videos, labels = [], aligned.trials.index
    for trial in labels:
        videos.append(aligned.trial(trial).video[:46])
    session = AlignedSession.from_arrays(
        videos,
        aligned.groups,
        onsets=brief["onset"].tolist(),
        clips=brief["clip"].tolist(),
        splits=brief["split"].tolist(),
        frame_rate=RATE,
    )
    made = fit_amortized(encoder, session, np.ones(SIZE), seed=0)
    movie = made.predict([session], session.trials_in("test"))
    assert movie.shape == (46, *SIZE)
    assert np.isfinite(movie).all()
