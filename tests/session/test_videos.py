import io

import av
import numpy as np
import pytest

from nwbrecon.errors import SessionError
from nwbrecon.session.videos import VideoFile, VideoStore

N_FRAMES = 230
"""More than one key frame apart, and more than are decoded ahead."""


def encode(path, frames, codec="ffv1", pixels="gray", rate=30, container_options=None, **options):
    """Write ``(frame, row, column)`` or ``(frame, row, column, RGB)`` uint8 as video."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.options = pixels, options
        for frame in frames:
            kind = "rgb24" if frame.ndim == 3 else "gray"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=kind)))
        container.mux(stream.encode())
    return path


def levels(n=N_FRAMES, height=32, width=48):
    """Frames of one grey each, all neighbors well apart, brighter at the top left."""
    frames = np.repeat((40 + 37 * np.arange(n) % 160).astype(np.uint8)[:, None], height * width, axis=1)
    frames = frames.reshape(n, height, width)
    frames[:, : height // 2, : width // 2] += 50
    return frames


@pytest.mark.parametrize(
    ("suffix", "codec", "pixels", "options", "exact"),
    [
        ("mkv", "ffv1", "gray", {}, True),
        ("avi", "rawvideo", "gray", {}, True),
        ("avi", "mjpeg", "yuvj420p", {}, False),
        ("avi", "mpeg4", "yuv420p", {"q": "2"}, False),
        ("mp4", "libx264", "yuv420p", {"crf": "4", "bf": "2", "g": "50"}, False),
        # AVI says nothing of the order in which B-frames are shown
        ("avi", "libx264", "yuv420p", {"crf": "4", "bf": "2"}, False),
        ("mpg", "mpeg2video", "yuv420p", {"bf": "2"}, False),
        ("webm", "libvpx-vp9", "yuv420p", {"crf": "4", "deadline": "realtime", "cpu-used": "8"}, False),
    ],
)
def test_frames_are_found_by_their_number(tmp_path, suffix, codec, pixels, options, exact):
    frames = levels()
    store = VideoStore(
        "clip", [VideoFile(encode(tmp_path / f"clip.{suffix}", frames, codec, pixels, **options), "clip")]
    )
    assert (store.n_frames, store.height, store.width) == (N_FRAMES, 32, 48)
    tolerance = 0.01 if exact else 15
    for wanted in ([0], [200, 3, 3, 229, 100], np.arange(60), np.arange(60, 130), [5]):
        got = store.read(np.asarray(wanted))
        assert got.dtype == np.float32
        expected = frames[np.asarray(wanted)]
        # within the quadrants, since codecs blur edges
        np.testing.assert_allclose(got[:, 4:12, 4:20], expected[:, 4:12, 4:20], atol=tolerance)
        np.testing.assert_allclose(got[:, 20:28, 28:44], expected[:, 20:28, 28:44], atol=tolerance)
    store.close()
    np.testing.assert_allclose(store.read(np.array([7]))[0, 24, 40], frames[7, 24, 40], atol=tolerance)


def test_colors_are_mixed_by_their_brightness(tmp_path):
    colors = np.zeros((3, 16, 16, 3), np.uint8)
    for channel in range(3):
        colors[channel, ..., channel] = 200
    store = VideoStore("c", [VideoFile(encode(tmp_path / "c.mkv", colors, "ffv1", "bgr0"), "c")])
    got = store.read(np.arange(3)).mean(axis=(1, 2))
    np.testing.assert_allclose(got, 200 * np.array([0.299, 0.587, 0.114]), atol=1)


def test_files_are_joined_in_their_order(tmp_path):
    first, second = levels(20), levels(30)[::-1]
    files = [VideoFile(encode(tmp_path / f"{k}.mkv", frames), f"{k}") for k, frames in enumerate((first, second))]
    store = VideoStore("both", files)
    assert store.starts.tolist() == [0, 20, 50]
    np.testing.assert_array_equal(store.read(np.array([19, 20, 49, 0])), [first[19], second[0], second[29], first[0]])
    with pytest.raises(SessionError, match="differ in size"):
        VideoStore("both", [files[0], VideoFile(encode(tmp_path / "other.mkv", levels(2, 16, 16)), "other")])


def test_an_open_file_is_read_as_a_path_is(tmp_path):
    path = encode(tmp_path / "clip.mp4", levels(), "libx264", "yuv420p", crf="4")
    with path.open("rb") as file:
        by_file, by_path = VideoStore("a", [VideoFile(file, "a")]), VideoStore("a", [VideoFile(path, "a")])
        assert by_file.n_frames == by_path.n_frames
        wanted = np.array([3, 200, 150])
        np.testing.assert_array_equal(by_file.read(wanted), by_path.read(wanted))
        by_file.close()
        assert not file.closed


def test_a_video_that_is_cut_short_says_so(tmp_path):
    path = encode(tmp_path / "clip.mp4", levels(), "libx264", "yuv420p", container_options={"movflags": "faststart"})
    content = path.read_bytes()
    cut = VideoStore("cut", [VideoFile(io.BytesIO(content[: len(content) // 2]), "cut.mp4")])
    assert cut.read(np.arange(10)).shape == (10, 32, 48)
    with pytest.raises(SessionError, match=r"cut\.mp4 .*(no frame 229|cannot be decoded)"):
        cut.read(np.array([229]))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no video at all" * 100,
        b"RIFF\x00\x00\x00\x00AVI LIST" + bytes(200),
        b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nsecret.mp4\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile secret.mp4\n",
    ],
)
def test_what_is_no_video_is_refused(tmp_path, content):
    """A play list, which would make FFmpeg open the files that it names, is no video either."""
    encode(tmp_path / "secret.mp4", levels(10), "libx264", "yuv420p")
    path = tmp_path / "clip.avi"
    path.write_bytes(content)
    with pytest.raises(SessionError, match=r"clip\.avi (cannot be decoded as video|holds no)"):
        VideoFile(path, "clip.avi")


def test_sound_is_no_video(tmp_path):
    path = tmp_path / "sound.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(SessionError, match=r"sound\.mkv holds no video"):
        VideoFile(path, "sound.mkv")
