"""DwiseNeuro, the encoder of the published method: its network, its checkpoints, and a fast form for inversion."""

from nwbrecon.encoding.dwiseneuro.checkpoint import Checkpoint, read_checkpoint
from nwbrecon.encoding.dwiseneuro.encoder import DwiseNeuroEncoder
from nwbrecon.encoding.dwiseneuro.fused import FusedDwiseNeuro
from nwbrecon.encoding.dwiseneuro.network import DwiseNeuro

__all__ = ["Checkpoint", "DwiseNeuro", "DwiseNeuroEncoder", "FusedDwiseNeuro", "read_checkpoint"]
