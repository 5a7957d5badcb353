from pathlib import Path

import pytest
from pynwb import read_nwb

from nwbrecon.simulation.layouts import write_recording
from nwbrecon.simulation.recording import SimulatedRecording


@pytest.fixture(scope="session")
def recordings(make_recording) -> dict[str, SimulatedRecording]:
    return {
        "microns": make_recording(planes=2),
        "visual-coding": make_recording(planes=1, imaging_rate=30.1),
        "plain": make_recording(planes=2),
    }


@pytest.fixture(scope="session")
def files(recordings, tmp_path_factory) -> dict[str, Path]:
    """One dandiset, with a recording in each layout."""
    dandiset = tmp_path_factory.mktemp("dandiset")
    (dandiset / "dandiset.yaml").write_text("identifier: DANDI:000000\nname: Simulated mice\n")
    paths = {}
    for layout, recording in recordings.items():
        paths[layout] = dandiset / "sub-sim" / f"sub-sim_ses-{layout}_behavior+image+ophys.nwb"
        write_recording(recording, paths[layout], layout)
    return paths


@pytest.fixture
def read(files):
    """Open a layout's file with plain pynwb."""
    opened = []

    def _read(layout: str):
        opened.append(read_nwb(files[layout]))
        return opened[-1]

    yield _read
    for nwbfile in opened:
        nwbfile.read_io.close()
