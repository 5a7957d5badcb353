"""Reconstruct what a mouse saw from two-photon recordings in NWB.

The public names are loaded when they are first used, so that ``import nwbrecon`` stays fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nwbrecon._version import __version__

if TYPE_CHECKING:
    from nwbrecon.alignment import AlignedSession, align
    from nwbrecon.encoding import (
        EncoderEnsemble,
        EncoderScores,
        adopt_encoder,
        score_encoder,
        train,
        validate_encoder,
    )
    from nwbrecon.evaluation import Controls, Scores, evaluate, run_controls
    from nwbrecon.inversion import Reconstruction, Reconstructions, reconstruct
    from nwbrecon.pipeline.reproduce import Reproduced, reproduce
    from nwbrecon.pipeline.run import RunResult, run
    from nwbrecon.results import Results, read_results, results_name, write_results
    from nwbrecon.results.report import Player, play
    from nwbrecon.session import Session, open_session
    from nwbrecon.simulation import simulate

_HOMES = {
    "AlignedSession": "nwbrecon.alignment",
    "Controls": "nwbrecon.evaluation",
    "EncoderEnsemble": "nwbrecon.encoding",
    "EncoderScores": "nwbrecon.encoding",
    "Player": "nwbrecon.results.report",
    "Reconstruction": "nwbrecon.inversion",
    "Reconstructions": "nwbrecon.inversion",
    "Reproduced": "nwbrecon.pipeline.reproduce",
    "Results": "nwbrecon.results",
    "RunResult": "nwbrecon.pipeline.run",
    "Scores": "nwbrecon.evaluation",
    "Session": "nwbrecon.session",
    "adopt_encoder": "nwbrecon.encoding",
    "align": "nwbrecon.alignment",
    "evaluate": "nwbrecon.evaluation",
    "open_session": "nwbrecon.session",
    "play": "nwbrecon.results.report",
    "read_results": "nwbrecon.results",
    "reconstruct": "nwbrecon.inversion",
    "reproduce": "nwbrecon.pipeline.reproduce",
    "results_name": "nwbrecon.results",
    "run": "nwbrecon.pipeline.run",
    "run_controls": "nwbrecon.evaluation",
    "score_encoder": "nwbrecon.encoding",
    "simulate": "nwbrecon.simulation",
    "train": "nwbrecon.encoding",
    "validate_encoder": "nwbrecon.encoding",
    "write_results": "nwbrecon.results",
}

__all__ = [
    "AlignedSession",
    "Controls",
    "EncoderEnsemble",
    "EncoderScores",
    "Player",
    "Reconstruction",
    "Reconstructions",
    "Reproduced",
    "Results",
    "RunResult",
    "Scores",
    "Session",
    "__version__",
    "adopt_encoder",
    "align",
    "evaluate",
    "open_session",
    "play",
    "read_results",
    "reconstruct",
    "reproduce",
    "results_name",
    "run",
    "run_controls",
    "score_encoder",
    "simulate",
    "train",
    "validate_encoder",
    "write_results",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nwbrecon' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
