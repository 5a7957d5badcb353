import json

import numpy as np
import pandas as pd
import pytest
import torch
from small import ENCODER, make_mouse, smooth_noise

from nwbrecon.alignment import AlignedSession
from nwbrecon.config import TrainingSettings
from nwbrecon.encoding import EncoderEnsemble, VideoEncoder, train
from nwbrecon.encoding.observation import Window, window_video
from nwbrecon.errors import EncoderError, ResultsError
from nwbrecon.session import SignalKind


def shown(mouse, trial=0):
    return window_video(mouse.aligned, [Window(trial, 0, 60)])


@pytest.fixture
def two(small_encoder):
    """Two members: the trained one, and one that knows nothing."""
    other = VideoEncoder(
        ENCODER, n_rois=40, frame_size=(20, 32), frame_rate=30.0, behavior_names=("running_speed",), seed=4
    )
    torch.nn.init.normal_(other.readout.linear, std=0.3)
    return EncoderEnsemble(
        [*small_encoder.members, other],
        rois=small_encoder.rois,
        kinds=small_encoder.kinds,
        dispersion=small_encoder.dispersion,
        linear_scores=small_encoder.linear_scores,
        validation_scores=small_encoder.validation_scores,
        gate=small_encoder.gate,
        history=small_encoder.history,
        info=small_encoder.info,
    )


def test_what_is_known_of_the_noise_travels_with_the_encoder(two, small_encoder, tmp_path):
    back = EncoderEnsemble.load(small_encoder.save(tmp_path / "encoder"))
    assert {len(values) for values in back.noise.arrays().values()} == {small_encoder.n_rois}
    for name, values in small_encoder.noise.arrays().items():
        np.testing.assert_array_equal(back.noise.arrays()[name], values)
    assert back.digest() == small_encoder.digest()
    back.noise.loading[0] += 0.1
    assert back.digest() != small_encoder.digest()
    # one that was saved before there was any such thing
    assert two.noise is None
    assert EncoderEnsemble.load(two.save(tmp_path / "older")).noise is None


def test_the_prediction_is_the_mean_of_the_members(two, small_mouse):
    video, behavior = shown(small_mouse)
    one, other = (member.predict_rates(video, behavior) for member in two.members)
    torch.testing.assert_close(two.predict_rates(video, behavior), (one + other) / 2)
    assert not torch.allclose(one, other)
    assert two.n_rois == 40
    assert two.warm_up == 14


def test_what_was_saved_is_what_is_loaded(two, small_mouse, tmp_path):
    two.save(tmp_path / "encoder")
    back = EncoderEnsemble.load(tmp_path / "encoder")
    torch.testing.assert_close(
        back.predict_rates(*shown(small_mouse)), two.predict_rates(*shown(small_mouse)), rtol=0, atol=0
    )
    for name in ("dispersion", "linear_scores", "validation_scores"):
        np.testing.assert_array_equal(getattr(back, name), getattr(two, name))
        assert getattr(back, name).dtype == getattr(two, name).dtype
    assert back.gate == two.gate
    assert back.info == two.info
    assert back.kinds == two.kinds
    assert [one.name for one in back.likelihoods] == ["poisson", "poisson"]
    pd.testing.assert_frame_equal(back.history, two.history)
    pd.testing.assert_frame_equal(back.rois, two.rois[["group", "roi_id"]])
    assert back.digest() == two.digest()
    assert repr(back) == repr(two)
    back.check_fits(small_mouse.aligned)
    assert sorted(path.name for path in (tmp_path / "encoder").iterdir()) == ["encoder.json", "weights.safetensors"]


def test_a_fitted_likelihood_trains_and_travels_with_the_encoder(small_mouse, tmp_path):
    aligned = small_mouse.aligned
    made = train(aligned, ENCODER, TrainingSettings(epochs=2, likelihood="zig"))
    assert np.nanmean(made.validation_scores) > 0.2
    made.save(tmp_path / "encoder")
    back = EncoderEnsemble.load(tmp_path / "encoder")
    assert back.digest() == made.digest()
    for group, one, other in zip(aligned.groups, made.likelihoods, back.likelihoods, strict=True):
        assert other.name == "zig"
        assert len(other.size) == group.n_rois
        torch.testing.assert_close(other.size, one.size, rtol=0, atol=0)
        torch.testing.assert_close(other.shape, one.shape, rtol=0, atol=0)
    made.likelihoods[0].size[0] *= 2
    assert made.digest() != back.digest()


def test_saving_replaces_an_older_encoder_as_a_whole(two, small_encoder, tmp_path):
    two.save(tmp_path / "encoder")
    small_encoder.save(tmp_path / "encoder")
    assert len(EncoderEnsemble.load(tmp_path / "encoder").members) == 1


def test_the_digest_knows_weights_and_calibration(two):
    before = two.digest()
    assert two.digest() == before
    with torch.no_grad():
        two.members[1].readout.bias[3] += 1e-6
    changed = two.digest()
    assert changed != before
    two.dispersion = two.dispersion.copy()
    two.dispersion[0] *= 2
    assert two.digest() not in (before, changed)


def test_nothing_is_left_to_learn(small_encoder):
    assert not small_encoder.training
    assert not any(parameter.requires_grad for parameter in small_encoder.parameters())


def test_training_tells_what_it_did(small_mouse, small_encoder):
    aligned = small_mouse.aligned
    assert small_encoder.info["session"] == aligned.identity
    for split in ("train", "validation", "test"):
        trials = aligned.trials_in(split)
        assert small_encoder.info["clips"][split] == sorted(set(aligned.trials.loc[trials, "clip"]))
    assert small_encoder.info["training"]["epochs"] == 3
    assert small_encoder.history["member"].eq(0).all()
    assert len(small_encoder.history) == 4
    assert small_encoder.gate["sees"]
    assert small_encoder.rois.equals(aligned.rois)
    # residuals of activity of unit variance: neither certain nor without information
    assert 0.02 < np.median(small_encoder.dispersion) < 5
    best = small_encoder.history["validation_correlation"].max()
    assert np.nanmean(small_encoder.validation_scores) == pytest.approx(best, abs=1e-6)
    assert f"{best:.3f}" in repr(small_encoder)
    json.dumps(small_encoder.info)


def test_members_differ_and_are_kept_apart(tmp_path):
    aligned = make_mouse(train=4, validation=1, test=0, seconds=3.0, n_rois=6, make_movie=smooth_noise).aligned
    settings = TrainingSettings(members=2, epochs=1, window_seconds=1.0)
    encoder = train(aligned, ENCODER, settings, state=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["member-0", "member-1"]
    one, other = encoder.members
    assert not torch.equal(one.core.spatial, other.core.spatial)
    assert encoder.history["member"].unique().tolist() == [0, 1]
    # what is there already is taken up
    assert train(aligned, ENCODER, settings, state=tmp_path).digest() == encoder.digest()


def other_session(aligned, **changes):
    return AlignedSession(**vars(aligned) | changes)


def test_its_own_session_fits_and_others_are_refused_with_the_difference(small_mouse, small_encoder):
    aligned = small_mouse.aligned
    small_encoder.check_fits(aligned)
    first, second = aligned.groups
    swapped = other_session(aligned, groups=[second, first])
    with pytest.raises(EncoderError, match="other ROIs"):
        small_encoder.check_fits(swapped)
    with pytest.raises(EncoderError, match=r"has ROIs 20\..*trained with ROIs 40"):
        small_encoder.check_fits(other_session(aligned, groups=[first]))
    with pytest.raises(EncoderError, match=r"frame rate 25.*frame rate 30"):
        small_encoder.check_fits(other_session(aligned, frame_rate=25.0))
    with pytest.raises(EncoderError, match=r"frame size \(20, 31\).*frame size \(20, 32\)"):
        small_encoder.check_fits(other_session(aligned, video=aligned.video[..., :31]))
    with pytest.raises(EncoderError, match=r"behavior \(\).*running_speed"):
        small_encoder.check_fits(other_session(aligned, behavior=aligned.behavior[:, :0], behavior_names=()))


def test_folders_without_an_encoder_are_refused(small_encoder, tmp_path):
    with pytest.raises(EncoderError, match="holds no encoder"):
        EncoderEnsemble.load(tmp_path)
    folder = small_encoder.save(tmp_path / "encoder")
    kept = json.loads((folder / "encoder.json").read_text())
    (folder / "encoder.json").write_text(json.dumps(kept | {"format": 99}))
    with pytest.raises(EncoderError, match="has format 99"):
        EncoderEnsemble.load(folder)
    (folder / "encoder.json").write_text(json.dumps(kept | {"members": 2}))
    with pytest.raises(EncoderError, match=r"weights.*do not fit"):
        EncoderEnsemble.load(folder)
    (folder / "encoder.json").write_text(json.dumps(kept))
    (folder / "weights.safetensors").write_bytes(b"no weights")
    with pytest.raises(ResultsError, match=r"weights\.safetensors"):
        EncoderEnsemble.load(folder)


def test_the_likelihood_is_that_of_the_training(two):
    two.info = two.info | {"training": two.info["training"] | {"likelihood": "gaussian"}}
    assert [one.name for one in two.likelihoods] == ["gaussian", "gaussian"]
    two.info["training"]["likelihood"] = "auto"
    two.kinds = [SignalKind.DFF, SignalKind.EVENTS]
    assert [one.name for one in two.likelihoods] == ["gaussian", "poisson"]
