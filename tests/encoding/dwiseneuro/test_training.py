import copy

import numpy as np
import pytest
import torch
from small import clips_of, make_mouse, smooth_noise

from nwbrecon.config import DwiseNeuroSettings, EncoderSettings, InversionSettings, TrainingSettings
from nwbrecon.encoding import EncoderEnsemble, receptive_fields, score_encoder, train
from nwbrecon.encoding.dwiseneuro.training import TrainableDwiseNeuro
from nwbrecon.encoding.initialization import mean_rates
from nwbrecon.encoding.observation import Window, window_video
from nwbrecon.encoding.precision import Forward
from nwbrecon.encoding.training import Trainer
from nwbrecon.errors import EncoderError, SettingsError
from nwbrecon.inversion import reconstruct

TINY = DwiseNeuroSettings(
    core_features=(4, 8),
    spatial_strides=(2, 2),
    expansion_ratio=2,
    se_reduce_ratio=2,
    cortex_features=(16,),
    canvas=None,
)
SHORT = TrainingSettings(epochs=1).suited_to(TINY)


@pytest.fixture(scope="module")
def aligned():
    return make_mouse(train=5, validation=2, test=1, seconds=3.0, n_rois=9, make_movie=smooth_noise).aligned


def encoder_of(aligned, settings=TINY, **options):
    return TrainableDwiseNeuro(
        settings,
        **{
            "n_rois": aligned.n_rois,
            "frame_size": aligned.frame_size,
            "frame_rate": aligned.frame_rate,
            "behavior_names": aligned.behavior_names,
        }
        | options,
    )


@pytest.fixture(scope="module")
def initialized(aligned):
    encoder = encoder_of(aligned)
    return encoder, encoder.initialize(aligned, aligned.trials_in("train"))


@pytest.fixture(scope="module")
def trained(aligned):
    return train(aligned, TINY, SHORT)


def assert_same(one, other):
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], rtol=0, atol=0)


def test_the_first_guess_is_the_mean_rate(aligned, initialized):
    encoder, scores = copy.deepcopy(initialized)
    assert scores.shape == (9,)
    for parameter in encoder.requires_grad_(False).network.readouts.parameters():
        torch.nn.init.zeros_(parameter)
    rates = encoder.eval().predict_rates(*window_video(aligned, [Window(0, 0, 40)]))
    np.testing.assert_allclose(rates[0, :, 7], mean_rates(aligned, aligned.trials_in("train")), rtol=1e-4)


def test_behavior_is_standardized_and_what_is_missing_has_the_mean(aligned, initialized):
    encoder, _ = initialized
    video, behavior = window_video(aligned, [Window(trial, 0, 90) for trial in aligned.trials_in("train")])
    planes = encoder.stack(video, behavior)
    assert planes.shape == (5, 5, 90, 20, 32)
    # the second channel after the video is running
    running = planes[:, 2, :, 0, 0]
    assert float(running.mean()) == pytest.approx(0, abs=1e-3)
    assert float(running.std(correction=0)) == pytest.approx(16, rel=1e-3)
    behavior[2, 30] = torch.nan
    again = encoder.stack(video, behavior)
    assert (again[2, 2, 30] == 0).all()
    # and so have the variables that were not recorded
    assert (again[:, [1, 3, 4]] == 0).all()


def test_where_the_rois_look_is_known_from_the_linear_fit(aligned, initialized, trained):
    encoder, _ = initialized
    assert encoder.positions.shape == (9, 2)
    assert float(encoder.positions.std()) > 1
    fields = receptive_fields(trained)
    np.testing.assert_allclose(fields[["row", "column"]], trained.positions + np.array([9.5, 15.5]), rtol=1e-5)
    assert fields["size"].isna().all()
    guide = train(aligned, "quadrature", TrainingSettings(epochs=0))
    np.testing.assert_allclose(trained.positions, guide.positions, atol=1e-5)
    np.testing.assert_array_equal(trained.linear_scores, guide.linear_scores)


def test_training_lowers_the_loss():
    mouse = make_mouse(train=8, validation=2, test=0, seconds=3.0, n_rois=12, noise=0.2, make_movie=smooth_noise)
    settings = DwiseNeuroSettings(**TINY.model_dump() | {"drop_rate": 0.0, "drop_path_rate": 0.0})
    training = TrainingSettings(
        epochs=12, patience=12, batch_windows=2, learning_rate=3e-2, average_decay=0.5
    ).suited_to(settings)
    trainer = Trainer([mouse.aligned], settings, training)
    trainer.run()
    table = trainer.table()
    assert table["loss"].iloc[-1] < table["loss"].iloc[1] - 0.01
    assert np.isfinite(table["validation_correlation"].iloc[1:]).all()


def test_windows_predicted_together_are_those_predicted_one_by_one(aligned, initialized):
    encoder = copy.deepcopy(initialized[0]).train()
    for module in encoder.network.modules():
        # neither layers that are left out at random nor statistics of the batch
        if type(module).__name__ in ("DropPath", "Dropout1d", "BatchNorm1d", "BatchNorm3d"):
            module.eval()
    inputs = encoder.stack(*window_video(aligned, [Window(trial, 5, 50) for trial in (0, 1, 2)]))
    together = encoder.predict_stacked(inputs)
    one_by_one = encoder.eval().predict_stacked(inputs)
    torch.testing.assert_close(together, one_by_one, rtol=1e-4, atol=1e-6)


def test_frozen_it_is_fast_and_the_same_and_its_weights_are_as_published(aligned, initialized):
    encoder = copy.deepcopy(initialized[0]).eval()
    video, behavior = window_video(aligned, [Window(0, 0, 64)])
    plain = encoder.predict_rates(video, behavior)
    names = list(encoder.state_dict())
    encoder.freeze()
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert list(encoder.state_dict()) == names
    fast = encoder.predict_rates(video, behavior)
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-6)
    assert not torch.equal(fast, plain)
    # it moves with the rest, and is left when learning begins again
    torch.testing.assert_close(
        encoder.double().predict_rates(video.double(), behavior.double()), fast.double(), rtol=1e-4, atol=1e-6
    )
    encoder.float().train().requires_grad_()
    encoder.predict_rates(video, behavior).mean().backward()
    assert encoder.network.core.stem[0].weight.grad.abs().sum() > 0


def test_an_interrupted_training_goes_on_to_the_same_end(aligned, tmp_path):
    training = SHORT.model_copy(update={"epochs": 3, "batch_windows": 3})
    expected = Trainer([aligned], TINY, training)
    (whole,) = expected.run()
    stopped = Trainer([aligned], TINY, training, state=tmp_path)
    steps = iter(range(len(stopped.turns) + 1))

    def stop(module, inputs, output):
        if module.training and next(steps, None) is None:
            raise KeyboardInterrupt

    stopped.encoders[0].network.cortex.register_forward_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    torch.manual_seed(77)
    resumed = Trainer([aligned], TINY, training, state=tmp_path)
    (again,) = resumed.run()
    assert_same(again, whole)
    assert_same(resumed.encoders[0], expected.encoders[0])
    # batch norms have counted as many batches
    assert again.network.core.stem[1].bn.num_batches_tracked == whole.network.core.stem[1].bn.num_batches_tracked > 0


def test_it_is_saved_and_loaded(aligned, trained, tmp_path):
    assert trained.info["training"] == SHORT.model_dump(mode="json")
    back = EncoderEnsemble.load(trained.save(tmp_path / "encoder"))
    assert back.digest() == trained.digest()
    assert back.encoders[0].settings == TINY
    back.check_fits(aligned)
    video, behavior = window_video(aligned, [Window(0, 0, 60)])
    torch.testing.assert_close(
        back.predict_rates(video, behavior), trained.predict_rates(video, behavior), rtol=0, atol=0
    )


def test_it_is_scored_and_inverted_like_any_other(aligned, trained):
    scores = score_encoder(trained, aligned)
    assert {"encoder", "linear-nonlinear"} <= set(scores.summary["method"])
    trained = copy.copy(trained)
    trained.gate = trained.gate | {"sees": True}
    settings = InversionSettings(
        prior="ridge",
        prior_weight=1.0,
        iterations=2,
        uncertainty=False,
        device="cpu",
        choose_by="held-out",
    )
    (trial, *_) = aligned.trials_in("test")
    made = reconstruct(trained, aligned, [trial], settings)
    assert made.method == "map"
    assert np.isfinite(made[0].video).all()


def test_sessions_share_core_and_cortex_or_take_them_over(aligned, trained):
    other = make_mouse(
        train=5, validation=2, test=1, seconds=3.0, n_rois=6, make_movie=smooth_noise, cell_seed=5
    ).aligned
    one, two = train([aligned, other], TINY, SHORT)
    assert (one.n_rois, two.n_rois) == (9, 6)
    first, second = one.encoders[0], two.encoders[0]
    assert_same(first.network.core, second.network.core)
    assert_same(first.network.cortex, second.network.cortex)
    assert first.core_digest() == second.core_digest() != trained.encoders[0].core_digest()
    fitted = train(other, core=trained, training=TrainingSettings(epochs=1))
    assert fitted.encoders[0].settings == TINY
    assert fitted.info["training"]["learning_rate"] == TINY.learning["learning_rate"]
    for name, value in fitted.encoders[0].shared.named_parameters():
        torch.testing.assert_close(value, trained.encoders[0].shared.get_parameter(name), rtol=0, atol=0)
    with pytest.raises(SettingsError, match=r"encoder.architecture is 'composed', but that of the core is 'dwise"):
        train(other, EncoderSettings(channels=4), SHORT, core=trained)
    with pytest.raises(SettingsError, match=r"encoder.cortex_features"):
        train(other, DwiseNeuroSettings(cortex_features=(8,)), SHORT, core=trained)


def test_what_does_not_fit_the_session_is_refused(aligned):
    assert encoder_of(aligned, TINY.model_copy(update={"readout_outputs": (9,)})).settings == TINY
    with pytest.raises(SettingsError, match=r"readout_outputs is \[5\]. The session has 9 ROIs"):
        encoder_of(aligned, TINY.model_copy(update={"readout_outputs": (5,)}))
    with pytest.raises(EncoderError, match=r"20x32 pixels. The network takes at most 16x32"):
        encoder_of(aligned, TINY.model_copy(update={"canvas": (16, 32)}))
    with pytest.raises(EncoderError, match=r"longest training trial has 31 frames.*at least 32 at a time"):
        Trainer([clips_of([31, 20, 60], ["train", "train", "validation"])], TINY, SHORT)


def test_boxes_of_other_stretches_are_learned_from(aligned):
    mixed = train(aligned, TINY, SHORT.model_copy(update={"cutmix": 1.0}))
    assert np.isfinite(mixed.validation_scores).all()
    assert mixed.info["training"]["cutmix"] == 1.0


def test_in_bfloat16_rates_are_close_and_not_rounded(aligned, initialized):
    encoder = copy.deepcopy(initialized[0])
    inputs = window_video(aligned, [Window(trial, 0, 40) for trial in (0, 1)])
    for train_mode in (False, True):
        found = []
        for precision in ("fp32", "bf16"):
            torch.manual_seed(0)
            predict = copy.deepcopy(encoder).train(train_mode).predict_rates
            found.append(Forward(predict, torch.device("cpu"), TrainingSettings(precision=precision))(*inputs))
        exact, found = found
        assert found.dtype == torch.float32
        assert not torch.equal(found, exact)
        assert not torch.equal(found, found.bfloat16().float())
        assert (found - exact).norm() < 0.05 * exact.norm()


def test_where_memory_runs_out_it_is_said_what_changes(aligned):
    trainer = Trainer([aligned], TINY, SHORT.model_copy(update={"batch_windows": 4}))
    (encoder,) = trainer.encoders

    def no_room(module, inputs, output):
        if module.training and len(output) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    encoder.network.cortex.register_forward_hook(no_room)
    with pytest.warns(UserWarning, match="with 4 stretches.*there are 2, of which alone batch norms take"):
        trainer.run()
    assert trainer.gradients.most == 2


def test_encoders_teach_those_of_another_architecture(aligned, trained):
    ours = EncoderSettings(channels=4, kernel_size=5)
    taught = train(aligned, ours, TrainingSettings(epochs=1, batch_windows=2), teacher=trained)
    assert taught.info["teacher"] == trained.digest()
    trainer = Trainer([aligned], TINY, SHORT, teacher=taught)
    # what our encoder predicts lacks its past
    (batches,) = trainer.batches
    assert batches.warm_up == taught.warm_up > trainer.encoders[0].warm_up == 0
    assert batches.window >= trained.least_frames > taught.least_frames == 1
    back = train(aligned, TINY, SHORT, teacher=taught)
    assert back.digest() != trained.digest()


@pytest.mark.slow
def test_two_processes_train_it(aligned, tmp_path):
    trainer = Trainer([aligned], TINY, SHORT.model_copy(update={"devices": 2, "batch_windows": 4}), state=tmp_path)
    (encoder,) = trainer.run()
    assert np.isfinite(trainer.table()["loss"].iloc[1])
    assert encoder.network.core.stem[1].bn.num_batches_tracked == len(trainer.turns)
