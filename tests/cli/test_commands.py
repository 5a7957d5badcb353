"""Each command does what its verb does, for people and for programs."""

import json

from nwbrecon.simulation.truth import read_truth

from .test_app import call


def test_simulate_writes_recording_and_truth(tmp_path):
    small = ["--rois", 4, "--planes", 1, "--minutes", 0.1, "--layout", "plain", "--seed", 2]
    small += ["--set", "clip_seconds=3", "--set", "test_clips=1", "--set", "test_repeats=2"]
    result = call("simulate", tmp_path / "mouse.nwb", *small, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {
        "recording": str(tmp_path / "mouse.nwb"),
        "truth": str(tmp_path / "mouse.truth.npz"),
    }
    assert len(read_truth(tmp_path / "mouse.nwb")["planes/1/cells"]) == 4
    again = call("simulate", tmp_path / "mouse.nwb", *small)
    assert again.exit_code == 1
    assert "exist already" in again.stderr


def test_inspect_for_people_and_for_programs(mouse):
    for_people = call("inspect", mouse)
    assert for_people.exit_code == 0
    assert "2 planes" in for_people.stdout
    for_programs = json.loads(call("inspect", mouse, "--json").stdout)
    assert for_programs["usable"] is True
    assert sum(plane["rois"] for plane in for_programs["planes"]) == 100


def test_settings_come_from_a_file_and_options_win(mouse, tmp_path):
    config = tmp_path / "settings.yaml"
    config.write_text("alignment: {test_share: 0.0, responses: {deconvolve: false}}")
    split = json.loads(call("inspect", mouse, "--config", config, "--json").stdout)
    assert "test" not in split["split"]
    assert {plane["used_as"] for plane in split["planes"]} == {"dF/F"}
    split = json.loads(call("inspect", mouse, "--config", config, "--set", "alignment.test_share=0.2", "--json").stdout)
    assert split["split"]["test"]["clips"] == 2
