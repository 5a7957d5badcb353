"""The main job on a dandiset of an archive of one's own, from the command line, by streaming."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import nwbrecon
from nwbrecon.cli.app import app

PATH = "sub-17797/sub-17797_ses-4-scan-7_behavior+image+ophys.nwb"
SMALL = """\
alignment: {frame_rate: 15, frame_size: [18, 32]}
encoder: {channels: 16, kernel_size: 7}
training: {epochs: 2}
inversion: {iterations: 4, candidate_weights: [1.0], selection_trials: 1}
"""


def call(*arguments):
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.slow
def test_run_streams_a_dandiset_and_a_second_run_is_served_by_the_cache(archive, mouse, tmp_path):
    archive.add_asset("000402", PATH, mouse)
    config = tmp_path / "small.yaml"
    config.write_text(SMALL)
    options = ["--dandi-instance", archive.api, "--config", config, "--include-stimulus", "--json"]
    first = call("run", "dandi:000402", "--out", tmp_path / "out", *options)
    assert 0 < archive.sent() <= mouse.stat().st_size
    assert Path(first["results"]).exists()
    reconstructions, scores = (lambda read: (read.reconstructions, read.scores))(
        nwbrecon.read_results(first["results"])
    )
    assert len(reconstructions)
    assert scores is not None

    archive.forget()
    second = call("run", "dandi:000402", "--out", tmp_path / "again", *options)
    assert archive.sent() == 0
    # who the file is, and whether it is still the same
    assert {one.kind for one in archive.asked} == {"api"}
    assert second["scores"] == first["scores"]

    archive.forget()
    resumed = call("run", "dandi:000402", "--out", tmp_path / "out", *options)
    assert archive.sent() == 0
    assert resumed["results"] == first["results"]

    local = call("run", mouse, "--out", tmp_path / "local", *options[2:])
    for one, other in zip(local["scores"], first["scores"], strict=True):
        assert one["mean"] == pytest.approx(other["mean"], rel=1e-6)
    with nwbrecon.open_session(mouse) as session:
        assert len(session.responses) == 2
    assert np.isfinite([row["mean"] for row in first["scores"]]).all()
