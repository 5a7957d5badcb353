import json

import numpy as np
import pytest
import torch
from small import ENCODER, make_mouse, smooth_noise

from nwbrecon.config import InversionSettings, TrainingSettings
from nwbrecon.encoding import EncoderEnsemble, train
from nwbrecon.encoding.observation import Window, window_video
from nwbrecon.encoding.prediction import predict_samples, single_trial_correlation
from nwbrecon.errors import EncoderError, SettingsError
from nwbrecon.inversion import reconstruct

SHORT = TrainingSettings(epochs=1, window_seconds=1.0)


def small(cell_seed, n_rois, train=5):
    return make_mouse(
        train=train, validation=2, test=1, seconds=3.0, n_rois=n_rois, make_movie=smooth_noise, cell_seed=cell_seed
    ).aligned


@pytest.fixture(scope="module")
def pair():
    """Two mice that saw the same clips."""
    return [small(1, 8), small(2, 12)]


@pytest.fixture(scope="module")
def together(pair):
    return train(pair, ENCODER, SHORT)


def test_one_session_in_a_list_is_trained_as_it_is_alone(pair):
    (listed,) = train(pair[:1], ENCODER, SHORT)
    alone = train(pair[0], ENCODER, SHORT)
    assert listed.digest() == alone.digest()
    assert listed.info == alone.info
    assert "core" not in alone.info
    assert "mean_correlation" not in alone.history


def test_each_session_gets_an_encoder_with_its_own_readout_and_calibration(pair, together):
    one, two = together
    assert [encoder.n_rois for encoder in together] == [8, 12]
    assert one.encoders[0].core_digest() == two.encoders[0].core_digest()
    for encoder, aligned in zip(together, pair, strict=True):
        encoder.check_fits(aligned)
        assert encoder.dispersion.shape == encoder.linear_scores.shape == (aligned.n_rois,)
        validation = aligned.trials_in("validation")
        np.testing.assert_array_equal(encoder.validation_scores, single_trial_correlation(encoder, aligned, validation))
        assert encoder.info["session"] == aligned.identity
        assert encoder.info["clips"]["validation"] == ["validation 0", "validation 1"]
        assert encoder.gate["sentence"]
    assert one.gate != two.gate
    origin = one.info["core"]
    assert origin == two.info["core"]
    assert origin["encoder"] is None
    assert [found["session"] for found in origin["sessions"]] == [aligned.identity for aligned in pair]


def test_an_encoder_that_shared_its_core_is_complete_without_the_other(pair, together, tmp_path):
    two = together[1]
    back = EncoderEnsemble.load(two.save(tmp_path / "encoder"))
    assert back.digest() == two.digest()
    assert back.info == json.loads(json.dumps(two.info))
    video, behavior = window_video(pair[1], [Window(0, 0, 60)])
    torch.testing.assert_close(back.predict_rates(video, behavior), two.predict_rates(video, behavior), rtol=0, atol=0)


def test_encoders_that_share_a_core_reconstruct_together(pair, together):
    settings = InversionSettings(prior="ridge", prior_weight=1.0, iterations=2, uncertainty=False, device="cpu")
    for encoder in together:
        encoder.gate = encoder.gate | {"sees": True}
    (trial, *_) = pair[0].trials_in("test")
    made = reconstruct(together, pair, [trial], settings)
    assert made.method == "map"
    assert made[0].info["witnesses"] == 2


def test_the_core_of_another_mouse_is_taken_over_from_memory_or_from_disk(pair, tmp_path):
    lender = train(pair[1], ENCODER, SHORT)
    encoder = train(pair[0], training=SHORT, core=lender)
    assert encoder.encoders[0].core_digest() == lender.encoders[0].core_digest()
    assert encoder.encoders[0].settings == ENCODER
    assert encoder.info["core"] == {
        "encoder": lender.digest(),
        "sessions": [{"session": pair[1].identity, "clips": lender.info["clips"]}],
    }
    folder = lender.save(tmp_path / "lender")
    assert train(pair[0], training=SHORT, core=folder).digest() == encoder.digest()
    assert train(pair[0], training=SHORT, core=str(folder)).digest() == encoder.digest()
    back = EncoderEnsemble.load(encoder.save(tmp_path / "encoder"))
    assert back.info == json.loads(json.dumps(encoder.info))


def test_a_core_that_is_tuned_learned_from_this_session_too(pair):
    lender = train(pair[1], ENCODER, TrainingSettings(epochs=0))
    tuned = train(pair[0], training=SHORT.model_copy(update={"tune_core": True}), core=lender)
    assert tuned.info["core"]["encoder"] == lender.digest()
    assert [one["session"] for one in tuned.core_sessions] == [pair[1].identity, pair[0].identity]


def test_members_take_the_cores_of_the_members_in_turns(pair):
    lender = train(pair[1], ENCODER, TrainingSettings(epochs=0, members=2))
    encoder = train(pair[0], training=TrainingSettings(epochs=0, members=3), core=lender)
    cores = [member.core_digest() for member in lender.encoders]
    assert cores[0] != cores[1]
    assert [member.core_digest() for member in encoder.encoders] == [cores[0], cores[1], cores[0]]


def test_several_sessions_may_take_over_one_core(pair):
    lender = train(pair[1], ENCODER, TrainingSettings(epochs=0))
    encoders = train(pair, training=SHORT, core=lender)
    assert {encoder.encoders[0].core_digest() for encoder in encoders} == {lender.encoders[0].core_digest()}


@pytest.mark.slow
def test_a_student_is_nearer_to_its_teacher_than_one_that_learned_alone(pair):
    mouse = small(1, 8, train=12)
    longer = TrainingSettings(epochs=3, window_seconds=1.0, members=2, seed=5)
    teacher = train(mouse, ENCODER, longer)
    validation = mouse.trials_in("validation")
    expected = [rates for rates, _ in predict_samples(teacher, mouse, validation)]

    def distance(**given):
        student = train(mouse, ENCODER, TrainingSettings(epochs=3, window_seconds=1.0, teacher_weight=0.9), **given)
        found = [rates for rates, _ in predict_samples(student, mouse, validation)]
        return student, sum(np.nansum((one - other) ** 2) for one, other in zip(found, expected, strict=True))

    alone, taught = distance(), distance(teacher=teacher)
    assert taught[1] < 0.7 * alone[1]
    assert taught[0].info["teacher"] == teacher.digest()
    assert "teacher" not in alone[0].info


def test_a_teacher_comes_from_memory_or_from_disk(pair, tmp_path):
    teacher = train(pair[0], ENCODER, TrainingSettings(epochs=0))
    folder = teacher.save(tmp_path / "teacher")
    losses = {
        train(pair[0], ENCODER, SHORT, teacher=given).history["loss"].iloc[-1]
        for given in (teacher, folder, str(folder))
    }
    assert len(losses) == 1
    assert losses != {train(pair[0], ENCODER, SHORT).history["loss"].iloc[-1]}


def test_a_teacher_that_does_not_fit_is_refused(pair, monkeypatch):
    teacher = train(pair[0], ENCODER, TrainingSettings(epochs=0))
    monkeypatch.setattr("nwbrecon.encoding.training.Trainer.run", lambda _: pytest.fail("it was trained"))
    with pytest.raises(EncoderError, match="A teacher and 2 sessions were given"):
        train(pair, ENCODER, SHORT, teacher=teacher)
    with pytest.raises(EncoderError, match="The session has ROIs 12"):
        train(pair[1], ENCODER, SHORT, teacher=teacher)
    with pytest.raises(SettingsError, match="'zig', and a teacher was given"):
        train(pair[0], ENCODER, SHORT.model_copy(update={"likelihood": "zig"}), teacher=teacher)
    other = small(1, 8)
    other.trials.loc[other.trials["clip"] == "train 0", "split"] = "test"
    with pytest.raises(EncoderError, match="Clip 'train 0' is for testing in the session and for training in what the"):
        train(other, ENCODER, SHORT, teacher=teacher)


def test_what_does_not_fit_together_is_refused_before_any_work(pair, together, tmp_path, monkeypatch):
    monkeypatch.setattr("nwbrecon.encoding.training.Trainer.run", lambda _: pytest.fail("it was trained"))
    other = small(3, 6)
    other.trials.loc[other.trials["clip"] == "test 0", "split"] = "train"
    with pytest.raises(EncoderError, match="Clip 'test 0' is for training in one of the sessions and for testing"):
        train([pair[0], other], ENCODER, SHORT)
    with pytest.raises(EncoderError, match="Clip 'test 0' is for training in the session and for testing in what"):
        train(other, training=SHORT, core=together[0])
    with pytest.raises(SettingsError, match=r"encoder\.kernel_size"):
        train(pair[0], ENCODER.model_copy(update={"kernel_size": 7}), SHORT, core=together[0])
    with pytest.raises(EncoderError, match="holds no encoder"):
        train(pair[0], training=SHORT, core=tmp_path)


@pytest.mark.gpu
def test_on_a_gpu_it_learns_as_much(small_mouse, small_encoder, gpu):
    there = train(small_mouse.aligned, ENCODER, TrainingSettings(epochs=3))
    assert {value.device.type for value in there.parameters()} == {gpu}
    assert there.gate["sees"]
    np.testing.assert_allclose(there.validation_scores.mean(), small_encoder.validation_scores.mean(), atol=0.02)


@pytest.mark.gpu
def test_what_was_trained_on_a_gpu_is_loaded_without_one(pair, gpu, tmp_path):
    whole = train(pair[0], ENCODER, SHORT)
    whole.save(tmp_path / "encoder")
    loaded = EncoderEnsemble.load(tmp_path / "encoder")
    assert {value.device.type for value in loaded.parameters()} == {"cpu"}
    for name, value in whole.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value.cpu()), name
