import numpy as np
import pytest

from nwbrecon.inversion.uncertainty import FEATURE_NAMES, ErrorModel, error_features, fit_error_model

SHAPE = (60, 12, 16)
WEIGHTS = np.array([5.0, 0.8, 0.5, -0.3, 0.2])


def made_up_features(seed, shape=SHAPE):
    """Features on scales like the real ones."""
    rng = np.random.default_rng(seed)
    scales = ((-1, 0.8), (3, 0.5), (1, 1), (3, 1))
    varying = [rng.normal(mean, spread, shape) for mean, spread in scales]
    return np.stack([np.ones(shape), *varying]).astype(np.float32)


def errors_of(features, seed, heavy=False):
    rng = np.random.default_rng(seed)
    deviation = np.exp(0.5 * np.tensordot(WEIGHTS, features, axes=1))
    noise = rng.standard_t(4, deviation.shape) if heavy else rng.standard_normal(deviation.shape)
    return deviation * noise, deviation


EVERYWHERE = np.ones(SHAPE[1:], bool)


def fitted(heavy=False, clips=3, mask=EVERYWHERE):
    features = [made_up_features(seed) for seed in range(clips)]
    return fit_error_model(features, [errors_of(part, seed, heavy)[0] for seed, part in enumerate(features)], mask)


def test_known_deviations_are_recovered():
    model = fitted()
    features = made_up_features(99)
    _, deviation = errors_of(features, 99)
    ratio = model.std(features) / deviation
    assert np.median(ratio) == pytest.approx(1, abs=0.05)
    assert np.abs(np.log(ratio)).max() < 0.3
    np.testing.assert_allclose(model.weights, WEIGHTS, atol=0.1)
    assert model.scale == pytest.approx(1, abs=0.05)
    assert model.n_clips == 3


@pytest.mark.parametrize("heavy", [False, True])
def test_intervals_cover_what_they_should_on_new_clips(heavy):
    model = fitted(heavy)
    covered = []
    for seed in range(50, 54):
        features = made_up_features(seed)
        error, _ = errors_of(features, seed, heavy)
        covered.append(np.abs(error) < 1.96 * model.std(features))
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)
    # where the error is large as well as where it is small
    large = np.stack([made_up_features(seed)[1] for seed in range(50, 54)]) > -1
    assert np.mean(np.array(covered)[large]) == pytest.approx(0.95, abs=0.03)
    assert np.mean(np.array(covered)[~large]) == pytest.approx(0.95, abs=0.03)


def test_only_pixels_of_the_mask_count():
    mask = np.zeros(SHAPE[1:], bool)
    mask[3:9, 4:12] = True
    features = [made_up_features(seed) for seed in range(3)]
    errors = [errors_of(part, seed)[0] for seed, part in enumerate(features)]
    model = fit_error_model(features, errors, mask)
    for error in errors:
        error[:, ~mask] = 1e6
    np.testing.assert_array_equal(fit_error_model(features, errors, mask).weights, model.weights)


def test_features_that_do_not_vary_are_survived():
    features = [made_up_features(0)]
    features[0][3] = 0.7
    error, deviation = errors_of(features[0], 0)
    model = fit_error_model(features, [error], EVERYWHERE)
    assert np.isfinite(model.weights).all()
    assert np.median(model.std(features[0]) / deviation) == pytest.approx(1, abs=0.05)


def test_a_perfect_reconstruction_has_hardly_any_error():
    model = fit_error_model([made_up_features(0)], [np.zeros(SHAPE)], EVERYWHERE)
    assert np.isfinite(model.std(made_up_features(0))).all()
    assert model.std(made_up_features(0)).max() < 1


def test_deviations_stay_within_reason():
    model = ErrorModel(np.array([100.0, 0, 0, 0, 0]), 1.0, 1)
    assert model.std(made_up_features(0)).max() <= np.exp(6) + 1e-3
    assert model.std(made_up_features(0)).dtype == np.float32


def test_it_tells_what_it_is():
    model = ErrorModel(WEIGHTS, 1.1, 2)
    assert model.as_dict() == {"weights": dict(zip(FEATURE_NAMES, WEIGHTS, strict=True)), "scale": 1.1, "n_clips": 2}


def video_with(pattern):
    rows, columns = np.indices((20, 24))
    return np.stack([120 + pattern(frame, rows, columns) for frame in range(16)]).astype(float)


def test_features_say_where_the_responses_look_and_where_things_change():
    information = np.zeros((16, 20, 24))
    information[:, 10, 6] = 1.0
    # the right half is textured, its lower part moves
    video = video_with(
        lambda frame, rows, columns: np.where(
            columns > 12, 20 * np.sin(2.0 * columns + np.where(rows > 10, 1.5 * frame, 0)), 0
        )
    )
    features = error_features(video, information, prior_variance=900.0, mean=120.0)
    assert features.shape == (5, 16, 20, 24)
    assert features.dtype == np.float32
    named = dict(zip(FEATURE_NAMES, features[:, 8], strict=True))
    assert (named["constant"] == 1).all()
    # what the responses leave of the prior's variance: least where they look, all of it far away
    assert np.unravel_index(named["information"].argmin(), (20, 24)) == (10, 6)
    assert named["information"][10, 6] < -2
    assert named["information"][2, 20] == pytest.approx(0, abs=1e-3)
    assert named["local contrast"][5, 18] > named["local contrast"][5, 5] + 1
    assert named["local motion"][16, 18] > named["local motion"][4, 18] + 1
    assert named["distance from the mean"][5, 5] == pytest.approx(np.log(4))
    assert named["distance from the mean"][5, 13:].max() > np.log(15)


def test_a_bright_flat_video_has_no_contrast():
    features = error_features(np.full((8, 10, 12), 250.0, np.float32), np.zeros((8, 10, 12)), 900.0, 120.0)
    np.testing.assert_allclose(features[2], 0, atol=0.2)
