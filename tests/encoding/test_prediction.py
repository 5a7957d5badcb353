import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from small import FRAME_RATE, counts_between

from nwbrecon.alignment import AlignedGroup, AlignedSession
from nwbrecon.encoding.prediction import nan_correlation, predict_samples, single_trial_correlation
from nwbrecon.session import SignalKind

N_FRAMES, N_ROIS = 90, 4


class Brightness:
    """An encoder that knows: rates are proportional to the brightness of the frame's columns."""

    warm_up = 6

    def predict_rates(self, video, behavior):
        return video[:, 0, :, 0, :].transpose(1, 2) / 30


@pytest.fixture
def aligned():
    """Clips whose responses are just those that `Brightness` predicts, without noise, in two staggered planes."""
    rng = np.random.default_rng(0)
    videos = [np.repeat(rng.uniform(1, 255, (N_FRAMES, 1, N_ROIS)), 3, axis=1).astype(np.float32) for _ in range(3)]
    onsets = np.array([2.0, 6.5, 11.02])
    screen = np.zeros((round(16 * FRAME_RATE * 100), N_ROIS))
    for onset, video in zip(onsets, videos, strict=True):
        first = round(onset * FRAME_RATE * 100)
        screen[first : first + 100 * N_FRAMES] = np.repeat(video[:, 0], 100, axis=0)
    groups = []
    for plane in range(2):
        clock = np.arange(0.5 + 0.06 * plane, 15.5, 0.13)
        # rates per frame are so many times 30 a second; the screen is sampled at a hundredth of a frame
        counts = counts_between(screen[:, 2 * plane : 2 * plane + 2], clock * 100) / 100
        groups.append(
            AlignedGroup(
                f"plane {plane}",
                SignalKind.EVENTS,
                clock,
                counts.astype(np.float32),
                np.ones(2),
                pd.DataFrame(index=range(2)),
            )
        )
    return AlignedSession.from_arrays(
        videos, groups, onsets=onsets, clips=["a", "b", "c"], splits=["train", "test", "test"], frame_rate=FRAME_RATE
    )


def test_a_perfect_encoder_predicts_just_what_was_measured(aligned):
    for expected, measured in predict_samples(Brightness(), aligned, [0, 1, 2]):
        known = np.isfinite(measured)
        assert known.all(axis=1).sum() > 55
        np.testing.assert_array_equal(np.isfinite(expected), known)
        np.testing.assert_allclose(expected[known], measured[known], rtol=2e-3)
    np.testing.assert_allclose(single_trial_correlation(Brightness(), aligned, [1, 2]), 1, atol=1e-4)


def test_other_videos_may_be_shown(aligned):
    # that of the first trial is another's, that of the second its own
    wrong = {trial: torch.from_numpy(aligned.trial(of).video)[None, None] for trial, of in ((1, 0), (2, 2))}
    right, shown = (predict_samples(Brightness(), aligned, [1, 2], shown=movie) for movie in (None, wrong.__getitem__))
    for (expected, measured), (other, same) in zip(right, shown, strict=True):
        np.testing.assert_array_equal(measured, same)
        half = len(expected) // 2
        assert abs(nan_correlation(other[:half], same[:half])).max() < 0.7
        np.testing.assert_array_equal(other[half + 2 :], expected[half + 2 :])


def test_what_was_not_measured_does_not_count(aligned):
    aligned.groups[0].activity[30:80, 0] = np.nan
    aligned.groups[0].activity[:, 1] = np.nan
    scores = single_trial_correlation(Brightness(), aligned, [0, 1])
    assert scores[0] == pytest.approx(1, abs=1e-4)
    assert np.isnan(scores[1])
    np.testing.assert_allclose(scores[2:], 1, atol=1e-4)


def test_correlation_over_what_both_know():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 40, 4))
    b += a
    np.testing.assert_allclose(nan_correlation(a, b)[2], stats.pearsonr(a[:, 2], b[:, 2])[0])
    a[::3, 0], b[1, 0], b[2:, 1], a[3:, 2] = np.nan, np.nan, np.nan, np.nan
    found = nan_correlation(a, b)
    known = np.isfinite(a[:, 0]) & np.isfinite(b[:, 0])
    assert found[0] == pytest.approx(stats.pearsonr(a[known, 0], b[known, 0])[0])
    assert np.isnan(found[1])
    assert found[2] == pytest.approx(stats.pearsonr(a[:3, 2], b[:3, 2])[0])
    assert found[3] == pytest.approx(stats.pearsonr(a[:, 3], b[:, 3])[0])
