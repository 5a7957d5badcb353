import numpy as np
import pytest

from nwbrecon.session.clips import name_clips
from nwbrecon.session.frames import MovieStore
from nwbrecon.session.timeline import Presentation, Timeline, frame_ends

from .conftest import clip_frames

rng = np.random.default_rng(0)


def stitched(movies, labels=None, trusted=False):
    """Presentations of one counted movie, and its store."""
    frames = np.concatenate(movies)
    onsets = np.arange(len(frames)) / 30
    line = Timeline("stimulus/presentation/m", "m", np.arange(len(frames)), onsets, frame_ends(onsets), indexed=False)
    edges = np.cumsum([0, *map(len, movies)])
    pieces = [
        Presentation(line, int(edges[k]), int(edges[k + 1]), label=labels[k] if labels else "", trusted=trusted)
        for k in range(len(movies))
    ]
    return pieces, {"m": MovieStore("session", frames, "TYX")}


def same(names):
    return [names.index(name) for name in names]


def test_repeats_are_found_by_their_looks():
    clips = [clip_frames(k, 40) for k in (1, 2, 1, 3, 3)]
    assert name_clips(*stitched(clips)) == ["session 1", "session 2", "session 1", "session 3", "session 3"]


def test_a_repeat_is_one_through_compression_and_a_dropped_frame():
    smooth = np.repeat(np.repeat(clip_frames(1, 60), 4, axis=1), 4, axis=2)
    noisy = np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)
    assert len(set(name_clips(*stitched([smooth, noisy, smooth[:-1]])))) == 1


def test_clips_of_fine_noise_are_told_apart():
    clips = [rng.integers(0, 256, (20, 300, 600), dtype=np.uint8) for _ in range(2)]
    assert same(name_clips(*stitched([clips[0], clips[1], clips[0]]))) == [0, 1, 0]


def test_clips_of_little_contrast_are_told_apart():
    clips = [(100 + 10 * k + rng.integers(0, 3, (20, 12, 20))).astype(np.uint8) for k in range(2)]
    assert same(name_clips(*stitched([clips[0], clips[1], clips[0]]))) == [0, 1, 0]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_shortest_clips_have_looks_too(n):
    clips = [clip_frames(k, n) for k in (1, 2, 1)]
    assert same(name_clips(*stitched(clips))) == [0, 1, 0]


def test_a_trusted_name_is_taken_without_a_look():
    pieces, stores = stitched([clip_frames(k, 40) for k in (1, 2, 3)], ["a", "b", "a"], trusted=True)
    stores["m"].read = None
    assert name_clips(pieces, stores) == ["a", "b", "a"]


def test_clips_of_other_lengths_are_not_looked_at():
    pieces, stores = stitched([clip_frames(1, 20), clip_frames(1, 40), clip_frames(1, 60)])
    stores["m"].read = None
    assert len(set(name_clips(pieces, stores))) == 3
