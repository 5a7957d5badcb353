import numpy as np
import pandas as pd
import pytest
import torch
from small import make_mouse, smooth_noise

from nwbrecon.alignment import AlignedGroup, AlignedSession
from nwbrecon.config import EncoderSettings, TrainingSettings
from nwbrecon.encoding.prediction import single_trial_correlation
from nwbrecon.encoding.training import Trainer
from nwbrecon.errors import EncoderError
from nwbrecon.session import SignalKind
from nwbrecon.storage import read_json

ENCODER = EncoderSettings(channels=4, kernel_size=5)


@pytest.fixture(scope="module")
def aligned():
    return make_mouse(train=5, validation=2, test=1, seconds=3.0, n_rois=8, make_movie=smooth_noise).aligned


def trainer_of(aligned, state=None, seed=0, **settings):
    settings = {"epochs": 3, "batch_windows": 2, "window_seconds": 1.0, "patience": 9} | settings
    return Trainer(aligned, ENCODER, TrainingSettings(**settings), seed=seed, state=state)


def assert_same(one, other):
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], rtol=0, atol=0)


def interrupted(trainer, step):
    """Train until Ctrl-C comes in the middle of a step."""
    steps = iter(range(step))

    def stop(module, inputs, output):
        if module.training and next(steps, None) is None:
            raise KeyboardInterrupt

    trainer.encoder.readout.register_forward_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()


def test_the_same_seed_gives_the_same_encoder_and_another_gives_another(aligned):
    torch.manual_seed(1)
    one = trainer_of(aligned, epochs=1).run()
    torch.manual_seed(2)
    again, other = (trainer_of(aligned, epochs=1, seed=seed).run() for seed in (0, 1))
    assert_same(one, again)
    assert not torch.equal(one.readout.linear, other.readout.linear)


def test_training_lowers_the_loss_and_improves_the_prediction():
    mouse = make_mouse(train=16, validation=3, test=0, n_rois=16, noise=0.2, make_movie=smooth_noise)
    trainer = trainer_of(mouse.aligned, epochs=5, batch_windows=4, window_seconds=3.0)
    trainer.run()
    table = trainer.table()
    assert table["epoch"].tolist() == [0, 1, 2, 3, 4, 5]
    assert table["loss"].iloc[-1] < table["loss"].iloc[1]
    assert table["validation_correlation"].iloc[-1] > table["validation_correlation"].iloc[0] + 0.01
    assert np.isnan(table["loss"].iloc[0])


def test_what_is_returned_is_frozen_and_in_evaluation_mode(aligned):
    encoder = trainer_of(aligned, epochs=1).run()
    assert not encoder.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.parametrize("epoch", [1, 2])
def test_an_interrupted_training_goes_on_to_the_same_end(aligned, tmp_path, epoch):
    whole = trainer_of(aligned)
    expected = whole.run()
    stopped = trainer_of(aligned, tmp_path)
    interrupted(stopped, epoch * stopped.n_steps + 1)
    assert read_json(tmp_path / "training.json")["epoch"] == epoch
    torch.manual_seed(77)
    resumed = trainer_of(aligned, tmp_path)
    assert_same(resumed.run(), expected)
    assert_same(resumed.encoder, whole.encoder)
    np.testing.assert_array_equal(resumed.roi_scores, whole.roi_scores)
    columns = ["epoch", "loss", "validation_correlation", "learning_rate"]
    assert resumed.table()[columns].equals(whole.table()[columns])


def test_a_training_that_was_interrupted_before_anything_was_kept_starts_anew(aligned, tmp_path):
    interrupted(trainer_of(aligned, tmp_path), 0)
    assert not (tmp_path / "training.json").exists()
    assert_same(trainer_of(aligned, tmp_path).run(), trainer_of(aligned).run())


def test_a_finished_training_is_not_repeated(aligned, tmp_path):
    first = trainer_of(aligned, tmp_path)
    expected = first.run()
    again = trainer_of(aligned, tmp_path)
    again.encoder.readout.register_forward_hook(lambda *_: pytest.fail("it was trained or validated again"))
    assert_same(again.run(), expected)
    assert again.table().equals(first.table())
    # of all epochs, the last alone is kept
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["epoch-3.safetensors"]


@pytest.mark.parametrize("change", ["seed", "settings", "session", "architecture"])
def test_what_was_kept_of_another_training_is_left_alone(aligned, tmp_path, change):
    trainer_of(aligned, tmp_path).run()
    if change == "session":
        aligned = AlignedSession(**vars(aligned) | {"identity": {"identifier": "another"}})
    architecture = EncoderSettings(channels=6, kernel_size=5) if change == "architecture" else ENCODER
    settings = {"epochs": 1 if change == "settings" else 3, "batch_windows": 2, "window_seconds": 1.0, "patience": 9}
    seed = int(change == "seed")
    fresh, beside = (
        Trainer(aligned, architecture, TrainingSettings(**settings), seed=seed, state=state)
        for state in (None, tmp_path)
    )
    assert_same(beside.run(), fresh.run())
    assert read_json(tmp_path / "training.json")["epoch"] == settings["epochs"]


def test_the_best_epoch_is_kept_and_patience_ends(aligned):
    # steps so large that they do harm
    trainer = trainer_of(aligned, epochs=30, patience=1, learning_rate=0.2, average_decay=0.0)
    encoder = trainer.run()
    scores = trainer.table()["validation_correlation"].to_numpy()
    best = int(np.nanargmax(scores))
    assert best < 20
    assert len(scores) == best + 1 + 2
    found = single_trial_correlation(encoder, aligned, aligned.trials_in("validation"))
    assert float(np.nanmean(found)) == pytest.approx(scores[best], abs=1e-6)
    assert trainer.best_score == scores[best]


def test_a_training_that_diverges_says_so(aligned):
    with pytest.raises(EncoderError, match=r"diverged in epoch \d+.*learning_rate"):
        trainer_of(aligned, epochs=30, learning_rate=100.0, gradient_norm=1e9, average_decay=0.0).run()


def test_no_epochs_give_the_linear_fit(aligned):
    trainer = trainer_of(aligned, epochs=0)
    encoder = trainer.run()
    assert len(trainer.table()) == 1
    assert encoder.readout.linear.abs().sum() > 0


def test_the_learning_rate_rises_and_falls(aligned):
    trainer = trainer_of(aligned, epochs=8)
    rates = []
    step = torch.optim.AdamW.step

    def record(self, *args, **kwargs):
        rates.append(self.param_groups[0]["lr"])
        assert self.param_groups[1]["lr"] == pytest.approx(10 * rates[-1])
        return step(self, *args, **kwargs)

    torch.optim.AdamW.step = record
    try:
        trainer.run()
    finally:
        torch.optim.AdamW.step = step
    assert rates[0] < 0.1 * max(rates)
    assert rates[-1] < 0.15 * max(rates)
    assert max(rates) <= 3e-3
    assert np.argmax(rates) < len(rates) / 3


def clips_of(lengths, splits, n_rois=3):
    """A session of gray clips of these lengths (frames)."""
    rng = np.random.default_rng(0)
    onsets = 1 + np.cumsum([0, *lengths[:-1]]) / 30 + np.arange(len(lengths))
    clock = np.arange(0, onsets[-1] + lengths[-1] / 30 + 1, 0.13)
    group = AlignedGroup(
        "plane",
        SignalKind.EVENTS,
        clock,
        rng.gamma(1, 1, (len(clock), n_rois)).astype(np.float32),
        np.ones(n_rois),
        pd.DataFrame(index=range(n_rois)),
    )
    return AlignedSession.from_arrays(
        [rng.uniform(0, 255, (length, 8, 10)) for length in lengths],
        [group],
        onsets=onsets,
        clips=[str(n) for n in range(len(lengths))],
        splits=splits,
        frame_rate=30.0,
    )


def test_clips_of_all_lengths_are_learned_from():
    aligned = clips_of([150, 60, 100, 20, 60], ["train"] * 4 + ["validation"])
    trainer = trainer_of(aligned, window_seconds=2.0, batch_windows=3)
    trainer.n_steps = 300
    batches = list(trainer._batches(np.random.default_rng(0)))
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
    assert max(window.n_frames for batch in batches for window in batch) == trainer.encoder.warm_up + 60


def test_a_session_of_short_clips_can_be_trained_on():
    aligned = clips_of([40, 33, 45, 40], ["train", "train", "train", "validation"])
    trainer = trainer_of(aligned, window_seconds=3.5)
    trainer.run()
    assert np.isfinite(trainer.table()["loss"].iloc[1:]).all()


def test_clips_too_short_for_the_memory_are_refused():
    with pytest.raises(EncoderError, match=r"longest training trial has 25 frames\. At least 28 are needed"):
        trainer_of(clips_of([25, 20, 60], ["train", "train", "validation"]))


@pytest.mark.parametrize(
    ("splits", "words"), [(("train", "train"), "2 training and 0"), (("test", "validation"), "0 training and 1")]
)
def test_nothing_to_train_or_validate_on_is_refused(splits, words):
    with pytest.raises(EncoderError, match=words):
        trainer_of(clips_of([60, 60], splits))
