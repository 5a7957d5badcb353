import json

import numpy as np
import pandas as pd
import pytest
from small import FRAME_RATE, counts_between

import nwbrecon as nr
from nwbrecon.alignment import AlignedGroup, AlignedSession, reliability
from nwbrecon.encoding.prediction import single_trial_correlation
from nwbrecon.errors import EncoderError
from nwbrecon.session import SignalKind

N_ROIS, N_FRAMES, STEP = 5, 900, 3
CLIPS = ["train a", "train b", *(f"test {n % 4}" for n in range(4 * 4)), "test once"]


class Brightness:
    """An encoder that knows: the rate of an ROI is the brightness of its column, though another row may mislead it."""

    warm_up = 6

    def __init__(self, misled=0.0, scale=1.0):
        self.misled, self.scale = misled, scale

    def predict_rates(self, video, behavior):
        rows = self.scale * video[:, 0]
        return (rows[:, :, 0] + self.misled * (rows[:, :, 1] - 3 * self.scale)).transpose(1, 2)


def movies(rng):
    """Brightness of mean 3 and variance 1, another in each sample's frames."""
    made = {}
    for name in dict.fromkeys(CLIPS):
        values = 3 + rng.standard_normal((N_FRAMES // STEP, 2, N_ROIS))
        made[name] = np.repeat(values, STEP, axis=0).astype(np.float32)
    return made


def session(respond, *, seed=0, kind=SignalKind.EVENTS, clips=CLIPS, late=0.0):
    """Each sample counts three frames of the movie; `late` seconds of jitter move onsets against the samples."""
    rng = np.random.default_rng(seed)
    shown = movies(rng)
    gap = 30
    onsets = (30 + np.arange(len(clips)) * (N_FRAMES + gap)) / FRAME_RATE + rng.uniform(0, 1, len(clips)) * late
    fine = 100
    screen = np.full((round((onsets[-1] + N_FRAMES / FRAME_RATE + 1) * FRAME_RATE * fine), N_ROIS), 3.0)
    for onset, name in zip(onsets, clips, strict=True):
        start = round(onset * FRAME_RATE * fine)
        screen[start : start + N_FRAMES * fine] = np.repeat(shown[name][:, 0], fine, axis=0)
    clock = np.arange(0, len(screen) // fine // STEP) * STEP / FRAME_RATE
    counts = counts_between(screen, clock * fine) / fine * FRAME_RATE
    group = AlignedGroup(
        "plane",
        kind,
        clock,
        respond(counts, rng).astype(np.float32),
        np.ones(N_ROIS),
        pd.DataFrame(index=range(N_ROIS)),
    )
    return AlignedSession.from_arrays(
        [shown[name] for name in clips],
        [group],
        onsets=onsets,
        clips=clips,
        splits=[name.split()[0] for name in clips],
        frame_rate=FRAME_RATE,
    )


def with_noise(variance):
    """Counts of variance 9 (three frames of one brightness), and noise."""
    return lambda counts, rng: counts + np.sqrt(variance) * rng.standard_normal(counts.shape)


def close(values, truth, tolerance=0.04):
    assert np.mean(values) == pytest.approx(truth, abs=tolerance)
    assert np.abs(values - truth).max() < 3 * tolerance


@pytest.mark.parametrize("noise", [3.0, 27.0])
def test_the_signal_itself_reaches_every_ceiling(noise):
    scores = nr.score_encoder(Brightness(), session(with_noise(noise)))
    found, repeats = scores.of("encoder"), scores.repeats
    single, average = np.sqrt(9 / (9 + noise)), np.sqrt(9 / (9 + noise / 4))
    close(found["single_trial_correlation"], single)
    close(repeats["single_trial_ceiling"], single)
    close(found["correlation_to_average"], average)
    close(repeats["average_ceiling"], average)
    close(found["normalized_correlation"], 1)
    close(repeats["oracle"], 9 / np.sqrt((9 + noise) * (9 + noise / 3)))
    # a frame holds a third of a sample
    close(repeats["signal_power"], 1, 0.1)
    close(repeats["noise_power"], noise / 9, 0.1 * noise / 9)


def test_what_an_encoder_adds_that_is_not_there_costs_its_share():
    scores = nr.score_encoder(Brightness(misled=0.75), session(with_noise(27.0)))
    close(scores.of("encoder")["normalized_correlation"], 0.8)
    close(scores.of("encoder")["single_trial_correlation"], 0.8 * 0.5)


@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_bits_are_the_information_of_poisson_counts(scale):
    rates = []

    def respond(counts, rng):
        rates.append(counts.clip(0))
        return scale * rng.poisson(rates[-1])

    aligned = session(respond)
    scores = nr.score_encoder(Brightness(scale=scale), aligned)
    (rates,) = rates
    tested = np.zeros(len(rates), bool)
    for label in aligned.trials_in("test"):
        onset = aligned.trials.at[label, "onset"]
        times = aligned.groups[0].timestamps
        tested |= (times > onset + 9.5 / FRAME_RATE) & (times < onset + (N_FRAMES + 0.5) / FRAME_RATE)
    shown = rates[tested].clip(1e-9)
    truth = (shown * np.log2(shown / 9) - (shown - 9) / np.log(2)).sum(axis=0) / shown.sum(axis=0)
    np.testing.assert_allclose(scores.of("encoder")["bits"], truth, atol=0.008)
    assert truth.min() > 0.05
    np.testing.assert_allclose(scores.of("mean")["bits"], 0, atol=1e-6)
    # the linear baseline is as good: the brightness is all there is to know
    np.testing.assert_allclose(scores.of("linear-nonlinear")["bits"], truth, atol=0.02)


def test_showings_that_fall_differently_on_the_samples_are_brought_together():
    """With onsets that the clock does not heed, the signal still scores a normalized correlation of about 1."""
    scores = nr.score_encoder(Brightness(), session(with_noise(9.0), late=0.5))
    close(scores.of("encoder")["normalized_correlation"], 1, 0.08)
    # jitter between showings blurs this movie, which has nothing but change from one sample to the next
    assert scores.repeats["signal_power"].mean() < 0.75


def test_one_definition_of_single_trial_correlation():
    aligned = session(with_noise(9.0))
    found = nr.score_encoder(Brightness(), aligned)
    plain = single_trial_correlation(Brightness(), aligned, aligned.trials_in("test"))
    np.testing.assert_allclose(found.of("encoder")["single_trial_correlation"], plain, rtol=1e-6)
    assert found.mean("single_trial_correlation") == pytest.approx(plain.mean())
    # leaving out the warm-up makes little difference to the oracle
    np.testing.assert_allclose(found.repeats["oracle"], reliability(aligned, aligned.trials_in("test")), atol=0.02)


def test_a_constant_prediction_scores_nothing_and_an_unmeasured_roi_is_unknown():
    def respond(counts, rng):
        made = with_noise(9.0)(counts, rng)
        made[:, 1], made[:, 2] = 4.0, np.nan
        return made

    scores = nr.score_encoder(Brightness(), session(respond))
    constant = scores.of("mean")
    np.testing.assert_array_equal(constant["single_trial_correlation"], [0, np.nan, np.nan, 0, 0])
    np.testing.assert_array_equal(constant["correlation_to_average"], [0, np.nan, np.nan, 0, 0])
    assert scores.of("encoder")["normalized_correlation"].isna().tolist() == [False, True, True, False, False]
    row = scores.summary.query("method == 'encoder' and metric == 'single_trial_correlation'").iloc[0]
    assert row["n_rois"] == 3
    assert row["low"] <= row["mean"] <= row["high"]


def test_without_repeats_there_is_no_ceiling():
    clips = [name for place, name in enumerate(CLIPS) if name not in CLIPS[:place]]
    scores = nr.score_encoder(Brightness(), session(with_noise(9.0), clips=clips))
    assert scores.info["repeated_clips"] == 0
    assert scores.repeats[["oracle", "single_trial_ceiling", "average_ceiling", "signal_power"]].isna().all(axis=None)
    assert scores.of("encoder")[["correlation_to_average", "normalized_correlation"]].isna().all(axis=None)
    close(scores.of("encoder")["single_trial_correlation"], np.sqrt(0.5), 0.06)
    assert "–" in repr(scores)


def test_fluorescence_has_no_bits():
    aligned = session(with_noise(9.0), kind=SignalKind.DFF)
    scores = nr.score_encoder(Brightness(), aligned)
    assert scores.rois["bits"].isna().all()
    assert scores.rois.query("method == 'encoder'")["single_trial_correlation"].notna().all()


def test_controls_take_from_the_encoder_what_they_say(small_mouse, small_encoder):
    aligned = small_mouse.aligned
    scores = nr.score_encoder(small_encoder, aligned)
    by_method = {name: scores.mean("single_trial_correlation", name) for name in scores.rois["method"].unique()}
    assert by_method["encoder"] > by_method["linear-nonlinear"] > by_method["mean"] == 0
    assert by_method["encoder"] > by_method["behavior withheld"] > by_method["wrong clip"]
    assert abs(by_method["other ROIs"]) < 0.15
    assert abs(by_method["gray screen"] - by_method["behavior"]) < 0.15
    assert by_method["encoder"] < scores.mean("single_trial_correlation", "ceiling") + 0.05
    assert scores.mean("normalized_correlation") <= 1.05
    assert scores.mean("bits") > scores.mean("bits", "linear-nonlinear") > 0
    gray = scores.of("gray screen")["single_trial_correlation"]
    # on a gray screen only behavior is left, and the gain of some cells hardly follows it
    assert gray.abs().max() < scores.of("encoder")["single_trial_correlation"].max()
    pd.testing.assert_frame_equal(scores.of("encoder")[["group", "roi_id"]], aligned.rois[["group", "roi_id"]])
    again = nr.score_encoder(small_encoder, aligned)
    pd.testing.assert_frame_equal(again.rois, scores.rois)


def test_labels_are_shuffled_within_planes_and_nobody_keeps_his_own():
    from nwbrecon.encoding.scoring import _mixed

    expected = np.tile(np.arange(7.0), (4, 1))
    ((mixed, _), (alone, _)) = _mixed([(expected, expected), (expected[:, :1], expected[:, :1])])
    assert sorted(mixed[0]) == list(range(7))
    assert (mixed != expected).all()
    assert np.isnan(alone).all()


def test_it_can_be_shown_and_kept(small_mouse, small_encoder):
    scores = nr.score_encoder(small_encoder, small_mouse.aligned, "validation")
    text, page = repr(scores), scores._repr_html_()
    for words in ("encoder", "linear-nonlinear", "wrong clip", "validation trials of 3 clips"):
        assert words in text
        assert words in page
    assert f"{scores.mean('single_trial_correlation'):.2f}" in text
    json.dumps(scores.info)
    assert scores.info["seconds"] == pytest.approx(3 * 4.0)


class TestRefusals:
    def test_a_split_without_trials(self):
        with pytest.raises(EncoderError, match="0 validation trials and 2 training trials"):
            nr.score_encoder(Brightness(), session(with_noise(9.0)), "validation")

    def test_nothing_to_fit_the_baselines_to(self):
        aligned = session(with_noise(9.0))
        aligned.trials.loc[aligned.trials["split"] == "train", "split"] = ""
        with pytest.raises(EncoderError, match="0 training trials"):
            nr.score_encoder(Brightness(), aligned)

    def test_clips_that_were_trained_on(self, small_mouse, small_encoder):
        aligned = small_mouse.aligned
        trials = aligned.trials.copy()
        learned = trials.index[trials["split"] == "train"][:2]
        trials.loc[learned, "split"] = "test"
        other = AlignedSession(**{**vars(aligned), "trials": trials})
        with pytest.raises(EncoderError, match="trained on 2 of the test clips"):
            nr.score_encoder(small_encoder, other)
        # asked for by name, training clips are scored
        assert nr.score_encoder(small_encoder, aligned, "train").info["split"] == "train"

    def test_an_encoder_of_another_session(self, small_encoder):
        with pytest.raises(EncoderError, match="was trained with"):
            nr.score_encoder(small_encoder, session(with_noise(9.0)))
