"""What can be done with a results file: score it, report it, export it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from nwbrecon.alignment import AlignedSession, align
from nwbrecon.config import EvaluationSettings, stored_alignment
from nwbrecon.errors import ResultsError
from nwbrecon.evaluation import Scores
from nwbrecon.evaluation.evaluate import evaluate, refuse_training_clips, score_movies
from nwbrecon.pipeline.opening import open_as_set
from nwbrecon.pipeline.summary import scores_table, scores_to_dict
from nwbrecon.pipeline.written import Written
from nwbrecon.results import Results, read_results
from nwbrecon.results.exporting import write_arrays, write_frames
from nwbrecon.results.report import write_report
from nwbrecon.results.video import write_video
from nwbrecon.session import Session

__all__ = ["Scored", "check_source", "evaluate_results", "export_results", "report_results"]


@dataclass
class Scored:
    """Scores of a results file."""

    method: str
    scores: Scores

    def to_dict(self) -> dict[str, Any]:
        """Give what JSON can hold."""
        return {"method": self.method, **scores_to_dict(self.scores)}

    def __str__(self) -> str:
        return "\n".join(scores_table(self.scores, self.method)).lstrip("\n")


def evaluate_results(path: str | Path, source: Any = None, settings: EvaluationSettings | None = None) -> Scored:
    """Score the reconstructions of a results file, as they are stored.

    Parameters
    ----------
    path
        The results file.
    source
        The recording; needed where the results do not hold the true movies.
    settings
        How to score.

    Raises
    ------
    ResultsError
        If there is no true movie to compare with, or the recording is another.
    NwbreconError
        If a clip was trained on, unless the settings allow it.
    """
    settings = settings or EvaluationSettings()
    with _with_true_movies(path, source) as (results, aligned):
        items = results.reconstructions
        if aligned is not None:
            return Scored(items.method, evaluate(items, aligned, settings))
        if results.true_movies is None:
            raise ResultsError(
                f"{path} does not hold the true movies.",
                "Scores need them.",
                "Give the recording with --source, or write results with --include-stimulus.",
            )
        refuse_training_clips(items, results.provenance.get("split", {}).get("train", ()), settings)
        trials = [item.trials[0] for item in items]
        shown = pd.Series([item.clip for item in items])
        repeats = dict(zip(trials, shown.groupby(shown).cumcount(), strict=True))
        if results.scores is not None:
            repeats |= results.scores.trials.drop_duplicates("trial").set_index("trial")["repeat"].to_dict()
        movies = dict(zip(trials, results.true_movies, strict=True))
        return Scored(items.method, score_movies(items, movies, repeats, settings))


def report_results(path: str | Path, out: str | Path, source: Any = None) -> Written:
    """Make the report of a results file in a folder.

    Parameters
    ----------
    path
        The results file.
    out
        Folder that gets ``report.html``.
    source
        The recording: gives true movies that the results do not hold, and the responses that run in step with them.
    """
    with _with_true_movies(path, source) as (results, aligned):
        return Written({"report": write_report(Path(out) / "report.html", results, aligned=aligned)})


def export_results(
    path: str | Path,
    *,
    video: str | Path | None = None,
    frames: str | Path | None = None,
    frames_kind: Literal["png", "tiff"] = "png",
    arrays: str | Path | None = None,
    source: Any = None,
) -> Written:
    """Export the movies of a results file.

    Parameters
    ----------
    path
        The results file.
    video
        Video side by side: ``.mp4``, ``.mkv`` (lossless) or ``.gif``.
    frames
        Folder for single frames.
    frames_kind
        ``png``: a file a frame; ``tiff``: a stack a movie, in floating point.
    arrays
        Arrays: ``.npz`` or ``.zarr``.
    source
        The recording, for true movies that the results do not hold.
    """
    written = {}
    with _with_true_movies(path, source) as (results, _):
        if video is not None:
            written["video"] = write_video(video, results)
        if frames is not None:
            written["frames"] = write_frames(frames, results, frames_kind)
        if arrays is not None:
            written["arrays"] = write_arrays(arrays, results)
    return Written(written)


def check_source(path: str | Path, content: dict[str, Any], session: Session) -> None:
    """Make sure that a recording is the one that results were made from.

    Raises
    ------
    ResultsError
        If not.
    """
    for name in ("identifier", "object_id"):
        recorded, found = content.get("source", {}).get(name), session.identity.get(name)
        if recorded != found:
            raise ResultsError(
                f"{path} was made from a recording whose {name} is {recorded}; that of "
                f"{session.identity.get('location')} is {found}.",
                action="Give the recording that the results were made from.",
            )


@contextmanager
def _with_true_movies(path: str | Path, source: Any) -> Iterator[tuple[Results, AlignedSession | None]]:
    """Results with the true movies of the recording where it is given, aligned as it was for the results."""
    results = read_results(path)
    if source is None:
        yield results, None
        return
    content = results.provenance
    settings = stored_alignment(content["settings"].get("alignment", {}))
    with open_as_set(source, settings) as session:
        check_source(path, content, session)
        aligned = align(session, settings)
        yield results.with_true_movies(aligned), aligned
