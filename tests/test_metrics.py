import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from nwbrecon.metrics import (
    block_intervals,
    bootstrap_interval,
    correlation,
    dynamic_correlation,
    frame_correlations,
    lag_correlations,
    pixel_correlation,
    space_band_correlations,
    time_band_correlations,
)


def video(seed=0, shape=(20, 6, 7)):
    return np.random.default_rng(seed).normal(120, 30, shape)


levels = hnp.arrays(float, (6, 3, 4), elements=st.floats(0, 255, width=16), unique=True)


def test_correlation_is_that_of_scipy_along_either_axis():
    a, b = np.random.default_rng(0).normal(size=(2, 30, 5))
    b += 0.5 * a
    np.testing.assert_allclose(correlation(a, b), [stats.pearsonr(x, y)[0] for x, y in zip(a.T, b.T, strict=True)])
    np.testing.assert_allclose(correlation(a, b, axis=1), correlation(a.T, b.T))


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e8, 127.3])
def test_a_constant_correlates_with_nothing(constant):
    changing = np.random.default_rng(0).normal(size=(999, 1))
    assert np.isnan(correlation(np.full((999, 1), constant), changing))
    # as an encoder that sees nothing predicts: the same number, but for the rounding of single precision
    rounded = constant * (1 + 1e-7 * np.random.default_rng(1).uniform(-1, 1, (999, 1)))
    assert np.isnan(correlation(rounded, changing))


def test_faint_signals_are_not_taken_for_constants():
    a = np.random.default_rng(0).normal(size=50)
    assert correlation(1e-120 * a, a) == pytest.approx(1)
    assert correlation(1000 + 0.01 * a, a) == pytest.approx(1)


@given(levels, st.floats(0.1, 10), st.floats(-100, 100))
def test_correlations_do_not_change_with_contrast_and_brightness(a, contrast, brightness):
    b = video(1, a.shape)
    for measure in (pixel_correlation, dynamic_correlation):
        assert measure(contrast * a + brightness, b) == pytest.approx(measure(a, b), abs=1e-9, nan_ok=True)
        assert measure(-a, b) == pytest.approx(-measure(a, b), abs=1e-9, nan_ok=True)
        assert measure(b, a) == pytest.approx(measure(a, b), abs=1e-9, nan_ok=True)


@given(levels)
def test_correlations_lie_between_minus_one_and_one(a):
    for value in (pixel_correlation(a, video(1, a.shape)), dynamic_correlation(a, video(1, a.shape))):
        assert -1 - 1e-12 <= value <= 1 + 1e-12
    assert pixel_correlation(a, a) == pytest.approx(1)
    np.testing.assert_allclose(frame_correlations(a, a), 1)


def test_a_still_picture_earns_pixel_correlation_but_no_dynamic_correlation():
    picture = 300 * np.random.default_rng(2).normal(size=(1, 6, 7))
    a, b = video(0) + picture, video(1) + picture
    assert pixel_correlation(a, b) > 0.9
    assert abs(dynamic_correlation(a, b)) < 0.1
    # what it is, plainly
    moving = [movie - movie.mean(axis=0) for movie in (a, b)]
    assert dynamic_correlation(a, b) == pytest.approx(np.corrcoef(moving[0].ravel(), moving[1].ravel())[0, 1])
    assert dynamic_correlation(a + 500 * picture, b) == pytest.approx(dynamic_correlation(a, b))


def test_only_pixels_of_the_mask_count():
    a, b = video(0), video(0)
    mask = np.zeros((6, 7), bool)
    mask[2:4, 1:5] = True
    b[:, ~mask] = video(1)[:, ~mask]
    assert [pixel_correlation(a, b, mask), dynamic_correlation(a, b, mask)] == pytest.approx([1, 1])
    np.testing.assert_allclose(frame_correlations(a, b, mask), 1)
    assert pixel_correlation(a, b) < 0.6
    assert lag_correlations(a, b, np.array([0]), mask) == pytest.approx(1)


def test_frames_are_scored_one_by_one():
    a, b = video(0), video(1)
    b[3], b[4], b[5] = 2 * a[3] + 1, -a[4], 100
    scores = frame_correlations(a, b)
    assert scores[3] == pytest.approx(1)
    assert scores[4] == pytest.approx(-1)
    assert np.isnan(scores[5])
    assert scores[6] == pytest.approx(stats.pearsonr(a[6].ravel(), b[6].ravel())[0])


@pytest.mark.parametrize("trailing", [-3, 0, 2])
def test_a_movie_that_trails_has_its_best_match_at_a_positive_lag(trailing):
    true = video(0, (40, 6, 7))
    shown_late = np.roll(true, trailing, axis=0)
    lags = np.arange(-5, 6)
    curve = lag_correlations(shown_late, true, lags)
    assert lags[curve.argmax()] == trailing
    assert curve.max() == pytest.approx(1)
    # every lag is scored over the same frames of the true movie
    assert curve[0] == pytest.approx(pixel_correlation(shown_late[0:30], true[5:35]))
    assert curve[-1] == pytest.approx(pixel_correlation(shown_late[10:40], true[5:35]))


def test_lags_longer_than_the_movie_have_no_value():
    assert np.isnan(lag_correlations(video(), video(), np.arange(-10, 11))).all()
    assert np.isfinite(lag_correlations(video(), video(), np.arange(-9, 10))).all()


def test_the_interval_of_a_mean_is_about_two_standard_errors_to_either_side():
    values = np.random.default_rng(3).normal(0.4, 0.1, 400)
    mean, low, high = bootstrap_interval(values)
    error = values.std() / 20
    assert mean == pytest.approx(values.mean())
    assert low == pytest.approx(mean - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.1 * error)
    narrow = bootstrap_interval(values, level=0.5)
    assert (narrow[2] - narrow[1]) / (high - low) == pytest.approx(0.674 / 1.96, abs=0.03)


def test_intervals_leave_out_what_is_missing_and_need_two_values():
    values = np.array([0.1, 0.5, np.nan, 0.3])
    assert bootstrap_interval(values) == bootstrap_interval(values[[0, 1, 3]])
    assert bootstrap_interval(np.array([0.2, np.nan])) == (
        0.2,
        pytest.approx(np.nan, nan_ok=True),
        pytest.approx(np.nan, nan_ok=True),
    )
    assert np.isnan(bootstrap_interval(np.array([]))).all()


def test_intervals_are_the_same_every_time():
    values = np.random.default_rng(0).normal(size=9)
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values)


class TestBands:
    EDGES = np.array([0.0, 1.0, 3.0, 15.0])

    def test_each_band_is_scored_by_itself(self):
        time = np.arange(60) / 30
        pictures = np.random.default_rng(0).normal(size=(2, 6, 7))
        slow, fast = (np.sin(2 * np.pi * hertz * time)[:, None, None] for hertz in (1, 5))
        a = 128 + slow * pictures[0] + fast * pictures[1]
        b = 60 + 3 * slow * pictures[0] - 0.1 * fast * pictures[1]
        np.testing.assert_allclose(time_band_correlations(a, b, 30, self.EDGES), [1, np.nan, -1], atol=1e-6)

    def test_a_band_has_the_correlation_of_the_filtered_movies(self):
        a, b = video(0, (31, 5, 6)), video(1, (31, 5, 6))
        b += 0.7 * a
        mask = np.arange(30).reshape(5, 6) % 3 > 0
        found = time_band_correlations(a, b, 10, np.array([0.9, 2.2, 5.0]), mask)
        frequency = np.abs(np.fft.fftfreq(31, 0.1))
        for value, (low, high) in zip(found, [(0.9, 2.2), (2.2, 5.0)], strict=True):
            keep = ((frequency > low) & (frequency <= high))[:, None]
            one, other = (np.fft.ifft(keep * np.fft.fft(movie[:, mask], axis=0), axis=0).real for movie in (a, b))
            assert value == pytest.approx(np.corrcoef(one.ravel(), other.ravel())[0, 1])

    def test_even_lengths_count_the_highest_frequency_once(self):
        a, b = video(0, (32, 4, 4)), video(1, (32, 4, 4))
        (value,) = time_band_correlations(a, b, 2, np.array([0.0, 1.0]))
        assert value == pytest.approx(dynamic_correlation(a, b))

    def test_space_bands_tell_coarse_from_fine(self):
        column = np.arange(32)
        coarse, fine = (np.sin(2 * np.pi * cycles * column / 32) for cycles in (2, 10))
        picture = np.broadcast_to(coarse, (5, 16, 32)), np.broadcast_to(fine, (5, 16, 32))
        found = space_band_correlations(picture[0] + picture[1], picture[0] - picture[1], np.array([0, 0.1, 0.5]))
        np.testing.assert_allclose(found, [1, -1])

    def test_what_is_outside_the_mask_does_not_count(self):
        a, b = video(0), video(1)
        mask = np.zeros((6, 7), bool)
        mask[1:4, 2:6] = True
        changed = np.where(mask, a, 0)
        edges = np.array([0, 0.25, 0.5])
        np.testing.assert_allclose(
            space_band_correlations(a, b, edges, mask), space_band_correlations(changed, b, edges, mask)
        )


class TestBlockIntervals:
    def test_they_hold_what_plain_resampling_finds(self):
        a = video(0, (40, 4, 5))
        b = a + video(1, (40, 4, 5))
        found = block_intervals(a, b, block=4, draws=400)
        # the same draws, scored one by one
        starts = np.random.default_rng(0).integers(0, 37, (400, 10))
        drawn = [np.concatenate([np.arange(start, start + 4) for start in row]) for row in starts]
        plain = [pixel_correlation(a[frames], b[frames]) for frames in drawn]
        np.testing.assert_allclose(found["pixel_correlation"], np.quantile(plain, [0.025, 0.975]))
        means = [frame_correlations(a[frames], b[frames]).mean() for frames in drawn]
        np.testing.assert_allclose(found["frame_correlation"], np.quantile(means, [0.025, 0.975]))
        assert found["pixel_correlation"][0] < pixel_correlation(a, b) < found["pixel_correlation"][1]

    def test_a_clip_too_short_has_none(self):
        short = block_intervals(video(0, (5, 3, 3)), video(1, (5, 3, 3)), block=3)
        assert all(np.isnan(ends).all() for ends in short.values())

    def test_uniform_frames_are_left_out(self):
        a, b = video(0), video(1)
        a[3:6] = 100.0
        assert np.isfinite(block_intervals(a, b, block=5)["frame_correlation"]).all()
        assert np.isnan(block_intervals(np.full_like(a, 3.0), b, block=5)["frame_correlation"]).all()
