import numpy as np
import pandas as pd
import pytest
import torch
from scipy.ndimage import gaussian_filter
from small import counts_between

from nwbrecon.alignment import AlignedGroup, AlignedSession
from nwbrecon.encoding.baselines import fit_baselines
from nwbrecon.encoding.prediction import predict_samples, single_trial_correlation
from nwbrecon.errors import EncoderError
from nwbrecon.session import SignalKind

N_FRAMES, N_CLIPS, SIZE, RATE = 240, 14, (6, 8), 30.0
N_ROIS = 8


def softplus(drive):
    return np.logaddexp(0, drive)


def session(kind=SignalKind.EVENTS, noise=0.0, seed=0, behavior=True):
    """ROIs 0-3 are linear filters and a softplus of the movie 3 frames before, 4-7 follow running half a second before.

    What is counted is exact but for Poisson noise; dF/F is the drive itself.
    """
    rng = np.random.default_rng(seed)
    videos = [
        127 + 40 * gaussian_filter(rng.standard_normal((N_FRAMES, *SIZE)), (1.5, 0.7, 0.7)) * 5 for _ in range(N_CLIPS)
    ]
    onsets = 1 + np.arange(N_CLIPS) * (N_FRAMES / RATE + 1)
    screen = np.full((round((onsets[-1] + N_FRAMES / RATE + 2) * RATE), *SIZE), 127.0)
    for onset, video in zip(onsets, videos, strict=True):
        screen[round(onset * RATE) : round(onset * RATE) + N_FRAMES] = video
    speed = 10 + 10 * gaussian_filter(rng.standard_normal(len(screen)), 20) * 8
    filters = rng.standard_normal((SIZE[0] * SIZE[1], 4)) * 0.4
    drive = np.concatenate(
        [
            np.roll((screen.reshape(len(screen), -1) - 127) / 60 @ filters, 3, axis=0),
            np.roll((speed[:, None] - 10) / 10 * rng.uniform(0.5, 1.5, 4), 15, axis=0),
        ],
        axis=1,
    )
    clock = np.arange(0.2, len(screen) / RATE - 0.1, 0.11)
    if kind is SignalKind.DFF:
        middles = (np.arange(len(drive)) + 0.5) / RATE
        activity = np.stack([np.interp(clock, middles, one) for one in drive.T], axis=1)
    else:
        activity = counts_between(RATE * softplus(drive - 1), clock)
        activity = rng.poisson(activity / noise) * noise if noise else activity
    group = AlignedGroup(
        "plane", kind, clock, activity.astype(np.float32), np.ones(N_ROIS), pd.DataFrame(index=range(N_ROIS))
    )
    starts = np.round(onsets * RATE).astype(int)
    return AlignedSession.from_arrays(
        videos,
        [group],
        onsets=onsets,
        clips=[f"clip {n}" for n in range(N_CLIPS)],
        splits=["train"] * (N_CLIPS - 2) + ["test"] * 2,
        frame_rate=RATE,
        behaviors=[speed[start : start + N_FRAMES, None] for start in starts] if behavior else None,
        behavior_names=["running_speed"] if behavior else [],
    )


def scores(aligned, **options):
    found = fit_baselines(aligned, **options)
    return {name: single_trial_correlation(one, aligned, aligned.trials_in("test")) for name, one in found.items()}


@pytest.mark.parametrize("kind", [SignalKind.EVENTS, SignalKind.DFF])
def test_each_finds_what_it_looks_at_and_nothing_else(kind):
    found = scores(session(kind), warm_up=12)
    assert found["linear-nonlinear"][:4].min() > 0.9
    assert found["behavior"][4:].min() > 0.95
    assert np.abs(found["linear-nonlinear"][4:]).max() < 0.5
    assert np.abs(found["behavior"][:4]).max() < 0.5


def test_rates_are_calibrated():
    aligned = session(noise=1.0)
    encoder = fit_baselines(aligned, warm_up=12)["linear-nonlinear"]
    ((expected, measured),) = predict_samples(encoder, aligned, aligned.trials_in("test"))
    known = np.isfinite(measured[:, 0])
    x, y = expected[known, :4].ravel(), measured[known, :4].ravel()
    # what is expected is what is measured on average, whether little or much is expected
    for part in np.array_split(np.argsort(x), 4):
        assert y[part].mean() == pytest.approx(x[part].mean(), rel=0.2, abs=0.1)


def test_the_mean_is_that_of_the_training_trials():
    aligned = session(noise=1.0)
    aligned.groups[0].activity[:, 1] *= 5
    ((expected, measured),) = predict_samples(fit_baselines(aligned)["mean"], aligned, aligned.trials_in("train"))
    known = np.isfinite(measured)
    np.testing.assert_allclose(np.nanmean(expected, axis=0), np.nanmean(measured, axis=0), rtol=1e-4)
    assert np.nanstd(expected, axis=0).max() < 1e-4 * np.nanmax(expected)
    # test trials have no say in it
    other = session(noise=1.0)
    other.groups[0].activity[:, 1] *= 5
    last = other.trials.loc[other.trials_in("test"), "onset"].min()
    other.groups[0].activity[other.groups[0].timestamps > last] = 100
    ((same, _),) = predict_samples(fit_baselines(other)["mean"], aligned, aligned.trials_in("train"))
    np.testing.assert_array_equal(same[known], expected[known])


def test_a_regression_on_noise_promises_little():
    """The likelihood of clips that were left out keeps it from being sure of what it has learned by heart."""
    aligned = session(noise=1.0)
    rng = np.random.default_rng(1)
    activity = rng.poisson(0.5, aligned.groups[0].activity.shape)
    aligned.groups[0].activity[:] = activity
    ((expected, measured),) = predict_samples(
        fit_baselines(aligned)["linear-nonlinear"], aligned, aligned.trials_in("test")
    )
    assert np.nanstd(expected) < 0.2 * np.nanstd(measured)


def test_what_is_missing_is_taken_for_the_mean():
    aligned = session()
    aligned.behavior[: 3 * N_FRAMES] = np.nan
    aligned.groups[0].activity[100:200, 5] = np.nan
    aligned.groups[0].activity[:, 6] = np.nan
    found = fit_baselines(aligned, warm_up=12)["behavior"]
    test = aligned.trials_in("test")
    assert single_trial_correlation(found, aligned, test)[[4, 5, 7]].min() > 0.9
    behavior = torch.full((1, 50, 1), torch.nan)
    rates = found.predict_rates(torch.full((1, 1, 50, *SIZE), 127.0), behavior)
    assert torch.isfinite(rates).all()
    assert rates.std(dim=2).max() < 1e-6


def test_without_behavior_there_is_no_regression_on_it():
    assert list(fit_baselines(session(behavior=False))) == ["mean", "linear-nonlinear"]


def test_one_training_clip_is_enough():
    aligned = session()
    aligned.trials.loc[1 : N_CLIPS - 3, "split"] = ""
    for found in scores(aligned, warm_up=12).values():
        assert np.isfinite(found).all() or np.isnan(found).all()


def test_windows_of_a_batch_are_predicted_each_for_itself():
    aligned = session()
    encoder = fit_baselines(aligned)["linear-nonlinear"]
    video = torch.from_numpy(np.stack([aligned.trial(label).video for label in (0, 1)]))[:, None]
    behavior = torch.zeros(2, N_FRAMES, 1)
    both = encoder.predict_rates(video, behavior)
    assert both.shape == (2, N_ROIS, N_FRAMES)
    torch.testing.assert_close(both[1:], encoder.predict_rates(video[1:], behavior[1:]))


def test_a_plane_that_measured_nothing_is_refused():
    aligned = session()
    aligned.groups[0].activity[:] = np.nan
    with pytest.raises(EncoderError, match="plane measured nothing"):
        fit_baselines(aligned)
