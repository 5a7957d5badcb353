import numpy as np
import pandas as pd
import pytest
import torch

from nwbrecon.alignment import AlignedGroup, AlignedSession
from nwbrecon.encoding.likelihoods import Gaussian, Poisson
from nwbrecon.encoding.shared_gain import SharedGain, SmoothProcess, fit_shared_gain
from nwbrecon.session import SignalKind

RATE, INTERVAL, FRAMES, CLIPS, ROIS = 30.0, 2 / 15, 150, 12, 60
# activity a sample of each ROI, and what it is multiplied with at a gain of one
LEVELS = np.random.default_rng(0).uniform(0.5, 2.0, ROIS)
LOADINGS = np.random.default_rng(1).uniform(0.1, 0.7, ROIS)


class Steady:
    """Predicts the same, whatever is shown."""

    warm_up = 0

    def predict_rates(self, video, behavior):
        levels = torch.from_numpy(LEVELS / (RATE * INTERVAL)).float()
        return levels[None, :, None].expand(len(video), ROIS, video.shape[2])


def process(seconds, n_frames=FRAMES, seed=0):
    smooth = SmoothProcess(n_frames, seconds, RATE)
    return smooth.values(torch.randn(smooth.torus, generator=torch.Generator().manual_seed(seed))).numpy()


def found(seconds, loadings, likelihood=None, noise=0.5):
    """What is estimated from two planes, the second scanned later; noise as a share of the Poisson distribution's."""
    onsets = 0.2 + np.arange(CLIPS) * (FRAMES / RATE + 0.5)
    times = np.arange(int((onsets[-1] + FRAMES / RATE + 1) / INTERVAL)) * INTERVAL
    gain = np.zeros(int(times[-1] * RATE) + 60)
    for clip, onset in enumerate(onsets):
        first = round(onset * RATE)
        gain[first : first + FRAMES] = process(seconds, seed=clip)
    rng, groups, half = np.random.default_rng(2), [], ROIS // 2
    for plane, rois in enumerate((slice(0, half), slice(half, ROIS))):
        clock = times + 0.05 * plane
        # a sample counts what happened since the one before
        over = np.stack([gain[round(t * RATE) - 4 : round(t * RATE)] for t in np.maximum(clock, INTERVAL)])
        rates = LEVELS[rois] * np.exp(loadings[rois] * over[:, :, None]).mean(axis=1)
        activity = rates + np.sqrt(noise * rates) * rng.standard_normal(rates.shape)
        groups.append(
            AlignedGroup(
                f"plane {plane}",
                SignalKind.EVENTS,
                clock,
                activity.astype(np.float32),
                np.ones(half),
                pd.DataFrame(index=range(half)),
            )
        )
    aligned = AlignedSession.from_arrays(
        [np.full((FRAMES, 4, 4), 127.0)] * CLIPS,
        groups,
        onsets=onsets,
        clips=[str(n) for n in range(CLIPS)],
        splits=["validation"] * CLIPS,
        frame_rate=RATE,
    )
    return fit_shared_gain(
        Steady(),
        aligned,
        aligned.trials_in("validation"),
        [likelihood or Poisson()] * 2,
        np.full(ROIS, noise if likelihood is None else noise * LEVELS.mean()),
    )


@pytest.mark.parametrize("seconds", [0.5, 2.0])
def test_loadings_and_correlation_time_are_recovered(seconds):
    gain = found(seconds, LOADINGS)
    assert gain.seconds == pytest.approx(seconds, rel=1.01)
    assert np.corrcoef(gain.loading, LOADINGS)[0, 1] > 0.85
    assert np.median(gain.loading) == pytest.approx(np.median(LOADINGS), rel=0.25)


def test_signals_of_constant_variance_have_a_gain_too():
    gain = found(1.0, LOADINGS, Gaussian())
    assert np.corrcoef(gain.loading, LOADINGS)[0, 1] > 0.8
    assert np.median(gain.loading) == pytest.approx(np.median(LOADINGS), rel=0.3)


def test_without_a_common_gain_none_is_found():
    gain = found(0.5, np.zeros(ROIS))
    np.testing.assert_array_equal(gain.loading, 0)


def test_the_process_has_its_covariance_and_does_not_wrap():
    smooth = SmoothProcess(60, 0.5, RATE)
    matrix = torch.stack([smooth.values(column) for column in torch.eye(smooth.torus)], dim=1).double().numpy()
    lag = (np.arange(60)[:, None] - np.arange(60)) / RATE
    np.testing.assert_allclose(matrix @ matrix.T, np.exp(-(lag**2) / (2 * 0.5**2)), atol=2e-3)


def test_it_survives_being_kept():
    gain = SharedGain(LOADINGS, 0.5)
    back = SharedGain.from_arrays(gain.arrays())
    np.testing.assert_array_equal(back.loading, LOADINGS)
    assert back.seconds == 0.5
