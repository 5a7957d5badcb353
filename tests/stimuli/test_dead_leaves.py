import numpy as np
import pytest

from nwbrecon.stimuli.dead_leaves import dead_leaves_movie, power_law_field


def leaves(seed, n_frames=60, size=(18, 32), **options):
    return dead_leaves_movie(n_frames, size, rng=np.random.default_rng(seed), **options)


def amplitude_slope(pictures, low, high):
    """Slope of log amplitude over log frequency (cycles a pixel), of the mean power of tapered pictures."""
    height, width = pictures[0].shape
    taper = np.hanning(height)[:, None] * np.hanning(width)
    power = sum(np.abs(np.fft.fft2((picture - picture.mean()) * taper)) ** 2 for picture in pictures)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    band = (frequency > low) & (frequency < high)
    return np.polyfit(np.log(frequency[band]), 0.5 * np.log(power[band]), 1)[0]


@pytest.mark.parametrize("exponent", [0.0, 0.7, 1.0, 1.5])
def test_fields_have_the_spectrum_asked_for(exponent):
    rng = np.random.default_rng(0)
    fields = [power_law_field((48, 64), exponent, rng) for _ in range(40)]
    assert amplitude_slope(fields, 0.06, 0.4) == pytest.approx(-exponent, abs=0.06)


def test_movies_are_bytes_of_the_size_asked_for():
    movie = leaves(0, 47, (20, 24))
    assert movie.shape == (47, 20, 24)
    assert movie.dtype == np.uint8
    # a picture with light and dark, not a blank or a black-and-white one
    assert 20 < movie.std() < 80
    assert 60 < movie.mean() < 180
    assert len(np.unique(movie)) > 100


def test_the_same_seed_gives_the_same_movie_and_another_gives_another():
    np.testing.assert_array_equal(leaves(3), leaves(3))
    assert np.abs(leaves(3).astype(float) - leaves(4)).mean() > 20


def test_the_spatial_spectrum_falls_as_in_films():
    # real films at this size have a slope of -1.27 in this band
    rng = np.random.default_rng(1)
    frames = [dead_leaves_movie(1, (36, 64), rng=rng)[0].astype(float) for _ in range(12)]
    assert -1.6 < amplitude_slope(frames, 0.03, 0.2) < -1.0


def test_neighboring_frames_are_alike_save_at_cuts():
    movie = leaves(0, 900, cut_seconds=3.0).astype(float)
    change = np.abs(np.diff(movie, axis=0)).mean(axis=(1, 2))
    cuts = np.flatnonzero(change > 20)
    # 30 s with a cut every 3 s on average, no two of them within half a second
    assert 4 <= len(cuts) <= 20
    assert np.diff(cuts).min() >= 15
    assert np.median(change) < 3
    # there is no doubt which is which
    assert not ((change > 8) & (change <= 20)).any()
    assert (np.abs(np.diff(leaves(0, 300, cut_seconds=1e9).astype(float), axis=0)).mean(axis=(1, 2)) < 15).all()


def test_things_move_between_cuts():
    next_frame, seconds_later = [], []
    for seed in range(6):
        first, second, *_, last = leaves(seed, 120, cut_seconds=1e9).reshape(120, -1)
        next_frame.append(np.corrcoef(first, second)[0, 1])
        seconds_later.append(np.corrcoef(first, last)[0, 1])
    assert min(next_frame) > 0.97
    # some shots are nearly still, some fast
    assert min(seconds_later) < 0.2
    assert max(seconds_later) > 0.9


def test_slow_movies_end_too():
    assert leaves(0, 5, frame_rate=1.0, cut_seconds=0.1).shape == (5, 18, 32)
