import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nwbinspector import Importance, inspect_nwbfile, load_config
from pynwb import NWBHDF5IO, validate

from nwbrecon.config import ResultsSettings
from nwbrecon.errors import ResultsError
from nwbrecon.results import read_results, results_name, write_results

from .examples import aligned_session, evaluate, reconstruct


@pytest.fixture(scope="module")
def folder(tmp_path_factory, reconstructions, scores, aligned):
    """A dandiset with a results file in it."""
    folder = tmp_path_factory.mktemp("dandiset")
    (folder / "dandiset.yaml").write_text("identifier: DANDI:000123\nname: results\n")
    settings = ResultsSettings(include_stimulus=True)
    target = folder / "sub-17797" / results_name(aligned)
    write_results(target, reconstructions, scores, aligned=aligned, settings=settings)
    return folder


@pytest.fixture(scope="module")
def path(folder):
    return next(folder.rglob("*.nwb"))


def test_inspector_finds_nothing_that_matters(path):
    messages = list(inspect_nwbfile(nwbfile_path=path, config=load_config("dandi")))
    serious = [message for message in messages if message.importance != Importance.BEST_PRACTICE_SUGGESTION]
    assert not serious, serious
    assert not validate(path=path)


@pytest.mark.slow
def test_dandi_finds_no_errors(folder):
    # in a process of its own: dandi sets up logging for the whole process
    run = subprocess.run(
        [Path(sys.executable).with_name("dandi"), "validate", folder],
        capture_output=True,
        text=True,
        env={"DANDI_NO_ET": "1", "HOME": str(folder)},
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "No errors found" in run.stdout + run.stderr


def test_identity_is_that_of_the_source_but_for_the_identifier(path, aligned):
    with NWBHDF5IO(path, "r") as io:
        nwb = io.read()
        assert nwb.session_id == "4_7"
        assert nwb.session_start_time.isoformat() == aligned.identity["session_start_time"]
        assert nwb.identifier != aligned.identity["identifier"]
        assert aligned.identity["identifier"] in nwb.session_description
        assert (nwb.subject.subject_id, nwb.subject.species, nwb.subject.sex, nwb.subject.age) == (
            "17797",
            "Mus musculus",
            "M",
            "P90D",
        )
        assert nwb.was_generated_by[0][0] == "nwbrecon"


def test_only_core_types_and_no_external_links(path):
    import h5py

    def visit(group):
        for name in group:
            assert not isinstance(group.get(name, getlink=True), h5py.ExternalLink), name
            if isinstance(group.get(name, getlink=True), h5py.HardLink):
                assert group[name].attrs.get("namespace", "core") in {"core", "hdmf-common"}
                if isinstance(group[name], h5py.Group) and name != "specifications":
                    visit(group[name])

    with h5py.File(path) as file:
        visit(file)
        movie = file["processing/reconstruction/reconstructed_movie/data"]
        assert (movie.dtype, movie.chunks, movie.compression, movie.shuffle) == (np.uint8, (60, 18, 32), "gzip", True)


def test_clock_and_table_agree_with_the_session(path, aligned):
    with NWBHDF5IO(path, "r") as io:
        module = io.read().processing["reconstruction"]
        times = module["reconstructed_movie"].get_timestamps()[:]
        trials = module["reconstruction_trials"].to_dataframe()
        for label, row in trials.iterrows():
            first, count = row["first_frame"], row["n_frames"]
            np.testing.assert_allclose(times[first : first + count], aligned.trial(label).times, rtol=0, atol=1e-9)
        assert list(trials["clip"]) == list(aligned.trials["clip"])
        assert list(trials["repeat"]) == list(aligned.trials["repeat"])
        assert set(trials["split"]) == {"test"}
        assert (trials["pixel_correlation"] > trials["pixel_correlation_ridge"]).all()
        values = module["frame_correlation"].data[:]
        assert values.shape == times.shape
        assert module["frame_correlation"].timestamps is not None
        std = module["reconstructed_movie_std"]
        assert 20 <= std.data[:].min() * std.conversion <= std.data[:].max() * std.conversion <= 60


def test_an_undefined_frame_is_nan(tmp_path, aligned):
    reconstructions = reconstruct(aligned)
    scores = evaluate(reconstructions, aligned)
    frames = scores.frames.copy()
    frames.loc[3, "frame_correlation"] = np.nan
    write_results(tmp_path / "a.nwb", reconstructions, replace(scores, frames=frames), aligned=aligned)
    back = read_results(tmp_path / "a.nwb")
    keys = ["trial", "frame", "method"]
    undefined = back.scores.frames[back.scores.frames["frame_correlation"].isna()]
    assert undefined[keys].to_numpy().tolist() == [frames.loc[3, keys].tolist()]
    assert back.provenance["scores"]["of_the_movie_as_stored"] is False


def test_clips_in_any_order_are_written_in_time_order(tmp_path, aligned, reconstructions):
    shuffled = replace(reconstructions, items=reconstructions[::-1])
    write_results(tmp_path / "a.nwb", shuffled, None, aligned=aligned)
    back = read_results(tmp_path / "a.nwb").reconstructions
    assert [item.trials for item in back] == [item.trials for item in reconstructions]


@pytest.mark.parametrize(
    ("subject", "identity", "words"),
    [
        ({}, {"session_id": "a", "session_start_time": "2020-01-01T00:00:00+00:00"}, "nothing about its subject"),
        (
            {"subject_id": "a", "species": "Mus musculus"},
            {"session_id": "a", "session_start_time": "2020-01-01T00:00:00+00:00"},
            "age or date of birth, sex",
        ),
        (
            {"subject_id": "a/b", "species": "Mus musculus", "sex": "F", "age": "P1D"},
            {"session_id": "a/b", "session_start_time": "no date"},
            "1970-01-01",
        ),
    ],
)
def test_what_the_source_lacks_is_said_and_written_down(tmp_path, subject, identity, words):
    aligned = aligned_session(clips=2, repeats=1)
    aligned.subject, aligned.identity = subject, identity
    with pytest.warns(UserWarning, match=words):
        write_results(tmp_path / "a.nwb", reconstruct(aligned), None, aligned=aligned)
    assert any(words in warning for warning in read_results(tmp_path / "a.nwb").warnings)
    assert not [file for file in tmp_path.iterdir() if file.name != "a.nwb"]


def test_results_of_arrays_alone_are_written(tmp_path, reconstructions):
    with pytest.warns(UserWarning) as record:
        write_results(tmp_path / "a.nwb", reconstructions, None)
    assert len(record) == 3
    assert json.dumps(read_results(tmp_path / "a.nwb").provenance)


class TestRefusals:
    @pytest.fixture
    def target(self, tmp_path):
        target = tmp_path / "a.nwb"
        target.write_text("old")
        yield target
        assert target.read_text() == "old"
        assert [file.name for file in tmp_path.iterdir()] == ["a.nwb"]

    def test_nothing(self, target, reconstructions):
        with pytest.raises(ResultsError, match="no reconstructions"):
            write_results(target, replace(reconstructions, items=[]), None)

    def test_overlap(self, target, reconstructions):
        late = replace(reconstructions[1], onset=reconstructions[0].onset + 0.5)
        with pytest.raises(ResultsError, match="overlap in time"):
            write_results(target, replace(reconstructions, items=[reconstructions[0], late]), None)

    def test_frame_rates(self, target, reconstructions):
        slow = replace(reconstructions[1], frame_rate=15.0)
        with pytest.raises(ResultsError, match="15, 30 Hz"):
            write_results(target, replace(reconstructions, items=[reconstructions[0], slow]), None)

    def test_true_movie_not_at_hand(self, target, reconstructions, aligned):
        settings = ResultsSettings(include_stimulus=True)
        with pytest.raises(ResultsError, match="aligned session"):
            write_results(target, reconstructions, None, settings=settings)
        for change, words in (({"trials": (99,)}, "trial 99"), ({"onset": reconstructions[0].onset + 1}, "true movie")):
            odd = replace(reconstructions, items=[replace(reconstructions[0], **change)])
            with pytest.raises(ResultsError, match=words):
                write_results(target, odd, None, aligned=aligned, settings=settings)

    def test_name(self, target, reconstructions):
        with pytest.raises(ResultsError, match=r"\*\.nwb"):
            write_results(target.with_suffix(".h5"), reconstructions, None)
