import numpy as np
import pytest
from small import fit, fresh_encoder, make_mouse, smooth_noise

from nwbrecon.encoding.prediction import predict_samples, single_trial_correlation
from nwbrecon.errors import EncoderError


@pytest.fixture(scope="module")
def clear_mouse():
    """Two minutes and a half of noise movies and hardly any noise in the responses."""
    return make_mouse(
        noise=0.1, train=30, seconds=5.0, types=("simple", "complex", "blind"), make_movie=smooth_noise, seed=0
    )


@pytest.fixture(scope="module")
def initialized(clear_mouse):
    encoder = fresh_encoder(clear_mouse.aligned, channels=32)
    return encoder, fit(encoder, clear_mouse.aligned, clear_mouse.aligned.trials_in("train"))


def test_receptive_fields_of_simple_and_complex_cells_are_found(clear_mouse, initialized):
    encoder, _ = initialized
    # a step of the map is two pixels; its first place lies on the first pixel
    center = (np.array(encoder.readout.map_size) - 1) / 2
    found = 2 * (encoder.readout.position.detach().numpy() + center)
    cells = clear_mouse.cells()
    error = np.hypot(found[:, 0] - cells["row"], found[:, 1] - cells["column"])
    for kind in ("simple", "complex"):
        of_kind = error[cells["type"] == kind]
        assert len(of_kind) > 8
        assert np.median(of_kind) < 1.3
        assert np.quantile(of_kind, 0.8) < 2.2
    # chance is far off
    assert np.median(np.hypot(*(found[::-1] - cells[["row", "column"]].to_numpy()).T)) > 5


def test_cells_that_follow_the_movie_are_told_from_those_that_do_not(clear_mouse, initialized):
    _, scores = initialized
    blind = (clear_mouse.cells()["type"] == "blind").to_numpy()
    assert blind.sum() > 5
    assert np.median(scores[~blind]) > 0.4
    assert np.quantile(scores[blind], 0.8) < 0.25


def test_before_any_training_the_encoder_predicts_new_clips(clear_mouse, initialized):
    encoder, _ = initialized
    aligned = clear_mouse.aligned
    seeing = (clear_mouse.cells()["type"] != "blind").to_numpy()
    scores = single_trial_correlation(encoder, aligned, aligned.trials_in("validation"))
    assert np.median(scores[seeing]) > 0.4


def test_the_mean_rate_of_the_prediction_is_that_of_the_recording(clear_mouse, initialized):
    encoder, _ = initialized
    for expected, measured in predict_samples(encoder, clear_mouse.aligned, clear_mouse.aligned.trials_in("train")):
        ratio = np.nanmean(expected, axis=0) / np.nanmean(measured, axis=0)
        # linearized at the mean rate: what is far from it comes out too high
        assert 0.85 < np.median(ratio) < 1.4
        assert ratio.min() > 0.6
        assert ratio.max() < 3


def test_inputs_are_standardized_by_the_training_trials(clear_mouse, initialized):
    encoder, _ = initialized
    aligned = clear_mouse.aligned
    training = aligned.trials_in("train")
    video = np.concatenate([aligned.trial(trial).video for trial in training])
    assert float(encoder.video_mean) == pytest.approx(video.mean(), rel=0.01)
    assert float(encoder.video_std) == pytest.approx(video.std(), rel=0.01)
    speed = np.concatenate([aligned.trial(trial).behavior for trial in training])
    assert float(encoder.behavior_mean[0]) == pytest.approx(speed.mean(), rel=1e-4)
    assert float(encoder.behavior_std[0]) == pytest.approx(speed.std(), rel=1e-4)


def tiny_mouse():
    return make_mouse(train=8, validation=1, test=0, seconds=3.0, n_rois=12, noise=0.1, make_movie=smooth_noise)


def test_missing_samples_of_single_rois_do_not_stop_it():
    aligned = tiny_mouse().aligned
    training = aligned.trials_in("train")
    whole = fit(fresh_encoder(aligned, channels=8), aligned, training)
    # every sample lacks some ROI
    activity = aligned.groups[0].activity
    activity[::2, 0] = np.nan
    activity[1::2, 1] = np.nan
    scores = fit(fresh_encoder(aligned, channels=8), aligned, training)
    assert np.isfinite(scores).all()
    # ROIs of the plane that miss nothing are not touched by it
    np.testing.assert_allclose(scores[2:], whole[2:], atol=1e-4)


def test_behavior_that_is_missing_altogether_is_survived():
    aligned = tiny_mouse().aligned
    aligned.behavior[:] = np.nan
    encoder = fresh_encoder(aligned, channels=8)
    assert np.isfinite(fit(encoder, aligned, aligned.trials_in("train"))).all()
    assert float(encoder.behavior_std[0]) == 1


def test_a_plane_that_measured_nothing_is_named():
    aligned = tiny_mouse().aligned
    aligned.groups[1].timestamps += 1e4
    with pytest.raises(EncoderError, match="plane 2 measured nothing"):
        fit(fresh_encoder(aligned, channels=8), aligned, aligned.trials_in("train"))


@pytest.mark.parametrize("n_clips", [2, 3])
def test_scores_are_held_out_where_there_are_few_clips_too(n_clips):
    aligned = tiny_mouse().aligned
    rng = np.random.default_rng(0)
    for group in aligned.groups:
        group.activity = rng.gamma(1, 1, group.activity.shape).astype(np.float32)
    scores = fit(fresh_encoder(aligned, channels=8), aligned, aligned.trials_in("train")[:n_clips])
    # nothing can be predicted; the fit itself, with as many features as samples, would look good. The best of 160
    # places is picked, so that chance is not zero
    assert np.median(scores) < 0.6


def test_no_more_clips_are_read_than_are_of_use(monkeypatch):
    aligned = tiny_mouse().aligned
    training = aligned.trials_in("train")
    monkeypatch.setattr("nwbrecon.encoding.initialization._MOST_MINUTES", 8.5 / 60)
    some = fit(fresh_encoder(aligned, channels=8), aligned, training)
    monkeypatch.undo()
    np.testing.assert_allclose(fit(fresh_encoder(aligned, channels=8), aligned, training[:3]), some, atol=0.01)
    # the other clips would have made a difference
    whole = fit(fresh_encoder(aligned, channels=8), aligned, training)
    assert np.abs(whole - some).max() > 0.05
