"""The verb of this room: from a source to results, report and encoder in a folder."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nwbrecon.alignment import AlignedSession, align
from nwbrecon.config import RunSettings, load_settings
from nwbrecon.encoding import EncoderEnsemble, score_encoder, train
from nwbrecon.errors import SettingsError
from nwbrecon.evaluation import evaluate, run_controls
from nwbrecon.inversion import reconstruct
from nwbrecon.pipeline.inspection import inspect_session
from nwbrecon.pipeline.opening import open_as_set
from nwbrecon.pipeline.record import RECORD, STATE, Record, source_identity, workplace
from nwbrecon.pipeline.saying import logged_to, say_aligned, say_session, say_verdict
from nwbrecon.pipeline.storing import store_results
from nwbrecon.pipeline.summary import (
    controls_lines,
    controls_to_dict,
    encoder_sentence,
    scores_table,
    scores_to_dict,
)
from nwbrecon.results import Results, as_stored, read_results, results_name
from nwbrecon.results.report import write_report
from nwbrecon.results.tables import told
from nwbrecon.results.video import write_video
from nwbrecon.session import Session
from nwbrecon.storage import atomic_path

__all__ = ["RunResult", "run"]

log = logging.getLogger("nwbrecon")

SETTINGS, LOG = "settings.yaml", "log.txt"
ENCODER, REPORT, VIDEO = "encoder", "report.html", "side-by-side.mp4"

# the parts of the settings that each step rests on, by itself and through the steps before it
_TRAINING = ("alignment", "encoder", "training")
_INVERSION = (*_TRAINING, "inversion")
_RESULTS = (*_INVERSION, "evaluation", "controls", "results")


@dataclass
class RunResult:
    """What a run made.

    Attributes
    ----------
    folder
        Where everything is.
    results_path
        The results NWB.
    results
        What it holds.
    seconds
        How long each step took (s), by name.
    """

    folder: Path
    results_path: Path
    results: Results
    seconds: dict[str, float]

    @property
    def report_path(self) -> Path:
        """The report (HTML)."""
        return self.folder / REPORT

    @property
    def video_path(self) -> Path:
        """True movie and reconstruction side by side (mp4)."""
        return self.folder / VIDEO

    @property
    def encoder_path(self) -> Path:
        """The encoder's folder."""
        return self.folder / ENCODER

    @property
    def gate(self) -> dict[str, Any]:
        """Whether the encoder sees, and by what figures."""
        return dict(self.results.reconstructions.info.get("gate", {}))

    def to_dict(self) -> dict[str, Any]:
        """Give what JSON can hold: paths, scores, gate, warnings."""
        items, scores = self.results.reconstructions, self.results.scores
        return {
            "folder": str(self.folder),
            "results": str(self.results_path),
            "report": str(self.report_path),
            "video": str(self.video_path),
            "encoder": str(self.encoder_path),
            "method": items.method,
            "n_reconstructions": len(items),
            "gate": self.gate,
            "encoder_scores": self.results.encoder_summary.to_dict("records"),
            **(scores_to_dict(scores) if scores is not None else {}),
            **controls_to_dict(self.results),
            "split": self.results.provenance.get("split", {}),
            "warnings": self.results.warnings,
            "seconds": self.seconds,
        }

    def __str__(self) -> str:
        items, scores = self.results.reconstructions, self.results.scores
        return "\n".join(
            [
                f"{len(items)} reconstructions of {len({item.clip for item in items})} clips by "
                + ", ".join(filter(None, [items.method, told(items)])),
                *([self.gate["sentence"]] if "sentence" in self.gate else []),
                *([encoder_sentence(summary)] if len(summary := self.results.encoder_summary) else []),
                *(scores_table(scores, items.method) if scores is not None else []),
                *controls_lines(self.results),
                "",
                f"results  {self.results_path}",
                f"report   {self.report_path}",
                f"video    {self.video_path}",
                f"encoder  {self.encoder_path}",
            ]
        )


def run(
    source: Any,
    out: str | Path,
    settings: RunSettings | None = None,
    *,
    overwrite: bool = False,
    command_line: str = "",
    **overrides: Any,
) -> RunResult:
    """Reconstruct the test clips of a recording: source in, a folder with everything out.

    The steps are: open, align, train, reconstruct, evaluate (what is stored), run the controls, write, report, video. A
    run that was interrupted, at any moment, goes on from where it was when it is started again with the same source and
    settings; one that is complete is left as it is.

    Parameters
    ----------
    source
        As `nwbrecon.open_session` takes it.
    out
        The folder. It gets the results NWB, ``report.html``, ``side-by-side.mp4``, ``encoder/``, ``settings.yaml`` (all
        settings as they were resolved), ``run.json`` (what was done, from which source) and ``log.txt``; while the run
        is not complete, also ``state/``.
    settings
        All settings; the defaults where not given.
    overwrite
        Take a folder that holds a run of other settings or of another source, and do again what rests on what differs;
        where nothing differs, do everything again.
    command_line
        What was typed, for the provenance.
    **overrides
        Single settings by name, such as ``training__members=3``.

    Returns
    -------
    RunResult

    Raises
    ------
    SettingsError
        If a setting is unknown or out of range, or the folder holds another run.
    SourceError, SessionError, AlignmentError
        If the source cannot be opened, understood or aligned. Nothing has been written then.
    EncoderError, InversionError, ResultsError
        If a later step cannot be done; those before it are kept.

    Examples
    --------
    ::

        run("mouse.nwb", "out", training__members=3)
    """
    settings = load_settings(RunSettings, **{**(settings.model_dump() if settings else {}), **overrides})
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise SettingsError(f"{out} is a file.", "A folder, or the name of one to be made, was expected.")
    with (
        logged_to(out / LOG) as start_file,
        open_as_set(source, settings.alignment) as session,
    ):
        say_session(session)
        say_verdict(inspect_session(session, settings.alignment).verdict)
        identity = source_identity(session, out / RECORD)
        record = Record.open(out / RECORD, identity, settings, overwrite=overwrite)
        work = _Run(session, out, settings, record, command_line)
        if work.complete:
            log.info("%s is complete: nothing to do.", out)
        else:
            try:
                with workplace(out):
                    aligned = work.align()
                    start_file()
                    work.do(aligned)
            except KeyboardInterrupt as stop:
                if (out / RECORD).exists():
                    stop.add_note(f"What is done is kept in {out}; the same command goes on from there.")
                raise
        return work.result()


class _Run:
    """The steps of a run, each skipped where it is done."""

    def __init__(self, session: Session, out: Path, settings: RunSettings, record: Record, command_line: str) -> None:
        self.session, self.out, self.settings, self.record = session, out, settings, record
        self.command_line = command_line
        self.results_path = out / results_name(session)
        self.steps: dict[str, tuple[tuple[str, ...], Path]] = {
            "encoder": (_TRAINING, out / ENCODER),
            "results": (_RESULTS, self.results_path),
            "report": (_RESULTS, out / REPORT),
            "video": (_RESULTS, out / VIDEO),
        }

    @property
    def complete(self) -> bool:
        """Whether every step is done."""
        return all(map(self.done, self.steps))

    def done(self, name: str) -> bool:
        """Whether a step is done."""
        return self.record.done(name, *self.steps[name])

    @contextmanager
    def step(self, name: str) -> Iterator[Path]:
        """Do a step; gives what it makes."""
        with self.record.step(name, *self.steps[name]):
            yield self.steps[name][1]

    def state(self, name: str, rests_on: tuple[str, ...]) -> Path:
        """Folder for what a step has done so far; other settings and versions have other folders."""
        return self.out / STATE / f"{name}-{self.record.state_key(rests_on)}"

    def align(self) -> AlignedSession:
        """Align, with arrays that are too large for memory in the folder."""
        arrays = self.out / STATE / "arrays"
        # what a killed run left: nobody else will delete it
        shutil.rmtree(arrays, ignore_errors=True)
        aligned = align(self.session, self.settings.alignment, cache_dir=arrays)
        say_aligned(aligned)
        return aligned

    def do(self, aligned: AlignedSession) -> None:
        """Do what is left to do."""
        import yaml

        for path in self.record.stale(self.steps):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        with atomic_path(self.out / SETTINGS) as partial:
            partial.write_text(yaml.safe_dump(self.settings.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
        self.record.write()
        encoder = self.encoder(aligned)
        if not self.done("results"):
            self.write_results(encoder, aligned)
        results = read_results(self.results_path).with_true_movies(aligned)
        if not self.done("report"):
            log.info("Writing the report.")
            with self.step("report") as path:
                write_report(path, results, aligned=aligned)
        if not self.done("video"):
            log.info("Writing the video.")
            with self.step("video") as path:
                write_video(path, results)
        shutil.rmtree(self.out / STATE, ignore_errors=True)

    def encoder(self, aligned: AlignedSession) -> EncoderEnsemble:
        """Train the encoder, or load it."""
        if self.done("encoder"):
            return EncoderEnsemble.load(self.out / ENCODER)
        log.info("Training the encoder.")
        with self.step("encoder") as folder:
            state = self.state("training", _TRAINING)
            encoder = train(aligned, self.settings.encoder, self.settings.training, state=state)
            encoder.save(folder)
        log.info("%s", encoder.gate["sentence"])
        return encoder

    def write_results(self, encoder: EncoderEnsemble, aligned: AlignedSession) -> None:
        """Reconstruct, score what will be stored, and store it."""
        settings = self.settings
        log.info("Reconstructing the test clips.")
        with self.step("results") as path:
            state = self.state("reconstruction", _INVERSION)
            reconstructions = reconstruct(encoder, aligned, "test", settings.inversion, state=state)
            reconstructions = as_stored(reconstructions, settings.results)
            scores = evaluate(reconstructions, aligned, settings.evaluation)
            controls = None
            if settings.controls.enabled:
                log.info("Running the controls.")
                controls = run_controls(encoder, aligned, reconstructions, settings.controls, state=state)
            store_results(
                path,
                reconstructions,
                scores,
                settings,
                controls=controls,
                encoder=encoder,
                aligned=aligned,
                session=self.session,
                source_digest=self.record.source["digest"],
                encoder_scores=score_encoder(encoder, aligned),
                command_line=self.command_line,
            )

    def result(self) -> RunResult:
        """Read back what was made."""
        seconds = {name: entry["seconds"] for name, entry in self.record.steps.items()}
        return RunResult(self.out, self.results_path, read_results(self.results_path), seconds)
