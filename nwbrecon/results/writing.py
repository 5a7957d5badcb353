"""Results as a stand-alone NWB file of core types only."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from pynwb import NWBHDF5IO, NWBFile
from pynwb.file import Subject

from nwbrecon.alignment import AlignedSession
from nwbrecon.config import ResultsSettings
from nwbrecon.errors import ResultsError
from nwbrecon.evaluation import Scores
from nwbrecon.inversion import Reconstruction, Reconstructions
from nwbrecon.results import layout, provenance
from nwbrecon.results.module import fill_module
from nwbrecon.results.stored import as_stored
from nwbrecon.session import Session
from nwbrecon.storage import atomic_path

__all__ = ["true_movie", "write_results"]

_SUBJECT_FIELDS = (
    "subject_id",
    "species",
    "sex",
    "age",
    "age__reference",
    "date_of_birth",
    "genotype",
    "strain",
    "weight",
    "description",
)


def write_results(
    path: str | Path,
    reconstructions: Reconstructions,
    scores: Scores | None,
    *,
    aligned: AlignedSession | None = None,
    session: Session | None = None,
    settings: ResultsSettings | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Write reconstructions and scores as a stand-alone NWB file, ready for DANDI.

    The file has a processing module ``reconstruction`` with the movies, masks, scores, history and provenance, in core
    NWB types only, and the subject, session id and start time of the source. It appears whole or not at all.

    Parameters
    ----------
    path
        The file; `results_name` gives the name that DANDI would.
    reconstructions
        What to write. Scores are of what is stored if it came through `as_stored` before it was evaluated; the file
        says whether it did.
    scores
        How good they are; ``None`` where there was no true movie.
    aligned
        What the responses were aligned to: gives split, true movies, and, in place of `session`, the source's identity.
    session
        The source. Without it and without `aligned`, subject and start time are unknown and the file says so.
    settings
        What to store.
    extra
        What only the caller knows, for the provenance: ``command_line``, ``encoder``, ``settings`` of other rooms, ...

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ResultsError
        If there is nothing to write, clips overlap in time, frame rates differ, a true movie is asked for but not at
        hand, or the file cannot be written. What stood at `path` before is then unchanged.

    Warns
    -----
    UserWarning
        If the source lacks what DANDI asks for (subject, session id, start time).
    """
    settings = settings or ResultsSettings()
    path = Path(path)
    if path.suffix != ".nwb":
        raise ResultsError(f"{path.name} does not end in .nwb.", action="Name the results file *.nwb.")
    ordered = _in_time_order(reconstructions)
    stored = as_stored(ordered, settings)
    faults: list[str] = []
    nwb = _file_like(session or aligned, faults)
    content = provenance.gather(session or aligned, aligned)
    content |= {
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
        "warnings": _unique(
            *(list(room.warnings) for room in (session, aligned, reconstructions) if room is not None), faults
        ),
    }
    if scores is not None:
        content["scores"] = {
            "methods": list(dict.fromkeys(scores.trials["method"])),
            "metrics": layout.metrics(scores.trials),
            "frame_metrics": layout.metrics(scores.frames),
            "mask_fraction": scores.mask_fraction,
            "info": scores.info,
            "of_the_movie_as_stored": _same_movies(ordered, stored),
        }
    for key, value in (extra or {}).items():
        content[key] = {**content.get(key, {}), **value} if isinstance(value, Mapping) else value
    true_movies = None
    if settings.include_stimulus:
        if aligned is None:
            raise ResultsError(
                "The true movie is to be stored, but the aligned session that holds it was not given.",
                action="Pass aligned=..., or set include_stimulus to false.",
            )
        true_movies = [true_movie(item, aligned) for item in stored]
    nwb.was_generated_by = [[name, number] for name, number in content["software"].items()]
    module = nwb.create_processing_module(layout.MODULE, layout.MODULE_DESCRIPTION)
    fill_module(module, stored, scores, content, settings=settings, aligned=aligned, true_movies=true_movies)
    for fault in faults:
        warnings.warn(fault, UserWarning, stacklevel=2)
    with atomic_path(path) as partial, NWBHDF5IO(partial, "w") as io:
        io.write(nwb)
    return path


def true_movie(item: Reconstruction, aligned: AlignedSession) -> np.ndarray:
    """Give the frames that were shown while a reconstructed clip ran, ``(time, height, width)`` float32.

    Raises
    ------
    ResultsError
        If the aligned session does not have the trial, or not all of its frames.
    """
    trial = item.trials[0]
    if trial not in aligned.trials.index:
        raise ResultsError(
            f"Clip {item.clip!r} was reconstructed from trial {trial}, which the aligned session does not have.",
            action="Give the aligned session that was reconstructed.",
        )
    onset = float(aligned.trials.at[trial, "onset"])
    first = round((item.onset - onset) * aligned.frame_rate)
    video = np.asarray(aligned.trial(trial).video[max(first, 0) : first + len(item.video)], dtype=np.float32)
    if first < 0 or video.shape != item.video.shape:
        raise ResultsError(
            f"Clip {item.clip!r} has {item.video.shape} frames and pixels from second {item.onset:.2f} on; of the true "
            f"movie, {video.shape} are there.",
            action="Give the aligned session that was reconstructed.",
        )
    return video


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
    return Reconstructions(
        items,
        reconstructions.method,
        reconstructions.mask,
        reconstructions.coverage,
        reconstructions.settings,
        reconstructions.info,
        reconstructions.warnings,
    )


def _same_movies(one: Reconstructions, other: Reconstructions) -> bool:
    return all(np.array_equal(a.video, b.video) for a, b in zip(one, other, strict=True))


def _unique(*lists: list[str]) -> list[str]:
    return list(dict.fromkeys(sentence for sentences in lists for sentence in sentences))


def _file_like(source: Session | AlignedSession | None, faults: list[str]) -> NWBFile:
    identity = dict(source.identity) if source is not None else {}
    start = _moment(identity.get("session_start_time"))
    if start is None:
        faults.append("The source's session start time is not known; 1970-01-01 stands in its place.")
        start = datetime(1970, 1, 1, tzinfo=UTC)
    session_id = str(identity.get("session_id") or "").replace("/", "-") or None
    if session_id is None:
        faults.append("The source's session id is not known; DANDI will not know which session this belongs to.")
    origin = ", ".join(
        f"{name} {identity[key]}"
        for key, name in (("session_id", "session"), ("dandiset", "dandiset"), ("path", "asset"))
        if identity.get(key)
    )
    source_name = f"NWB file {identity.get('identifier') or 'of unknown identifier'}" + (origin and f" ({origin})")
    return NWBFile(
        session_description="Movies reconstructed from the neural responses to visual stimuli recorded in "
        + source_name,
        identifier=str(uuid4()),
        session_start_time=start,
        session_id=session_id,
        experiment_description="What the animal saw, reconstructed by inverting a model of its visual responses",
        keywords=["visual stimulus reconstruction", "decoding", "visual cortex", "two-photon imaging"],
        subject=_subject(dict(source.subject) if source is not None else {}, faults),
    )


def _subject(known: dict[str, Any], faults: list[str]) -> Subject | None:
    fields = {name: known[name] for name in _SUBJECT_FIELDS if known.get(name) not in (None, "")}
    if not fields:
        faults.append("The source says nothing about its subject; DANDI will refuse the file until it is added.")
        return None
    born = _moment(fields.pop("date_of_birth", None))
    if born is not None:
        fields["date_of_birth"] = born
    missing = [name for name in ("subject_id", "species") if name not in fields]
    if "age" not in fields and born is None:
        missing.append("age or date of birth")
    if "sex" not in fields:
        missing.append("sex (written as U, unknown)")
        fields["sex"] = "U"
    if missing:
        faults.append(f"The source's subject lacks what DANDI asks for: {', '.join(missing)}.")
    if "subject_id" in fields:
        fields["subject_id"] = str(fields["subject_id"]).replace("/", "-")
    return Subject(**fields)


def _moment(value: Any) -> datetime | None:
    if value is None or isinstance(value, datetime):
        return value
    try:
        return datetime.fromisoformat(str(value))
    except ValueError:
        return None
