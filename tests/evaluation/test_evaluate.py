"""Scores against movies whose likeness is known."""

import numpy as np
import pytest

from nwbrecon import Reconstruction, Reconstructions
from nwbrecon.evaluation import score_movies

SHAPE = (60, 8, 10)


@pytest.fixture(scope="module")
def scored():
    """Two clips shown twice, one shown once: reconstructions are the movie plus noise of the same power."""
    random = np.random.default_rng(0)
    movies = {clip: 128 + 30 * random.standard_normal(SHAPE) for clip in "abc"}
    items, shown = [], {}
    for trial, clip in enumerate("abcab"):
        noisy = movies[clip] + 30 * random.standard_normal(SHAPE)
        items.append(
            Reconstruction(clip, (trial,), noisy.astype(np.float32), 10.0 * trial, 30.0, baselines={"ridge": noisy})
        )
        shown[trial] = movies[clip]
    mask = np.ones(SHAPE[1:], bool)
    reconstructions = Reconstructions(items, "map", mask, mask.astype(np.float32))
    return score_movies(reconstructions, shown, {0: 0, 1: 0, 2: 0, 3: 1, 4: 1})


def test_the_ceiling_is_what_noise_allows(scored):
    trials = scored.trials.query("method == 'map'").set_index("trial")
    # half of the variance is noise: the root of 0.5 is what a perfect account of the rest would reach
    np.testing.assert_allclose(trials.loc[[0, 1, 3, 4], "ceiling"], np.sqrt(0.5), atol=0.02)
    np.testing.assert_allclose(trials["pixel_correlation"], np.sqrt(0.5), atol=0.02)
    assert np.isnan(trials.loc[2, "ceiling"])
    assert scored.mean("ceiling", "map") == pytest.approx(np.sqrt(0.5), abs=0.02)


def test_intervals_hold_the_score(scored):
    for metric in ("pixel_correlation", "dynamic_correlation", "frame_correlation"):
        low, middle, high = (scored.trials[f"{metric}{end}"] for end in ("_low", "", "_high"))
        assert ((low < middle) & (middle < high)).all()
        assert (high - low < 0.1).all()


def test_bands_reach_to_half_the_frame_rate(scored):
    table = scored.frequencies.query("method == 'map'")
    in_time = table[table["domain"] == "time"]
    assert in_time["to_frequency"].tolist() == [0.5, 1, 2, 4, 8, 16]
    # white noise is as strong in every band that the clip is long enough for
    np.testing.assert_allclose(in_time["pixel_correlation"].iloc[1:], np.sqrt(0.5), atol=0.06)
    in_space = table[table["domain"] == "space"]["pixel_correlation"]
    assert np.isnan(in_space.iloc[0])
    np.testing.assert_allclose(in_space.iloc[-2:], np.sqrt(0.5), atol=0.03)
