"""A simulated mouse that writes NWB."""

from nwbrecon.simulation.recording import SimulatedPlane, SimulatedRecording
from nwbrecon.simulation.simulate import simulate

__all__ = ["SimulatedPlane", "SimulatedRecording", "simulate"]
