import itertools
import time

import pytest

from nwbrecon.config import AlignmentSettings, ControlSettings
from nwbrecon.errors import SourceError
from nwbrecon.pipeline.estimate import _controls, estimate


def test_every_step_is_tried(mouse, tiny):
    made = estimate(mouse, tiny)
    assert set(made.seconds) == {"alignment", "training", "reconstruction", "writing"}
    assert all(seconds > 0 for seconds in made.seconds.values())
    assert made.train_minutes == pytest.approx(32 * 5 / 60, abs=0.01)
    assert made.test_minutes == pytest.approx(10 * 3 / 60, abs=0.01)
    assert 0.1 < made.memory_gigabytes < 8
    assert made.disk_gigabytes == 0
    assert "all of it" in str(made)


def test_more_work_takes_longer(mouse, tiny, monkeypatch):
    longer = tiny.model_copy(
        update={
            "training": tiny.training.model_copy(update={"epochs": 60}),
            "inversion": tiny.inversion.model_copy(update={"iterations": 200}),
        }
    )
    # a clock on which everything that is timed takes as long
    ticks = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))
    short, long = estimate(mouse, tiny), estimate(mouse, longer)
    assert long.seconds["training"] > 2 * short.seconds["training"]
    assert long.seconds["reconstruction"] > 3 * short.seconds["reconstruction"]
    assert long.seconds["alignment"] == short.seconds["alignment"]


def test_controls_take_their_time():
    # permuted, behavior withheld and two donors on each of three clips, two gray screens
    assert _controls(ControlSettings(), 6) == 3 * 4 + 2
    assert _controls(ControlSettings(), 2) == 2 * 4 + 2
    assert _controls(ControlSettings(enabled=False), 6) == 0


def test_what_does_not_fit_goes_into_files(mouse, tiny):
    small = tiny.model_copy(update={"alignment": AlignmentSettings(memory_gigabytes=0.001)})
    made = estimate(mouse, small, steps=("alignment",))
    assert set(made.seconds) == {"alignment"}
    # two bytes a pixel, four a response
    assert made.disk_gigabytes * 1e9 == pytest.approx(2 * (36 * 150 + 10 * 90) * 36 * 64, rel=0.25)


def test_a_wrong_path(tmp_path):
    with pytest.raises(SourceError):
        estimate(tmp_path / "no.nwb")
