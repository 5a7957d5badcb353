"""Single steps of the way, from files to files: an encoder of a recording, and reconstructions with an encoder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nwbrecon.alignment import AlignedSession, align
from nwbrecon.config import AlignmentSettings, RunSettings, stored_alignment
from nwbrecon.encoding import EncoderEnsemble, train
from nwbrecon.errors import EncoderError, SettingsError
from nwbrecon.evaluation import evaluate, run_controls
from nwbrecon.inversion import reconstruct
from nwbrecon.pipeline.opening import open_as_set
from nwbrecon.pipeline.record import Record, source_stamps
from nwbrecon.pipeline.saying import say_aligned, say_session
from nwbrecon.pipeline.storing import store_results
from nwbrecon.pipeline.summary import controls_lines, controls_to_dict, scores_table, scores_to_dict
from nwbrecon.results import Results, as_stored, read_results
from nwbrecon.results.provenance import session_name
from nwbrecon.results.tables import told
from nwbrecon.session import Session
from nwbrecon.storage import atomic_directory, digest

__all__ = [
    "Reconstructed",
    "TrainedEncoder",
    "TrainedEncoders",
    "reconstruct_recording",
    "train_encoder",
    "train_encoders",
]


@dataclass
class TrainedEncoder:
    """An encoder, and the folder that it was saved to."""

    folder: Path
    encoder: EncoderEnsemble

    def to_dict(self) -> dict[str, Any]:
        """Give what JSON can hold."""
        return {
            "encoder": str(self.folder),
            "gate": self.encoder.gate,
            "history": self.encoder.history.to_dict("records"),
            "info": self.encoder.info,
        }

    def __str__(self) -> str:
        return f"{self.encoder}\n\nencoder  {self.folder}"


@dataclass
class TrainedEncoders:
    """Encoders of several recordings that share a core, and the folders that they were saved to."""

    encoders: list[TrainedEncoder]

    def to_dict(self) -> dict[str, Any]:
        """Give what JSON can hold."""
        return {"encoders": [encoder.to_dict() for encoder in self.encoders]}

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.encoders))


def train_encoder(
    source: Any,
    out: str | Path,
    settings: RunSettings | None = None,
    *,
    core: str | Path | None = None,
    teacher: str | Path | None = None,
    overwrite: bool = False,
) -> TrainedEncoder:
    """Train an encoder on a recording and save it.

    Parameters
    ----------
    source
        As `nwbrecon.open_session` takes it.
    out
        Folder for the encoder. Until it is complete, what is done is kept in ``OUT.state``, and training that was
        interrupted goes on from there when it is started again with the same source and settings.
    settings
        Settings of alignment, encoder and training.
    core
        Folder of an encoder whose core is taken over as it is.
    teacher
        Folder of an encoder of this recording, whose predictions are learned from too.
    overwrite
        Replace an encoder that is there.

    Raises
    ------
    NwbreconError
        If there is something at `out` already, or a step cannot be done.
    """
    with _trained([source], Path(out), settings, core, teacher, overwrite=overwrite) as ((encoder,), _):
        encoder.save(out)
    return TrainedEncoder(Path(out), encoder)


def train_encoders(
    sources: Sequence[Any],
    out: str | Path,
    settings: RunSettings | None = None,
    *,
    core: str | Path | None = None,
    overwrite: bool = False,
) -> TrainedEncoders:
    """Train encoders of several recordings that share a core and save them.

    Parameters
    ----------
    sources
        Each as `nwbrecon.open_session` takes it.
    out
        Folder for the encoders, which get a folder each in it: ``sub-SUBJECT_ses-SESSION``, or the same with a number
        where that is not theirs alone. It appears when all are complete; see `train_encoder`.
    settings, core, overwrite
        See `train_encoder`.

    Raises
    ------
    NwbreconError
        If there is something at `out` already, the recordings do not fit together, or a step cannot be done.
    """
    out = Path(out)
    with (
        _trained(sources, out, settings, core, None, overwrite=overwrite) as (encoders, names),
        atomic_directory(out) as folder,
    ):
        for name, encoder in zip(names, encoders, strict=True):
            encoder.save(folder / name)
    return TrainedEncoders([TrainedEncoder(out / name, encoder) for name, encoder in zip(names, encoders, strict=True)])


@dataclass
class Reconstructed:
    """A results file that was written, and what it holds."""

    path: Path
    results: Results

    def to_dict(self) -> dict[str, Any]:
        """Give what JSON can hold."""
        items, scores = self.results.reconstructions, self.results.scores
        return {
            "results": str(self.path),
            "method": items.method,
            "n_reconstructions": len(items),
            "gate": items.info.get("gate", {}),
            **(scores_to_dict(scores) if scores is not None else {}),
            **controls_to_dict(self.results),
            "warnings": self.results.warnings,
        }

    def __str__(self) -> str:
        items, scores = self.results.reconstructions, self.results.scores
        table = scores_table(scores, items.method) if scores is not None else []
        first = f"{len(items)} reconstructions by {', '.join(filter(None, [items.method, told(items)]))}"
        return "\n".join([first, *table, *controls_lines(self.results), "", f"results  {self.path}"])


def reconstruct_recording(
    source: Any,
    encoder: str | Path,
    out: str | Path,
    settings: RunSettings | None = None,
    *,
    trials: str = "test",
    overwrite: bool = False,
    command_line: str = "",
) -> Reconstructed:
    """Reconstruct trials of a recording with an encoder that was trained on it, score them and write results.

    Parameters
    ----------
    source
        As `nwbrecon.open_session` takes it.
    encoder
        Folder that training wrote. The recording is aligned as it was for training.
    out
        The results file, ``.nwb``. Until it is complete, finished trials are kept in ``OUT.state``.
    settings
        Settings of inversion, evaluation, controls and results.
    trials
        A split (``test``, ``validation``, ``train``), or labels of trials, separated by commas.
    overwrite
        Replace a file that is there.
    command_line
        What was typed, for the provenance.

    Raises
    ------
    NwbreconError
        If there is something at `out` already, the encoder is of another recording, or a step cannot be done.
    """
    settings, out = settings or RunSettings(), Path(out)
    _refuse_existing(out, overwrite=overwrite)
    ensemble = EncoderEnsemble.load(encoder)
    alignment = stored_alignment(ensemble.info["alignment"])
    if settings.alignment not in (RunSettings().alignment, alignment):
        raise SettingsError(
            f"Settings of alignment are given that differ from those that {encoder} was trained with.",
            action="Leave them out, or train an encoder with them.",
        )
    settings = settings.model_copy(update={"alignment": alignment})
    with open_as_set(source, alignment) as session:
        aligned = _aligned(session, alignment)
        ensemble.check_fits(aligned)
        clips = {
            name: sorted(set(aligned.trials.loc[aligned.trials_in(name), "clip"])) for name in ensemble.info["clips"]
        }
        if ensemble.info["clips"] != clips:
            raise EncoderError(
                f"{encoder} was trained with another split of the clips than this recording's.",
                "A clip that was learned from would be scored as if it were new.",
                "Give the recording that the encoder was trained on, or train one on this recording.",
            )
        with _state(out, [session], settings, ("alignment", "inversion"), ensemble.digest(), trials) as state:
            reconstructions = reconstruct(ensemble, aligned, _chosen(trials, aligned), settings.inversion, state=state)
            stored = as_stored(reconstructions, settings.results)
            scores = evaluate(stored, aligned, settings.evaluation)
            controls = None
            if settings.controls.enabled:
                controls = run_controls(ensemble, aligned, stored, settings.controls, state=state)
            store_results(
                out,
                stored,
                scores,
                settings,
                controls=controls,
                encoder=ensemble,
                aligned=aligned,
                session=session,
                source_digest=session.source.digest() if session.source is not None else None,
                command_line=command_line,
            )
    return Reconstructed(out, read_results(out))


@contextmanager
def _trained(
    sources: Sequence[Any],
    out: Path,
    settings: RunSettings | None,
    core: str | Path | None,
    teacher: str | Path | None,
    *,
    overwrite: bool,
) -> Iterator[tuple[list[EncoderEnsemble], list[str]]]:
    """Train encoders of recordings, to be saved within the block, and name each."""
    settings = settings or RunSettings()
    _refuse_existing(out, overwrite=overwrite)
    donor, taught_by = (None if folder is None else EncoderEnsemble.load(folder) for folder in (core, teacher))
    with ExitStack() as opened:
        sessions = [opened.enter_context(open_as_set(source, settings.alignment)) for source in sources]
        aligned = [_aligned(session, settings.alignment) for session in sessions]
        given = {"core": donor, "teacher": taught_by}
        more = [f"{role} {one.digest()}" for role, one in given.items() if one is not None]
        with _state(out, sessions, settings, ("alignment", "encoder", "training"), *more) as state:
            encoders = train(aligned, settings.encoder, settings.training, core=donor, teacher=taught_by, state=state)
            yield encoders, _names(sessions)


def _names(sessions: Sequence[Session]) -> list[str]:
    names = [session_name(session) for session in sessions]
    return [f"{name}_{index + 1}" if names.count(name) > 1 else name for index, name in enumerate(names)]


def _refuse_existing(path: Path, *, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise SettingsError(f"{path} exists already.", action="Choose another name, or overwrite it (--overwrite).")


def _aligned(session: Session, settings: AlignmentSettings) -> AlignedSession:
    say_session(session)
    aligned = align(session, settings)
    say_aligned(aligned)
    return aligned


def _chosen(trials: str, aligned: AlignedSession) -> list[int]:
    if trials in ("train", "validation", "test"):
        return aligned.trials_in(trials)
    labels = [part.strip() for part in trials.split(",")]
    if not all(label.isdigit() and int(label) in aligned.trials.index for label in labels):
        raise SettingsError(
            f"The trials asked for are {trials}.",
            f"A split (train, validation, test) or numbers from {aligned.trials.index.min()} to "
            f"{aligned.trials.index.max()} were expected.",
        )
    return [int(label) for label in labels]


@contextmanager
def _state(
    out: Path, sessions: Sequence[Session], settings: RunSettings, rests_on: tuple[str, ...], *more: str
) -> Iterator[Path]:
    """Folder for what is done so far, which goes away when all is done."""
    folder = out.with_name(out.name + ".state")
    records = [
        Record(folder, {**session.identity, "stamps": source_stamps(session), "more": more}, settings)
        for session in sessions
    ]
    try:
        yield folder / digest([record.state_key(rests_on) for record in records])[:16]
    except KeyboardInterrupt as stop:
        if folder.exists():
            stop.add_note(f"What is done is kept in {folder}; the same command goes on from there.")
        raise
    shutil.rmtree(folder, ignore_errors=True)
