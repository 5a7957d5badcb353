import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from small import FRAME_SIZE

from nwbrecon.inversion.blending import Blend, _bands, fit_blend

RATE = 30.0


def clips_and_mask():
    rng = np.random.default_rng(0)
    mask = rng.random(FRAME_SIZE) < 0.5
    clips = []
    for _ in range(3):
        inverted, decoded = rng.uniform(0, 255, (2, 20, *FRAME_SIZE))
        clips.append((inverted, decoded, np.where(mask, 0.7 * inverted + 0.2 * decoded - 10, 0)))
    return clips, mask


def fitted(clips, mask):
    return fit_blend(clips, mask, RATE)


def test_inverted_and_decoded_movies_are_weighed_where_the_truth_is_known():
    clips, mask = clips_and_mask()
    blend = fitted(clips, mask)
    np.testing.assert_allclose(blend.weights[0], 0.7, atol=1e-4)
    np.testing.assert_allclose(blend.weights[1], 0.2, atol=1e-4)
    assert blend.explained == pytest.approx(1, abs=1e-5)
    inverted, decoded, true = clips[0]
    np.testing.assert_allclose(blend.movie(inverted, decoded)[:, mask], true[:, mask], atol=0.05)


def test_the_share_explained_is_that_of_the_variance():
    clips, mask = clips_and_mask()
    rng = np.random.default_rng(1)
    # noise of half the variance of what can be explained
    spread = np.std([true[:, mask] for _, _, true in clips]) * np.sqrt(0.5)
    noisy = [(one, other, true + rng.normal(0, spread, true.shape)) for one, other, true in clips]
    assert fitted(noisy, mask).explained == pytest.approx(2 / 3, abs=0.02)


def test_nothing_is_taken_away_from_the_other():
    clips, mask = clips_and_mask()
    opposed = [(inverted, 255 - decoded, true) for inverted, decoded, true in clips]
    of_inverted, of_decoded = (np.array(weights) for weights in fitted(opposed, mask).weights)
    assert of_decoded.max() == 0
    # the finest and fastest band is nearly all that white noise holds
    assert of_inverted[1, -1] == pytest.approx(0.7, abs=0.02)
    against = [(255 - one, 255 - other, true) for one, other, true in clips]
    assert fitted(against, mask) == Blend.of_first()


def test_bands_in_which_a_movie_is_wrong_count_less():
    rng = np.random.default_rng(2)
    mask = np.ones(FRAME_SIZE, bool)
    clips = []
    for _ in range(4):
        still = gaussian_filter(rng.normal(0, 60, FRAME_SIZE), 1)
        true = 127 + 20 * (still + 0.5 * gaussian_filter(rng.normal(0, 60, (60, *FRAME_SIZE)), (3, 1, 1)))
        # as if all of the picture became brighter and darker
        flicker = rng.normal(0, 3 * true.std(), (60, 1, 1))
        clips.append((true + flicker, rng.normal(127, 20, true.shape), true))
    blend = fitted(clips, mask)
    slow, fast = blend.weights[0]
    assert min(slow[1:]) > 0.8
    assert fast[0] < 0.1
    assert max(fast[2:]) > 0.8
    inverted, decoded, true = clips[0]
    error = blend.movie(inverted, decoded) - true
    assert error.std() < 0.4 * (inverted - true).std()


def test_bands_are_all_that_there_is_of_a_movie():
    movie = np.random.default_rng(3).uniform(0, 255, (2, 40, *FRAME_SIZE))
    same = Blend((((1.0,) * 4,) * 2, ((0.0,) * 4,) * 2), 0.0, 100.0, 20.0, 0.0)
    np.testing.assert_allclose(same.movie(movie, np.zeros_like(movie[0])), movie, atol=1e-3)
    np.testing.assert_allclose(Blend.of_first().movie(movie[0], movie[1]), movie[0], atol=1e-3)


def test_a_blend_survives_json():
    import json

    blend = fitted(*clips_and_mask())
    assert Blend.from_plain(json.loads(json.dumps(blend.as_dict()))) == blend


def test_the_sum_is_that_of_the_weighted_bands():
    random = np.random.default_rng(5)
    first, second = random.normal(100, 30, (2, 3, 12, 9, 16)).astype(np.float32)
    weights = random.random((2, 2, 4))
    weights[0, 1, 2] = weights[1, 0] = 0
    blend = Blend(tuple(tuple(map(tuple, paces)) for paces in weights.tolist()), 7.0, 100.0, 4.0, 0.5)
    expected = 107.0 + sum(
        weight * band
        for movie, of_movie in zip((first, second), weights, strict=True)
        for weight, band in zip(of_movie.ravel(), _bands(movie - 100.0, 4.0), strict=True)
    )
    np.testing.assert_allclose(blend.movie(first, second), expected, atol=1e-3)
    # one of them may have a leading axis that the other lacks
    np.testing.assert_allclose(blend.movie(first, second[0])[0], expected[0], atol=1e-3)
