from dataclasses import replace

import av
import numpy as np
import pytest
from PIL import Image

from nwbrecon.errors import ResultsError
from nwbrecon.results import Results
from nwbrecon.results.video import side_by_side, write_video

FRAMES = 70


@pytest.fixture(scope="module")
def results(reconstructions, scores, aligned):
    return Results(reconstructions, scores, {}, [aligned.trial(item.trials[0]).video for item in reconstructions])


def decode(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        return (
            stream.codec_context.name,
            stream.codec_context.pix_fmt,
            float(stream.average_rate),
            [float(frame.time) for frame in frames],
            [frame.to_ndarray(format="rgb24") for frame in frames],
        )


def test_mp4_has_every_frame_in_time_and_in_the_format_that_browsers_play(tmp_path, results):
    codec, pixels, rate, times, frames = decode(write_video(tmp_path / "a.mp4", results, height=36))
    assert (codec, pixels, rate) == ("h264", "yuv420p", 30)
    # the first showing of each of the three clips
    np.testing.assert_allclose(times, np.arange(3 * FRAMES) / 30, atol=1e-6)
    assert all(side % 2 == 0 for side in frames[0].shape[:2])
    head = (tmp_path / "a.mp4").read_bytes()[:64]
    # the index stands before the data: playback starts before the file has been loaded
    assert (tmp_path / "a.mp4").read_bytes().index(b"moov") < (tmp_path / "a.mp4").read_bytes().index(b"mdat")
    assert b"ftyp" in head
    # row 28 on is the picture of the first movie; compression changes it little
    shown = frames[FRAMES + 9][28:64, 8 : 8 + 64, 0].astype(float)
    true = np.kron(results.true_movies[1][9], np.ones((2, 2)))
    assert np.corrcoef(shown.ravel(), true.ravel())[0, 1] > 0.99


def test_mkv_is_lossless(tmp_path, results):
    codec, _, rate, _, frames = decode(write_video(tmp_path / "a.mkv", results, rows=[4], height=18))
    assert (codec, rate, len(frames)) == ("ffv1", 30, FRAMES)
    item = results.reconstructions[4]
    wanted = side_by_side(item, results.true_movies[4], mask=results.reconstructions.mask, height=18)
    for frame, other in zip(frames, wanted, strict=True):
        np.testing.assert_array_equal(frame, other)
    np.testing.assert_array_equal(frames[30][28:46, 8:40, 1], np.rint(results.true_movies[4][30]))


def test_gif_keeps_time_and_pictures(tmp_path, results):
    durations, shown = [], []
    with Image.open(write_video(tmp_path / "a.gif", results, rows=[0], height=18)) as image:
        for frame in range(image.n_frames):
            image.seek(frame)
            durations.append(image.info["duration"])
            shown.append(np.asarray(image.convert("RGB")).astype(int))
    assert sum(durations) == round(FRAMES / 30 * 100) * 10
    item, true = results.reconstructions[0], results.true_movies[0]
    wanted = list(side_by_side(item, true, mask=results.reconstructions.mask, height=18))
    # a frame that lasts longer stands for several
    starts = np.rint(np.cumsum([0, *durations[:-1]]) / 1000 * 30).astype(int)
    for start, frame in zip(starts, shown, strict=True):
        # 128 colors: each is off by a few levels
        assert np.abs(frame - wanted[start]).mean() < 4
    assert len(shown) == FRAMES


def test_mp4_is_close_to_what_was_encoded_on_every_frame(tmp_path, results):
    *_, frames = decode(write_video(tmp_path / "a.mp4", results, rows=[2], height=180))
    item, true = results.reconstructions[2], results.true_movies[2]
    wanted = side_by_side(item, true, mask=results.reconstructions.mask, height=180)
    for frame, other in zip(frames, wanted, strict=True):
        assert np.abs(frame.astype(int) - other).mean() < 4


def test_outside_the_mask_is_darkened_and_inside_is_as_stored(results):
    item, mask = results.reconstructions[0], results.reconstructions.mask
    frame = next(side_by_side(item, mask=mask, height=18))
    shown = frame[28:46, 8:40, 0]
    np.testing.assert_array_equal(shown[mask], item.video[0][mask])
    assert (shown[~mask] < item.video[0][~mask]).all()


def test_clips_without_uncertainty_or_truth_still_make_one_video(tmp_path, results):
    mixed = replace(
        results,
        reconstructions=replace(
            results.reconstructions,
            items=[replace(results.reconstructions[0], std=None), *results.reconstructions[1:2]],
        ),
        true_movies=None,
    )
    *_, frames = decode(write_video(tmp_path / "a.mp4", mixed, height=18))
    assert len(frames) == 2 * FRAMES
    assert frames[0].shape[1] == 32 + 16


@pytest.mark.parametrize(("name", "rows", "words"), [("a.avi", None, "no video"), ("a.mp4", [], "no clips")])
def test_refusals(tmp_path, results, name, rows, words):
    with pytest.raises(ResultsError, match=words):
        write_video(tmp_path / name, results, rows=rows)
    assert not list(tmp_path.iterdir())
