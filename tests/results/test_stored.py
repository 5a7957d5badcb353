from dataclasses import replace

import numpy as np
import pytest

from nwbrecon.config import ResultsSettings
from nwbrecon.errors import ResultsError
from nwbrecon.results import as_stored
from nwbrecon.results.stored import decode, encode

from .examples import reconstruct


def test_uint8_is_within_half_a_step_and_clips():
    movie = np.linspace(-20, 280, 7 * 5 * 3, dtype=np.float32).reshape(7, 5, 3)
    back = decode(encode(movie, "uint8"))
    assert np.abs(back - np.clip(movie, 0, 255)).max() <= 0.5
    assert back.min() == 0
    assert back.max() == 255
    half = decode(encode(movie / 3, "uint8", step=0.5), step=0.5)
    assert np.abs(half - np.clip(movie / 3, 0, 127.5)).max() <= 0.25


def test_storing_twice_is_storing_once(aligned):
    once = as_stored(reconstruct(aligned))
    for first, second in zip(once, as_stored(once), strict=True):
        np.testing.assert_array_equal(first.video, second.video)
        np.testing.assert_array_equal(first.std, second.std)
        np.testing.assert_array_equal(first.baselines["ridge"], second.baselines["ridge"])


def test_float32_changes_nothing_and_the_original_is_left_alone(aligned):
    original = reconstruct(aligned)
    before = original[0].video.copy()
    stored = as_stored(original, ResultsSettings(movie_dtype="float32"))
    np.testing.assert_array_equal(stored[0].video, before)
    as_stored(original)
    np.testing.assert_array_equal(original[0].video, before)


def test_a_movie_that_diverged_is_refused_as_uint8(aligned):
    reconstructions = reconstruct(aligned)
    video = reconstructions[0].video.copy()
    video[3, 2, 1] = np.nan
    reconstructions.items[0] = replace(reconstructions[0], video=video)
    with pytest.raises(ResultsError, match="not finite"):
        as_stored(reconstructions)
    kept = as_stored(reconstructions, ResultsSettings(movie_dtype="float32"))
    assert np.isnan(kept[0].video[3, 2, 1])
