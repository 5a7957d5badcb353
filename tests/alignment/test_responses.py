import numpy as np
import pandas as pd
import pytest

from nwbrecon.alignment.responses import align_group, response_times
from nwbrecon.config import ResponseSettings
from nwbrecon.errors import AlignmentError
from nwbrecon.session.model import ResponseGroup, Signal, SignalKind

TIMES = np.arange(100) / 10
TRAINING = (np.arange(20, 60) / 10, np.arange(21, 61) / 10)


def group_of(values, kind=SignalKind.EVENTS, timestamps=TIMES, **more):
    values = np.asarray(values, dtype=np.float32)
    return ResponseGroup(
        name="plane",
        signal=Signal("events", kind, "a.u.", lambda start, stop: values[start:stop], values.shape),
        timestamps=timestamps,
        rois=pd.DataFrame(index=10 * np.arange(values.shape[1])),
        **more,
    )


def aligned_of(values, kind=SignalKind.EVENTS):
    return align_group(group_of(values, kind), TIMES, TRAINING, ResponseSettings())


def test_the_scale_comes_from_training_time_alone():
    rng = np.random.default_rng(0)
    values = rng.gamma(2, size=(100, 4)) * [1, 2, 3, 4]
    # sample k counts the interval before it, so that 21 to 60 lie in the training frames
    expected = values[21:61].std(axis=0)
    values[61:] *= 50
    values[:21] *= 50
    group, warnings = aligned_of(values)
    np.testing.assert_allclose(group.scale, expected, rtol=1e-5)
    np.testing.assert_allclose(group.activity * group.scale, values, rtol=1e-5)
    assert group.activity.dtype == np.float32
    assert warnings == []


def test_nearly_silent_rois_do_not_become_loud():
    values = np.random.default_rng(0).gamma(2, size=(100, 5)) * [1, 1, 1, 1, 1e-4]
    group, _ = aligned_of(values)
    assert np.abs(group.activity[:, 4]).max() < 0.01


def test_rois_that_tell_nothing_are_left_out():
    values = np.random.default_rng(0).gamma(2, size=(100, 5))
    values[:, 1] = np.nan
    values[:, 2] = 3
    values[20:61, 3] = 0
    group, (warning,) = aligned_of(values)
    assert list(group.rois.index) == [0, 40]
    assert group.activity.shape == (100, 2)
    assert warning == (
        "3 of 5 ROIs in plane were left out: 1 without data in training time, 2 that never change in it."
    )
    group, _ = aligned_of(np.zeros((100, 2)))
    assert group is None


def test_missing_and_infinite_samples_stay_missing():
    values = np.random.default_rng(0).gamma(2, size=(100, 2))
    values[30, 0], values[40, 1] = np.nan, np.inf
    group, _ = aligned_of(values)
    assert np.argwhere(np.isnan(group.activity)).tolist() == [[30, 0], [40, 1]]
    np.testing.assert_allclose(group.scale[0], np.delete(values[21:61, 0], 9).std(), rtol=1e-5)


def test_spike_counts_stay_counts():
    values = np.random.default_rng(0).poisson(3, (100, 3))
    group, _ = aligned_of(values, SignalKind.SPIKES)
    np.testing.assert_array_equal(group.activity, values)
    np.testing.assert_array_equal(group.scale, 1)


def test_shapes_that_disagree_are_refused():
    with pytest.raises(AlignmentError, match=r"plane has the shape \(90, 2\) for 100 sample times and 2 ROIs"):
        align_group(group_of(np.ones((90, 2))), TIMES, TRAINING, ResponseSettings())


def test_a_stated_delay_replaces_the_group_s_own():
    group = group_of(np.ones((100, 1)), delay=0.05)
    np.testing.assert_allclose(response_times(group, 0.1), TIMES + 0.1)


@pytest.mark.parametrize("times", [[0.0], [0.0, 0.0], [1.0, 0.0], [0.0, np.nan, 2.0]])
def test_bad_times_are_refused_by_name(times):
    group = group_of(np.ones((len(times), 1)), timestamps=np.array(times))
    with pytest.raises(AlignmentError, match="sample times of plane do not increase"):
        response_times(group, 0.0)
