"""Recordings in an archive of one's own, and what is kept of them."""

import json
from pathlib import Path

import pytest

from nwbrecon.storage import digest

from .test_app import call

PATH = "sub-m1/sub-m1_ses-1_behavior+image+ophys.nwb"


@pytest.fixture
def remote(archive, mouse):
    archive.add_asset("000402", PATH, mouse.read_bytes())
    return ["dandi:000402", "--dandi-instance", archive.api]


def test_a_remote_recording_is_inspected_and_a_little_of_it_kept(remote, mouse):
    result = call("inspect", *remote, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["identity"]["dandiset"] == "000402"
    (entry,) = json.loads(call("cache", "list", "--json").stdout)["files"]
    assert entry["size"] == mouse.stat().st_size
    assert 0 < entry["cached"] < entry["size"]
    assert "dandi:000402" in call("cache", "list").stdout


def test_fetched_it_is_whole_and_cleared_it_is_gone(remote, mouse):
    (path,) = json.loads(call("cache", "fetch", *remote, "--json").stdout)["files"]
    assert digest(Path(path)) == digest(mouse)
    assert "whole" in call("cache", "list").stdout
    assert json.loads(call("cache", "clear", "dandi:000999", "--json").stdout) == {"freed": 0}
    assert "were freed" in call("cache", "clear").stdout
    assert call("cache", "list").stdout.strip() == "The cache is empty."


def test_an_archive_that_is_not_there_is_said(archive):
    api = archive.api
    archive.stop()
    result = call("inspect", "dandi:000402", "--dandi-instance", f"{api}x")
    assert result.exit_code == 1
    assert "\nError: " in f"\n{result.stderr}"
