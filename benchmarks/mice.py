"""Simulated mice that the benchmarks share."""

from __future__ import annotations

import tempfile
from pathlib import Path

import nwbrecon as nr
from nwbrecon.config import SimulationSettings


def simulated(settings: SimulationSettings) -> nr.AlignedSession:
    """Simulate a mouse, write its recording as NWB, and read and align that."""
    with tempfile.TemporaryDirectory() as folder:
        path = nr.simulate(Path(folder) / "mouse.nwb", settings)
        with nr.open_session(path) as session:
            return nr.align(session)
