"""Single steps of the way, from files to files: an encoder of a recording, and reconstructions with an encoder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
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
from nwbrecon.results.tables import told
from nwbrecon.session import Session

__all__ = ["Reconstructed", "TrainedEncoder", "reconstruct_recording", "train_encoder"]


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


def train_encoder(
    source: Any, out: str | Path, settings: RunSettings | None = None, *, overwrite: bool = False
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
    overwrite
        Replace an encoder that is there.

    Raises
    ------
    NwbreconError
        If there is something at `out` already, or a step cannot be done.
    """
    settings, out = settings or RunSettings(), Path(out)
    _refuse_existing(out, overwrite=overwrite)
    with open_as_set(source, settings.alignment) as session:
        aligned = _aligned(session, settings.alignment)
        with _state(out, session, settings, ("alignment", "encoder", "training")) as state:
            encoder = train(aligned, settings.encoder, settings.training, state=state)
            encoder.save(out)
    return TrainedEncoder(out, encoder)


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
        with _state(out, session, settings, ("alignment", "inversion"), ensemble.digest(), trials) as state:
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
def _state(out: Path, session: Session, settings: RunSettings, rests_on: tuple[str, ...], *more: str) -> Iterator[Path]:
    """Folder for what is done so far, which goes away when all is done."""
    folder = out.with_name(out.name + ".state")
    record = Record(folder, {**session.identity, "stamps": source_stamps(session), "more": more}, settings)
    try:
        yield folder / record.state_key(rests_on)
    except KeyboardInterrupt as stop:
        if folder.exists():
            stop.add_note(f"What is done is kept in {folder}; the same command goes on from there.")
        raise
    shutil.rmtree(folder, ignore_errors=True)
