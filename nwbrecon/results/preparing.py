"""What a results file will say, put together before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nwbrecon.alignment import AlignedSession
from nwbrecon.config import ResultsSettings
from nwbrecon.encoding import EncoderEnsemble, EncoderScores
from nwbrecon.errors import ResultsError
from nwbrecon.evaluation import Controls, Scores
from nwbrecon.inversion import Reconstructions
from nwbrecon.results import layout, provenance
from nwbrecon.results.model import true_movie
from nwbrecon.results.rois import Predicted, describe_rois, predict_responses
from nwbrecon.results.stored import as_stored
from nwbrecon.session import Session

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True)
class Prepared:
    """What goes into the processing module.

    Attributes
    ----------
    reconstructions
        As they are stored, in time order.
    scores
        How good they are, or ``None``.
    true_movies
        One a reconstruction, or ``None`` where they are not to be stored.
    content
        The provenance.
    aligned
        Gives each trial's split and repeat, where known.
    settings
        What to store.
    training
        History of the encoder's training; may be empty.
    rois, predicted
        What is known of each ROI, and what is predicted for the reconstructed movies, where an encoder was given.
    encoder_summary
        How well the encoder predicts, over all ROIs; may be empty.
    controls
        What tells whether to trust them, where controls were run.
    """

    reconstructions: Reconstructions
    scores: Scores | None
    true_movies: list[np.ndarray] | None
    content: dict[str, Any]
    aligned: AlignedSession | None
    settings: ResultsSettings
    rois: pd.DataFrame | None = None
    predicted: Mapping[str, Predicted] = field(default_factory=dict)
    training: pd.DataFrame = field(default_factory=pd.DataFrame)
    encoder_summary: pd.DataFrame = field(default_factory=pd.DataFrame)
    controls: Controls | None = None


def prepare(
    reconstructions: Reconstructions,
    scores: Scores | None,
    *,
    controls: Controls | None,
    aligned: AlignedSession | None,
    session: Session | None,
    encoder: EncoderEnsemble | None,
    encoder_scores: EncoderScores | None,
    settings: ResultsSettings,
    extra: Mapping[str, Any],
) -> Prepared:
    """Check, order and quantise what `write_results` was given, and gather its provenance."""
    ordered = _in_time_order(reconstructions)
    stored = as_stored(ordered, settings)
    true_movies = None
    if settings.include_stimulus:
        if aligned is None:
            raise ResultsError(
                "The true movie is to be stored, but the aligned session that holds it was not given.",
                action="Pass aligned=..., or set include_stimulus to false.",
            )
        true_movies = [true_movie(item, aligned) for item in stored]
    content = provenance.gather(session or aligned, aligned) | {
        "schema": {"name": layout.SCHEMA, "version": layout.SCHEMA_VERSION},
        "method": stored.method,
        "frame_rate": stored[0].frame_rate,
        "settings": {
            **({"alignment": dict(aligned.settings)} if aligned is not None else {}),
            "inversion": stored.settings,
            "results": settings.model_dump(mode="json"),
        },
        "info": stored.info,
        "reconstructions": [
            {"info": item.info, "has_std": item.std is not None, "baselines": list(item.baselines)} for item in stored
        ],
        "warnings": list(
            dict.fromkeys(
                warning for room in (session, aligned, reconstructions) if room is not None for warning in room.warnings
            )
        ),
    }
    if scores is not None:
        content["scores"] = {
            "methods": list(dict.fromkeys(scores.trials["method"])),
            "metrics": layout.metrics(scores.trials),
            "frame_metrics": layout.metrics(scores.frames),
            "mask_fraction": scores.mask_fraction,
            "info": scores.info,
            "of_the_movie_as_stored": all(
                np.array_equal(one.video, other.video) for one, other in zip(ordered, stored, strict=True)
            ),
        }
    if controls is not None:
        content["controls"] = controls.info
    for key, value in extra.items():
        content[key] = {**content.get(key, {}), **value} if isinstance(value, Mapping) else value
    rois, predicted, training, summary = None, {}, pd.DataFrame(), pd.DataFrame()
    if encoder is not None:
        if aligned is None:
            raise ResultsError(
                "An encoder was given without the aligned session that it belongs to.", action="Pass aligned=..., too."
            )
        encoder.check_fits(aligned)
        trained = {"weights": encoder.digest(), **encoder.info, **content.get("encoder", {})}
        content["encoder"] = _portable(trained)
        content["settings"] |= {"encoder": encoder.encoders[0].settings, "training": encoder.info["training"]}
        rois, training = describe_rois(encoder, aligned, encoder_scores), encoder.history
        predicted = predict_responses(encoder, aligned, stored) if settings.include_predictions else {}
        if encoder_scores is not None:
            content["encoder"]["scored_on"], summary = encoder_scores.info, encoder_scores.summary
    if content.get("command_line"):
        content["command_line"] = provenance.portable_command(content["command_line"])
    content = provenance.portable_text(content, _folders(session or aligned, aligned))
    return Prepared(
        stored, scores, true_movies, content, aligned, settings, rois, predicted, training, summary, controls
    )


def _portable(trained: dict[str, Any]) -> dict[str, Any]:
    """Say of the recordings that were trained on nothing of the computer they were on."""
    portable = trained | {"session": provenance.portable_identity(trained.get("session", {}))}
    if "core" in trained:
        sessions = [
            one | {"session": provenance.portable_identity(one["session"])} for one in trained["core"]["sessions"]
        ]
        portable["core"] = trained["core"] | {"sessions": sessions}
    return portable


def _folders(source: Session | AlignedSession | None, aligned: AlignedSession | None) -> list[Path]:
    """Folders that the source is in, and what the settings name, on this computer."""
    identity = source.identity if source is not None else {}
    places = [identity.get("location"), *(file.get("location") for file in identity.get("files", ()))]
    folders = [folder for place in places if place for folder in (Path(place), Path(place).parent)]
    named: dict[str, Any] = dict(aligned.settings) if aligned is not None else {}
    beside = [named.get("roi_table"), (named.get("reading") or {}).get("stimulus_folder")]
    return [folder for folder in (*folders, *(Path(path).parent for path in beside if path)) if folder.is_dir()]


def _in_time_order(reconstructions: Reconstructions) -> Reconstructions:
    if not len(reconstructions):
        raise ResultsError("There are no reconstructions to write.", action="Reconstruct at least one trial.")
    items = sorted(reconstructions, key=lambda item: item.onset)
    rates = {item.frame_rate for item in items}
    if len(rates) > 1:
        raise ResultsError(
            f"The clips have frame rates of {', '.join(f'{rate:g}' for rate in sorted(rates))} Hz.",
            "One file holds clips of one frame rate.",
            "Write a file for each.",
        )
    for earlier, later in pairwise(items):
        if later.onset <= earlier.times[-1]:
            raise ResultsError(
                f"Clips {earlier.clip!r} (from second {earlier.onset:.2f}) and {later.clip!r} (from second "
                f"{later.onset:.2f}) overlap in time.",
                "A movie in NWB has one frame at a time.",
                "Write them into files of their own.",
            )
    return replace(reconstructions, items=items)
