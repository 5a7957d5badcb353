import numpy as np
import pytest
from scipy import stats

from nwbrecon.inversion.priors import MoviePrior
from nwbrecon.inversion.uncertainty import FEATURE_NAMES, ErrorModel, error_features, fit_error_model, share_left

SHAPE = (30, 8, 10)
WEIGHTS = np.array([5.0, 0.9, 0.1, 0.4, 0.1])
EVERYWHERE = np.ones(SHAPE[1:], bool)
# of which next to nothing is in the errors: the responses leave a third or so
PRIOR = 66.0**2


def made_up_features(seed):
    """Features on scales like the real ones."""
    rng = np.random.default_rng(seed)
    scales = ((-1.3, 0.2), (2, 0.6), (2, 0.5), (3, 0.5))
    return np.stack([np.ones(SHAPE), *(rng.normal(mean, spread, SHAPE) for mean, spread in scales)])


def clip_of(seed, spread=0.0, heavy=False, level=0.0):
    """Features and errors of a clip whose errors are all larger or smaller by a factor that nothing tells of."""
    rng, features = np.random.default_rng(1000 + seed), made_up_features(seed)
    deviation = true_deviation(features) * np.exp(level + spread * rng.standard_normal())
    return features, deviation * (rng.standard_t(4, SHAPE) if heavy else rng.standard_normal(SHAPE))


def true_deviation(features):
    """What the features say of the logarithm, and the prior the more, the more is left of it."""
    own = 1 - np.exp(3 * features[1])
    said = 0.5 * np.tensordot(WEIGHTS, features, axes=1)
    return np.exp(own * said + (1 - own) * 0.5 * np.log(PRIOR))


def fitted(seeds, mask=EVERYWHERE, films=None, learned=None, **kind):
    features, errors = zip(*(clip_of(seed, **kind) for seed in seeds), strict=True)
    return fit_error_model(
        features, errors, mask, films or [str(seed) for seed in seeds], prior_variance=PRIOR, learned=learned
    )


def test_known_deviations_are_recovered_where_clips_are_many():
    model, features = fitted(range(40)), made_up_features(99)
    predicted = model.std(features) / model.scale
    assert np.abs(np.log(predicted / true_deviation(features))).max() < 0.15
    # clips that differ by nothing but noise: little is left of the prior's spread
    assert model.spread < 0.12
    assert model.scale == pytest.approx(1, abs=0.05)
    assert (model.n_clips, model.n_films) == (40, 40)


@pytest.mark.parametrize("n_clips", [2, 3, 8])
@pytest.mark.parametrize("heavy", [False, True])
def test_intervals_cover_new_clips_whose_level_is_unknown(n_clips, heavy):
    covered = []
    for draw in range(60):
        model = fitted(range(100 * draw, 100 * draw + n_clips), spread=0.3, heavy=heavy)
        for seed in range(100 * draw + 50, 100 * draw + 60):
            features, error = clip_of(seed, 0.3, heavy)
            covered.append(np.mean(np.abs(error) < 1.96 * model.std(features)))
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


def test_clips_of_one_film_are_one_witness():
    apart, together = (fitted(range(6), spread=0.3, films=films) for films in (None, ["a"] * 3 + ["b"] * 3))
    assert (apart.n_films, together.n_films, together.n_clips) == (6, 2, 6)
    same = [clip_of(0), *[clip_of(1)] * 5]
    features, errors = zip(*same, strict=True)
    once = fit_error_model(features[:2], errors[:2], EVERYWHERE, ["a", "b"], prior_variance=PRIOR)
    often = fit_error_model(features, errors, EVERYWHERE, ["a"] + ["b"] * 5, prior_variance=PRIOR)
    assert often.spread == pytest.approx(once.spread, rel=0.05)
    assert often.scale == pytest.approx(once.scale, rel=0.05)


def test_only_pixels_of_the_mask_count():
    mask = np.zeros(SHAPE[1:], bool)
    mask[2:6, 3:9] = True
    features, errors = zip(*(clip_of(seed) for seed in range(3)), strict=True)
    model = fit_error_model(features, errors, mask, ["a", "b", "c"], prior_variance=PRIOR)
    for error in errors:
        error[:, ~mask] = 1e6
    again = fit_error_model(features, errors, mask, ["a", "b", "c"], prior_variance=PRIOR)
    np.testing.assert_array_equal(again.weights, model.weights)


def test_one_clip_and_features_that_do_not_vary_are_survived():
    features, error = clip_of(0)
    features[3] = 0.7
    model = fit_error_model([features], [error], EVERYWHERE, ["a"], prior_variance=PRIOR)
    assert np.isfinite(model.weights).all()
    assert model.spread == pytest.approx(0.3)
    assert np.mean(np.abs(error) < 1.96 * model.std(features)) > 0.95


def test_a_perfect_reconstruction_has_hardly_any_error():
    features = [made_up_features(seed) for seed in range(2)]
    model = fit_error_model(features, [np.zeros(SHAPE)] * 2, EVERYWHERE, ["a", "b"], prior_variance=PRIOR)
    assert np.isfinite(model.std(features[0])).all()
    assert model.std(features[0]).max() < 1


def test_deviations_stay_within_reason():
    model = ErrorModel(np.array([100.0, 0, 0, 0, 0]), 1.0, 0.3, 1, 1)
    assert model.std(made_up_features(0)).max() <= np.exp(6) + 1e-3
    assert model.std(made_up_features(0)).dtype == np.float32


def test_it_tells_what_it_is():
    told = ErrorModel(WEIGHTS, 1.1, 0.3, 4, 2).as_dict()
    assert told["weights"] == dict(zip(FEATURE_NAMES, WEIGHTS, strict=True))
    assert {name: told[name] for name in ("scale", "spread", "n_clips", "n_films")} == {
        "scale": 1.1,
        "spread": 0.3,
        "n_clips": 4,
        "n_films": 2,
    }


def test_what_is_left_is_what_the_wiener_filter_leaves():
    lags = np.meshgrid(*(np.arange(size) for size in (16, 9, 9)), indexing="ij")
    covariance = 900.0 * np.exp(-0.5 * sum((lag / 1.5) ** 2 for lag in lags))
    # the dense solution on a line of pixels, whose neighbors in other directions are not known
    line = covariance[:, :1, :1] * np.ones((1, 2, 2))
    size = 2 * (len(line) - 1)
    distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    dense = covariance[np.minimum(distance, size - distance), 0, 0]
    # constant over rows and columns: a pixel is told of twice two times
    for information in (1e-4, 1e-3, 1e-2):
        left = dense - dense @ np.linalg.solve(dense + np.eye(size) / (4 * information), dense)
        assert share_left(np.array(information), line) == pytest.approx(left[0, 0] / 900, rel=0.02)
    rising = share_left(np.geomspace(1e-9, 1, 20), covariance)
    assert (np.diff(rising) < 0).all()
    assert MoviePrior(covariance, (8, 5, 5), 0.0).variance == pytest.approx(900, rel=1e-3)


def test_features_say_where_the_responses_look_and_where_things_change():
    information = np.full((40, 20, 24), 1e-6)
    information[:, 10, 6] = 1.0
    covariance = 900.0 * np.exp(-np.arange(8.0))[:, None, None] * np.exp(-np.add.outer(np.arange(5.0), np.arange(5.0)))
    rows, columns = np.indices((20, 24))
    # the right half is textured, the lower part flickers
    moving = [np.where(columns > 12, 20 * np.sin(2.0 * columns), 0) + 20 * np.sin(t) * (rows > 10) for t in range(40)]
    video = 120 + np.array(moving)
    decoded = video.copy()
    decoded[:, :5, :5] += 30
    features = error_features(video, video, decoded, information, covariance)
    assert features.shape == (5, 40, 20, 24)
    assert features.dtype == np.float32
    named = dict(zip(FEATURE_NAMES, features[:, 20], strict=True))
    assert (named["constant"] == 1).all()
    assert np.unravel_index(named["left by the responses"].argmin(), (20, 24)) == (10, 6)
    assert named["left by the responses"].max() <= 0
    assert named["local contrast"][5, 18] > named["local contrast"][5, 5] + 1
    assert named["change over time"][16, 3] > named["change over time"][4, 3] + 1
    assert named["disagreement"][1, 1] > named["disagreement"][18, 20] + 1


def test_where_the_responses_say_nothing_the_error_is_the_priors():
    model, features = fitted(range(4), spread=0.3), made_up_features(7)
    features[1, :, :4] = 0
    std = model.std(features)
    np.testing.assert_allclose(std[:, :4], np.sqrt(PRIOR), rtol=1e-5)
    # and it goes there without a jump
    features[1, :, :4] = -1e-4
    np.testing.assert_allclose(model.std(features)[:, :4], np.sqrt(PRIOR), rtol=0.01)
    assert ErrorModel(model.weights, model.scale, model.spread, 4, 4).std(features).std() > 0


OPTIMISM = 0.25


@pytest.mark.parametrize("n_validation", [1, 2])
def test_films_that_were_learned_from_steady_the_intervals(n_validation):
    # of the level of errors one or two films say little
    widths, covered = {False: [], True: []}, {False: [], True: []}
    for draw in range(40):
        seeds = range(100 * draw, 100 * draw + n_validation)
        unseen = [clip_of(seed, 0.3) for seed in seeds]
        seen = [clip_of(seed, 0.3, level=-OPTIMISM) for seed in range(100 * draw + 20, 100 * draw + 26)]
        for told in (False, True):
            known = unseen + (seen if told else [])
            features, errors = zip(*known, strict=True)
            learned = [index >= n_validation for index in range(len(known))]
            names = [str(index) for index in range(len(known))]
            model = fit_error_model(features, errors, EVERYWHERE, names, prior_variance=PRIOR, learned=learned)
            assert (model.n_clips, model.n_films, model.n_learned) == (n_validation, n_validation, 6 * told)
            new = [clip_of(seed, 0.3) for seed in range(100 * draw + 50, 100 * draw + 58)]
            covered[told].append(np.mean([np.mean(np.abs(error) < 1.96 * model.std(x)) for x, error in new]))
            widths[told].append(np.log(model.std(new[0][0]).mean() / true_deviation(new[0][0]).mean()))
    for told in (False, True):
        assert np.mean(covered[told]) == pytest.approx(0.95, abs=0.02)
    # they scatter less from one mouse to the next, and are narrower
    assert np.std(widths[True]) < 0.75 * np.std(widths[False])
    assert np.mean(widths[True]) < np.mean(widths[False])


def test_how_it_did_on_films_that_it_was_not_fitted_to_is_told():
    model = fitted(range(12), spread=0.1)
    assert model.covered == pytest.approx(0.95, abs=0.04)
    # a map that knows the deviations, which vary by this much, and no more can be had
    rng, deviation = np.random.default_rng(0), true_deviation(made_up_features(0)).ravel()
    known = stats.spearmanr(deviation, np.abs(deviation * rng.standard_normal(deviation.size))).statistic
    assert model.rank_correlation == pytest.approx(known, abs=0.05)
    alone = fitted([0])
    assert (alone.covered, alone.rank_correlation) == (None, None)
    # a film that is alone is predicted from those that were learned from
    assert fitted(range(3), learned=[False, True, True]).covered is not None
