import numpy as np
import pytest
from small import FRAME_SIZE

from nwbrecon.inversion.blending import fit_blend, fit_parts


def clips_and_mask():
    rng = np.random.default_rng(0)
    mask = rng.random(FRAME_SIZE) < 0.5
    clips = []
    for _ in range(3):
        inverted, decoded = rng.uniform(0, 255, (2, 20, *FRAME_SIZE))
        clips.append((inverted, decoded, np.where(mask, 0.7 * inverted + 0.2 * decoded - 10, 0)))
    return clips, mask


def test_inverted_and_decoded_movies_are_weighed_where_the_truth_is_known():
    blend = fit_blend(*clips_and_mask())
    np.testing.assert_allclose(blend.weights, (0.7, 0.2, -10), atol=1e-6)
    assert blend.explained == pytest.approx(1)


def test_the_share_explained_is_that_of_the_variance():
    clips, mask = clips_and_mask()
    rng = np.random.default_rng(1)
    # noise of half the variance of what can be explained
    spread = np.std([true[:, mask] for _, _, true in clips]) * np.sqrt(0.5)
    noisy = [(one, other, true + rng.normal(0, spread, true.shape)) for one, other, true in clips]
    assert fit_blend(noisy, mask).explained == pytest.approx(2 / 3, abs=0.02)


def test_nothing_is_taken_away_from_the_other():
    clips, mask = clips_and_mask()
    opposed = [(inverted, 255 - decoded, true) for inverted, decoded, true in clips]
    of_inverted, of_decoded, _ = fit_blend(opposed, mask).weights
    assert of_decoded == 0
    assert of_inverted == pytest.approx(0.7, abs=0.02)
    against = [(255 - one, 255 - other, true) for one, other, true in clips]
    assert fit_blend(against, mask) == ((1.0, 0.0, 0.0), 0.0)


def test_what_stands_still_and_what_changes_are_weighed_apart():
    clips, mask = clips_and_mask()
    parts = []
    for inverted, decoded, _ in clips:
        still = 0.8 * inverted.mean(axis=0) + 0.1 * decoded.mean(axis=0) + 5
        changes = 0.3 * (inverted - inverted.mean(axis=0)) + 0.5 * (decoded - decoded.mean(axis=0))
        parts.append((inverted, decoded, still + changes))
    still, changes = fit_parts(parts, mask)
    np.testing.assert_allclose(still.weights, (0.8, 0.1, 5), atol=1e-6)
    np.testing.assert_allclose(changes.weights, (0.3, 0.5, 0), atol=1e-6)
