"""Responses to video: inversion of an encoder under a prior, and linear decoders."""

from nwbrecon.inversion.controls import ControlMovies, reconstruct_controls
from nwbrecon.inversion.evidence import Evidence, Margins, gather_evidence
from nwbrecon.inversion.priors import MoviePrior, autocovariance
from nwbrecon.inversion.reconstruct import reconstruct
from nwbrecon.inversion.reconstruction import Reconstruction, Reconstructions
from nwbrecon.inversion.reconstructor import Outcome, Reconstructor
from nwbrecon.inversion.ridge import RidgeDecoder, fit_ridge
from nwbrecon.inversion.together import search_together

__all__ = [
    "ControlMovies",
    "Evidence",
    "Margins",
    "MoviePrior",
    "Outcome",
    "Reconstruction",
    "Reconstructions",
    "Reconstructor",
    "RidgeDecoder",
    "autocovariance",
    "fit_ridge",
    "gather_evidence",
    "reconstruct",
    "reconstruct_controls",
    "search_together",
]
