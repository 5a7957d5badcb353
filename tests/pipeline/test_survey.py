import json
import shutil

import h5py
import pytest
from typer.testing import CliRunner

from nwbrecon import run
from nwbrecon.cli.app import app
from nwbrecon.errors import SourceError
from nwbrecon.pipeline.inspection import Inspection, inspect
from nwbrecon.pipeline.survey import Survey, inspect_all
from nwbrecon.simulation import simulate
from nwbrecon.sources import sessions_in

FIRST = "sub-1/sub-1_ses-a_behavior+image+ophys.nwb"
SECOND = "sub-1/sub-1_ses-b_behavior+image+ophys.nwb"
BROKEN = "sub-2/sub-2_ses-c_ophys.nwb"
BULK = 60_000_000


def call(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def is_movie(group):
    return "data" in group and group["data"].ndim > 2


@pytest.fixture(scope="module")
def bulky(mouse, tmp_path_factory):
    """The mouse with a movie stored in many bytes, as recordings are."""
    path = shutil.copy(mouse, tmp_path_factory.mktemp("bulky") / "bulky.nwb")
    with h5py.File(path, "r+") as file:
        name = next(f"acquisition/{name}" for name in file["acquisition"] if is_movie(file[f"acquisition/{name}"]))
        frames, attributes = file[name]["data"][:], dict(file[name]["data"].attrs)
        del file[name]["data"]
        repeats = -(-BULK // frames.nbytes)
        file[name].create_dataset("data", data=frames.repeat(repeats, axis=2))
        file[name]["data"].attrs.update(attributes)
    assert path.stat().st_size > BULK
    return path


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A recording in another layout, without enough of anything."""
    return simulate(
        tmp_path_factory.mktemp("other") / "other.nwb",
        layout="plain",
        rois=6,
        minutes=0.5,
        clip_seconds=3,
        test_clips=0,
    )


@pytest.fixture
def dandiset(archive, bulky, other):
    archive.add_asset("000402", FIRST, bulky)
    archive.add_asset("000402", SECOND, other)
    archive.add_asset("000402", BROKEN, b"\x89HDF\r\n\x1a\n" + bytes(3000))
    return archive


def test_each_session_of_a_dandiset_is_described_without_its_bulk(dandiset, bulky, other):
    found = inspect_all("dandi:000402", dandi_instance=dandiset.api)
    assert isinstance(found, Survey)
    first, second, broken = found.sessions
    assert [row.name.partition("/")[2] for row in found.sessions] == [FIRST, SECOND, BROKEN]
    assert [(row.subject, row.session) for row in found.sessions] == [("1", "a"), ("1", "b"), ("2", "c")]
    assert [row.size for row in found.sessions] == [bulky.stat().st_size, other.stat().st_size, 3008]
    alone = [inspect(bulky), inspect(other)]
    for row, inspected in zip((first, second), alone, strict=True):
        assert row.rois == sum(plane["rois"] for plane in inspected.planes)
        assert row.planes == len(inspected.planes)
        assert row.stimuli == [stimulus["name"] for stimulus in inspected.stimuli]
        assert row.unique_minutes == pytest.approx(sum(one["unique_minutes"] for one in inspected.stimuli))
        assert row.behavior == [one["name"] for one in inspected.behavior]
        assert row.worth == inspected.verdict.worth
    assert (first.rois, first.worth, second.rois, second.worth) == (100, "doubtful", 6, "no")
    assert broken.rois is None
    assert "NWB" in broken.problem or "HDF5" in broken.problem
    assert dandiset.sent() < 0.3 * bulky.stat().st_size


def test_only_so_many_are_opened(dandiset, other):
    found = inspect_all("dandi:000402/sub-1", dandi_instance=dandiset.api, most=1)
    assert [row.worth for row in found.sessions] == ["doubtful", ""]
    assert found.sessions[1].size == other.stat().st_size
    assert "1 were not opened; --most 2 opens all" in str(found)


def test_the_command_says_how_to_choose_and_the_choice_works(dandiset):
    options = ["--dandi-instance", dandiset.api]
    listed = call("inspect", "dandi:000402", *options)
    assert listed.exit_code == 0, listed.output
    for words in ("holds 3 sessions", "1 a", "100", "doubtful", "not read", BROKEN, "running_speed"):
        assert words in listed.stdout
    rows = json.loads(call("inspect", "dandi:000402", "--json", *options).stdout)["sessions"]
    assert f"nwbrecon run {rows[0]['name']} --out DIR" in listed.stdout
    one = json.loads(call("inspect", rows[0]["name"], "--json", *options).stdout)
    assert sum(plane["rois"] for plane in one["planes"]) == 100


def test_run_refuses_and_says_how_to_choose(dandiset, tmp_path):
    refused = call("run", "dandi:000402", "--out", tmp_path / "out", "--dandi-instance", dandiset.api)
    assert refused.exit_code == 1
    said = " ".join(refused.stderr.split())
    assert "holds 3 sessions (3 files)" in said
    assert FIRST in said
    assert "nwbrecon inspect dandi:000402" in said
    assert not (tmp_path / "out").exists()
    assert dandiset.sent() == 0


def test_of_one_session_nothing_is_chosen(archive, mouse, other):
    archive.add_asset("000402", FIRST, mouse)
    archive.add_asset("000402", "sub-1/sub-1_ses-a_ophys.nwb", other)
    found = inspect_all("dandi:000402", dandi_instance=archive.api)
    assert isinstance(found, Inspection)
    assert sum(plane["rois"] for plane in found.planes) == 100
    (only,) = sessions_in("dandi:000402", dandi_instance=archive.api)
    assert only.n_files == 2
    assert any("holds less of what is needed" in warning for warning in found.warnings)


def test_what_was_read_is_described_while_the_archive_is_away(dandiset, no_waiting):
    before = inspect_all("dandi:000402", dandi_instance=dandiset.api)
    dandiset.stop()
    try:
        after = inspect_all("dandi:000402", dandi_instance=dandiset.api)
    finally:
        dandiset.start()
    assert [row.rois for row in after.sessions][:2] == [row.rois for row in before.sessions][:2]


def test_a_folder_of_several_sessions_is_described_too(tmp_path, mouse, other):
    shutil.copy(mouse, tmp_path / "sub-1_ses-a_ophys.nwb")
    shutil.copy(other, tmp_path / "sub-1_ses-b_ophys.nwb")
    found = inspect_all(tmp_path)
    assert [(row.session, row.rois) for row in found.sessions] == [("a", 100), ("b", 6)]
    assert found.sessions[0].name == f"{tmp_path}/sub-1_ses-a_ophys.nwb"
    assert isinstance(inspect_all(found.sessions[1].name), Inspection)
    with pytest.raises(SourceError, match=r"holds 2 sessions.*nwbrecon inspect"):
        run(tmp_path, tmp_path / "out")


def test_files_that_do_not_belong_together_are_listed_with_the_reason(tmp_path, other):
    for name in ("sub-1_ses-a_desc-one_ophys.nwb", "sub-1_ses-a_desc-two_ophys.nwb", "sub-1_ses-b_ophys.nwb"):
        shutil.copy(other, tmp_path / name)
    found = inspect_all(tmp_path)
    assert [row.n_files for row in found.sessions] == [2, 1]
    assert "not its imaging planes" in found.sessions[0].problem
    assert found.sessions[1].rois == 6
    assert found.sessions[1].problem == ""


def test_a_picture_is_of_one_recording(tmp_path, mouse, other):
    shutil.copy(mouse, tmp_path / "sub-1_ses-a_ophys.nwb")
    shutil.copy(other, tmp_path / "sub-1_ses-b_ophys.nwb")
    told = call("inspect", tmp_path, "--plot", tmp_path / "a.png")
    assert told.exit_code == 0
    assert "Nothing was drawn" in told.stderr
    assert not (tmp_path / "a.png").exists()


def test_many_sessions_are_listed_by_name(tmp_path):
    for number in range(50):
        (tmp_path / f"sub-{number:02}_ses-1_ophys.nwb").write_bytes(b"no recording")
    text = str(inspect_all(tmp_path, most=1))
    for words in ("holds 50 sessions (600 B)", "... 10 more", "49 were not opened; --most 50 opens all"):
        assert words in text
    assert text.count("not NWB") + text.count("HDF5") > 0
