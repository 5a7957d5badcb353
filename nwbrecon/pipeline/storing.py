"""Results stored as the settings say, with what is needed to make them again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nwbrecon.alignment import AlignedSession
from nwbrecon.config import RunSettings
from nwbrecon.encoding import EncoderEnsemble, EncoderScores
from nwbrecon.evaluation import Controls, Scores
from nwbrecon.inversion import Reconstructions
from nwbrecon.pipeline.saying import warnings_said
from nwbrecon.results import write_results
from nwbrecon.session import Session

__all__ = ["store_results"]


def store_results(
    path: str | Path,
    reconstructions: Reconstructions,
    scores: Scores | None,
    settings: RunSettings,
    *,
    controls: Controls | None = None,
    encoder: EncoderEnsemble,
    aligned: AlignedSession,
    session: Session,
    source_digest: str | None,
    encoder_scores: EncoderScores | None = None,
    **provenance: Any,
) -> None:
    """Write reconstructions that are as they will be stored (`nwbrecon.results.as_stored`), and their scores.

    Parameters
    ----------
    path
        The file.
    reconstructions, scores
        What is stored.
    settings
        How they were made.
    controls
        What tells whether to trust them, where controls were run.
    encoder, aligned, session
        What they were made from.
    source_digest
        Of the recording.
    encoder_scores
        How well the encoder predicts, where it was scored.
    provenance
        What else is to be known of how they came about, such as ``command_line``.
    """
    with warnings_said():
        write_results(
            path,
            reconstructions,
            scores,
            controls=controls,
            aligned=aligned,
            session=session,
            encoder=encoder,
            encoder_scores=encoder_scores,
            settings=settings.results,
            extra={
                "source": {"digest": source_digest},
                "settings": {"evaluation": settings.evaluation, "controls": settings.controls},
                **provenance,
            },
        )
