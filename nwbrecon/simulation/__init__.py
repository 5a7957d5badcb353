"""A simulated mouse that writes NWB."""

from nwbrecon.simulation.recording import SimulatedPlane, SimulatedRecording

__all__ = ["SimulatedPlane", "SimulatedRecording"]
