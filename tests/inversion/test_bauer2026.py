from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pixels import PixelEncoder, make_session
from scipy.ndimage import gaussian_filter

from nwbrecon.config import Bauer2026Settings, EncoderSettings
from nwbrecon.encoding import EncoderEnsemble, VideoEncoder
from nwbrecon.encoding.dwiseneuro import DwiseNeuroEncoder
from nwbrecon.errors import EncoderError, InversionError
from nwbrecon.inversion.bauer2026 import PRESETS, Bauer2026Loop, reconstruct_bauer2026, window_starts
from nwbrecon.inversion.channels import window_targets
from nwbrecon.metrics import pixel_correlation

DATA = Path(__file__).parents[1] / "data" / "dwiseneuro"
SIZE = (12, 14)
ALL_PIXELS = tuple(index.ravel() for index in np.indices(SIZE))


@pytest.fixture(scope="module")
def released():
    """What the released code computed."""
    return np.load(DATA / "bauer2026_loop.npz")


def loop_of(released, *names):
    encoders = [DwiseNeuroEncoder.load(DATA / f"{name}.pth", readout=1) for name in names]
    behavior = np.concatenate([released["behavior"], released["pupil_center"]]).T
    return Bauer2026Loop(
        encoders,
        torch.from_numpy(released["responses"].T.copy()),
        torch.from_numpy(behavior.copy()),
        frame_size=(36, 64),
        transparency=released["mask"],
    )


def assert_follows(loop, released, kind, last):
    for iteration in range(last + 1):
        loop.step()
        if f"{kind}_video_{iteration}" in released:
            # of what has changed, which is little of the grey level at first
            expected = released[f"{kind}_video_{iteration}"] - 127.5
            np.testing.assert_allclose(
                loop.video - 127.5, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max(), err_msg=str(iteration)
            )
        if f"{kind}_loss_{iteration}" in released:
            assert loop.losses[-1] == pytest.approx(released[f"{kind}_loss_{iteration}"], rel=1e-5)


def test_one_encoder_takes_the_steps_of_the_released_code(released):
    loop = loop_of(released, "small")
    assert loop.starts == [0, 8, 16, 20]
    gradient, expected = loop.gradient(), released["one_model_gradient_1"]
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert_follows(loop, released, "one_model", 1)


@pytest.mark.slow
def test_twenty_iterations_are_those_of_the_released_code(released):
    assert_follows(loop_of(released, "small"), released, "one_model", 19)


@pytest.mark.slow
def test_two_encoders_share_their_gradients_as_in_the_released_code(released):
    assert_follows(loop_of(released, "small", "small_second"), released, "two_models", 5)


def by_hand(video, responses, scale, settings, n_iterations):
    """Follow the paper for an encoder whose rates are ``0.1 + scale video / 255``, window by window."""
    video, momentum = video.astype(float).copy(), np.zeros_like(video, dtype=float)
    for iteration in range(n_iterations):
        total, count = np.zeros_like(video), np.zeros((len(video), 1))
        for start in window_starts(len(video), 32, 8):
            frames = slice(start, start + 32)
            rates = 0.1 + scale * video[frames] / 255
            gradient = (1 - responses[frames] / rates) * scale / 255
            gradient[np.isnan(gradient)] = 0
            gradient /= np.isfinite(responses[frames]).sum()
            if settings.normalize == "window":
                gradient /= np.linalg.norm(gradient) + 1e-6
            total[frames] += gradient
            count[frames] += 1
        gradient = total / count
        if settings.normalize == "clip":
            gradient /= np.linalg.norm(gradient) + 1e-6
        if iteration == 0:
            continue
        momentum = 0.9 * momentum + 0.1 * gradient
        rate = 1000 * min(1, iteration / 10)
        if settings.second_momentum:
            step = rate * np.sqrt(1 - 0.999 ** (iteration + 1)) / (1 - 0.9 ** (iteration + 1))
            update = step * momentum / (1 - 0.9 ** (iteration + 1))
        else:
            update = rate * momentum / (1 - 0.9**iteration)
        video = np.clip(video - update, 0, 255)
    return video


@pytest.mark.parametrize("preset", PRESETS)
def test_code_and_text_agree_with_a_calculation_by_hand(preset):
    encoder = PixelEncoder(*ALL_PIXELS)
    aligned = make_session(encoder, n_frames=45)
    responses = window_targets(aligned, 5)
    # missing responses say nothing; the first window knows nothing at all of one cell
    responses[10:14, 3] = np.nan
    responses[:32, 7] = np.nan
    loop = Bauer2026Loop(
        [encoder], torch.from_numpy(responses), torch.zeros(45, 0), frame_size=SIZE, settings=PRESETS[preset]
    )
    for _ in range(25):
        loop.step()
    expected = by_hand(np.full((45, 168), 127.5), responses, 4.0, PRESETS[preset], 25)
    np.testing.assert_allclose(loop.video.reshape(45, -1), expected, rtol=1e-4, atol=0.01)


def test_what_was_shown_is_found_where_cells_tell_it_exactly():
    encoder = PixelEncoder(*ALL_PIXELS)
    aligned = make_session(encoder)
    found = reconstruct_bauer2026(encoder, aligned, 5, Bauer2026Settings(iterations=150, blur=0))
    assert pixel_correlation(found.video, aligned.trial(5).video) > 0.97
    assert (found.clip, found.trials, found.onset) == ("clip 5", (5,), aligned.trials.at[5, "onset"])
    assert found.history["objective"].iloc[-1] < found.history["objective"].iloc[0]
    assert list(found.history["iteration"]) == list(range(1, 151))


def test_snapshots_are_what_shorter_runs_give():
    encoder = PixelEncoder(*ALL_PIXELS)
    aligned = make_session(encoder)
    long = reconstruct_bauer2026(encoder, aligned, 5, Bauer2026Settings(iterations=25), record_every=10)
    assert list(long.snapshot_iterations) == [10, 20, 25]
    assert long.snapshots.dtype == np.uint8
    for iterations, snapshot in zip((10, 20), long.snapshots, strict=False):
        short = reconstruct_bauer2026(encoder, aligned, 5, Bauer2026Settings(iterations=iterations))
        np.testing.assert_allclose(snapshot, short.video, atol=0.51)
        assert short.snapshots is None


def test_several_encoders_are_averaged_and_then_smoothed():
    first, second = PixelEncoder(*ALL_PIXELS), PixelEncoder(*ALL_PIXELS, scale=6.0)
    aligned = make_session(first)
    sharp = Bauer2026Settings(iterations=20, blur=0)
    alone = [reconstruct_bauer2026(encoder, aligned, 5, sharp).video for encoder in (first, second)]
    together = reconstruct_bauer2026([first, second], aligned, 5, Bauer2026Settings(iterations=20))
    np.testing.assert_allclose(together.video, gaussian_filter(np.mean(alone, axis=0), 0.5), rtol=1e-5)
    assert together.info["members"] == 2
    gradients = reconstruct_bauer2026(
        [first, second], aligned, 5, Bauer2026Settings(iterations=20, blur=0, ensemble="gradient")
    )
    assert np.abs(gradients.video - np.mean(alone, axis=0)).max() > 1


def test_members_of_an_ensemble_count_as_several_encoders():
    aligned = make_session(PixelEncoder(*ALL_PIXELS))
    members = [
        VideoEncoder(EncoderSettings(channels=4), n_rois=168, frame_size=SIZE, frame_rate=30.0, seed=seed)
        for seed in (0, 1)
    ]
    ensemble = EncoderEnsemble(
        members,
        rois=aligned.rois,
        kinds=[group.kind for group in aligned.groups],
        dispersion=np.ones(168),
        linear_scores=np.ones(168),
        validation_scores=np.ones(168),
        gate={"sees": True, "sentence": ""},
        history=pd.DataFrame(),
        info={},
    )
    settings = Bauer2026Settings(iterations=3)
    expected = reconstruct_bauer2026(members, aligned, 5, settings)
    found = reconstruct_bauer2026(ensemble, aligned, 5, settings)
    np.testing.assert_array_equal(found.video, expected.video)
    assert found.info["members"] == 2


@pytest.mark.parametrize("batch_windows", [2, 10])
def test_windows_at_once_give_the_same(batch_windows):
    encoder = PixelEncoder(*ALL_PIXELS)
    aligned = make_session(encoder)
    settings = Bauer2026Settings(iterations=10)
    expected = reconstruct_bauer2026(encoder, aligned, 5, settings)
    found = reconstruct_bauer2026(encoder, aligned, 5, settings, batch_windows=batch_windows)
    np.testing.assert_allclose(found.video, expected.video, atol=1e-3)
    np.testing.assert_allclose(found.history["objective"], expected.history["objective"], rtol=1e-5)


def test_the_mask_keeps_pixels_gray():
    encoder = PixelEncoder(*ALL_PIXELS)
    aligned = make_session(encoder)
    transparency = np.zeros(SIZE)
    transparency[:, 4:] = 0.6
    transparency[:, 9:] = 1.2
    settings = Bauer2026Settings(iterations=20, blur=0)
    found = reconstruct_bauer2026(encoder, aligned, 5, settings, transparency=transparency)
    assert (found.video[:, :, :9] == 127.5).all()
    assert found.video[:, :, 9:].std() > 5
    loop = Bauer2026Loop(
        [encoder],
        torch.from_numpy(window_targets(aligned, 5)),
        torch.zeros(50, 0),
        frame_size=SIZE,
        transparency=transparency,
    )
    moved = loop.gradient().abs().sum(dim=(0, 1)) > 0
    assert moved.tolist() == [False] * 4 + [True] * 10


def test_the_padding_of_a_mask_of_the_videos_size_is_not_moved(released):
    loop = loop_of(released, "small")
    small = Bauer2026Loop(
        [loop.inputs[0].encoder],
        loop.responses,
        loop.behavior,
        frame_size=(36, 64),
        transparency=np.ones((36, 64)),
    )
    assert small.mask.shape == (64, 64)
    assert small.mask[14:50].all()
    assert not small.mask[:14].any()
    assert small.crop(small.video.numpy()).shape == (52, 36, 64)


def test_predictions_without_their_past_stay_out_of_the_loss():
    encoder = PixelEncoder(*ALL_PIXELS, warm_up=6, lag=6)
    aligned = make_session(encoder, n_frames=40)
    loop = Bauer2026Loop([encoder], torch.from_numpy(window_targets(aligned, 5)), torch.zeros(40, 0), frame_size=SIZE)
    assert loop.starts == [0, 8]
    gradient = loop.gradient().abs().sum(dim=(1, 2))
    # the last frames are seen by no prediction, the first ones by later predictions
    assert (gradient[:34] > 0).all()
    assert (gradient[34:] == 0).all()


def test_predictions_without_their_future_stay_out_of_the_loss():
    class Ahead(PixelEncoder):
        look_ahead = 6

        def predict_rates(self, video, behavior):
            return super().predict_rates(video.flip(2), behavior).flip(2)

    encoder = Ahead(*ALL_PIXELS, lag=6)
    aligned = make_session(encoder, n_frames=40)
    loop = Bauer2026Loop([encoder], torch.from_numpy(window_targets(aligned, 5)), torch.zeros(40, 0), frame_size=SIZE)
    gradient = loop.gradient().abs().sum(dim=(1, 2))
    # the first frames are seen by no prediction, the last ones by earlier predictions
    assert (gradient[6:] > 0).all()
    assert (gradient[:6] == 0).all()


def test_a_stretch_without_responses_stays_gray():
    encoder = PixelEncoder(*ALL_PIXELS)
    aligned = make_session(encoder)
    aligned.valid[aligned.trials.at[5, "first_frame"] + 5 :] = False
    found = reconstruct_bauer2026(encoder, aligned, 5, Bauer2026Settings(iterations=5, blur=0))
    assert found.video[:5].std() > 1
    assert (found.video[5:] == 127.5).all()


@given(window=st.integers(1, 40), extra=st.integers(0, 200), stride=st.integers(1, 50))
def test_windows_lie_in_the_clip_and_the_last_ends_with_it(window, extra, stride):
    n_frames = window + extra
    starts = window_starts(n_frames, window, stride)
    assert starts == sorted(set(starts))
    assert starts[0] == 0
    assert starts[-1] + window == n_frames
    assert all(start % stride == 0 for start in starts[:-1])


def test_ten_seconds_take_the_published_number_of_windows():
    starts = window_starts(300, 32, 8)
    assert len(starts) == 35
    assert starts[-2:] == [264, 268]


def test_what_does_not_fit_is_refused(released):
    encoder = PixelEncoder(*ALL_PIXELS)
    aligned = make_session(encoder)
    with pytest.raises(InversionError, match=r"mask has 5x6 pixels. The video has 12x14"):
        reconstruct_bauer2026(encoder, aligned, 5, transparency=np.ones((5, 6)))
    dwiseneuro = DwiseNeuroEncoder.load(DATA / "small.pth", behavior_names=())
    with pytest.raises(InversionError, match=r"take frames of 12x14 and 64x64 pixels"):
        reconstruct_bauer2026([encoder, dwiseneuro], aligned, 5, Bauer2026Settings(ensemble="gradient"))
    short = make_session(encoder, n_frames=20)
    with pytest.raises(EncoderError, match="20 frames"):
        reconstruct_bauer2026(dwiseneuro, short, 5)


def test_rates_that_are_not_finite_are_reported():
    encoder = PixelEncoder(*ALL_PIXELS)
    aligned = make_session(encoder)
    with pytest.raises(InversionError, match="not finite at iteration 0"):
        reconstruct_bauer2026(PixelEncoder(*ALL_PIXELS, scale=float("nan")), aligned, 5)
