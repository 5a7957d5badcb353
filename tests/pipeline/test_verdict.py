import numpy as np
import pandas as pd
import pytest

from nwbrecon.alignment import AlignedGroup, AlignedSession
from nwbrecon.pipeline.verdict import judge, reliability
from nwbrecon.session import SignalKind

PARTS = {
    "train": {"clips": 100, "unique_minutes": 40.0},
    "validation": {"clips": 9, "unique_minutes": 2.0},
    "test": {"clips": 6, "unique_minutes": 1.0},
}
BOTH = ["running_speed", "pupil_size"]


@pytest.mark.parametrize(
    ("change", "worth", "words"),
    [
        ({}, "yes", "worth attempting"),
        ({"behavior": []}, "yes", "running_speed and pupil_size is not there"),
        ({"rois": 12}, "no", "There are 12 cells; at least 20"),
        ({"rois": 300}, "doubtful", "only coarse structure"),
        ({"split": {}, "reason": "They do not overlap."}, "no", "They do not overlap."),
        ({"split": {name: PARTS[name] for name in ("train", "validation")}}, "no", "no clip to score"),
        ({"split": PARTS | {"train": {"clips": 2, "unique_minutes": 1.0}}}, "no", "1.0 min of unique movie"),
        ({"split": PARTS | {"train": {"clips": 9, "unique_minutes": 8.0}}}, "doubtful", "8.0 min of unique movie"),
        ({"covered": 0.3}, "doubtful", "30% of the time"),
        ({"measured": {"latency_clear": False, "reliability": None}}, "doubtful", "does not follow changes"),
        (
            {"measured": {"latency_clear": True, "latency": -0.6, "reliability": None}},
            "doubtful",
            "do not seem to agree",
        ),
        (
            {"measured": {"latency_clear": True, "latency": 0.1, "reliability": {"median": 0.01}}},
            "doubtful",
            "hardly agree",
        ),
        (
            {"measured": {"latency_clear": True, "latency": 0.1, "reliability": {"median": 0.2}}},
            "yes",
            "worth attempting",
        ),
    ],
)
def test_what_is_lacking_is_said(change, worth, words):
    verdict = judge(**{"rois": 3000, "split": PARTS, "covered": 1.0, "behavior": BOTH, **change})
    assert verdict.worth == worth
    assert words in str(verdict)
    assert bool(verdict.expected) == (worth != "no")


def test_reliability_is_the_correlation_with_the_other_trials():
    """One cell repeats itself exactly, one half, one not at all; by hand."""
    rng = np.random.default_rng(0)
    n, repeats = 200, 4
    onsets = np.arange(repeats) * (n / 10 + 2.0)
    signal = rng.normal(size=n)
    times = np.arange(0, onsets[-1] + n / 10 + 1, 0.1)
    values = rng.normal(size=(len(times), 3))
    for onset in onsets:
        first = round(onset * 10) + 1
        values[first : first + n, 0] = signal
        values[first : first + n, 1] += signal
    group = AlignedGroup("plane", SignalKind.SPIKES, times, values, np.ones(3), pd.DataFrame(index=range(3)))
    aligned = AlignedSession.from_arrays(
        [np.zeros((n, 4, 6))] * repeats, [group], onsets=onsets, clips=["a"] * repeats, splits=["test"] * repeats,
        frame_rate=10.0,
    )  # fmt: skip
    found = reliability(aligned)
    assert found["clips"] == 1
    assert found["trials"] == 4
    # signal of power 1 in noise of power 1, against a mean of three: 1 / sqrt(2 * (1 + 1/3))
    assert found["median"] == pytest.approx(1 / np.sqrt(2 * 4 / 3), abs=0.1)
    assert found["reliable"] == 2


def test_without_repeats_nothing_is_known():
    group = AlignedGroup("p", SignalKind.SPIKES, np.arange(9.0), np.ones((9, 1)), np.ones(1), pd.DataFrame(index=[0]))
    aligned = AlignedSession.from_arrays(
        [np.zeros((20, 4, 6))] * 2, [group], onsets=[0, 4], clips=["a", "b"], splits=["train", "test"], frame_rate=10.0
    )
    assert reliability(aligned) is None
