import json
import subprocess
import sys
import tempfile
import warnings
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from nwbinspector import Importance, inspect_nwbfile, load_config
from pynwb import NWBHDF5IO, NWBFile, TimeSeries, validate

from nwbrecon.config import ResultsSettings
from nwbrecon.errors import ResultsError
from nwbrecon.results import read_results, results_name, write_results

from .examples import aligned_session, controls, evaluate, reconstruct

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, reconstructions, scores, aligned, encoder):
    """A dandiset with a results file in it."""
    folder = tmp_path_factory.mktemp("dandiset")
    (folder / "dandiset.yaml").write_text("identifier: DANDI:000123\nname: results\n")
    settings = ResultsSettings(include_stimulus=True)
    target = folder / "sub-17797" / results_name(aligned)
    write_results(
        target, reconstructions, scores, controls=controls(), aligned=aligned, encoder=encoder, settings=settings
    )
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


@pytest.mark.slow
def test_the_dandi_client_organizes_it_into_a_dandiset(tmp_path, path):
    (tmp_path / "loose").mkdir()
    (tmp_path / "loose" / "results.nwb").write_bytes(path.read_bytes())
    dandiset = tmp_path / "000123"
    dandiset.mkdir()
    (dandiset / "dandiset.yaml").write_text("identifier: DANDI:000123\nname: results\n")
    dandi = Path(sys.executable).with_name("dandi")
    for command in (["organize", "-d", dandiset, "-f", "copy", tmp_path / "loose"], ["validate", dandiset]):
        run = subprocess.run(
            [dandi, *command], capture_output=True, text=True, env={"DANDI_NO_ET": "1", "HOME": str(tmp_path)}
        )
        assert run.returncode == 0, run.stdout + run.stderr
    (organized,) = dandiset.rglob("*.nwb")
    assert organized.parent.name == "sub-17797"
    assert organized.name.startswith("sub-17797_")
    assert read_results(organized).scores is not None


def test_the_standard_deviation_is_described_as_what_it_is(path):
    with NWBHDF5IO(path, "r") as io:
        series = io.read().processing["reconstruction"]["reconstructed_movie_std"]
        assert series.description.startswith("The information map is the error to be expected at each pixel")
        assert "conversion" in series.description


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


def test_folders_that_the_settings_name_stay_private(tmp_path):
    aligned = aligned_session(clips=2, repeats=1)
    (tmp_path / "lab" / "movies").mkdir(parents=True)
    beside = {
        "roi_table": str(tmp_path / "lab" / "areas.csv"),
        "reading": {"stimulus_folder": str(tmp_path / "lab" / "movies")},
    }
    aligned.settings = {**aligned.settings, **beside}
    write_results(tmp_path / "a.nwb", reconstruct(aligned), None, aligned=aligned)
    kept = read_results(tmp_path / "a.nwb").provenance["settings"]["alignment"]
    assert (kept["roi_table"], kept["reading"]["stimulus_folder"]) == ("areas.csv", "movies")


def test_results_of_arrays_alone_are_written(tmp_path, reconstructions):
    with pytest.warns(UserWarning) as record:
        write_results(tmp_path / "a.nwb", reconstructions, None)
    assert len(record) == 3
    assert json.dumps(read_results(tmp_path / "a.nwb").provenance)


@pytest.fixture
def recording(tmp_path):
    """A source with data of its own."""
    nwb = NWBFile("a recording", "a-recording", datetime(2020, 5, 1, 12, tzinfo=UTC), session_id="4_7")
    nwb.add_acquisition(TimeSeries(name="running", data=np.arange(5.0), unit="m/s", rate=1.0, starting_time=0.0))
    with NWBHDF5IO(tmp_path / "recording.nwb", "w") as io:
        io.write(nwb)
    return tmp_path / "recording.nwb"


class TestAppending:
    def test_the_copy_has_both_and_the_source_is_untouched(self, tmp_path, recording, reconstructions, scores, aligned):
        before = recording.read_bytes()
        target = tmp_path / "out" / "both.nwb"
        write_results(target, reconstructions, scores, aligned=aligned, append_to=recording)
        assert recording.read_bytes() == before
        back = read_results(target)
        np.testing.assert_array_equal(back.reconstructions[1].video, reconstructions[1].video)
        with NWBHDF5IO(target, "r") as io:
            nwb = io.read()
            assert nwb.identifier == "a-recording"
            np.testing.assert_array_equal(nwb.acquisition["running"].data[:], np.arange(5.0))
        with h5py.File(target) as file:
            link = file["processing/reconstruction"].get("ridge_movie/timestamps", getlink=True)
            assert isinstance(link, h5py.SoftLink)

    def test_results_are_not_appended_twice(self, tmp_path, path, reconstructions):
        with pytest.raises(ResultsError, match="already"):
            write_results(tmp_path / "a.nwb", reconstructions, None, append_to=path)
        assert not list(tmp_path.iterdir())

    def test_what_cannot_be_appended_to(self, tmp_path, reconstructions):
        (tmp_path / "text.nwb").write_text("text")
        with pytest.raises(ResultsError, match="cannot be appended to"):
            write_results(tmp_path / "a.nwb", reconstructions, None, append_to=tmp_path / "text.nwb")
        with pytest.raises(ResultsError, match="no file"):
            write_results(tmp_path / "a.nwb", reconstructions, None, append_to=tmp_path / "none.nwb")
        assert [file.name for file in tmp_path.iterdir()] == ["text.nwb"]

    def test_the_source_is_never_the_target(self, recording, reconstructions, aligned):
        before = recording.read_bytes()
        with pytest.raises(ResultsError, match="the source itself"):
            write_results(recording, reconstructions, None, append_to=recording)
        source = replace(aligned, identity={**aligned.identity, "location": str(recording)})
        with pytest.raises(ResultsError, match="the source itself"):
            write_results(recording, reconstructions, None, aligned=source)
        assert recording.read_bytes() == before

    def test_a_disk_without_room_for_the_copy_is_said_first(
        self, tmp_path, monkeypatch, recording, reconstructions, aligned
    ):
        monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
        with pytest.raises(ResultsError, match="no room"):
            write_results(tmp_path / "a.nwb", reconstructions, None, aligned=aligned, append_to=recording)


# Each runs in a process of its own: it is killed, or runs under limits that must not hold for the other tests.
PREAMBLE = """
import os, resource, signal, sys, time, warnings
from pathlib import Path
from tests.results.examples import aligned_session, reconstruct
from nwbrecon.errors import ResultsError
from nwbrecon.results import as_stored, read_results, write_results
folder = Path(sys.argv[1])
aligned = aligned_session(clips=2, repeats=1)
made = as_stored(reconstruct(aligned))
append_to = Path(sys.argv[2]) if len(sys.argv) > 2 else None
def write(path):
    return write_results(path, made, None, aligned=aligned, append_to=append_to)
"""
KILLED = """
target = folder / "a.nwb"
write(target)
start = time.perf_counter()
write(target)
duration = time.perf_counter() - start
kept = replaced = 0
# the last three get done, however busy the machine is
for wait in [1.4 * duration * point / 40 for point in range(40)] + [None] * 3:
    old = target.read_bytes()
    child = os.fork()
    if child == 0:
        write(target)
        os._exit(0)
    if wait is not None:
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if target.read_bytes() == old:
        kept += 1
    else:
        replaced += 1
        assert (read_results(target).reconstructions[1].video == made[1].video).all()
print(kept, replaced)
"""
TWO = """
target = folder / "a.nwb"
write(target)
done = told = 0
for turn in range(4):
    children = []
    for number in range(3):
        child = os.fork()
        if child == 0:
            try:
                write(target)
            except ResultsError as error:
                os._exit(1 if "another program" in str(error) else 2)
            os._exit(0)
        children.append(child)
    while children:
        # whole at every moment
        assert (read_results(target).reconstructions[1].video == made[1].video).all()
        child, status = os.waitpid(-1, os.WNOHANG)
        if child:
            children.remove(child)
            assert os.WEXITSTATUS(status) in (0, 1)
            told += os.WEXITSTATUS(status)
            done += not os.WEXITSTATUS(status)
print(done, told)
"""
FULL = """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
target = folder / "a.nwb"
size = write(target).stat().st_size
old = target.read_bytes()
for limit in (0, 1000, size // 2, size - 1):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        write(target)
    except ResultsError as error:
        print(str(error).partition("(")[2])
    assert target.read_bytes() == old
assert [file.name for file in folder.iterdir()] == ["a.nwb"]
"""
READ_ONLY = """
folder.chmod(0o555)
if os.geteuid() == 0:
    os.setuid(65534)
try:
    write(folder / "a.nwb")
except ResultsError as error:
    print(error)
"""


def run(program, *paths):
    result = subprocess.run(
        [sys.executable, "-c", PREAMBLE + program, *paths], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("append", [False, True])
def test_killed_at_any_point_it_leaves_the_old_file_or_the_new_one(tmp_path, recording, append):
    (tmp_path / "out").mkdir()
    before = recording.read_bytes()
    paths = [tmp_path / "out", *([recording] if append else [])]
    kept, replaced = map(int, run(KILLED, *paths)[-1].split())
    assert kept > 5
    assert replaced > 2
    assert recording.read_bytes() == before


@pytest.mark.slow
def test_of_writers_at_the_same_time_none_spoils_the_file(tmp_path):
    lines = run(TWO, tmp_path)
    done, told = map(int, lines[-1].split())
    assert done >= 2
    assert told >= 1
    assert done + told == 12
    assert [path.name for path in tmp_path.iterdir()] == ["a.nwb"]


def test_a_full_disk_is_said_and_nothing_is_lost(tmp_path):
    lines = run(FULL, tmp_path)
    assert len(lines) == 4
    assert all(line.startswith("File too large). Choose a folder") for line in lines)


def test_a_folder_that_is_read_only_is_said():
    folder = Path(tempfile.mkdtemp())
    try:
        (line,) = run(READ_ONLY, folder)
        assert "could not be written (Permission denied)" in line
        assert not list(folder.iterdir())
    finally:
        folder.rmdir()


def test_pynapple_cuts_the_movie_by_the_trials(path, reconstructions):
    import pynapple as nap

    with warnings.catch_warnings():
        # it warns of columns that share a name with one of its methods
        warnings.simplefilter("ignore")
        data = nap.load_file(str(path))
        # nothing is taken for what it is not
        for name in data.keys():  # noqa: SIM118 - it is no dictionary
            assert type(data[name]).__module__.startswith("pynapple"), name
        trials = data["reconstruction_trials"]
        movie = data["reconstructed_movie"].restrict(trials[2:3])
    np.testing.assert_array_equal(movie.values, reconstructions[2].video)


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
