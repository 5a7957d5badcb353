import json
from dataclasses import replace
from html import escape

import numpy as np
import pandas as pd
import pytest

from nwbrecon import EncoderEnsemble, align, evaluate, open_session, score_encoder
from nwbrecon.config import RunSettings, load_settings
from nwbrecon.errors import AlignmentError, NwbreconError, ResultsError, SessionError, SettingsError, SourceError
from nwbrecon.pipeline.run import run
from nwbrecon.results import read_results
from nwbrecon.storage import digest

PRODUCTS = {"encoder", "report.html", "side-by-side.mp4", "settings.yaml", "run.json", "log.txt"}


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def is_partial(path):
    return ".partial" in path.name


class TestACompleteRun:
    def test_the_folder_holds_everything_and_no_more(self, ran):
        assert {path.name for path in ran.folder.iterdir()} == PRODUCTS | {ran.results_path.name}
        assert ran.results_path.name.endswith("_desc-reconstruction_image.nwb")

    def test_every_test_trial_is_reconstructed(self, ran, mouse, tiny):
        with open_session(mouse) as session:
            aligned = align(session, tiny.alignment)
        items = ran.results.reconstructions
        assert sorted(item.trials[0] for item in items) == sorted(aligned.trials_in("test"))
        np.testing.assert_allclose([item.onset for item in items], sorted(item.onset for item in items))

    def test_scores_are_those_of_the_movie_as_stored(self, ran, mouse, tiny):
        stored = read_results(ran.results_path)
        with open_session(mouse) as session:
            again = evaluate(stored.reconstructions, align(session, tiny.alignment))
        for metric in ("pixel_correlation", "dynamic_correlation"):
            ours = stored.scores.trials.set_index(["method", "trial"])[metric].sort_index()
            np.testing.assert_allclose(ours, again.trials.set_index(["method", "trial"])[metric].sort_index())

    def test_the_encoder_sees_and_is_inverted(self, ran):
        assert ran.gate["sees"] is True
        assert ran.results.reconstructions.method == "map"

    def test_the_ridge_decoder_stands_beside(self, ran):
        assert "ridge" in set(ran.results.scores.trials["method"])
        assert ran.gate["sentence"] in str(ran)
        assert "ridge decoder" in str(ran)
        assert "chance" in str(ran)

    def test_it_says_how_well_the_encoder_predicts(self, ran, mouse, tiny):
        with open_session(mouse) as session:
            found = score_encoder(EncoderEnsemble.load(ran.encoder_path), align(session, tiny.alignment))
        pd.testing.assert_frame_equal(ran.results.encoder_summary, found.summary, check_dtype=False, rtol=1e-4)
        correlation = f"single-trial correlation is {found.mean('single_trial_correlation'):.2f}, beside"
        assert correlation in str(ran)
        assert "(ceiling)" in str(ran)

    def test_controls_stand_beside(self, ran):
        controls = ran.results.controls
        verdicts = controls.verdicts.set_index("control")["verdict"]
        # the simulated screen is gray for three seconds before the first clip
        assert "left out" not in set(verdicts)
        assert verdicts["judge"] == "passed"
        assert controls.info["clips"] == 2
        assert controls.info["settings"] == ran.results.provenance["settings"]["controls"]
        assert "by map, with behavior" in str(ran)
        assert "Controls passed: " in str(ran)
        assert ran.to_dict()["controls"]["verdicts"][0]["control"] == "behavior"
        assert json.dumps(ran.to_dict()["controls"])
        page = ran.report_path.read_text(encoding="utf-8")
        assert "reconstructed with behavior" in page
        for sentence in controls.verdicts["sentence"]:
            assert escape(sentence, quote=True).replace("&#x27;", "&#39;") in page

    def test_where_no_controls_were_run_it_is_said(self, ran):
        without = replace(ran, results=replace(ran.results, controls=None))
        assert "Controls: none were run." in str(without)
        assert "controls" not in without.to_dict()

    def test_settings_travel_and_can_be_used_again(self, ran, tiny):
        assert load_settings(RunSettings, ran.folder / "settings.yaml") == tiny
        settings = ran.results.provenance["settings"]
        for part in ("alignment", "encoder", "training", "inversion", "evaluation", "controls", "results"):
            assert settings[part] == json.loads(getattr(tiny, part).model_dump_json()), part

    def test_provenance_names_source_split_and_command(self, ran, mouse):
        content = ran.results.provenance
        assert content["source"]["digest"] == digest(mouse)
        assert content["command_line"] == "nwbrecon run mouse.nwb --out out"
        assert {"train", "validation", "test"} <= set(content["split"])
        shown = {item.clip for item in ran.results.reconstructions}
        assert shown == set(content["split"]["test"])

    def test_the_log_says_signal_split_and_verdict(self, ran):
        log = (ran.folder / "log.txt").read_text()
        for words in ("raw fluorescence", "deconvolution", "unique", "Test: ", ran.gate["sentence"]):
            assert words in log

    def test_a_program_can_read_the_outcome(self, ran):
        content = json.loads(json.dumps(ran.to_dict(), default=float))
        assert content["results"] == str(ran.results_path)
        assert {row["method"] for row in content["encoder_scores"]} >= {"encoder", "behavior", "ceiling"}
        assert {row["metric"] for row in content["scores"]} >= {"pixel_correlation", "dynamic_correlation"}


class TestRunningAgain:
    def test_a_complete_run_is_left_as_it_is(self, copied, mouse, tiny):
        before = stamps(copied)
        again = run(mouse, copied, tiny)
        assert stamps(copied) == before
        assert again.results.scores is not None

    def test_other_settings_are_refused_and_nothing_is_touched(self, copied, mouse, tiny):
        before = stamps(copied)
        with pytest.raises(SettingsError, match=r"training\.members is 1 there and 2 here"):
            run(mouse, copied, tiny, training__members=2)
        assert stamps(copied) == before

    def test_another_recording_is_refused(self, copied, mouse, tiny, spoiled):
        other = spoiled(
            lambda file: file["acquisition/treadmill_velocity/data"].write_direct(np.zeros(1), dest_sel=np.s_[:1])
        )
        with pytest.raises(SettingsError, match="source digest"):
            run(other, copied, tiny)

    def test_a_recording_that_was_moved_is_the_same(self, copied, mouse, tiny, tmp_path):
        moved = tmp_path / "elsewhere" / "renamed.nwb"
        moved.parent.mkdir()
        moved.write_bytes(mouse.read_bytes())
        before = stamps(copied)
        run(moved, copied, tiny)
        assert stamps(copied) == before

    def test_overwriting_keeps_the_encoder_where_it_need_not_change(self, copied, mouse, tiny):
        before = stamps(copied / "encoder")
        again = run(mouse, copied, tiny, results__movie_dtype="float32", overwrite=True)
        assert stamps(copied / "encoder") == before
        videos = np.concatenate([item.video for item in again.results.reconstructions])
        assert not np.array_equal(videos, np.rint(videos))
        assert load_settings(RunSettings, copied / "settings.yaml").results.movie_dtype == "float32"

    def test_only_what_is_missing_is_made_again(self, copied, mouse, tiny):
        (copied / "report.html").unlink()
        before = stamps(copied / "encoder") | {path: path.stat().st_mtime_ns for path in copied.glob("*.nwb")}
        run(mouse, copied, tiny)
        assert (copied / "report.html").exists()
        assert {path: path.stat().st_mtime_ns for path in before} == before

    def test_stopped_at_every_step_it_goes_on_to_the_same_end(self, ran, mouse, tiny, tmp_path, monkeypatch):
        out = tmp_path / "out"

        def stopped(*_, **__):
            raise KeyboardInterrupt

        for step in (
            "train",
            "reconstruct",
            "evaluate",
            "run_controls",
            "score_encoder",
            "store_results",
            "write_report",
            "write_video",
        ):
            with monkeypatch.context() as patched:
                patched.setattr(f"nwbrecon.pipeline.run.{step}", stopped)
                with pytest.raises(KeyboardInterrupt) as stop:
                    run(mouse, out, tiny)
            assert stop.value.__notes__ == [f"What is done is kept in {out}; the same command goes on from there."]
        again = run(mouse, out, tiny)
        assert {path.name for path in out.iterdir()} == PRODUCTS | {again.results_path.name}
        for one, other in zip(again.results.reconstructions, ran.results.reconstructions, strict=True):
            np.testing.assert_array_equal(one.video, other.video)

    def test_two_runs_in_one_folder_do_not_meet(self, mouse, tiny, tmp_path, monkeypatch):
        def second(*_, **__):
            run(mouse, tmp_path / "out", tiny)

        monkeypatch.setattr("nwbrecon.pipeline.run.train", second)
        with pytest.raises(SettingsError, match="Another run is at work"):
            run(mouse, tmp_path / "out", tiny)


class TestWhatCannotBe:
    """One paragraph, and nothing left behind."""

    def refused(self, source, tmp_path, error, words):
        out = tmp_path / "out"
        with pytest.raises(error, match=words) as raised:
            run(source, out)
        assert "\n" not in str(raised.value)
        assert not out.exists()

    def test_a_wrong_path(self, tmp_path):
        self.refused(tmp_path / "no.nwb", tmp_path, SourceError, "There is no file")

    def test_what_is_not_nwb(self, tmp_path):
        path = tmp_path / "notes.nwb"
        path.write_text("Tuesday: mouse was sleepy.")
        self.refused(path, tmp_path, SourceError, "HDF5")

    def test_no_stimulus(self, spoiled, tmp_path):
        def change(file):
            del file["acquisition/stimulus_video"], file["intervals/Clip"]

        self.refused(spoiled(change), tmp_path, SessionError, "no stimulus")

    def test_no_responses(self, spoiled, tmp_path):
        def change(file):
            del file["processing/ophys/Fluorescence"]

        self.refused(spoiled(change), tmp_path, SessionError, "no responses")

    def test_stimulus_and_responses_that_never_overlap(self, spoiled, tmp_path):
        def change(file):
            for plane in (1, 2):
                file[f"processing/ophys/Fluorescence/RoiResponseSeries{plane}/timestamps"][:] += 1e4

        self.refused(spoiled(change), tmp_path, AlignmentError, "do not overlap")

    def test_a_file_in_the_place_of_the_folder(self, mouse, tmp_path):
        out = tmp_path / "out"
        out.write_text("precious")
        with pytest.raises(SettingsError, match="is a file"):
            run(mouse, out)
        assert out.read_text() == "precious"

    def test_a_folder_that_cannot_be_made(self, mouse, tmp_path):
        (tmp_path / "file").write_text("precious")
        with pytest.raises(ResultsError, match="could not be written"):
            run(mouse, tmp_path / "file" / "out")

    def test_a_folder_that_was_there_stays(self, tmp_path):
        out = tmp_path / "out"
        out.mkdir()
        with pytest.raises(NwbreconError):
            run(tmp_path / "no.nwb", out)
        assert out.is_dir()
        assert not any(out.iterdir())


def test_without_behavior_the_result_says_so(spoiled, tmp_path, tiny):
    def change(file):
        for name in ("EyeTracking", "PupilTracking", "treadmill_velocity"):
            del file[f"acquisition/{name}"]

    ran = run(spoiled(change), tmp_path / "out", tiny)
    assert ran.results.provenance["alignment"]["behavior"] == []
    assert "the file has no running and no pupil" in ran.report_path.read_text()
    assert "the encoder goes without" in (ran.folder / "log.txt").read_text()
    assert np.isfinite(ran.results.scores.mean("pixel_correlation", ran.results.reconstructions.method))


def test_where_the_encoder_does_not_see_ridge_stands_in_and_the_result_says_so(spoiled, tmp_path, tiny):
    def change(file):
        for plane in (1, 2):
            traces = file[f"processing/ophys/Fluorescence/RoiResponseSeries{plane}/data"]
            # each ROI at times of its own: nothing on the screen explains them
            traces[:] = np.random.default_rng(plane).permuted(traces[:], axis=0)

    ran = run(spoiled(change), tmp_path / "out", tiny)
    assert ran.gate["sees"] is False
    assert ran.results.reconstructions.method == "ridge"
    assert "does not see" in str(ran)
    assert any("does not see" in warning or "ridge" in warning for warning in ran.results.warnings)
