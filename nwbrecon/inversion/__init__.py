"""Responses to video: inversion of an encoder under a prior, and linear decoders."""

from nwbrecon.inversion.reconstruction import Reconstruction, Reconstructions

__all__ = ["Reconstruction", "Reconstructions"]
