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


def test_the_timeline_has_every_presentation(inspected, mouse):
    with open_session(mouse) as session:
        shown = session.stimulus.presentations
    assert len(inspected.timeline) == len(shown)
    assert [one["clip"] for one in inspected.timeline] == list(shown["clip"])
    assert [one["onset"] for one in inspected.timeline] == list(shown["onset"])


def test_a_mouse_of_a_hundred_cells_is_doubtful(inspected):
    assert inspected.verdict.worth == "doubtful"
    assert "There are 100 cells" in str(inspected)
    assert inspected.measured is None


def test_what_is_measured_is_what_was_simulated(mouse):
    measured = inspect(mouse, AlignmentSettings(frame_rate=15, frame_size=(18, 32)), measure=True)
    found = measured.measured
    # three minutes are too few for the latency to be clear, but it is where it should be
    assert 0 < found["latency"] < 0.5
    assert found["reliability"]["clips"] == 2
    assert found["reliability"]["trials"] == 10
    assert found["reliability"]["median"] > 0.15
    assert "cells respond to repeats alike" in str(measured)
    assert json.loads(json.dumps(measured.to_dict()))["measured"] == found


def test_cells_that_do_not_see_are_found_out(spoiled):
    def shuffle(file):
        rng = np.random.default_rng(0)
        for series in file["processing/ophys/Fluorescence"].values():
            if isinstance(series, h5py.Group) and "data" in series:
                series["data"][:] = rng.permutation(series["data"][:], axis=0)

    measured = inspect(spoiled(shuffle), AlignmentSettings(frame_rate=15, frame_size=(18, 32)), measure=True)
    assert not measured.measured["latency_clear"]
    assert measured.measured["reliability"]["median"] < 0.05
    assert "does not follow changes on the screen" in str(measured.verdict)
