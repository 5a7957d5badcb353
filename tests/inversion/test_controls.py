"""What controls reconstruct, where it is known what they must find."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small import FRAME_SIZE, make_mouse, smooth_noise

from nwbrecon.alignment import responses_on_frames
from nwbrecon.config import ControlSettings
from nwbrecon.errors import InversionError
from nwbrecon.inversion import controls, fit_ridge, reconstruct_controls
from nwbrecon.inversion.controls import chosen_items
from nwbrecon.inversion.evidence import gather_evidence
from nwbrecon.inversion.setup import invert
from nwbrecon.metrics import pixel_correlation
from nwbrecon.progress import progress_shown

FEW = ControlSettings(clips=2)


@pytest.fixture(autouse=True)
def _quiet():
    with progress_shown(False):
        yield


@pytest.fixture(scope="module")
def made(small_mouse, small_encoder, small_reconstructions):
    with progress_shown(False):
        return reconstruct_controls(small_encoder, small_mouse.aligned, small_reconstructions, FEW)


def score(mouse, items, mask):
    trials = mouse.aligned.trials
    shown = {row["clip"]: mouse.aligned.trial(label).video for label, row in trials.iterrows()}
    return np.mean([pixel_correlation(item.video, shown[item.clip], mask) for item in items])


def test_clips_are_spread_and_the_first_showing_is_taken(small_reconstructions):
    items = chosen_items(small_reconstructions, 5)
    assert len(items) == 2
    assert len({item.clip for item in items}) == 2
    for item in items:
        assert item is small_reconstructions.of_clip(item.clip)[0]
    seven = [replace(items[0], clip=name) for name in "abcdefg" for _ in range(2)]
    assert [item.clip for item in chosen_items(seven, 3)] == ["a", "d", "g"]
    assert [item.clip for item in chosen_items(seven, 1)] == ["a"]


def test_every_control_is_run_or_says_why_not(made, small_reconstructions):
    assert list(made.movies) == ["behavior", "shuffled", "behavior_alone", "permuted"]
    assert list(made.left_out) == ["gray"]
    assert "None in the recording" in made.left_out["gray"]
    for movies in made.movies.values():
        assert [item.clip for item in movies] == [item.clip for item in chosen_items(small_reconstructions, 2)]
        for item in movies:
            assert item.video.dtype == np.float32
            assert item.video.min() >= 0
            assert item.video.max() <= 255


def test_without_its_cells_the_movie_is_lost(made, small_mouse, small_reconstructions):
    mask = small_reconstructions.mask
    own = score(small_mouse, chosen_items(small_reconstructions, 2), mask)
    assert own > 0.3
    assert abs(score(small_mouse, made.movies["permuted"], mask)) < 0.15
    # what is noise of a trial is lost with it, what is signal is not
    assert score(small_mouse, made.movies["shuffled"], mask) == pytest.approx(own, abs=0.1)
    assert score(small_mouse, made.movies["behavior"], mask) == pytest.approx(own, abs=0.05)


def test_behavior_is_really_withheld(made, small_mouse, small_encoder, small_setup, small_reconstructions):
    item = chosen_items(small_reconstructions, 2)[0]
    movie = made.movies["behavior"][0].video
    assert np.abs(movie - item.video).max() > 0.5
    # and given where it was withheld
    withheld = replace(
        small_reconstructions, settings=small_reconstructions.settings | {"behavior": "withheld"}, items=[item]
    )
    again = reconstruct_controls(small_encoder, small_mouse.aligned, withheld, ControlSettings(clips=1))
    np.testing.assert_allclose(again.movies["behavior"][0].video, item.video, atol=1e-3)


@pytest.fixture(scope="module")
def task(small_mouse, small_encoder, small_reconstructions):
    """What is inverted with shuffled cells: the setup, the recordings, the showing, the settings."""
    seen = []

    def watched(*arguments):
        seen.append(arguments)
        return invert(*arguments)

    one = replace(small_reconstructions, items=[small_reconstructions[0]])
    with pytest.MonkeyPatch.context() as patch, progress_shown(False):
        patch.setattr(controls, "invert", watched)
        reconstruct_controls(small_encoder, small_mouse.aligned, one, ControlSettings(clips=1))
    return next(arguments for arguments in seen if len(arguments[1]) > 1)


class TestShuffled:
    def test_each_response_is_from_one_other_showing(self, task, small_mouse, small_reconstructions):
        setup, recordings, showing, _ = task
        aligned = small_mouse.aligned
        own = small_reconstructions[0]
        trials = [trial for (trial,) in showing]
        assert own.trials[0] not in trials
        assert set(aligned.trials.loc[trials, "clip"]) == {own.clip}
        known = []
        for (encoder, other), trial in zip(recordings, trials, strict=True):
            parts, whole = (
                gather_evidence(encoder, session, trial, setup.margins)[0].observations for session in (other, aligned)
            )
            columns = []
            for part, complete in zip(parts, whole, strict=True):
                column = (part.known.sum(dim=1) > 0)[0]
                assert bool((part.known[0, :, column] == complete.known[0, :, column]).all())
                assert bool((part.measured[0, :, column] == complete.measured[0, :, column]).all())
                columns.append(column.numpy())
            known.append(np.concatenate(columns))
        # every ROI once, and no showing has them all
        np.testing.assert_array_equal(np.sum(known, axis=0), 1)
        assert all(0 < columns.sum() < len(columns) for columns in known)

    def test_the_linear_decoder_sees_all_of_them(self, task, small_setup):
        setup, recordings, showing, _ = task
        ridge = small_setup.ridges[0]
        lead, tail = max(0, -int(ridge.lags.min())) + 30, int(ridge.lags.max()) + 30
        whole = sum(
            np.nan_to_num(responses_on_frames(aligned, trial, lead, tail))
            for (_, aligned), (trial,) in zip(recordings, showing, strict=True)
        )
        # frame by frame, by the definition of the decoder
        step = int(ridge.lags[1] - ridge.lags[0])
        n_frames = len(whole) - lead - tail
        expected = np.empty((n_frames, ridge.weights.shape[1]))
        for frame in range(n_frames):
            windows = [
                whole[lead + frame + lag - step // 2 : lead + frame + lag - step // 2 + step].mean(axis=0)
                for lag in ridge.lags
            ]
            expected[frame] = (np.concatenate(windows) - ridge.mean_responses) @ ridge.weights + ridge.mean_video
        decoded = setup.decode(recordings, showing).reshape(n_frames, -1)
        np.testing.assert_allclose(decoded, expected, atol=0.05)


class TestBehaviorAlone:
    def test_a_movie_that_follows_behavior_is_found(self, small_mouse, small_encoder, small_reconstructions):
        aligned, mask = small_mouse.aligned, np.zeros(FRAME_SIZE, bool)
        mask[5:10, 8:14] = True
        behavior = np.asarray(aligned.video)[:, mask].mean(axis=1, keepdims=True).astype(np.float32)
        behavior[::50] = np.nan
        watched = replace(aligned, behavior=behavior, behavior_series={})
        made = reconstruct_controls(small_encoder, watched, small_reconstructions, FEW)
        assert score(small_mouse, made.movies["behavior_alone"], mask) > 0.5
        elsewhere = np.zeros(FRAME_SIZE, bool)
        elsewhere[:, 24:] = True
        assert abs(score(small_mouse, made.movies["behavior_alone"], elsewhere)) < 0.15

    def test_running_tells_nothing_of_noise(self, made, small_mouse, small_reconstructions):
        assert abs(score(small_mouse, made.movies["behavior_alone"], small_reconstructions.mask)) < 0.15

    def test_behavior_takes_the_place_of_responses(self, small_mouse):
        aligned = small_mouse.aligned
        behaved = controls._behavior_as_responses(aligned)
        assert behaved.n_rois == 1
        training = np.repeat(aligned.trials["split"] == "train", aligned.trials["n_frames"]).to_numpy()
        values = aligned.behavior[training, 0].astype(float)
        for trial in (0, 7):
            expected = (aligned.trial(trial).behavior - values.mean()) / values.std()
            seen = responses_on_frames(behaved, trial)
            np.testing.assert_allclose(seen[2:-2], expected[2:-2], atol=0.05)
            assert np.isnan(responses_on_frames(behaved, trial, 10, 0)[:8]).all()
        assert fit_ridge(behaved).weights.shape[1] == np.prod(FRAME_SIZE)


def test_little_is_seen_in_a_gray_screen(small_encoder, small_reconstructions):
    # the mouse that the encoder knows, before a screen that stays gray
    mouse = make_mouse(noise=0.3, make_movie=smooth_noise, margin=150)
    last = float(mouse.aligned.trials["onset"].max()) + 4.0
    aligned = replace(mouse.aligned, gray=np.array([(0.0, 5.0), (last, last + 5.0)]))
    made = reconstruct_controls(small_encoder, aligned, small_reconstructions, FEW)
    mask = small_reconstructions.mask
    assert len(made.movies["gray"]) == 2
    for item in made.movies["gray"]:
        assert item.clip.startswith("gray at ")
        assert item.std.shape == item.video.shape == (90, *FRAME_SIZE)
        # forty cells leave much of it to noise, which does not look like a clip
        assert item.video[:, mask].std() < 0.9 * min(movie.video[:, mask].std() for movie in small_reconstructions)


class TestWhatCannotBeRun:
    def test_without_behavior(self, small_mouse, small_encoder, small_reconstructions):
        n_frames = len(small_mouse.aligned.video)
        aligned = replace(small_mouse.aligned, behavior=np.zeros((n_frames, 0), np.float32), behavior_names=())
        plan = controls._Plan(small_encoder, aligned, small_reconstructions.setup, None, "map", FEW)
        assert "neither running nor pupil" in plan.behavior(list(small_reconstructions))
        assert "neither running nor pupil" in plan.behavior_alone(list(small_reconstructions))

    def test_of_the_linear_decoder(self, small_mouse, small_encoder, small_reconstructions):
        linear = replace(small_reconstructions, method="ridge")
        made = reconstruct_controls(small_encoder, small_mouse.aligned, linear, FEW)
        assert "never told" in made.left_out["behavior"]
        own = [
            replace(item, video=small_reconstructions.setup.decode([(None, small_mouse.aligned)], (item.trials,)))
            for item in chosen_items(small_reconstructions, 2)
        ]
        mask = small_reconstructions.mask
        assert score(small_mouse, made.movies["shuffled"], mask) == pytest.approx(
            score(small_mouse, own, mask), abs=0.05
        )
        assert made.movies["permuted"][0].std is None

    def test_of_the_published_method(self, small_mouse, small_encoder, small_reconstructions):
        slow = replace(small_reconstructions, method="bauer2026")
        made = reconstruct_controls(small_encoder, small_mouse.aligned, slow, FEW)
        assert list(made.movies) == ["behavior_alone"]
        assert "too long" in made.left_out["permuted"]

    def test_of_fused_repeats_and_of_clips_shown_once(self, small_mouse, small_encoder, small_reconstructions):
        plan = controls._Plan(small_encoder, small_mouse.aligned, small_reconstructions.setup, None, "map", FEW)
        fused = replace(small_reconstructions[0], trials=(1, 2))
        assert "fused" in plan.shuffled([fused])
        once = small_mouse.aligned.trials_in("train")[0]
        assert "three times" in plan.shuffled([replace(small_reconstructions[0], trials=(once,))])

    def test_what_was_read_from_a_file(self, small_mouse, small_encoder, small_reconstructions):
        with pytest.raises(InversionError, match="read from a file"):
            reconstruct_controls(small_encoder, small_mouse.aligned, replace(small_reconstructions, setup=None))
        setup = replace(small_reconstructions.setup, ridges=small_reconstructions.setup.ridges * 2)
        with pytest.raises(InversionError, match="2 sessions"):
            reconstruct_controls(small_encoder, small_mouse.aligned, replace(small_reconstructions, setup=setup))


def test_an_interrupted_run_goes_on_where_it_was(
    made, small_mouse, small_encoder, small_reconstructions, tmp_path, monkeypatch
):
    calls = []

    def stopping(*arguments, **options):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return invert(*arguments, **options)

    monkeypatch.setattr(controls, "invert", stopping)
    aligned = small_mouse.aligned
    with pytest.raises(KeyboardInterrupt):
        reconstruct_controls(small_encoder, aligned, small_reconstructions, FEW, state=tmp_path)
    again = reconstruct_controls(small_encoder, aligned, small_reconstructions, FEW, state=tmp_path)
    # two with behavior withheld and one shuffled were kept; one shuffled and two permuted were left
    assert len(calls) == 4 + 3
    for name, movies in made.movies.items():
        for one, other in zip(again.movies[name], movies, strict=True):
            pd.testing.assert_series_equal(pd.Series(one.video.ravel()), pd.Series(other.video.ravel()))
    reconstruct_controls(small_encoder, aligned, small_reconstructions, FEW, state=tmp_path)
    assert len(calls) == 7
    reconstruct_controls(small_encoder, aligned, small_reconstructions, ControlSettings(clips=1), state=tmp_path)
    assert len(calls) == 10
