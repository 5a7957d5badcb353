import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from small import clips_of, make_mouse, smooth_noise

from nwbrecon.alignment import AlignedSession
from nwbrecon.config import EncoderSettings, TrainingSettings
from nwbrecon.encoding import VideoEncoder, train
from nwbrecon.encoding.prediction import single_trial_correlation
from nwbrecon.encoding.training import Trainer
from nwbrecon.errors import EncoderError
from nwbrecon.storage import read_json

ENCODER = EncoderSettings(channels=4, kernel_size=5)


@pytest.fixture(scope="module")
def aligned():
    return make_mouse(train=5, validation=2, test=1, seconds=3.0, n_rois=8, make_movie=smooth_noise).aligned


def trainer_of(aligned, state=None, seed=0, **settings):
    settings = {"epochs": 3, "batch_windows": 2, "window_seconds": 1.0, "patience": 9} | settings
    return Trainer([aligned], ENCODER, TrainingSettings(**settings), seed=seed, state=state)


def run(trainer):
    """Train on the one session."""
    (encoder,) = trainer.run()
    return encoder


def assert_same(one, other):
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], rtol=0, atol=0)


def interrupted(trainer, step):
    """Train until Ctrl-C comes in the middle of a step."""
    steps = iter(range(step))

    def stop(module, inputs, output):
        if module.training and next(steps, None) is None:
            raise KeyboardInterrupt

    trainer.encoders[0].readout.register_forward_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()


def test_the_same_seed_gives_the_same_encoder_and_another_gives_another(aligned):
    torch.manual_seed(1)
    one = run(trainer_of(aligned, epochs=1))
    torch.manual_seed(2)
    again, other = (run(trainer_of(aligned, epochs=1, seed=seed)) for seed in (0, 1))
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
    encoder = run(trainer_of(aligned, epochs=1))
    assert not encoder.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.parametrize("epoch", [1, 2])
def test_an_interrupted_training_goes_on_to_the_same_end(aligned, tmp_path, epoch):
    whole = trainer_of(aligned)
    expected = run(whole)
    stopped = trainer_of(aligned, tmp_path)
    interrupted(stopped, epoch * len(stopped.turns) + 1)
    assert read_json(tmp_path / "training.json")["epoch"] == epoch
    torch.manual_seed(77)
    resumed = trainer_of(aligned, tmp_path)
    assert_same(run(resumed), expected)
    assert_same(resumed.encoders[0], whole.encoders[0])
    np.testing.assert_array_equal(resumed.roi_scores, whole.roi_scores)
    columns = ["epoch", "loss", "validation_correlation", "learning_rate"]
    assert resumed.table()[columns].equals(whole.table()[columns])


def test_a_training_that_was_interrupted_before_anything_was_kept_starts_anew(aligned, tmp_path):
    interrupted(trainer_of(aligned, tmp_path), 0)
    assert not (tmp_path / "training.json").exists()
    assert_same(run(trainer_of(aligned, tmp_path)), run(trainer_of(aligned)))


def test_a_finished_training_is_not_repeated(aligned, tmp_path):
    first = trainer_of(aligned, tmp_path)
    expected = run(first)
    again = trainer_of(aligned, tmp_path)
    again.encoders[0].readout.register_forward_hook(lambda *_: pytest.fail("it was trained or validated again"))
    assert_same(run(again), expected)
    assert again.table().equals(first.table())
    # of all epochs, the last alone is kept
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["epoch-3.safetensors"]


@pytest.mark.parametrize("change", ["seed", "settings", "session", "architecture"])
def test_what_was_kept_of_another_training_is_left_alone(aligned, tmp_path, change):
    run(trainer_of(aligned, tmp_path))
    if change == "session":
        aligned = AlignedSession(**vars(aligned) | {"identity": {"identifier": "another"}})
    architecture = EncoderSettings(channels=6, kernel_size=5) if change == "architecture" else ENCODER
    settings = {"epochs": 1 if change == "settings" else 3, "batch_windows": 2, "window_seconds": 1.0, "patience": 9}
    seed = int(change == "seed")
    fresh, beside = (
        Trainer([aligned], architecture, TrainingSettings(**settings), seed=seed, state=state)
        for state in (None, tmp_path)
    )
    assert_same(run(beside), run(fresh))
    assert read_json(tmp_path / "training.json")["epoch"] == settings["epochs"]


def test_the_best_epoch_is_kept_and_patience_ends(aligned):
    # steps so large that they do harm
    trainer = trainer_of(aligned, epochs=30, patience=1, learning_rate=0.2, average_decay=0.0)
    encoder = run(trainer)
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
    encoder = run(trainer)
    assert len(trainer.table()) == 1
    assert encoder.readout.linear.abs().sum() > 0


def test_the_learning_rate_rises_and_falls(aligned):
    trainer = trainer_of(aligned, epochs=8)
    rates = []
    step = torch.optim.AdamW.step

    def record(self, *args, **kwargs):
        # with decay and without
        (plain,) = {group["lr"] for group in self.param_groups if group["factor"] == 1}
        rates.append(plain)
        # layers of the core, sharpness, positions and spreads
        assert {group["factor"] for group in self.param_groups} == {0.1, 1, 3, 10}
        for group in self.param_groups:
            assert group["lr"] == pytest.approx(group["factor"] * plain)
        return step(self, *args, **kwargs)

    torch.optim.AdamW.step = record
    try:
        trainer.run()
    finally:
        torch.optim.AdamW.step = step
    assert rates[0] < 0.1 * max(rates)
    assert rates[-1] < 0.15 * max(rates)
    assert max(rates) <= TrainingSettings().learning_rate
    assert np.argmax(rates) < len(rates) / 3


def test_a_session_of_short_clips_can_be_trained_on():
    aligned = clips_of([40, 33, 45, 40], ["train", "train", "train", "validation"])
    trainer = trainer_of(aligned, window_seconds=3.5)
    trainer.run()
    assert np.isfinite(trainer.table()["loss"].iloc[1:]).all()


ALL_AT_ONCE = {"cutmix": 0.5, "readout_dropout": 0.2, "teacher_weight": 0.3}
TRAINING = """
import sys
from pathlib import Path

import test_training

if __name__ == "__main__":
    test_training.with_all(Path(sys.argv[1])).run()
"""


def with_all(state=None):
    """A long training with all that draws numbers."""
    mouse = make_mouse(train=5, validation=2, test=1, seconds=3.0, n_rois=8, make_movie=smooth_noise)
    settings = {"batch_windows": 2, "window_seconds": 1.0, "patience": 99}
    teacher = train(mouse.aligned, ENCODER, TrainingSettings(epochs=1, seed=9, **settings))
    asked = TrainingSettings(epochs=12, **settings, **ALL_AT_ONCE)
    return Trainer([mouse.aligned], ENCODER, asked, state=state, teacher=teacher)


@pytest.mark.slow
def test_a_training_whose_process_is_killed_goes_on_to_the_same_end_to_the_last_bit(tmp_path):
    script, state = tmp_path / "train.py", tmp_path / "state"
    script.write_text(TRAINING)
    environment = os.environ | {
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    with subprocess.Popen([sys.executable, script, state], env=environment, stderr=subprocess.PIPE) as process:
        until = time.monotonic() + 180
        while not any(state.glob("epoch-[2-9].safetensors")) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.002)
        process.kill()
        assert process.wait() == -signal.SIGKILL, process.stderr.read()
    # it may have been killed while it wrote the state of an epoch: then that of the epoch before counts
    assert 1 <= read_json(state / "training.json")["epoch"] < 12
    whole, resumed = with_all(), with_all(state)
    assert_same(run(resumed), run(whole))
    assert_same(resumed.encoders[0], whole.encoders[0])
    assert resumed.table().drop(columns="seconds").equals(whole.table().drop(columns="seconds"))


@pytest.mark.parametrize("setting", [{"cutmix": 1.0}, {"readout_dropout": 0.5}, {"precision": "bf16"}])
def test_settings_of_the_loop_reach_it(aligned, setting):
    plain, other, again = (trainer_of(aligned, epochs=1, **some) for some in ({}, setting, setting))
    # of losses: the best state may be that before any step
    assert_same(run(other), run(again))
    run(plain)
    losses = [trainer.table()["loss"].dropna().to_numpy() for trainer in (plain, other, again)]
    assert len(losses[0])
    assert not np.array_equal(losses[0], losses[1])
    np.testing.assert_array_equal(losses[1], losses[2])


def test_a_training_goes_on_in_smaller_parts_when_memory_runs_out(aligned, monkeypatch):
    expected = run(trainer_of(aligned, batch_windows=4, epochs=1))
    predict = VideoEncoder.predict_rates

    def with_little_memory(self, video, behavior):
        if self.training and len(video) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return predict(self, video, behavior)

    monkeypatch.setattr(VideoEncoder, "predict_rates", with_little_memory)
    with pytest.warns(UserWarning, match="with 4 stretches of video at a time; from now on there are 2") as said:
        found = run(trainer_of(aligned, batch_windows=4, epochs=1))
    assert len(said) == 1
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def pair(aligned):
    """Two mice that saw the same clips, the second for longer and with more ROIs."""
    other = make_mouse(train=9, validation=2, test=1, seconds=3.0, n_rois=10, make_movie=smooth_noise, cell_seed=5)
    return [aligned, other.aligned]


def pair_trainer(pair, state=None, **settings):
    settings = {"epochs": 3, "batch_windows": 2, "window_seconds": 1.0, "patience": 9} | settings
    return Trainer(pair, ENCODER, TrainingSettings(**settings), state=state)


def test_sessions_share_one_core_and_have_a_readout_each(pair):
    trainer = pair_trainer(pair)
    one, two = trainer.encoders
    assert one.core is two.core
    first, second = trainer.run()
    assert first.core is not second.core
    assert_same(first.core, second.core)
    assert first.video_mean == second.video_mean
    assert (first.n_rois, second.n_rois) == (8, 10)
    assert len(trainer.roi_scores[1]) == 10
    # each is complete without the other
    with torch.no_grad():
        first.core.spatial.zero_()
    assert second.core.spatial.abs().sum() > 0


def test_a_step_moves_the_core_and_the_readout_of_its_session_alone(pair, monkeypatch):
    trainer = pair_trainer(pair, epochs=1)
    assert sorted(set(trainer.turns)) == [0, 1]
    assert trainer.turns.count(1) > trainer.turns.count(0)
    steps = iter(trainer.turns)
    step = torch.optim.AdamW.step

    def watched(self, *args, **kwargs):
        session = next(steps)
        before = [{name: value.detach().clone() for name, value in one.named_parameters()} for one in trainer.encoders]
        step(self, *args, **kwargs)
        changed = [
            {name for name, value in one.named_parameters() if not torch.equal(value, old[name])}
            for one, old in zip(trainer.encoders, before, strict=True)
        ]
        assert changed[session] >= {
            "core.spatial",
            "core.temporal",
            "readout.linear",
            "readout.position",
            "gain.out.weight",
        }
        assert {name.partition(".")[0] for name in changed[1 - session]} == {"core"}

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    trainer.run()
    assert next(steps, None) is None


def test_training_together_is_stopped_by_the_mean_over_sessions(pair):
    trainer = pair_trainer(pair, epochs=30, patience=1, learning_rate=0.2, average_decay=0.0)
    encoders = trainer.run()
    tables = [trainer.table(index) for index in range(2)]
    mean = tables[0]["mean_correlation"].to_numpy()
    np.testing.assert_allclose(mean, (tables[0]["validation_correlation"] + tables[1]["validation_correlation"]) / 2)
    best = int(mean.argmax())
    assert len(mean) == best + 1 + 2
    for encoder, aligned, table in zip(encoders, pair, tables, strict=True):
        found = single_trial_correlation(encoder, aligned, aligned.trials_in("validation"))
        assert float(np.nanmean(found)) == pytest.approx(table["validation_correlation"].iloc[best], abs=1e-6)


def test_training_together_that_was_interrupted_goes_on_to_the_same_end(pair, tmp_path):
    whole = pair_trainer(pair)
    expected = whole.run()
    stopped = pair_trainer(pair, tmp_path)
    interrupted(stopped, 2 * stopped.turns.count(0) + 1)
    assert read_json(tmp_path / "training.json")["epoch"] == 2
    torch.manual_seed(77)
    resumed = pair_trainer(pair, tmp_path)
    for found, wanted in zip(resumed.run(), expected, strict=True):
        assert_same(found, wanted)
    for index in range(2):
        assert_same(resumed.encoders[index], whole.encoders[index])
        assert_same(resumed.average[index], whole.average[index])
        np.testing.assert_array_equal(resumed.roi_scores[index], whole.roi_scores[index])
    columns = ["epoch", "loss", "validation_correlation", "mean_correlation", "learning_rate"]
    assert resumed.table(1)[columns].equals(whole.table(1)[columns])


@pytest.fixture(scope="module")
def donor(pair):
    """An encoder of the second mouse."""
    return run(trainer_of(pair[1], epochs=1))


def with_core(aligned, core, state=None, **settings):
    settings = {"epochs": 2, "batch_windows": 2, "window_seconds": 1.0} | settings
    return Trainer([aligned], ENCODER, TrainingSettings(**settings), state=state, core=core)


def test_a_core_that_is_taken_over_stays_as_it_is_to_the_last_bit(aligned, donor):
    trainer = with_core(aligned, donor)
    assert_same(trainer.encoders[0].core, donor.core)
    encoder = run(trainer)
    assert_same(encoder.core, donor.core)
    assert_same(trainer.encoders[0].core, donor.core)
    assert encoder.video_mean == donor.video_mean
    assert encoder.video_std == donor.video_std
    assert encoder.core_digest() == donor.core_digest()
    assert not {id(value) for value in trainer.encoders[0].core.parameters()} & {
        id(value) for group in trainer.optimizer.param_groups for value in group["params"]
    }
    linear = run(with_core(aligned, donor, epochs=0))
    for name in ("readout.linear", "readout.position", "gain.out.weight"):
        assert not torch.equal(trainer.encoders[0].get_parameter(name), linear.get_parameter(name)), name
    # behavior is the session's own
    assert encoder.behavior_mean != donor.behavior_mean


def test_a_core_that_is_tuned_begins_as_it_is_and_learns_on(aligned, donor):
    trainer = with_core(aligned, donor, tune_core=True)
    assert_same(trainer.encoders[0].core, donor.core)
    run(trainer)
    for name, value in trainer.encoders[0].core.named_parameters():
        assert not torch.equal(value, donor.core.get_parameter(name)), name
    assert trainer.encoders[0].video_mean == donor.video_mean


@pytest.mark.parametrize("tune_core", [False, True])
def test_the_lender_of_a_core_is_left_alone(aligned, donor, tune_core):
    before = {name: value.clone() for name, value in donor.state_dict().items()}
    encoder = run(with_core(aligned, donor, tune_core=tune_core))
    with torch.no_grad():
        encoder.core.spatial.zero_()
    for name, value in donor.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_fitting_to_a_core_that_was_interrupted_goes_on_unless_the_core_is_another(aligned, donor, tmp_path):
    whole = with_core(aligned, donor)
    expected = run(whole)
    stopped = with_core(aligned, donor, tmp_path)
    interrupted(stopped, len(stopped.turns) + 1)
    torch.manual_seed(77)
    assert_same(run(with_core(aligned, donor, tmp_path)), expected)
    other = run(trainer_of(aligned, epochs=0, seed=3))
    assert_same(run(with_core(aligned, other, tmp_path)), run(with_core(aligned, other)))
