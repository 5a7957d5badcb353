import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import ENCODER, clips_of, make_mouse, smooth_noise

from nwbrecon.config import TrainingSettings
from nwbrecon.encoding import VideoEncoder
from nwbrecon.encoding.batches import Batches, Stretch, turns
from nwbrecon.encoding.cutmix import Patch
from nwbrecon.encoding.observation import Window
from nwbrecon.errors import EncoderError, SettingsError
from nwbrecon.session import SignalKind

WARM_UP = 14


def test_clips_of_all_lengths_are_learned_from():
    aligned = clips_of([150, 60, 100, 20, 60], ["train"] * 4 + ["validation"])
    drawn = Batches(aligned, TrainingSettings(window_seconds=2.0, batch_windows=3), WARM_UP)
    rng = np.random.default_rng(0)
    batches = [[stretch.window for stretch in drawn.draw(rng)] for _ in range(300)]
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
        batch = batches.load([Stretch(window) for window in windows])
        found = batch.loss(encoder.predict_rates(batch.video, batch.behavior), batches.likelihoods) / batch.n_known
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


@pytest.fixture(scope="module")
def noisy():
    """A mouse in two planes, its movies noise."""
    return make_mouse(train=4, validation=1, test=0, seconds=2.0, n_rois=6, make_movie=smooth_noise).aligned


def rates_of(batch, n_rois=6):
    """Rates that depend on what is shown, where, and when."""
    weights = torch.rand(n_rois, *batch.video.shape[-2:], generator=torch.Generator().manual_seed(0))
    return torch.einsum("bcthw,rhw->brt", batch.video, weights) / batch.video[0, 0, 0].numel() / 100


def test_a_part_of_a_batch_is_the_batch_of_a_part(noisy):
    batches = Batches(noisy, TrainingSettings(cutmix=0.5, batch_windows=5), WARM_UP)
    stretches = batches.draw(np.random.default_rng(1))
    assert {stretch.patch is None for stretch in stretches} == {True, False}
    whole = batches.load(stretches)
    assert len(whole) == 5
    parts = [whole.part(slice(*span), torch.device("cpu")) for span in ((0, 2), (2, 4), (4, 5))]
    alone = [batches.load([stretch]) for stretch in stretches]
    for few in (parts, alone):
        torch.testing.assert_close(sum(part.n_known for part in few), whole.n_known)
        loss = sum(part.loss(rates_of(part), batches.likelihoods) for part in few)
        torch.testing.assert_close(loss, whole.loss(rates_of(whole), batches.likelihoods))
    assert torch.equal(parts[1].video, whole.video[2:4])


def test_stretches_are_mixed_as_often_as_asked_for_with_stretches_of_any_clip(noisy):
    batches = Batches(noisy, TrainingSettings(cutmix=0.3, batch_windows=4, window_seconds=1.0), WARM_UP)
    order = np.random.default_rng(0)
    drawn = [stretch for _ in range(300) for stretch in batches.draw(order)]
    patches = [stretch.patch for stretch in drawn if stretch.patch]
    assert len(patches) / len(drawn) == pytest.approx(0.3, abs=0.05)
    assert {patch.window.trial for patch in patches} == set(batches.train_trials)
    assert {patch.window.n_frames for patch in patches} == {WARM_UP + 30}


def test_what_is_pasted_is_long_enough():
    aligned = clips_of([90, 40, 60], ["train", "train", "validation"])
    batches = Batches(aligned, TrainingSettings(cutmix=1.0, batch_windows=1, window_seconds=2.0), WARM_UP)
    order = np.random.default_rng(0)
    drawn = [batches.draw(order)[0] for _ in range(100)]
    long = [stretch for stretch in drawn if stretch.window.n_frames > 40]
    assert long
    assert {stretch.patch.window.trial for stretch in long} == {0}
    assert {stretch.patch.window.n_frames for stretch in drawn} == {40, WARM_UP + 60}


def test_without_mixing_the_same_stretches_are_drawn_as_with_it(noisy):
    plain, mixed = (
        Batches(noisy, TrainingSettings(cutmix=share), WARM_UP).draw(np.random.default_rng(3)) for share in (0.0, 1.0)
    )
    assert [stretch.window for stretch in plain] == [stretch.window for stretch in mixed]
    assert all(stretch.patch for stretch in mixed)


def mixed_pair(trials):
    """Two stretches, a quarter of the first replaced with the second."""
    one, other = (Window(trial, 0, 60) for trial in trials)
    return [Stretch(one, Patch(other, slice(0, 10), slice(0, 16), 0.25))], one, other


def test_the_loss_of_a_mixed_stretch_is_that_of_both_by_area_each_at_its_own_sample_times(noisy):
    batches = Batches(noisy, TrainingSettings(), WARM_UP)
    stretches, one, other = mixed_pair(batches.train_trials[:2])
    mixed = batches.load(stretches)
    rates = rates_of(mixed)
    alone = [batches.load([Stretch(window)]) for window in (one, other)]
    first, second = alone
    assert torch.equal(mixed.video[..., :10, :16], second.video[..., :10, :16])
    assert torch.equal(mixed.video[..., 10:, :], first.video[..., 10:, :])
    # the clocks of the planes do not run in step with the clips
    assert not torch.allclose(first.targets[0][0].weights[:, 5], second.targets[0][0].weights[:, 5])
    losses, counts = zip(*[(batch.loss(rates, batches.likelihoods), batch.n_known) for batch in alone], strict=True)
    torch.testing.assert_close(mixed.loss(rates, batches.likelihoods), 0.75 * losses[0] + 0.25 * losses[1])
    torch.testing.assert_close(mixed.n_known, 0.75 * counts[0] + 0.25 * counts[1])


@pytest.mark.parametrize("kind", [SignalKind.EVENTS, SignalKind.DFF])
def test_where_samples_coincide_the_gradient_is_that_of_mixed_responses(kind):
    aligned = clips_of([60, 60, 60], ["train", "train", "validation"])
    group = aligned.groups[0]
    group.timestamps = aligned.trials.at[0, "onset"] + 0.1 * np.arange(len(group.timestamps)) - 1
    # the second clip begins a whole number of samples after the first
    aligned.trials.loc[1, "onset"] = aligned.trials.at[0, "onset"] + 3.0
    group.kind = kind
    batches = Batches(aligned, TrainingSettings(), WARM_UP)
    windows = [Window(trial, 0, 60) for trial in (0, 1)]
    mixed = batches.load([Stretch(windows[0], Patch(windows[1], slice(0, 4), slice(0, 5), 0.25))])
    rates = rates_of(mixed, 3).requires_grad_()
    (found,) = torch.autograd.grad(mixed.loss(rates, batches.likelihoods), rates)
    plain, other = (batches.load([Stretch(window)]) for window in windows)
    plain.video = mixed.video
    (seen,), (pasted,) = plain.targets[0], other.targets[0]
    torch.testing.assert_close(seen.weights, pasted.weights)
    seen.measured = 0.75 * seen.measured + 0.25 * pasted.measured
    (expected,) = torch.autograd.grad(plain.loss(rates, batches.likelihoods), rates)
    torch.testing.assert_close(found, expected)


def test_a_teacher_takes_the_place_of_what_was_measured(noisy):
    batches = Batches(noisy, TrainingSettings(), WARM_UP)
    batch = batches.load([Stretch(Window(batches.train_trials[0], 0, 60))])
    rates = rates_of(batch).requires_grad_()
    taught = 1.3 * rates.detach()
    loss = batch.loss(rates, batches.likelihoods, taught)
    for target in batch.targets[0]:
        target.measured = target.expected(taught)
    torch.testing.assert_close(loss, batch.loss(rates, batches.likelihoods))


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
