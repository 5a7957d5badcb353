import gzip
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from pynwb import NWBHDF5IO

from nwbrecon.config import ResultsSettings
from nwbrecon.errors import ResultsError
from nwbrecon.results import as_stored, read_results, write_results
from nwbrecon.results.layout import SCHEMA_VERSION

from .examples import aligned_session, controls, evaluate, reconstruct

KEYS = ["trial", "method"]


@pytest.fixture(scope="module")
def path(tmp_path_factory, reconstructions, scores, aligned):
    path = tmp_path_factory.mktemp("results") / "results.nwb"
    return write_results(
        path,
        reconstructions,
        scores,
        aligned=aligned,
        settings=ResultsSettings(include_stimulus=True),
        extra={"command_line": "nwbrecon run recording.nwb", "settings": {"training": {"seed": 4}}},
    )


def assert_same(back, wanted):
    assert (back.clip, back.trials, back.frame_rate, back.info) == (
        wanted.clip,
        wanted.trials,
        wanted.frame_rate,
        wanted.info,
    )
    assert back.onset == wanted.onset
    np.testing.assert_array_equal(back.video, wanted.video)
    assert back.video.dtype == np.float32
    assert set(back.baselines) == set(wanted.baselines)
    for name in wanted.baselines:
        np.testing.assert_array_equal(back.baselines[name], wanted.baselines[name])
    for name in ("std", "snapshots", "snapshot_iterations"):
        one, other = getattr(back, name), getattr(wanted, name)
        assert (one is None) == (other is None)
        if other is not None:
            np.testing.assert_array_equal(one, other)
    if len(wanted.history):
        pd.testing.assert_frame_equal(back.history, wanted.history, check_dtype=False)
    assert len(back.history) == len(wanted.history)


def test_reconstructions_come_back_to_the_last_bit(path, reconstructions):
    back = read_results(path).reconstructions
    for one, other in zip(back, reconstructions, strict=True):
        assert_same(one, other)
    np.testing.assert_array_equal(back.mask, reconstructions.mask)
    np.testing.assert_array_equal(back.coverage, reconstructions.coverage)
    assert back.mask.dtype == bool
    assert (back.method, back.settings, back.info, back.warnings) == (
        reconstructions.method,
        reconstructions.settings,
        reconstructions.info,
        reconstructions.warnings,
    )


def test_scores_come_back(path, scores):
    back = read_results(path).scores
    for name, keys in (("trials", KEYS), ("frames", [*KEYS, "frame"])):
        one, other = (
            table.sort_values(keys, ignore_index=True) for table in (getattr(back, name), getattr(scores, name))
        )
        # single precision is enough for a correlation, frame by frame
        pd.testing.assert_frame_equal(one[other.columns], other, check_dtype=False, rtol=1e-6)
    pd.testing.assert_frame_equal(back.lags, scores.lags)
    pd.testing.assert_frame_equal(back.summary, scores.summary)
    assert (back.mask_fraction, back.info) == (scores.mask_fraction, scores.info)
    assert back.mean("pixel_correlation", "map") == scores.mean("pixel_correlation", "map")


def test_controls_come_back(tmp_path, path, reconstructions, scores, aligned):
    assert read_results(path).controls is None
    wanted = controls()
    write_results(tmp_path / "a.nwb", reconstructions, scores, controls=wanted, aligned=aligned)
    back = read_results(tmp_path / "a.nwb").controls
    pd.testing.assert_frame_equal(back.table, wanted.table)
    pd.testing.assert_frame_equal(back.verdicts, wanted.verdicts)
    pd.testing.assert_frame_equal(back.summary, wanted.summary)
    assert back.info == wanted.info
    assert read_results(tmp_path / "a.nwb").with_true_movies(aligned).controls is not None
    with NWBHDF5IO(tmp_path / "a.nwb", "r") as io:
        table = io.read().processing["reconstruction"]["controls"]
        assert table.colnames == ("control", "condition", "clip", "metric", "value")
        assert table["control"].description.startswith("Which control")


def test_true_movies_and_provenance_come_back(path, aligned):
    results = read_results(path)
    for true, item in zip(results.true_movies, results.reconstructions, strict=True):
        assert np.abs(true - aligned.trial(item.trials[0]).video).max() <= 0.5
    assert results.provenance["settings"]["training"] == {"seed": 4}
    assert results.provenance["settings"]["inversion"]["optimizer"] == {"iterations": 12}
    assert results.provenance["command_line"] == "nwbrecon run recording.nwb"
    assert results.provenance["source"] == aligned.identity
    assert results.provenance["scores"]["of_the_movie_as_stored"] is True
    assert results.warnings == ["Pupil size is not in the file."]


def test_scores_of_what_is_read_back_are_those_in_the_file(path, aligned):
    results = read_results(path)
    again = evaluate(results.reconstructions, aligned).trials.sort_values(KEYS, ignore_index=True)
    stored = results.scores.trials.sort_values(KEYS, ignore_index=True)
    np.testing.assert_array_equal(again["pixel_correlation"], stored["pixel_correlation"])


def test_float32_and_no_scores(tmp_path, aligned):
    settings = ResultsSettings(movie_dtype="float32", include_baselines=False, include_snapshots=False)
    original = reconstruct(aligned)
    write_results(tmp_path / "a.nwb", original, None, aligned=aligned, settings=settings)
    results = read_results(tmp_path / "a.nwb")
    assert results.scores is None
    assert results.true_movies is None
    np.testing.assert_array_equal(results.reconstructions[2].video, original[2].video)
    np.testing.assert_array_equal(results.reconstructions[2].std, original[2].std)
    assert results.reconstructions[0].baselines == {}
    assert results.reconstructions[0].snapshots is None


def test_what_only_some_clips_have_comes_back_with_those(tmp_path, aligned):
    original = as_stored(reconstruct(aligned))
    original.items[0] = replace(original[0], std=None, snapshots=None, snapshot_iterations=None, history=pd.DataFrame())
    original.items[2] = replace(original[2], baselines={})
    original.items[3] = replace(original[3], trials=(3, 0))
    write_results(tmp_path / "a.nwb", original, None, aligned=aligned)
    for one, other in zip(read_results(tmp_path / "a.nwb").reconstructions, original, strict=True):
        assert_same(one, other)


def test_one_clip_alone(tmp_path):
    aligned = aligned_session(clips=2, repeats=1)
    original = as_stored(reconstruct(aligned))
    alone = replace(original, items=original[:1])
    write_results(tmp_path / "a.nwb", alone, None, aligned=aligned)
    assert_same(read_results(tmp_path / "a.nwb").reconstructions[0], alone[0])
    with h5py.File(tmp_path / "a.nwb") as file:
        # a regular clock is a rate, not a list
        assert "timestamps" not in file["processing/reconstruction/reconstructed_movie"]


def test_a_fresh_process_reads_it_with_pynwb_alone(path, reconstructions):
    program = (
        "import sys; from pynwb import read_nwb; nwb = read_nwb(sys.argv[1]);"
        "module = nwb.processing['reconstruction']; movie = module['reconstructed_movie'];"
        "trials = module['reconstruction_trials'].to_dataframe();"
        "print(movie.data.shape, movie.get_timestamps()[-1], int(movie.data[:].sum()), len(trials),"
        "'nwbrecon' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True).stdout
    total = int(sum(item.video.sum(dtype=float) for item in reconstructions))
    assert out.strip() == f"(420, 18, 32) {reconstructions[-1].times[-1]} {total} 6 False"


class TestPastVersions:
    """Files written by each past version of the schema keep opening; what is in them is known."""

    def test_version_1(self, tmp_path):
        stored = gzip.decompress((Path(__file__).parents[1] / "data" / "results_v1.nwb.gz").read_bytes())
        (tmp_path / "results.nwb").write_bytes(stored)
        results = read_results(tmp_path / "results.nwb")
        item = results.reconstructions[1]
        assert (item.clip, item.trials, item.video.shape, item.snapshots.shape) == (
            "clip 1",
            (1,),
            (31, 8, 12),
            (3, 31, 8, 12),
        )
        assert (item.video.sum(), item.std.sum(), item.baselines["ridge"].sum()) == (424814, 60535.5, 405318)
        assert results.true_movies[1].sum() == 429730
        assert item.onset == pytest.approx(103.18925540936304, abs=1e-12)
        assert results.reconstructions.mask.sum() == 47
        assert len(item.history) == 12
        np.testing.assert_allclose(
            results.scores.trials["pixel_correlation"], [0.8981122, 0.6103611, 0.9355088, 0.6624710], atol=1e-7
        )
        assert results.provenance["command_line"] == "nwbrecon run recording.nwb"

    def test_version_2(self, tmp_path):
        stored = gzip.decompress((Path(__file__).parents[1] / "data" / "results_v2.nwb.gz").read_bytes())
        (tmp_path / "results.nwb").write_bytes(stored)
        results = read_results(tmp_path / "results.nwb")
        item = results.reconstructions[1]
        assert (item.video.sum(), item.std.sum(), item.baselines["ridge"].sum()) == (269257, 60535.5, 338652)
        assert results.true_movies[1].sum() == 207516
        np.testing.assert_allclose(
            results.scores.trials["pixel_correlation"], [0.8656284, 0.5681812, 0.8131927, 0.4227313], atol=1e-7
        )
        roi = results.rois.loc[3]
        assert (roi["group"], roi["roi_id"], roi["dispersion"]) == ("plane 1", 3, 1.5)
        assert roi["receptive_field_row"] == pytest.approx(4.7727, abs=1e-4)
        made = results.predicted["plane 1"]
        assert made.values.shape == (4, 40)
        assert made.values.sum() == pytest.approx(792.2195, abs=1e-3)
        assert made.times[0] == pytest.approx(102.3)
        # the file is from before there were controls
        assert results.controls is None

    def test_the_current_version_has_its_stored_file(self):
        names = {path.name for path in (Path(__file__).parents[1] / "data").glob("results_v*.nwb.gz")}
        assert names == {f"results_v{version}.nwb.gz" for version in range(1, SCHEMA_VERSION + 1)}


class TestForeignFiles:
    def test_missing(self, tmp_path):
        with pytest.raises(ResultsError, match="no file"):
            read_results(tmp_path / "none.nwb")

    def test_not_hdf5(self, tmp_path):
        (tmp_path / "a.nwb").write_text("text")
        with pytest.raises(ResultsError, match="cannot be read as NWB"):
            read_results(tmp_path / "a.nwb")

    def test_hdf5_that_is_not_nwb(self, tmp_path):
        with h5py.File(tmp_path / "a.nwb", "w") as file:
            file["x"] = 1
        with pytest.raises(ResultsError, match="cannot be read as NWB"):
            read_results(tmp_path / "a.nwb")

    def test_nwb_without_results(self, tmp_path, path):
        with NWBHDF5IO(path, "r") as io, NWBHDF5IO(tmp_path / "a.nwb", "w") as out:
            nwb = io.read()
            nwb.processing.pop("reconstruction")
            out.export(io, nwb)
        with pytest.raises(ResultsError, match="holds no nwbrecon results"):
            read_results(tmp_path / "a.nwb")

    @pytest.mark.parametrize(("value", "words"), [("99", "Install a newer"), ('"x"', "does not say which form")])
    def test_other_versions(self, tmp_path, path, value, words):
        (tmp_path / "a.nwb").write_bytes(path.read_bytes())
        with h5py.File(tmp_path / "a.nwb", "r+") as file:
            table = file["processing/reconstruction/provenance"]
            paths = [name.decode() for name in table["path"][:]]
            table["value"][paths.index("schema.version")] = value
        with pytest.raises(ResultsError, match=words):
            read_results(tmp_path / "a.nwb")
