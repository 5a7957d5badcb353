import json

import h5py
import numpy as np
import pytest

from nwbrecon import align, open_session
from nwbrecon.config import AlignmentSettings
from nwbrecon.errors import SourceError
from nwbrecon.pipeline.inspection import inspect
from nwbrecon.simulation import simulate


@pytest.fixture(scope="module")
def inspected(mouse):
    return inspect(mouse)


def test_planes_rois_and_rates_are_those_of_the_simulated_mouse(inspected):
    assert [plane["rois"] for plane in inspected.planes] == [50, 50]
    assert {plane["signal"] for plane in inspected.planes} == {"raw fluorescence"}
    assert {plane["used_as"] for plane in inspected.planes} == {"deconvolved"}
    np.testing.assert_allclose([plane["rate"] for plane in inspected.planes], 7.4, rtol=1e-3)
    assert inspected.planes[1]["start"] - inspected.planes[0]["start"] == pytest.approx(0.5 / 7.4, rel=1e-3)


def test_the_stimulus_is_counted_once_a_clip(inspected):
    (stimulus,) = inspected.stimuli
    assert (stimulus["clips"], stimulus["showings"]) == (38, 46)
    assert stimulus["unique_minutes"] == pytest.approx((36 * 5 + 2 * 3) / 60, rel=1e-3)
    assert stimulus["minutes"] == pytest.approx((36 * 5 + 10 * 3) / 60, rel=1e-3)
    assert [(entry["times"], entry["clips"]) for entry in inspected.repeats] == [(1, 36), (5, 2)]


def test_what_would_be_used_is_what_alignment_uses(inspected, mouse):
    settings = AlignmentSettings(frame_rate=15, frame_size=(9, 16))
    with open_session(mouse) as session:
        aligned = align(session, settings)
    used = inspect(mouse, settings).split
    for split in ("train", "validation", "test"):
        trials = aligned.trials.loc[aligned.trials_in(split)]
        assert used[split]["trials"] == len(trials)
        assert used[split]["clips"] == trials["clip"].nunique()
    assert inspected.usable


def test_behavior_is_known_for_a_share_of_the_frames(inspected):
    assert [series["name"] for series in inspected.behavior] == ["running_speed", "pupil_size", "gaze_x", "gaze_y"]
    assert all(0.9 < series["coverage"] <= 1 for series in inspected.behavior)


def test_a_person_reads_it_and_a_program_too(inspected):
    text = str(inspected)
    for words in ("2 planes", "100", "36 clips once, 2 clips 5 times", "running_speed", "train"):
        assert words in text
    assert max(map(len, text.splitlines())) < 200
    assert json.loads(json.dumps(inspected.to_dict()))["usable"] is True


def test_a_recording_that_cannot_be_used_is_described_all_the_same(mouse, tmp_path):
    late = tmp_path / "late.nwb"
    late.write_bytes(mouse.read_bytes())
    with h5py.File(late, "r+") as file:
        shifted = []
        file.visititems(
            lambda name, item: (
                shifted.append(name)
                if name.startswith("processing/ophys")
                and name.endswith("/timestamps")
                and isinstance(item, h5py.Dataset)
                else None
            )
        )
        for name in shifted:
            file[name][:] += 5000.0
    assert shifted
    inspected = inspect(late)
    assert not inspected.usable
    assert inspected.overlap["covered"] == 0
    assert "Stimulus and responses do not overlap" in str(inspected)


def test_many_stimuli_are_shortened(tmp_path):
    path = simulate(
        tmp_path / "mouse.nwb",
        layout="visual-coding",
        rois=4,
        minutes=0.5,
        clip_seconds=2,
        test_clips=1,
        test_repeats=2,
    )
    inspected = inspect(path)
    assert len(inspected.stimuli) == 16
    assert "... 9 more ..." in str(inspected)


def test_a_wrong_path_says_so(tmp_path):
    with pytest.raises(SourceError, match="There is no file"):
        inspect(tmp_path / "no.nwb")
