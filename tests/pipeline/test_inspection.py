import json
from datetime import UTC, datetime

import h5py
import numpy as np
import pytest
from pynwb import NWBHDF5IO, NWBFile

from nwbrecon import align, open_session
from nwbrecon.config import AlignmentSettings
from nwbrecon.errors import SessionError, SourceError
from nwbrecon.pipeline.inspection import inspect
from nwbrecon.pipeline.run import run
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


def without(*groups):
    def remove(file):
        for group in groups:
            for name in list(file[group]):
                del file[f"{group}/{name}"]

    return remove


def movies_of(file):
    return [
        f"acquisition/{name}" for name, item in file["acquisition"].items() if "data" in item and item["data"].ndim > 2
    ]


def test_a_file_without_responses_is_described_and_gets_a_no(spoiled, inspected):
    path = spoiled(without("processing/ophys/Fluorescence"))
    found = inspect(path)
    assert (found.verdict.worth, found.usable, found.planes) == ("no", False, [])
    assert found.stimuli == inspected.stimuli
    assert found.timeline == inspected.timeline
    assert [one["name"] for one in found.behavior] == [one["name"] for one in inspected.behavior]
    assert found.overlap["responses"] is None
    assert found.overlap["stimulus"] == inspected.overlap["stimulus"]
    for words in (
        "responses: none",
        "36 clips once",
        "running_speed",
        "not worth attempting",
        "holds no responses of ROIs",
    ):
        assert words in str(found)
    assert "responses cover" not in str(found)
    assert json.loads(json.dumps(found.to_dict()))["planes"] == []
    with pytest.raises(SessionError, match="holds no responses"):
        run(path, path.parent / "out")


def test_a_file_without_a_stimulus_is_described_and_gets_a_no(spoiled, inspected):
    def remove(file):
        for name in movies_of(file):
            del file[name]

    path = spoiled(remove)
    found = inspect(path, measure=True)
    assert (found.verdict.worth, found.stimuli, found.timeline, found.repeats) == ("no", [], [], [])
    assert [plane["rois"] for plane in found.planes] == [50, 50]
    assert found.overlap["stimulus"] is None
    assert found.overlap["responses"] == inspected.overlap["responses"]
    assert "stimulus: none" in str(found)
    assert "holds no stimulus whose frames and times are known" in str(found.verdict)
    with pytest.raises(SessionError, match="holds no stimulus"):
        run(path, path.parent / "out")


def test_a_file_of_behavior_alone_is_described(spoiled):
    def remove(file):
        without("processing/ophys/Fluorescence")(file)
        for name in movies_of(file):
            del file[name]

    found = inspect(spoiled(remove))
    assert [one["name"] for one in found.behavior] == ["running_speed", "pupil_size", "gaze_x", "gaze_y"]
    assert {one["coverage"] for one in found.behavior} == {None}
    assert "holds no responses" in str(found)
    assert "holds no stimulus" in str(found)


def test_an_empty_file_is_described(tmp_path):
    nwb = NWBFile("nothing", "nothing", datetime(2024, 1, 1, tzinfo=UTC))
    with NWBHDF5IO(tmp_path / "empty.nwb", "w") as io:
        io.write(nwb)
    found = inspect(tmp_path / "empty.nwb")
    assert found.verdict.worth == "no"
    assert "It holds no data at all" in str(found)


def test_the_rois_that_are_asked_for_are_those_that_are_judged(mouse):
    ids = inspect_rois(mouse)
    found = inspect(mouse, AlignmentSettings(rois={ids[0][0]: ids[0][1][:12]}))
    assert [plane["rois"] for plane in found.planes] == [12]
    assert "There are 12 cells" in str(found.verdict)
    assert "12 of 100 ROIs were selected" in str(found)
    wrong = inspect(mouse, AlignmentSettings(areas="PM"))
    assert [plane["rois"] for plane in wrong.planes] == [50, 50]
    assert wrong.verdict.worth == "no"
    assert "PM" in str(wrong.verdict)


def inspect_rois(path):
    with open_session(path) as session:
        return [(name, group.rois.index.tolist()) for name, group in session.responses.items()]
