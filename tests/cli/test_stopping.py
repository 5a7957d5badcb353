"""Ctrl-C, for real: at many moments of a run, which then goes on to the same end."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from nwbrecon.results import read_results

CONFIG = """\
alignment: {frame_rate: 15, frame_size: [18, 32]}
encoder: {channels: 16, kernel_size: 7}
training: {epochs: 8}
inversion: {iterations: 10, candidate_weights: [1.0, 2.0], selection_trials: 1}
"""


def start(mouse, out, config):
    arguments = ["run", mouse, "--out", out, "--config", config, "--json"]
    return subprocess.Popen(
        [sys.executable, "-m", "nwbrecon.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        # a shell that runs the tests in the background has it ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def stop_when(process, reached):
    """Send Ctrl-C as soon as something is reached; gives what was said, or None where the run had ended before."""
    until = time.monotonic() + 120
    while not reached() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    return process.returncode, said


@pytest.mark.slow
def test_a_run_that_is_stopped_again_and_again_ends_like_one_that_is_not(mouse, tmp_path):
    config = tmp_path / "small.yaml"
    config.write_text(CONFIG)
    out, state = tmp_path / "out", tmp_path / "out" / "state"
    moments = {
        "in training": lambda: any(state.glob("training-*/member-0/epoch-2.safetensors")),
        "before the first clip": lambda: any(state.glob("reconstruction-*/setup.json")),
        "among the clips": lambda: len(list(state.glob("reconstruction-*/trial-*.json"))) > 3,
        "with the results": lambda: any(out.glob("[!.]*.nwb")),
    }
    for moment, reached in moments.items():
        status, said = stop_when(start(mouse, out, config), reached)
        assert reached(), moment
        assert status == 130, (moment, said)
        assert said.strip().endswith(f"What is done is kept in {out}; the same command goes on from there."), moment
        assert not [path for path in out.rglob("*") if ".partial" in path.name], moment
    process = start(mouse, out, config)
    printed, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert not state.exists()

    whole = tmp_path / "whole"
    process = start(mouse, whole, config)
    assert process.communicate(timeout=300) and process.returncode == 0
    one, other = (read_results(next(folder.glob("*.nwb"))) for folder in (out, whole))
    assert json.loads(printed)["method"] == "map"
    for a, b in zip(one.reconstructions, other.reconstructions, strict=True):
        np.testing.assert_array_equal(a.video, b.video)
        np.testing.assert_array_equal(a.std, b.std)


def test_stopped_before_anything_was_done_nothing_is_left(mouse, tmp_path):
    config = tmp_path / "small.yaml"
    config.write_text(CONFIG)
    out = tmp_path / "out"
    process = start(mouse, out, config)
    time.sleep(1.5)
    status, said = stop_when(process, lambda: True)
    assert status in (130, -signal.SIGINT)
    if status == 130:
        assert "Stopped." in said
    assert "Traceback" not in said or status != 130
    assert not out.exists() or any(out.iterdir())
