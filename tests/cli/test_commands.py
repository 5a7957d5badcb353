"""Each command does what its verb does, for people and for programs."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from converters.release import write_release

from nwbrecon.config import ARCHITECTURES
from nwbrecon.encoding import EncoderEnsemble
from nwbrecon.pipeline.demo import DEMO, demo
from nwbrecon.results import read_results
from nwbrecon.simulation import simulate
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


def test_a_teacher_for_several_recordings_is_refused(tmp_path):
    result = call("train", "a.nwb", "b.nwb", "--out", tmp_path / "encoders", "--teacher", tmp_path)
    assert result.exit_code == 1
    assert "A teacher and 2 sources were given." in result.stderr


def test_import_sensorium_for_people_and_for_programs(tmp_path):
    made = write_release(tmp_path)
    result = call("import-sensorium", made.path, tmp_path / "mouse.nwb")
    assert result.exit_code == 0, result.output
    assert "7 cells, 14 trials of 12 clips" in result.stdout
    assert "CC BY-NC-ND 4.0" in result.stdout
    again = call("import-sensorium", made.path, tmp_path / "mouse.nwb")
    assert again.exit_code == 1
    assert "exists already" in again.stderr
    options = ["--overwrite", "--oracle", "validation", "--json"]
    for_programs = json.loads(call("import-sensorium", made.path, tmp_path / "mouse.nwb", *options).stdout)
    assert for_programs["path"] == str(tmp_path / "mouse.nwb")
    assert for_programs["splits"] == {"train": 8, "validation": 4}
    assert "CC BY-NC-ND 4.0" in for_programs["license"]
    inspected = json.loads(call("inspect", tmp_path / "mouse.nwb", "--json").stdout)
    assert sum(plane["rois"] for plane in inspected["planes"]) == 7
    assert call("import-sensorium", made.path, tmp_path / "b.nwb", "--oracle", "train").exit_code == 2
    elsewhere = call("import-sensorium", tmp_path / "nowhere", tmp_path / "b.nwb")
    assert elsewhere.exit_code == 1
    assert "There is no folder" in elsewhere.stderr


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


SMALL = """\
alignment: {frame_rate: 15, frame_size: [18, 32]}
encoder: {channels: 16, kernel_size: 7}
training: {epochs: 6}
inversion: {iterations: 8, candidate_weights: [1.0, 2.0], selection_trials: 1}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "small.yaml"
    path.write_text(SMALL)
    return path


@pytest.fixture(scope="module")
def ran(mouse, config, tmp_path_factory):
    """What `run` printed for programs, and where."""
    out = tmp_path_factory.mktemp("run") / "out"
    result = call("run", mouse, "--out", out, "--config", config, "--include-stimulus", "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.slow
class TestTheWholeWay:
    def test_run_for_programs(self, ran):
        assert ran["method"] == "map"
        for name in ("results", "report", "video", "encoder"):
            assert Path(ran[name]).exists()
        assert {row["method"] for row in ran["scores"]} == {"map", "ridge"}
        assert set(ran["split"]) >= {"train", "validation", "test"}

    def test_run_for_people(self, ran, mouse, config):
        result = call("run", mouse, "--out", ran["folder"], "--config", config, "--include-stimulus")
        assert result.exit_code == 0, result.output
        for words in ("pixel correlation", "dynamic correlation", "ridge decoder", "chance", "lag", ran["results"]):
            assert words in result.stdout
        assert "nothing to do" in result.stderr

    def test_run_with_other_settings_is_refused(self, ran, mouse, config):
        result = call("run", mouse, "--out", ran["folder"], "--config", config)
        assert result.exit_code == 1
        assert "results.include_stimulus is true there and false here" in result.stderr
        result = call("run", mouse, "--out", ran["folder"], "--config", config, "--include-stimulus", "--no-controls")
        assert result.exit_code == 1
        assert "controls.enabled is true there and false here" in result.stderr

    def test_settings_that_were_written_can_be_used_again(self, ran, mouse):
        result = call("run", mouse, "--out", ran["folder"], "--config", f"{ran['folder']}/settings.yaml", "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["scores"] == ran["scores"]

    def test_train_then_reconstruct(self, ran, mouse, config, tmp_path):
        result = call("train", mouse, "--out", tmp_path / "encoder", "--config", config, "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["gate"]["sees"] is True
        again = call("train", mouse, "--out", tmp_path / "encoder", "--config", config)
        assert again.exit_code == 1
        assert "exists already" in again.stderr
        out = tmp_path / "results.nwb"
        arguments = ["reconstruct", mouse, "--encoder", tmp_path / "encoder", "--out", out, "--config", config]
        result = call(*arguments, "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["scores"] == ran["scores"]

    def test_train_together_and_with_a_core(self, ran, mouse, config, tmp_path):
        short = ["--config", config, "--set", "training.epochs=1", "--json"]
        other = simulate(
            tmp_path / "other.nwb", rois=10, planes=1, minutes=0.5, clip_seconds=5, test_clips=1, test_repeats=5, seed=3
        )
        result = call("train", mouse, other, "--out", tmp_path / "encoders", *short)
        assert result.exit_code == 0, result.output
        made = json.loads(result.stdout)["encoders"]
        assert [Path(one["encoder"]).parent for one in made] == 2 * [tmp_path / "encoders"]
        core = made[0]["encoder"]
        result = call("train", other, "--core", core, "--out", tmp_path / "encoder", *short)
        assert result.exit_code == 0, result.output
        assert len(json.loads(result.stdout)["info"]["core"]["sessions"]) == 2
        refused = call("train", other, "--core", core, "--out", tmp_path / "no", *short, "--set", "encoder.channels=8")
        assert refused.exit_code == 1
        assert "encoder.channels is 8" in refused.stderr
        missing = call("train", other, "--core", tmp_path / "none", "--out", tmp_path / "no", *short)
        assert missing.exit_code == 1
        assert "holds no encoder" in missing.stderr
        dry = call("train", mouse, other, "--out", tmp_path / "no", "--dry-run", *short)
        assert dry.exit_code == 0, dry.output
        assert json.loads(dry.stdout)["seconds"]["training"] > 0
        assert not (tmp_path / "no").exists()

    def test_evaluate(self, ran, mouse):
        alone = call("evaluate", ran["results"])
        assert alone.exit_code == 0, alone.output
        assert "ridge decoder" in alone.stdout
        beside = json.loads(call("evaluate", ran["results"], "--source", mouse, "--json").stdout)
        assert beside["scores"] == ran["scores"]

    def test_reproduce(self, ran, mouse):
        result = call("reproduce", ran["results"], "--source", mouse, "--json")
        assert result.exit_code == 0, result.output
        made = json.loads(result.stdout)
        assert made["identical"] is True
        assert made["scores"]["pixel_correlation"]["stored"] == made["scores"]["pixel_correlation"]["again"]

    def test_report_and_export(self, ran, tmp_path):
        assert call("report", ran["results"], "--out", tmp_path / "report").exit_code == 0
        assert (tmp_path / "report" / "report.html").exists()
        result = call("export", ran["results"], "--video", tmp_path / "a.mkv", "--arrays", tmp_path / "a.npz", "--json")
        assert json.loads(result.stdout) == {"video": str(tmp_path / "a.mkv"), "arrays": str(tmp_path / "a.npz")}
        result = call("export", ran["results"], "--frames", tmp_path / "frames", "--frames-kind", "tiff")
        assert result.exit_code == 0, result.output
        assert list(tmp_path.glob("frames/*/video.tiff"))
        assert call("export", ran["results"], "--frames", tmp_path / "f", "--frames-kind", "bmp").exit_code == 2
        assert call("export", ran["results"], "--video", tmp_path / "a.doc").exit_code == 1

    @pytest.mark.parametrize("command", ["run", "train"])
    def test_a_dry_run_writes_nothing(self, command, mouse, config, tmp_path):
        result = call(command, mouse, "--out", tmp_path / "out", "--config", config, "--dry-run", "--json")
        assert result.exit_code == 0, result.output
        estimate = json.loads(result.stdout)
        assert all(seconds > 0 for seconds in estimate["seconds"].values())
        assert ("reconstruction" in estimate["seconds"]) == (command == "run")
        assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_the_demo_simulates_and_runs(config, tmp_path, monkeypatch):
    small = DEMO.model_copy(update={"rois": 100, "planes": 2, "minutes": 3.0, "clip_seconds": 5.0, "test_clips": 2})
    monkeypatch.setattr(demo, "__defaults__", (None, small))
    out = tmp_path / "demo"
    result = call("demo", "--out", out, "--config", config, "--json")
    assert result.exit_code == 0, result.output
    made = json.loads(result.stdout)
    assert Path(made["report"]).parent == out
    assert read_results(made["results"]).true_movies is not None
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert call("demo", "--out", out, "--config", config).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_the_folder_of_the_stimuli_is_named(tmp_path):
    path = simulate(tmp_path / "mouse.nwb", layout="visual-coding", rois=4, minutes=0.5, clip_seconds=2, test_repeats=2)
    (tmp_path / "stimuli").mkdir()
    with h5py.File(path, "a") as file:
        for name, template in list(file["stimulus/templates"].items()):
            np.save(tmp_path / "stimuli" / f"{name}.npy", template["data"][:])
            del file["stimulus/templates"][name]
    lacking = call("inspect", path)
    assert lacking.exit_code == 0
    assert "not worth attempting" in lacking.stdout
    assert "stimulus_folder" in lacking.stdout
    refused = call("run", path, "--out", tmp_path / "out")
    assert refused.exit_code == 1
    assert "stimulus_folder" in refused.stderr
    found = call("inspect", path, "--stimulus-folder", tmp_path / "stimuli", "--json")
    assert found.exit_code == 0, found.output
    assert len(json.loads(found.stdout)["stimuli"]) > 1


def test_inspect_draws_what_was_shown_when(mouse, tmp_path):
    result = call("inspect", mouse, "--plot", tmp_path / "timeline.png")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "timeline.png").read_bytes().startswith(b"\x89PNG")
    refused = call("inspect", mouse, "--plot", tmp_path / "timeline.xyz")
    assert refused.exit_code in (1, 2)
    assert "what kind of picture" in refused.stderr


@pytest.mark.slow
def test_a_dwiseneuro_is_trained_saved_and_used(tmp_path):
    simulate(tmp_path / "mouse.nwb", rois=12, planes=1, minutes=0.4, clip_seconds=3.0, test_clips=1, test_repeats=5)
    small = ["--set", "encoder=dwiseneuro-small", "--set", "training.epochs=1", "--frame-rate", 15]
    small += ["--frame-size", "18x32"]
    made = call("train", tmp_path / "mouse.nwb", "--out", tmp_path / "encoder", *small, "--json")
    assert made.exit_code == 0, made.output
    encoder = EncoderEnsemble.load(tmp_path / "encoder")
    assert encoder.encoders[0].settings == ARCHITECTURES["dwiseneuro-small"]
    assert encoder.info["training"]["readout_penalty"] == 0
    # whether it sees or not, it is inverted
    told = json.loads((tmp_path / "encoder" / "encoder.json").read_text())
    (tmp_path / "encoder" / "encoder.json").write_text(json.dumps(told | {"gate": told["gate"] | {"sees": True}}))
    few = ["--set", "inversion.iterations=2", "--set", "inversion.prior_weight=1.5", "--set", "controls.enabled=false"]
    out = tmp_path / "results.nwb"
    made = call("reconstruct", tmp_path / "mouse.nwb", "--encoder", tmp_path / "encoder", "--out", out, *few)
    assert made.exit_code == 0, made.output
    results = read_results(out)
    assert results.reconstructions.method == "map"
    assert all(np.isfinite(one.video).all() and np.isfinite(one.std).all() for one in results.reconstructions)
    stored = results.provenance["settings"]["encoder"]
    assert stored["architecture"] == "dwiseneuro"
    assert call("evaluate", out, "--source", tmp_path / "mouse.nwb", "--json").exit_code == 0
