"""The controls on a simulated mouse whose reconstructions are sound."""

import json

import numpy as np
import pandas as pd
import pytest

from nwbrecon import Controls
from nwbrecon.config import ControlSettings
from nwbrecon.evaluation import run_controls
from nwbrecon.evaluation.controls import CONTROLS
from nwbrecon.evaluation.evaluate import METRICS
from nwbrecon.inversion.controls import chosen_items
from nwbrecon.metrics import bootstrap_interval, pixel_correlation
from nwbrecon.progress import progress_shown


@pytest.fixture(scope="module")
def controls(small_mouse, small_encoder, small_reconstructions):
    with progress_shown(False):
        return run_controls(small_encoder, small_mouse.aligned, small_reconstructions, ControlSettings(clips=2))


def test_every_control_has_a_verdict_and_a_sentence(controls):
    assert controls.verdicts["control"].tolist() == list(CONTROLS)
    assert controls.verdicts.set_index("control")["verdict"].to_dict() == {
        "behavior": "compare",
        "shuffled": "compare",
        "behavior_alone": "passed",
        "permuted": "passed",
        "gray": "left out",
        "judge": "passed",
    }
    assert controls.verdict("gray") == "left out"
    assert "None in the recording" in controls.verdicts.set_index("control").at["gray", "sentence"]
    assert (controls.info["clips"], controls.info["reconstructed_clips"]) == (2, 2)


def test_both_with_and_without_behavior_are_told(controls, small_reconstructions, small_mouse):
    sentence = controls.verdicts.set_index("control").at["behavior", "sentence"]
    assert "were made with behavior" in sentence
    own = np.mean(
        [
            pixel_correlation(item.video, small_mouse.aligned.trial(item.trials[0]).video, small_reconstructions.mask)
            for item in chosen_items(small_reconstructions, 2)
        ]
    )
    assert controls.mean("behavior", "with behavior", "pixel_correlation") == pytest.approx(own)
    without = controls.mean("behavior", "from brain signals alone", "pixel_correlation")
    assert f"{own:.2f} with behavior and {without:.2f} from brain signals alone" in sentence


def test_the_judge_ranks_the_true_clip_over_the_wrong_one(controls):
    for metric in ("response_correlation", "other_response_correlation"):
        true, own, wrong = (
            controls.mean("judge", name, metric) for name in ("true movie", "reconstruction", "wrong clip")
        )
        assert min(true, own) > wrong + 0.1
    # the noise of its own trial is in the reconstruction, not in the movie
    own, true = (controls.mean("judge", name, "response_correlation") for name in ("reconstruction", "true movie"))
    assert own > true
    assert "explains noise of the trial" in controls.verdicts.set_index("control").at["judge", "sentence"]
    assert np.isnan(controls.mean("judge", "reconstruction", "no_such_metric"))


def test_the_summary_is_that_of_the_table(controls):
    summary = controls.summary.set_index(["control", "condition", "metric"])
    rows = controls.table.query("control == 'permuted' and condition == 'control'")
    assert set(rows["metric"]) == set(METRICS)
    values = rows.loc[rows["metric"] == "pixel_correlation", "value"].to_numpy()
    found = summary.loc[("permuted", "control", "pixel_correlation")]
    assert tuple(found[["mean", "low", "high"]]) == pytest.approx(bootstrap_interval(values))
    assert found["n_clips"] == 2


def test_it_is_shown_to_people_and_programs(controls):
    text = str(controls)
    assert len(text.splitlines()) == len(CONTROLS)
    assert "ROI labels permuted (passed): What is left" in text
    assert "ROI labels permuted" in controls._repr_html_()
    assert json.dumps(controls.to_dict())
    empty = Controls(controls.table.iloc[:0], pd.DataFrame(columns=["control", "verdict", "sentence"]))
    assert len(empty.summary) == 0
    assert str(empty) == ""
