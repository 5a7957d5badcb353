"""Results as an NWB file of core types only: stand-alone, or appended to a copy of the source."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import h5py
from pynwb import NWBHDF5IO, NWBFile
from pynwb.file import Subject

from nwbrecon.alignment import AlignedSession
from nwbrecon.config import ResultsSettings
from nwbrecon.encoding import EncoderEnsemble, EncoderScores
from nwbrecon.errors import ResultsError
from nwbrecon.evaluation import Controls, Scores
from nwbrecon.inversion import Reconstructions
from nwbrecon.results import layout
from nwbrecon.results.module import fill_module
from nwbrecon.results.preparing import Prepared, prepare
from nwbrecon.session import Session
from nwbrecon.storage import atomic_path

__all__ = ["write_results"]

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
    controls: Controls | None = None,
    aligned: AlignedSession | None = None,
    session: Session | None = None,
    encoder: EncoderEnsemble | None = None,
    encoder_scores: EncoderScores | None = None,
    settings: ResultsSettings | None = None,
    extra: Mapping[str, Any] | None = None,
    append_to: str | Path | None = None,
) -> Path:
    """Write reconstructions and scores as an NWB file that is ready for DANDI.

    The file has a processing module ``reconstruction`` with the movies, masks, scores, history and provenance, in core
    NWB types only. It stands alone, with the subject, session id and start time of the source, unless `append_to` names
    a recording to go with. It appears whole or not at all.

    Parameters
    ----------
    path
        The file; `results_name` gives the name that DANDI would.
    reconstructions
        What to write. Scores are of what is stored if it came through `as_stored` before it was evaluated; the file
        says whether it did.
    scores
        How good they are; ``None`` where there was no true movie.
    controls
        What tells whether to trust them, of `nwbrecon.run_controls`.
    aligned
        What the responses were aligned to: gives split, true movies, and, in place of `session`, the source's identity.
    session
        The source. Without it and without `aligned`, subject and start time are unknown and the file says so.
    encoder
        The session's encoder (with `aligned`): what it knows of each ROI, what it predicts for the reconstructed
        movies, and how it was trained.
    encoder_scores
        How well that encoder predicts (`score_encoder`), for each ROI and over all.
    settings
        What to store.
    extra
        What only the caller knows, for the provenance: ``command_line``, ``settings`` of other rooms, ...
        Mappings are merged with what is known already.
    append_to
        A local NWB file, usually the source. It is copied to `path`, and the results are appended to the copy.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    EncoderError
        If the encoder is of another session.
    ResultsError
        If there is nothing to write, clips overlap in time, frame rates differ, a true movie is asked for but not at
        hand, `path` is the source itself, or the file cannot be written. What stood at `path` before is then unchanged.

    Warns
    -----
    UserWarning
        If the source lacks what DANDI asks for (subject, session id, start time).
    """
    path = Path(path)
    if path.suffix != ".nwb":
        raise ResultsError(f"{path.name} does not end in .nwb.", action="Name the results file *.nwb.")
    source = session or aligned
    _refuse_source(path, [append_to, source.identity.get("location") if source is not None else None])
    faults: list[str] = []
    # the folder is tried before the work, and whoever writes the same file meanwhile is noticed
    with atomic_path(path) as partial:
        prepared = prepare(
            reconstructions,
            scores,
            controls=controls,
            aligned=aligned,
            session=session,
            encoder=encoder,
            encoder_scores=encoder_scores,
            settings=settings or ResultsSettings(),
            extra=extra or {},
        )
        if append_to is not None:
            _append(partial, Path(append_to), prepared)
        else:
            nwb = _file_like(source, faults)
            prepared.content["warnings"] += faults
            nwb.was_generated_by = [[name, number] for name, number in prepared.content["software"].items()]
            fill_module(nwb.create_processing_module(layout.MODULE, layout.MODULE_DESCRIPTION), prepared)
            partial.write_bytes(_assembled(nwb))
    for fault in faults:
        warnings.warn(fault, UserWarning, stacklevel=2)
    return path


def _append(partial: Path, original: Path, prepared: Prepared) -> None:
    if not original.is_file():
        raise ResultsError(f"There is no file {original} to append to a copy of.", action="Give a local NWB file.")
    # room for the movies too, uncompressed: the HDF5 library cannot be talked out of a full disk
    needed = original.stat().st_size + sum(4 * item.video.nbytes for item in prepared.reconstructions)
    if shutil.disk_usage(partial.parent).free < needed:
        raise ResultsError(
            f"{partial.parent} has no room for {needed / 1e9:.1f} GB.",
            "The source is copied before results are appended.",
            "Choose another folder, or write a stand-alone file.",
        )
    shutil.copyfile(original, partial)
    try:
        io = NWBHDF5IO(partial, "r+")
        nwb = io.read()
    except (OSError, TypeError, KeyError, ValueError) as error:
        raise ResultsError(
            f"{original} cannot be appended to ({error}).",
            "It must be an NWB file in HDF5.",
            "Write a stand-alone file instead.",
        ) from error
    with io:
        if layout.MODULE in nwb.processing:
            raise ResultsError(
                f"{original} has a processing module {layout.MODULE!r} already.",
                action="Append to the recording as it was, or write a stand-alone file.",
            )
        fill_module(nwb.create_processing_module(layout.MODULE, layout.MODULE_DESCRIPTION), prepared)
        io.write(nwb)


def _refuse_source(path: Path, sources: Sequence[str | Path | None]) -> None:
    for source in sources:
        if source is not None and path.exists() and Path(source).exists() and path.samefile(source):
            raise ResultsError(
                f"{path} is the source itself.",
                "A source is never written to; results are appended to a copy of it.",
                "Choose another name for the results.",
            )


def _assembled(nwb: NWBFile) -> bytes:
    # In memory, because the HDF5 library cannot be talked out of a full disk: it would go on trying to flush.
    with (
        h5py.File("results.nwb", "w", driver="core", backing_store=False) as file,
        NWBHDF5IO(file=file, mode="w") as io,
    ):
        io.write(nwb)
        file.flush()
        return file.id.get_file_image()


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
