"""Responses to video: inversion of an encoder under a prior, and linear decoders."""

from nwbrecon.inversion.controls import ControlMovies, reconstruct_controls
from nwbrecon.inversion.reconstruct import reconstruct
from nwbrecon.inversion.reconstruction import Reconstruction, Reconstructions
from nwbrecon.inversion.reconstructor import Reconstructor
from nwbrecon.inversion.ridge import RidgeDecoder, fit_ridge

__all__ = [
    "ControlMovies",
    "Reconstruction",
    "Reconstructions",
    "Reconstructor",
    "RidgeDecoder",
    "fit_ridge",
    "reconstruct",
    "reconstruct_controls",
]
