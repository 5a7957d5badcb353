"""A linear encoder, where responses are linear and where the definition can be written out."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from nwbrecon.alignment import AlignedGroup, AlignedSession
from nwbrecon.encoding.prediction import single_trial_correlation
from nwbrecon.errors import NwbreconError
from nwbrecon.evaluation.judge import LinearEncoder, _features, fit_judge
from nwbrecon.progress import progress_shown
from nwbrecon.session import SignalKind

RATE, SIZE, SMALL = 30.0, (18, 32), (3, 4)


def linear_session(noise, seed=0):
    """Two cells that report the brightness of a patch 0.1 and 0.2 s ago, and one that sees nothing."""
    random = np.random.default_rng(seed)
    splits = ["train"] * 12 + ["validation"] * 3 + ["test"] * 2
    videos = []
    for _ in splits:
        videos.append(random.uniform(0, 255, (20, *SMALL)).repeat(6, axis=0).astype(np.float32))
    onsets = 1.0 + 6.0 * np.arange(len(splits))
    clock = np.arange(0.5, onsets[-1] + 6, 0.1)
    frames = np.floor((clock[:, None] - onsets) * RATE + 1e-6).astype(int)
    drive = np.zeros((len(clock), 3))
    for row, trial in zip(*np.nonzero((frames >= 0) & (frames < 120)), strict=True):
        past = frames[row, trial] - np.array([4, 7])
        drive[row, 0] = videos[trial][max(past[0], 0), 1, 1] / 50
        drive[row, 1] = -videos[trial][max(past[1], 0), 2, 3] / 50
    drive += noise * random.standard_normal(drive.shape)
    group = AlignedGroup(
        "plane", SignalKind.DFF, clock, drive.astype(np.float32), np.ones(3), pd.DataFrame(index=range(3))
    )
    return AlignedSession.from_arrays(
        videos, [group], onsets=onsets, clips=[f"clip {k}" for k in range(17)], splits=splits, frame_rate=RATE
    )


@pytest.fixture(autouse=True)
def _quiet():
    with progress_shown(False):
        yield


def test_features_are_means_over_patches_and_lags():
    random = np.random.default_rng(0)
    video = random.uniform(0, 255, (25, *SIZE)).astype(np.float32)
    found = _features(torch.from_numpy(video), RATE).numpy()
    patches = video.reshape(25, 9, 2, 16, 2).mean(axis=(2, 4)).reshape(25, -1) / 50
    for frame in (0, 2, 7, 24):
        lags = []
        for lag in (0, 3, 6, 9, 12):
            # before it began, the first frame stood
            frames = [max(0, frame - lag - back) for back in range(3)]
            lags.append(patches[frames].mean(axis=0))
        np.testing.assert_allclose(found[frame], np.concatenate(lags), rtol=1e-5)


def test_linear_cells_are_predicted_and_blind_ones_are_not():
    aligned = linear_session(noise=0.3)
    judge = fit_judge(aligned)
    assert judge.warm_up == 15
    scores = single_trial_correlation(judge, aligned, aligned.trials_in("test"))
    assert (scores[:2] > 0.85).all()
    assert abs(scores[2]) < 0.2
    # behavior is not looked at, and a screen that does not change gives responses that do not
    gray = torch.full((1, 1, 40, *SMALL), 127.0)
    rates = judge.predict_rates(gray, torch.full((1, 40, 2), torch.nan))
    assert rates.shape == (1, 3, 40)
    assert float(rates.std(dim=2).max()) < 1e-5


def test_missing_responses_are_left_out():
    aligned = linear_session(noise=0.0)
    (group,) = aligned.groups
    holes = group.activity.copy()
    holes[::7, 0] = np.nan
    holes[:200] = np.nan
    with_holes = replace(aligned, groups=[replace(group, activity=holes)])
    scores = single_trial_correlation(fit_judge(with_holes), aligned, aligned.trials_in("test"))
    assert (scores[:2] > 0.75).all()


def test_a_batch_is_predicted_one_by_one():
    judge = LinearEncoder(torch.randn(5 * 144, 4), torch.zeros(4), RATE)
    videos = torch.rand(2, 1, 30, *SIZE) * 255
    both = judge.predict_rates(videos, torch.zeros(2, 30, 0))
    torch.testing.assert_close(both[1:], judge.predict_rates(videos[1:], torch.zeros(1, 30, 0)))


def test_something_to_learn_from_is_needed():
    aligned = linear_session(noise=0.3)
    aligned.trials["split"] = "test"
    with pytest.raises(NwbreconError, match="0 training and 0 validation"):
        fit_judge(aligned)
