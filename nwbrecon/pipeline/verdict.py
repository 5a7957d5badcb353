"""Is a reconstruction worth attempting, and what is missing if not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from nwbrecon.alignment import AlignedSession, responses_on_frames
from nwbrecon.alignment.latency import LONGEST_PLAUSIBLE
from nwbrecon.metrics import correlation

__all__ = ["FEW_CELLS", "FEW_MINUTES", "Verdict", "judge", "reliability"]

NO_CELLS, FEW_CELLS = 20, 500
"""Fewer cells than the first cannot cover a picture; fewer than the second give its coarse structure at best. Published
reconstructions rest on thousands (Bauer et al. 2026: some 8,000)."""
NO_MINUTES, FEW_MINUTES = 2.0, 15.0
"""Minutes of unique movie without which an encoder learns nothing, and below which it learns little."""
PUBLISHED = {1000: 0.344, 2000: 0.427, 4000: 0.512, 8000: 0.569}
"""Pixel correlation by number of cells (Bauer et al. 2026, eighths of their populations of some 8,000), with 60 minutes
and more of movie, 10 s clips and 7 encoders."""
COVERED = 0.5
UNRELIABLE = 0.05
"""Cells whose trials agree less than this on average do not see the movie well enough for it to be read from them."""


@dataclass
class Verdict:
    """Whether a recording will do.

    Attributes
    ----------
    worth
        ``yes``; ``doubtful``, where something is scarce; ``no``, where it is in vain for something that is lacking.
    lacking
        What is missing, one sentence each.
    scarce
        What there is little of, one sentence each.
    expected
        What was reached elsewhere with as many cells, in a sentence; empty where nothing can be expected.
    """

    worth: Literal["yes", "doubtful", "no"]
    lacking: list[str] = field(default_factory=list)
    scarce: list[str] = field(default_factory=list)
    expected: str = ""

    @property
    def sentences(self) -> list[str]:
        """The verdict, and its reasons."""
        heads = {
            "yes": "A reconstruction is worth attempting.",
            "doubtful": "A reconstruction can be attempted, but do not expect much.",
            "no": "A reconstruction is not worth attempting.",
        }
        return [heads[self.worth], *self.lacking, *self.scarce, *([self.expected] if self.expected else [])]

    def __str__(self) -> str:
        return " ".join(self.sentences)


def judge(
    *,
    rois: int,
    split: Mapping[str, Mapping[str, Any]],
    covered: float,
    behavior: Iterable[str],
    reason: str = "",
    measured: Mapping[str, Any] | None = None,
) -> Verdict:
    """Judge a recording by how much there is of what a reconstruction rests on.

    Parameters
    ----------
    rois
        Number of cells.
    split
        ``clips``, ``trials`` and ``unique_minutes`` of ``train``, ``validation`` and ``test``; empty where the
        recording cannot be aligned.
    covered
        Share of the stimulus' time with responses.
    behavior
        Names of the behavioral variables.
    reason
        Why it cannot be aligned.
    measured
        ``latency`` (s), ``latency_clear`` and ``reliability`` where responses and movie were read.

    Examples
    --------
    >>> parts = {"train": {"clips": 100, "unique_minutes": 40.0}, "validation": {"clips": 9}, "test": {"clips": 6}}
    >>> judged = judge(rois=5000, split=parts, covered=1.0, behavior=["running_speed", "pupil_size"])
    >>> judged.worth, judged.expected
    ('yes', 'With as many cells a pixel correlation of about 0.53 was published (Bauer et al. 2026).')
    """
    lacking, scarce = [], []
    if not split:
        lacking.append(reason)
    for name, purpose in (("train", "learn from"), ("validation", "calibrate with"), ("test", "score")):
        if split and name not in split:
            lacking.append(f"There is no clip to {purpose}.")
    minutes = float(split["train"]["unique_minutes"]) if "train" in split else None
    if rois < NO_CELLS:
        lacking.append(f"There are {rois} cells; at least {NO_CELLS} are needed to cover a picture.")
    elif rois < FEW_CELLS:
        scarce.append(f"There are {rois} cells; with fewer than {FEW_CELLS} only coarse structure can be expected.")
    if minutes is not None and minutes < NO_MINUTES:
        lacking.append(f"There are {minutes:.1f} min of unique movie to learn from; {NO_MINUTES:g} are the least.")
    elif minutes is not None and minutes < FEW_MINUTES:
        scarce.append(f"There are {minutes:.1f} min of unique movie to learn from; {FEW_MINUTES:g} and more are usual.")
    if split and covered < COVERED:
        scarce.append(f"Responses were recorded for {covered:.0%} of the time of the stimulus only.")
    absent = [name for name in ("running_speed", "pupil_size") if name not in set(behavior)]
    if absent:
        scarce.append(f"{' and '.join(absent)} is not there, so that it cannot be told from what was seen.")
    if measured is not None:
        median = measured["reliability"]["median"] if measured.get("reliability") else None
        if median is not None and median < UNRELIABLE:
            scarce.append(f"Responses to repeats of a clip hardly agree (median correlation {median:.2f}).")
        if not measured["latency_clear"]:
            scarce.append("The population does not follow changes on the screen visibly.")
        elif not 0 < measured["latency"] <= LONGEST_PLAUSIBLE:
            scarce.append("The clocks of stimulus and responses do not seem to agree.")
    # behavior alone does not make a recording doubtful
    worth: Literal["yes", "doubtful", "no"] = "no" if lacking else "doubtful" if len(scarce) > bool(absent) else "yes"
    return Verdict(worth, lacking, scarce, "" if lacking else _expected(rois))


def _expected(rois: int) -> str:
    cells, scores = np.array(list(PUBLISHED)), np.array(list(PUBLISHED.values()))
    if rois < cells[0]:
        return f"With {cells[0]} cells a pixel correlation of {scores[0]:.2f} was published (Bauer et al. 2026)."
    score = np.interp(np.log(rois), np.log(cells), scores)
    return f"With as many cells a pixel correlation of about {score:.2f} was published (Bauer et al. 2026)."


def reliability(aligned: AlignedSession) -> dict[str, Any] | None:
    """How well each cell's responses to repeats of a clip agree.

    A trial is correlated with the mean of the other trials of its clip (oracle correlation); the mean over trials is
    the reliability of a cell.

    Parameters
    ----------
    aligned
        The session; all clips that were shown twice or more are used.

    Returns
    -------
    dict or None
        ``median`` over cells, ``reliable`` (number of cells above 0.1), ``clips`` and ``trials`` used; None where no
        clip was repeated.
    """
    found = []
    n_clips = 0
    for _, rows in aligned.trials.groupby("clip"):
        if len(rows) < 2:
            continue
        n_clips += 1
        length = int(rows["n_frames"].min())
        trials = np.stack([responses_on_frames(aligned, int(label))[:length] for label in rows.index])
        total = trials.sum(axis=0)
        for trial in trials:
            others = (total - trial) / (len(trials) - 1)
            known = np.isfinite(trial).all(axis=1) & np.isfinite(others).all(axis=1)
            if known.sum() > 2:
                # a cell that was silent in a trial repeated nothing
                found.append(np.nan_to_num(correlation(trial[known], others[known])))
    if not found:
        return None
    scores = np.mean(found, axis=0)
    return {
        "median": float(np.median(scores)),
        "reliable": int((scores > 0.1).sum()),
        "clips": n_clips,
        "trials": len(found),
    }
