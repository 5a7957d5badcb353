import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import ENCODER, clips_of, make_mouse, smooth_noise

from nwbrecon.config import TrainingSettings
from nwbrecon.encoding import VideoEncoder
from nwbrecon.encoding.batches import Batches, turns
from nwbrecon.encoding.observation import Window
from nwbrecon.errors import EncoderError, SettingsError
from nwbrecon.session import SignalKind

WARM_UP = 14


def test_clips_of_all_lengths_are_learned_from():
    aligned = clips_of([150, 60, 100, 20, 60], ["train"] * 4 + ["validation"])
    drawn = Batches(aligned, TrainingSettings(window_seconds=2.0, batch_windows=3), WARM_UP)
    rng = np.random.default_rng(0)
    batches = [drawn.draw(rng) for _ in range(300)]
    seen = {trial: [] for trial in range(4)}
    for batch in batches:
        assert len({window.n_frames for window in batch}) == 1
        for window in batch:
            assert 0 <= window.start <= aligned.trials.at[window.trial, "n_frames"] - window.n_frames
            seen[window.trial].append(window)
    # in proportion to their length, but for the one that is over before the memory is full
    counts = np.array([len(seen[trial]) for trial in range(4)])
    np.testing.assert_allclose(counts / 900, np.array([150, 60, 100, 0]) / 310, atol=0.05)
    # all of a clip, and no more at a time than asked for
    assert {window.start + window.n_frames for window in seen[0]} >= {150}
    assert max(window.n_frames for batch in batches for window in batch) == WARM_UP + 60


def test_clips_too_short_for_the_memory_are_refused():
    with pytest.raises(EncoderError, match=r"longest training trial has 25 frames\. At least 28 are needed"):
        Batches(clips_of([25, 20, 60], ["train", "train", "validation"]), TrainingSettings(), WARM_UP)


@pytest.mark.parametrize(
    ("splits", "words"), [(("train", "train"), "2 training and 0"), (("test", "validation"), "0 training and 1")]
)
def test_nothing_to_train_or_validate_on_is_refused(splits, words):
    with pytest.raises(EncoderError, match=words):
        Batches(clips_of([60, 60], splits), TrainingSettings(), WARM_UP)


def test_an_epoch_is_as_many_steps_as_cover_the_clips_once():
    aligned = clips_of([150] * 8 + [60], ["train"] * 8 + ["validation"])
    # 1200 frames, in batches of three windows of 60 predicted frames
    assert Batches(aligned, TrainingSettings(window_seconds=2.0, batch_windows=3), WARM_UP).n_steps == round(1200 / 180)


def test_the_loss_is_the_mean_over_what_was_measured():
    aligned = make_mouse(train=2, validation=1, test=0, seconds=2.0, n_rois=6, make_movie=smooth_noise).aligned
    encoder = VideoEncoder(ENCODER, n_rois=6, frame_size=(20, 32), frame_rate=30.0, behavior_names=("running_speed",))
    torch.nn.init.normal_(encoder.readout.linear, std=0.1)
    batches = Batches(aligned, TrainingSettings(), encoder.warm_up)
    windows = [Window(trial, 0, 60) for trial in batches.train_trials]
    encoder.eval()
    with torch.no_grad():
        found = batches.loss(encoder, windows, torch.device("cpu"))
    total, count = 0.0, 0
    for window in windows:
        trial = aligned.trial(window.trial)
        rates = (
            encoder.predict_rates(torch.from_numpy(trial.video)[None, None], torch.from_numpy(trial.behavior)[None])[0]
            .detach()
            .numpy()
        )
        first = 0
        for group in aligned.groups:
            edges = (group.timestamps - trial.times[0]) * 30
            for sample in range(1, len(edges)):
                low, high = edges[sample - 1], edges[sample]
                if low < encoder.warm_up - 1e-6 or high > 60 + 1e-6:
                    continue
                share = np.clip(np.minimum(high, np.arange(1, 61)) - np.maximum(low, np.arange(60)), 0, None)
                for roi in range(group.n_rois):
                    expected = float(rates[first + roi] @ share)
                    total += expected - group.activity[sample, roi] * np.log(expected + 1e-4)
                    count += 1
            first += group.n_rois
    assert count > 100
    assert float(found) == pytest.approx(total / count, rel=1e-4)


def test_a_likelihood_that_does_not_fit_is_refused():
    aligned = clips_of([60, 60], ["train", "validation"])
    aligned.groups[0].kind = SignalKind.DFF
    with pytest.raises(SettingsError, match="Poisson"):
        Batches(aligned, TrainingSettings(likelihood="poisson"), WARM_UP)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_sessions_take_turns_evenly_and_each_all_of_its_steps(n_steps):
    order = turns(n_steps)
    assert [order.count(session) for session in range(len(n_steps))] == n_steps
    for session, count in enumerate(n_steps):
        done = np.cumsum(np.array(order) == session)
        due = count * np.arange(1, len(order) + 1) / len(order)
        assert np.abs(done - due).max() <= len(n_steps) / 2 + 0.5
