import numpy as np
import pandas as pd
import pytest
import torch

from nwbrecon.alignment import AlignedGroup, AlignedSession, responses_on_frames
from nwbrecon.errors import InversionError
from nwbrecon.inversion import ridge
from nwbrecon.inversion.ridge import fit_ridge, ridge_path
from nwbrecon.metrics import dynamic_correlation
from nwbrecon.session import SignalKind

RATE, SIZE = 30.0, (4, 5)


def make_session(n_rois=6, n_frames=90, splits=("train",) * 6 + ("validation",) * 2 + ("test",), noise=0.3, rank=None):
    """Smooth movies, and activity that is a noisy linear function of the picture a tenth of a second before."""
    rng = np.random.default_rng(0)
    onsets = 1 + np.arange(len(splits)) * (n_frames / RATE + 0.7)
    latent = rng.normal(size=(len(splits), n_frames // 6 + 2, 3))
    patterns = rng.normal(size=(3, *SIZE))
    videos = []
    for part in latent:
        smooth = np.stack([np.interp(np.arange(n_frames) / 6, np.arange(len(part)), one) for one in part.T], axis=1)
        videos.append((120 + 20 * np.tensordot(smooth, patterns, 1)).astype(np.float32))
    clock = np.arange(0.5, onsets[-1] + n_frames / RATE + 2, 2 / 15)
    values = np.full((len(clock), n_rois), 2.0)
    mixing = rng.normal(size=(np.prod(SIZE), n_rois)) / 60
    if rank is not None:
        mixing = mixing @ rng.normal(size=(n_rois, rank)) @ rng.normal(size=(rank, n_rois))
    for onset, video in zip(onsets, videos, strict=True):
        frame = np.round((clock - 0.1 - onset) * RATE).astype(int)
        inside = (frame >= 0) & (frame < n_frames)
        values[inside] += (video[frame[inside]] - 120).reshape(-1, np.prod(SIZE)) @ mixing
    values += noise * rng.normal(size=values.shape) if rank is None else 0
    group = AlignedGroup(
        "plane",
        SignalKind.EVENTS,
        clock,
        values.astype(np.float32),
        np.ones(n_rois),
        pd.DataFrame(index=range(n_rois)),
    )
    return AlignedSession.from_arrays(
        videos, [group], onsets=onsets, clips=[str(n) for n in range(len(splits))], splits=splits, frame_rate=RATE
    )


def plain_design(aligned, trial, lags):
    """Responses around each frame, one lag after the other, each the mean over as many frames as are between lags."""
    lead, tail, step = 30, 30, lags[1] - lags[0]
    responses = np.nan_to_num(responses_on_frames(aligned, trial, lead, tail)).astype(float)
    n_frames = int(aligned.trials.at[trial, "n_frames"])

    def around(frame):
        return responses[frame - step // 2 : frame - step // 2 + step].mean(axis=0)

    return np.stack([np.concatenate([around(lead + t + lag) for lag in lags]) for t in range(n_frames)])


def closed_form(aligned, decoder):
    """Least squares with the penalty as additional rows, an intercept that is not penalized; movies by trial."""
    training = aligned.trials_in("train")
    valid = np.concatenate([aligned.trial(trial).valid for trial in training])
    x = np.concatenate([plain_design(aligned, trial, decoder.lags) for trial in training])[valid]
    y = np.concatenate([aligned.trial(trial).video.reshape(-1, np.prod(SIZE)) for trial in training])[valid]
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    penalty = np.sqrt(decoder.penalty) * np.eye(x.shape[1])
    weights, *_ = np.linalg.lstsq(
        np.concatenate([x - mean_x, penalty]),
        np.concatenate([y - mean_y, np.zeros((x.shape[1], y.shape[1]))]),
        rcond=None,
    )
    return {
        trial: ((plain_design(aligned, trial, decoder.lags) - mean_x) @ weights + mean_y).reshape(-1, *SIZE)
        for trial in aligned.trials.index
    }


def test_it_is_ridge_regression_in_closed_form():
    aligned = make_session()
    # some frames are not to be learned from
    aligned.valid[10:40] = False
    decoder = fit_ridge(aligned)
    expected = closed_form(aligned, decoder)
    for trial in (0, 6, 8):
        movie = decoder.predict(aligned, trial)
        assert movie.dtype == np.float32
        np.testing.assert_allclose(movie, expected[trial], atol=0.02)
    assert decoder.components.shape == (6, 6)


def test_it_decodes_what_it_has_not_seen():
    aligned = make_session()
    (test,) = aligned.trials_in("test")
    assert dynamic_correlation(fit_ridge(aligned).predict(aligned, test), aligned.trial(test).video) > 0.8


def test_it_looks_at_responses_from_a_little_before_a_frame_to_well_after():
    decoder = fit_ridge(make_session())
    assert decoder.lags[0] == -3
    assert 13 <= decoder.lags[-1] <= 16
    # a lag in the time between samples
    assert set(np.diff(decoder.lags)) == {4}
    longer = fit_ridge(make_session(), past_seconds=0.2, future_seconds=1.0)
    assert (longer.lags[0], longer.lags[-1]) == (-6, 30)


def test_the_penalty_is_the_one_that_decodes_validation_clips_best(monkeypatch):
    aligned = make_session(noise=1.0)
    chosen = fit_ridge(aligned).penalty
    scores = {}
    for penalty in ridge._PENALTIES:
        with monkeypatch.context() as patch:
            patch.setattr(ridge, "_PENALTIES", np.array([penalty]))
            decoder = fit_ridge(aligned)
        scores[float(penalty)] = np.mean(
            [
                dynamic_correlation(decoder.predict(aligned, trial), aligned.trial(trial).video)
                for trial in aligned.trials_in("validation")
            ]
        )
    assert chosen == max(scores, key=scores.get)
    assert min(scores.values()) < scores[chosen] - 0.01


def test_noisier_responses_want_a_stronger_penalty():
    assert fit_ridge(make_session(noise=4.0)).penalty > fit_ridge(make_session(noise=0.05)).penalty


def test_many_rois_are_reduced_to_their_components(monkeypatch):
    # activity of rank two: two components hold all of it
    aligned = make_session(n_rois=12, rank=2)
    whole = fit_ridge(aligned)
    monkeypatch.setattr(ridge, "_MOST_FEATURES", 2 * len(whole.lags))
    reduced = fit_ridge(aligned)
    assert reduced.components.shape == (12, 2)
    assert whole.components.shape == (12, 12)
    np.testing.assert_allclose(reduced.components.T @ reduced.components, np.eye(2), atol=1e-5)
    assert reduced.penalty == whole.penalty
    (test,) = aligned.trials_in("test")
    np.testing.assert_allclose(reduced.predict(aligned, test), whole.predict(aligned, test), atol=0.3)
    # and it is the same every time
    np.testing.assert_array_equal(fit_ridge(aligned).components, reduced.components)


def test_missing_responses_do_not_spread():
    aligned = make_session()
    before = fit_ridge(aligned)
    aligned.groups[0].activity[40:44] = np.nan
    decoder = fit_ridge(aligned)
    for trial in aligned.trials.index:
        assert np.isfinite(decoder.predict(aligned, trial)).all()
    (test,) = aligned.trials_in("test")
    assert np.corrcoef(decoder.predict(aligned, test).ravel(), before.predict(aligned, test).ravel())[0, 1] > 0.98


def test_test_clips_are_not_looked_at():
    aligned = make_session()
    before = fit_ridge(aligned)
    (test,) = aligned.trials_in("test")
    row = aligned.trials.loc[test]
    aligned.video[row["first_frame"] :][: row["n_frames"]] = 0
    aligned.groups[0].activity[aligned.groups[0].timestamps > row["onset"]] = 50
    after = fit_ridge(aligned)
    np.testing.assert_array_equal(after.weights, before.weights)


@pytest.mark.parametrize("splits", [("train", "test"), ("validation", "test"), ("test",)])
def test_nothing_to_learn_or_choose_from_is_refused(splits):
    with pytest.raises(InversionError, match="at least one of each"):
        fit_ridge(make_session(splits=splits))


def test_each_penalty_has_its_closed_form():
    rng = np.random.default_rng(0)
    x, y = rng.normal(2, 1, (50, 4)), rng.normal(3, 1, (50, 2))
    ones = np.append(x, np.ones((50, 1)), axis=1)
    found = list(ridge_path(torch.from_numpy(ones.T @ ones), torch.from_numpy(ones.T @ y), [0.1, 10.0]))
    assert [penalty for penalty, *_ in found] == [0.1, 10.0]
    for penalty, weights, mean_x, mean_y in found:
        centered = x - x.mean(axis=0)
        expected = np.linalg.solve(centered.T @ centered + penalty * np.eye(4), centered.T @ (y - y.mean(axis=0)))
        np.testing.assert_allclose(weights, expected)
        np.testing.assert_allclose(mean_x, x.mean(axis=0))
        np.testing.assert_allclose(mean_y, y.mean(axis=0))


@pytest.mark.parametrize("rank", [None, 2])
def test_rois_that_are_not_looked_at_do_not_matter(monkeypatch, rank):
    if rank is not None:
        # so few features that responses are reduced to components
        monkeypatch.setattr(ridge, "_MOST_FEATURES", 12)
    aligned = make_session()
    decoder, (trial,) = fit_ridge(aligned), aligned.trials_in("test")
    without = np.array([True, False, True, False, False, False])
    told = decoder.predict(aligned, trial, without)
    assert not np.allclose(told, decoder.predict(aligned, trial))
    (group,) = aligned.groups
    group.activity[:, without] = 1e3
    np.testing.assert_array_equal(decoder.predict(aligned, trial, without), told)
    # from nobody's responses, next to nothing but the mean movie is made
    nobody = decoder.predict(aligned, trial, np.ones(6, dtype=bool))
    if rank is None:
        assert np.abs(nobody - decoder.mean_video.reshape(SIZE)).max() < 0.1 * aligned.trial(trial).video.std()
