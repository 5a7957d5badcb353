import copy
from dataclasses import replace

import numpy as np
import pytest
from small import ENCODER, FRAME_SIZE, make_mouse, smooth_noise

from nwbrecon.config import InversionSettings, TrainingSettings, TransparencySettings
from nwbrecon.encoding import train
from nwbrecon.errors import EncoderError, InversionError, SettingsError
from nwbrecon.inversion import reconstruct
from nwbrecon.inversion.bauer2026 import PRESETS, reconstruct_bauer2026
from nwbrecon.inversion.blending import Blend
from nwbrecon.inversion.setup import invert
from nwbrecon.inversion.transparency import train_transparency
from nwbrecon.metrics import dynamic_correlation, lag_correlations, pixel_correlation
from nwbrecon.progress import progress_shown

# the choice of prior and the uncertainty take their time, and have their own tests
QUICK = InversionSettings(prior="ridge", prior_weight=1.0, iterations=6, uncertainty=False, device="cpu")


@pytest.fixture(scope="module")
def whole(small_mouse, small_encoder):
    """All that there is, on all test trials."""
    settings = InversionSettings(candidate_weights=(0.5, 2.0), selection_trials=2, device="cpu")
    return reconstruct(small_encoder, small_mouse.aligned, settings=settings)


@pytest.fixture(scope="module")
def quick(small_mouse, small_encoder):
    return reconstruct(small_encoder, small_mouse.aligned, settings=QUICK)


def true_movie(mouse, item):
    return mouse.aligned.trial(item.trials[0]).video


def mean_score(mouse, items, mask, measure=dynamic_correlation):
    return np.mean([measure(item.video, true_movie(mouse, item), mask) for item in items])


def assert_same(one, other):
    assert len(one) == len(other)
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first.video, second.video)
        np.testing.assert_array_equal(first.baselines["ridge"], second.baselines["ridge"])
        np.testing.assert_array_equal(first.snapshots, second.snapshots)
        np.testing.assert_array_equal(first.snapshot_iterations, second.snapshot_iterations)
        assert (first.clip, first.trials, first.onset) == (second.clip, second.trials, second.onset)
        columns = [column for column in first.history if column != "seconds"]
        assert first.history[columns].equals(second.history[columns])
    np.testing.assert_array_equal(one.mask, other.mask)


def test_every_test_trial_is_reconstructed(whole, small_mouse):
    aligned = small_mouse.aligned
    assert [item.trials for item in whole] == [(trial,) for trial in aligned.trials_in("test")]
    for item in whole:
        row = aligned.trials.loc[item.trials[0]]
        assert item.clip == row["clip"]
        assert item.onset == row["onset"]
        assert item.video.shape == item.std.shape == item.baselines["ridge"].shape == (row["n_frames"], *FRAME_SIZE)
        assert item.video.dtype == np.float32
        assert item.video.min() >= 0
        assert item.video.max() <= 255
        assert (item.std > 0).all()
    assert whole.method == "map"
    assert whole.warnings == []


def test_reconstructions_are_like_what_was_shown_and_not_like_what_was_not(whole, small_mouse):
    right = mean_score(small_mouse, whole, whole.mask)
    others = [
        dynamic_correlation(item.video, true_movie(small_mouse, other), whole.mask)
        for item in whole
        for other in whole
        if other.clip != item.clip
    ]
    assert right > 0.3
    assert abs(np.mean(others)) < 0.15
    # better than the linear decoder beside it, which sees the same responses
    for measure in (dynamic_correlation, pixel_correlation):
        linear = [measure(item.baselines["ridge"], true_movie(small_mouse, item), whole.mask) for item in whole]
        assert mean_score(small_mouse, whole, whole.mask, measure) > np.mean(linear)


def test_reconstructions_do_not_trail(whole, small_mouse):
    lags = np.arange(-6, 7)
    curves = [lag_correlations(item.video, true_movie(small_mouse, item), lags, whole.mask) for item in whole]
    assert abs(lags[np.mean(curves, axis=0).argmax()]) <= 1


def test_the_standard_deviation_covers_the_error(whole, small_mouse):
    covered = [
        np.abs(item.video - true_movie(small_mouse, item))[:, whole.mask] < 1.96 * item.std[:, whole.mask]
        for item in whole
    ]
    assert 0.88 < np.mean(covered) < 0.99


def test_the_first_showing_of_a_clip_tells_the_way(whole, small_mouse):
    for item in whole:
        first = small_mouse.aligned.trials.at[item.trials[0], "repeat"] == 0
        assert item.snapshots.shape == (len(item.snapshot_iterations), *item.video.shape)
        assert item.snapshot_iterations.tolist() == ([0, 1, 2, 3, 5, 8] if first else [])
        assert (np.diff(item.history["objective"]) < 0).all()
        assert item.info["iterations"] == item.history["iteration"].iloc[-1]
        assert item.info["objective"] == item.history["objective"].iloc[-1]


def test_what_concerns_all_is_said(whole, small_encoder):
    assert whole.info["gate"] == small_encoder.gate
    assert whole.info["behavior"] == "given"
    assert whole.info["mask_fraction"] == pytest.approx(whole.mask.mean())
    best = max(whole.info["choice"], key=lambda row: row["explained"])
    assert (whole.info["prior"], whole.info["prior_weight"]) == (best["prior"], best["weight"])
    assert [row["prior"] for row in whole.info["choice"]] == ["movie", "movie"]
    assert whole.info["error_model"]["n_clips"] == 3
    assert whole.settings["candidate_weights"] == [0.5, 2.0]


def test_the_same_settings_give_the_same_movies(quick, small_mouse, small_encoder):
    assert_same(reconstruct(small_encoder, small_mouse.aligned, settings=QUICK), quick)


def test_an_interrupted_run_goes_on_where_it_was(quick, small_mouse, small_encoder, tmp_path, monkeypatch):
    module = __import__("sys").modules["nwbrecon.inversion.reconstruct"]
    invert, calls = module._invert, []

    def counted(setup, recordings, showings, settings):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.extend(showings)
        return invert(setup, recordings, showings, settings)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setitem(module._MAKERS, "map", counted)
        reconstruct(small_encoder, small_mouse.aligned, settings=QUICK, state=tmp_path)
    assert len(list(tmp_path.glob("trial-*.json"))) == 2

    done = list(calls)
    calls[:] = []
    monkeypatch.setattr(module, "make_setup", lambda *_, **__: pytest.fail("the set-up was made again"))
    monkeypatch.setitem(module._MAKERS, "map", lambda *a: (calls.extend(a[2]), invert(*a))[1])
    assert_same(reconstruct(small_encoder, small_mouse.aligned, settings=QUICK, state=tmp_path), quick)
    assert not set(calls) & set(done)
    assert len(calls) == 4


def test_everything_about_a_clip_is_kept(whole, small_mouse, small_encoder, tmp_path):
    settings = QUICK.model_copy(update={"uncertainty": True})
    trials = small_mouse.aligned.trials_in("test")[:1]
    (first,), (again,) = (
        reconstruct(small_encoder, small_mouse.aligned, trials, settings, state=tmp_path) for _ in range(2)
    )
    np.testing.assert_array_equal(again.std, first.std)
    assert again.info == first.info
    assert again.history.equals(first.history)
    assert vars(again).keys() == vars(first).keys()


def test_what_was_kept_with_other_settings_is_not_taken_up(quick, small_mouse, small_encoder, tmp_path):
    (tmp_path / "notes.json").write_text("mine")
    (tmp_path / "weights.safetensors").write_text("mine")
    trials = small_mouse.aligned.trials_in("test")[:1]
    few = QUICK.model_copy(update={"iterations": 1})
    (short,) = reconstruct(small_encoder, small_mouse.aligned, trials, few, state=tmp_path)
    (long,) = reconstruct(small_encoder, small_mouse.aligned, trials, QUICK, state=tmp_path)
    np.testing.assert_array_equal(long.video, quick[0].video)
    assert np.abs(short.video - long.video).max() > 1
    # other files in the folder are not ours to delete
    assert (tmp_path / "notes.json").read_text() == "mine"
    assert (tmp_path / "weights.safetensors").read_text() == "mine"


def test_an_encoder_that_does_not_see_gives_the_linear_movies_under_their_name(quick, small_mouse, small_encoder):
    blind = copy.copy(small_encoder)
    blind.gate = small_encoder.gate | {"sees": False, "sentence": "The encoder does not see."}
    found = reconstruct(blind, small_mouse.aligned, settings=QUICK)
    assert found.method == "ridge"
    assert any("does not see. The movies given are the linear decoder's" in warning for warning in found.warnings)
    for item, beside in zip(found, quick, strict=True):
        np.testing.assert_array_equal(item.video, beside.baselines["ridge"])
        assert item.baselines == {}
        assert item.std is None


def test_the_linear_decoder_may_be_asked_for(quick, small_mouse, small_encoder, tmp_path):
    settings = InversionSettings(preset="ridge", device="cpu")
    trials = small_mouse.aligned.trials_in("test")[:2]
    found = reconstruct(small_encoder, small_mouse.aligned, trials, settings, state=tmp_path)
    assert found.method == "ridge"
    assert found.warnings == []
    again = reconstruct(small_encoder, small_mouse.aligned, trials, settings, state=tmp_path)
    for item, kept, beside in zip(found, again, quick, strict=False):
        np.testing.assert_array_equal(item.video, beside.baselines["ridge"])
        np.testing.assert_array_equal(item.video, kept.video)


@pytest.fixture
def short_training(monkeypatch):
    """An amortized decoder that is trained for a few seconds."""
    monkeypatch.setattr("nwbrecon.inversion.amortized._BATCHES", 40)
    monkeypatch.setattr("nwbrecon.inversion.lessons.IMAGINED", 64)
    monkeypatch.setattr("nwbrecon.inversion.imagined._MADE", 4)


def test_a_first_look_is_fast(quick, whole, small_mouse, small_encoder, tmp_path, short_training):
    fast = InversionSettings(preset="fast", device="cpu")
    made = reconstruct(small_encoder, small_mouse.aligned, settings=fast, state=tmp_path)
    assert made.method == "fast"
    assert made.warnings == []
    assert made.info["choice"] == []
    assert made.info["settling_seconds"] > 0
    assert made.info["behavior"] == "given"
    assert made.info["decoder"] == "amortized"
    assert 0 < made.info["decoder_explained"][0][0] < 1
    assert np.max(made.info["blend"]["weights"][0]) > 0
    assert all(item.std is None and not len(item.history) and item.info["seconds"] > 0 for item in made)
    thorough = mean_score(small_mouse, whole, whole.mask)
    assert mean_score(small_mouse, made, whole.mask) > 0.5 * thorough > 0
    assert_same(reconstruct(small_encoder, small_mouse.aligned, settings=fast, state=tmp_path), made)


def test_a_search_may_begin_at_the_amortized_decoder(small_mouse, small_encoder, short_training):
    settings = QUICK.model_copy(update={"decoder": "amortized", "prior": "movie", "iterations": 2})
    aligned = small_mouse.aligned
    trials = aligned.trials_in("test")[:1]
    made = reconstruct(small_encoder, aligned, trials, settings)
    (item,), setup = made, made.setup
    showing = (tuple(trials),)
    by_network, decoded = setup.decoders([(small_encoder, aligned)], showing)
    guess = np.clip(setup.of_decoders.movie(by_network, decoded), 0, 255)
    assert made.info["blend_of_decoders"]["explained"] == setup.of_decoders.explained > 0
    np.testing.assert_array_equal(item.baselines["amortized"], by_network)
    np.testing.assert_array_equal(item.baselines["ridge"], decoded)
    begun = invert(setup, [(small_encoder, aligned)], showing, settings)
    np.testing.assert_array_equal(begun.decoded, guess)
    np.testing.assert_array_equal(item.video, setup.blended(begun.fit.video, guess))
    assert made.info["behavior"] == "given"


def test_clips_side_by_side_come_out_as_one_by_one(quick, small_mouse, small_encoder, tmp_path):
    four = QUICK.model_copy(update={"clips_at_once": 4})
    aligned = small_mouse.aligned
    trials = [trial for item in quick for trial in item.trials]
    # of the first batch one is there already
    reconstruct(small_encoder, aligned, trials, four, state=tmp_path)
    for kept in tmp_path.glob("trial-*"):
        if kept.stem != f"trial-{trials[1]}":
            kept.unlink()
    batches = []

    class Watched(type(small_encoder)):
        def predict_rates(self, video, behavior):
            batches.append(len(video))
            return super().predict_rates(video, behavior)

    watched = copy.copy(small_encoder)
    watched.__class__ = Watched
    made = reconstruct(watched, aligned, trials, four, state=tmp_path)
    assert max(batches) == 3
    assert [item.trials for item in made] == [item.trials for item in quick]
    for item, alone in zip(made, quick, strict=True):
        assert np.corrcoef(item.video.ravel(), alone.video.ravel())[0, 1] > 0.999
        assert np.abs(item.video - alone.video).mean() < 0.5
        assert item.snapshots.shape == alone.snapshots.shape


def test_repeats_may_be_fused(quick, small_mouse, small_encoder):
    fused = reconstruct(small_encoder, small_mouse.aligned, settings=QUICK.model_copy(update={"fuse": "repeats"}))
    aligned = small_mouse.aligned
    assert len(fused) == 2
    for item in fused:
        assert len(item.trials) == 3
        assert set(aligned.trials.loc[list(item.trials), "clip"]) == {item.clip}
        assert item.onset == aligned.trials.at[item.trials[0], "onset"]
        np.testing.assert_allclose(
            item.baselines["ridge"],
            np.clip(np.mean([quick_raw(small_encoder, aligned, trial) for trial in item.trials], axis=0), 0, 255),
            atol=1e-3,
        )
    # three witnesses say more than one
    assert mean_score(small_mouse, fused, quick.mask) > mean_score(small_mouse, quick, quick.mask) + 0.02


def quick_raw(encoder, aligned, trial):
    from nwbrecon.inversion import fit_ridge

    return fit_ridge(aligned).predict(aligned, trial)


def test_behavior_may_be_withheld(quick, small_mouse, small_encoder):
    trials = small_mouse.aligned.trials_in("test")[:1]
    withheld = reconstruct(
        small_encoder, small_mouse.aligned, trials, QUICK.model_copy(update={"behavior": "withheld"})
    )
    assert withheld.info["behavior"] == "withheld"
    assert np.isfinite(withheld[0].video).all()
    difference = np.abs(withheld[0].video - quick[0].video)
    assert difference.max() > 0


def test_trials_may_be_named_and_come_in_time_order(quick, small_mouse, small_encoder):
    first, second, *_ = small_mouse.aligned.trials_in("test")
    found = reconstruct(small_encoder, small_mouse.aligned, [second, first, second], QUICK)
    assert [item.trials for item in found] == [(first,), (second,)]
    np.testing.assert_array_equal(found[1].video, quick[1].video)


def test_what_is_not_there_is_refused(small_mouse, small_encoder):
    aligned = small_mouse.aligned
    untested = replace(aligned, trials=aligned.trials.assign(split=aligned.trials["split"].replace("test", "")))
    with pytest.raises(InversionError, match="has no test trials"):
        reconstruct(small_encoder, untested, settings=QUICK)
    with pytest.raises(InversionError, match=r"no trial 999\. .* labels 0 to 24"):
        reconstruct(small_encoder, aligned, [0, 999], QUICK)
    with pytest.raises(InversionError, match="No trials were given"):
        reconstruct(small_encoder, aligned, [], QUICK)


def test_noise_that_an_encoder_does_not_know_is_not_whitened(small_mouse, small_encoder):
    older = copy.copy(small_encoder)
    older.noise = None
    with pytest.raises(EncoderError, match="Train it anew"):
        reconstruct(older, small_mouse.aligned, settings=QUICK.model_copy(update={"noise": "shared"}))


def test_another_session_is_refused(small_encoder):
    other = make_mouse(n_rois=12, train=2, validation=1, test=1, seconds=2.0, make_movie=smooth_noise).aligned
    with pytest.raises(EncoderError, match="ROIs 12"):
        reconstruct(small_encoder, other, settings=QUICK)


@pytest.fixture(scope="module")
def second():
    """Another mouse that saw what the small mouse saw, and its encoder."""
    mouse = make_mouse(noise=0.3, make_movie=smooth_noise, cell_seed=5)
    with progress_shown(False):
        return train(mouse.aligned, ENCODER, TrainingSettings(epochs=3)), mouse.aligned


def test_mice_that_saw_the_same_are_fused(quick, small_mouse, small_encoder, second, tmp_path):
    other_encoder, other = second
    encoders, sessions = [small_encoder, other_encoder], [small_mouse.aligned, other]
    fused = reconstruct(encoders, sessions, settings=QUICK, state=tmp_path)
    # one movie for each showing, the first with the first, under the first session's labels
    assert [item.trials for item in fused] == [item.trials for item in quick]
    assert {item.info["witnesses"] for item in fused} == {2}
    alone = reconstruct(other_encoder, other, settings=QUICK)
    np.testing.assert_array_equal(fused.mask, quick.mask | alone.mask)
    # the linear decoders' movies are averaged
    of_other = {(item.clip, other.trials.at[item.trials[0], "repeat"]): item for item in alone}
    for item, first in zip(fused, quick, strict=True):
        repeat = small_mouse.aligned.trials.at[item.trials[0], "repeat"]
        mean = (first.baselines["ridge"] + of_other[item.clip, repeat].baselines["ridge"]) / 2
        # but for what each by itself would be clipped at black and white
        assert np.median(np.abs(item.baselines["ridge"] - mean)) < 1e-3
    # two see better than one
    for method, gain in ((lambda item: item.video, 0.05), (lambda item: item.baselines["ridge"], 0.0)):
        scores = [
            np.mean([dynamic_correlation(method(item), true_movie(small_mouse, item), quick.mask) for item in items])
            for items in (fused, quick, alone)
        ]
        assert scores[0] > max(scores[1:]) + gain
    assert_same(reconstruct(encoders, sessions, settings=QUICK, state=tmp_path), fused)


def test_mice_are_fused_with_calibrated_uncertainty_and_all_repeats(small_mouse, small_encoder, second):
    settings = QUICK.model_copy(update={"fuse": "repeats", "uncertainty": True, "prior": "auto", "selection_trials": 1})
    aligned = small_mouse.aligned
    fused = reconstruct([small_encoder, second[0]], [aligned, second[1]], settings=settings)
    assert [item.info["witnesses"] for item in fused] == [6, 6]
    assert all(item.std.shape == item.video.shape for item in fused)
    # what is known of the prior is known of the movie that both tell of
    assert [row["prior"] for row in fused.info["choice"]] == ["movie", "ridge"]


def test_without_a_validation_clip_in_common_held_out_rois_choose(small_mouse, small_encoder, second):
    other = second[1]
    validation = other.trials["split"] == "validation"
    apart = replace(other, trials=other.trials.assign(clip=other.trials["clip"].where(~validation, "another")))
    settings = QUICK.model_copy(
        update={"uncertainty": True, "prior_weight": None, "candidate_weights": (0.5, 2.0), "iterations": 4}
    )
    trial = small_mouse.aligned.trials_in("test", repeats=[0])[0]
    fused = reconstruct([small_encoder, second[0]], [small_mouse.aligned, apart], [trial], settings)
    best = min(fused.info["choice"], key=lambda row: row["held_out"])
    assert fused.info["prior_weight"] == best["weight"]
    assert fused.info["blend"] == Blend.of_first().as_dict()
    assert fused[0].std is None
    assert "no validation clip in common" in " ".join(fused.warnings)


def test_sessions_that_do_not_fit_are_not_fused(small_mouse, small_encoder, second):
    encoders, (_, other), aligned = [small_encoder, second[0]], second, small_mouse.aligned
    with pytest.raises(InversionError, match="1 encoders and 2 sessions"):
        reconstruct(small_encoder, [aligned, other])
    slow = replace(other, frame_rate=15.0)
    with pytest.raises(InversionError, match="20x32 pixels at 15 Hz and 20x32 pixels at 30 Hz"):
        reconstruct(encoders, [aligned, slow])
    for column, value, words in (
        ("clip", "another", "not shown in every session"),
        ("split", "train", "for training in one of the sessions"),
    ):
        trials = other.trials.copy()
        trials.loc[trials["split"] == "test", column] = value
        with pytest.raises(InversionError, match=words):
            reconstruct(encoders, [aligned, replace(other, trials=trials)], settings=QUICK)
    trials = other.trials.replace({"clip": {"test 0": "test 1", "test 1": "test 0"}})
    with pytest.raises(InversionError, match="differs between the sessions"):
        reconstruct(encoders, [aligned, replace(other, trials=trials)], settings=QUICK)


@pytest.mark.parametrize("preset", ["bauer2026", "bauer2026-text"])
def test_the_published_method_is_a_preset(preset, small_mouse, small_encoder, tmp_path):
    aligned = small_mouse.aligned
    (trial, *_) = aligned.trials_in("test")
    published = PRESETS[preset].model_copy(update={"iterations": 3})
    transparency = TransparencySettings(iterations=2, window_frames=40)
    settings = InversionSettings(preset=preset, published=published, transparency=transparency, device="cpu")
    made = reconstruct(small_encoder, aligned, [trial], settings, state=tmp_path)
    assert made.method == preset
    (item,) = made
    mask = train_transparency(small_encoder, aligned, aligned.trials_in("train"), transparency)
    expected = reconstruct_bauer2026(small_encoder, aligned, trial, published, transparency=mask)
    np.testing.assert_array_equal(item.video, expected.video)
    assert item.baselines["ridge"].shape == item.video.shape
    # what was kept is taken up
    (again,) = reconstruct(small_encoder, aligned, [trial], settings, state=tmp_path)
    np.testing.assert_array_equal(again.video, item.video)
    with pytest.raises(SettingsError, match="one trial of one session"):
        reconstruct(small_encoder, aligned, settings=settings.model_copy(update={"fuse": "repeats"}))


@pytest.mark.gpu
def test_on_a_gpu_the_movie_is_the_same(small_mouse, small_encoder, quick, gpu):
    encoder = copy.deepcopy(small_encoder)
    there = reconstruct(encoder, small_mouse.aligned, settings=QUICK.model_copy(update={"device": gpu}))
    for found, expected in zip(there, quick, strict=True):
        np.testing.assert_allclose(found.baselines["ridge"], expected.baselines["ridge"], atol=0.1)
        # both have taken the same steps, in single precision
        assert np.sqrt(np.mean((found.video - expected.video) ** 2)) < 1.0
        assert np.corrcoef(found.video.ravel(), expected.video.ravel())[0, 1] > 0.999


@pytest.mark.gpu
@pytest.mark.parametrize("noise", ["shared", "autoregressive"])
def test_on_a_gpu_priors_are_chosen_noise_is_whitened_and_uncertainty_is_given(small_mouse, small_encoder, gpu, noise):
    settings = InversionSettings(
        prior="auto",
        candidate_weights=(0.5, 2.0),
        selection_trials=2,
        iterations=4,
        noise=noise,
        choose_by="held-out",
    )
    here = reconstruct(
        copy.deepcopy(small_encoder), small_mouse.aligned, settings=settings.model_copy(update={"device": "cpu"})
    )
    there = reconstruct(copy.deepcopy(small_encoder), small_mouse.aligned, settings=settings)
    assert there.info["prior_weight"] == here.info["prior_weight"]
    for found, expected in zip(there, here, strict=True):
        assert np.corrcoef(found.video.ravel(), expected.video.ravel())[0, 1] > 0.99
        assert np.isfinite(found.std).all()


@pytest.mark.gpu
def test_on_a_gpu_the_published_loop_is_the_same(small_mouse, small_encoder, gpu):
    encoder, trial = copy.deepcopy(small_encoder), small_mouse.aligned.trials_in("test")[0]
    settings = PRESETS["bauer2026"].model_copy(update={"iterations": 5})
    expected = reconstruct_bauer2026(encoder, small_mouse.aligned, trial, settings)
    found = reconstruct_bauer2026(encoder.to(gpu), small_mouse.aligned, trial, settings)
    np.testing.assert_allclose(found.video, expected.video, atol=0.05)
