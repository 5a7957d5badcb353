from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwbrecon.errors import SessionError
from nwbrecon.session.series import clean_clock, sample_times, sample_values, scaling, sliceable


def series(**fields):
    return SimpleNamespace(name="trace", **{"timestamps": None, "rate": None, "starting_time": None, **fields})


def test_the_clock_is_stamps_or_start_and_rate():
    np.testing.assert_array_equal(sample_times(series(timestamps=[1, 2, 4]), 3), [1, 2, 4])
    np.testing.assert_allclose(sample_times(series(rate=4.0, starting_time=2.0), 3), [2, 2.25, 2.5])
    np.testing.assert_allclose(sample_times(series(rate=4.0), 2), [0, 0.25])
    np.testing.assert_allclose(sample_times(series(rate=4.0, starting_time=np.nan), 2), [0, 0.25])


@pytest.mark.parametrize(
    "fields",
    [{}, {"rate": np.nan, "starting_time": np.nan}, {"rate": 0.0}, {"rate": -1.0}, {"timestamps": [np.nan] * 3}],
)
def test_no_clock_is_none(fields):
    assert sample_times(series(**fields), 3) is None


@given(st.lists(st.one_of(st.integers(-5, 12).map(float), st.just(np.nan), st.just(np.inf)), max_size=9))
def test_the_cleaned_clock_is_the_longest_that_increases(times):
    times = np.array(times)
    rows = clean_clock(times)
    best = 0
    for chosen in range(2 ** len(times)):
        part = times[[k for k in range(len(times)) if chosen >> k & 1]]
        if np.isfinite(part).all() and (np.diff(part) > 0).all():
            best = max(best, len(part))
    if rows is None:
        assert best == len(times)
    else:
        assert len(rows) == best
        assert np.isfinite(times[rows]).all()
        assert (np.diff(times[rows]) > 0).all()
        assert (np.diff(rows) > 0).all()


def test_values_are_in_the_unit():
    one = SimpleNamespace(name="trace", data=np.array([1, 2], dtype=np.int16), conversion=0.5, offset=1.0)
    np.testing.assert_array_equal(sample_values(one), [1.5, 2.0])
    assert scaling(SimpleNamespace(conversion=np.nan, offset=None)) == (1.0, 0.0)


def test_what_cannot_be_in_memory_or_is_no_number_is_refused():
    class Claim:
        shape = (10**12,)

        def __getitem__(self, rows):
            raise AssertionError("it was read")

    for field in ("data", "timestamps"):
        fields = {"data": np.zeros(2), "conversion": 1.0, "offset": 0.0, field: Claim()}
        with pytest.raises(SessionError, match=r"claims 1e\+12 values"):
            sample_values(series(**fields)) if field == "data" else sample_times(series(**fields), 2)
    with pytest.raises(SessionError, match=r"claims 1e\+12 values"):
        sample_times(series(rate=30.0), 10**12)
    with pytest.raises(SessionError, match="trace holds <U1, not numbers"):
        sample_values(series(data=np.array(["a", "b"]), conversion=1.0, offset=0.0))


def test_the_array_behind_wrappers_is_found():
    data = np.zeros((3, 2))
    assert sliceable(data) is data
    assert sliceable(SimpleNamespace(data=data)) is data
    assert sliceable([[1, 2], [3, 4]]).shape == (2, 2)
