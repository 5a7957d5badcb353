"""The noun of this room: what a results file holds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import pandas as pd

from nwbrecon.alignment import AlignedSession
from nwbrecon.errors import ResultsError
from nwbrecon.evaluation import Controls, Scores
from nwbrecon.inversion import Reconstruction, Reconstructions
from nwbrecon.results.rois import Predicted

__all__ = ["Results", "true_movie"]


@dataclass(repr=False)
class Results:
    """What a results file holds.

    Attributes
    ----------
    reconstructions
        The reconstructed clips, as stored, in time order.
    scores
        How good they are; ``None`` where there was no true movie to compare with.
    provenance
        Where they came from: source, settings, software, hardware, encoder, split, command line, warnings.
    true_movies
        One ``(time, height, width)`` float32 array a reconstruction, grey level 0-255, on the same frames; ``None``
        where the file does not hold them.
    rois
        One row a ROI: ``group``, ``roi_id``, ``receptive_field_row``, ``receptive_field_column`` and
        ``receptive_field_size`` (pixels), ``reliability``, ``validation_correlation``, ``dispersion``, ``scale``, what
        the recording says of it, and where the encoder was scored also the scores and ceilings of
        `nwbrecon.EncoderScores`; ``None`` where no encoder was at hand.
    predicted
        What the encoder predicts for the reconstructed movies, by response group; may be empty.
    training
        History of the encoder's training, one row an epoch and member; may be empty.
    encoder_summary
        How well the encoder predicts, as in `nwbrecon.EncoderScores.summary`; empty where it was not scored.
    controls
        What tells whether to trust the reconstructions; ``None`` where no controls were run.
    """

    reconstructions: Reconstructions
    scores: Scores | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    true_movies: list[np.ndarray] | None = None
    rois: pd.DataFrame | None = None
    predicted: dict[str, Predicted] = field(default_factory=dict)
    training: pd.DataFrame = field(default_factory=pd.DataFrame)
    encoder_summary: pd.DataFrame = field(default_factory=pd.DataFrame)
    controls: Controls | None = None

    @property
    def warnings(self) -> list[str]:
        """Everything that was found wrong on the way, in sentences."""
        return list(self.provenance.get("warnings", self.reconstructions.warnings))

    def with_true_movies(self, aligned: AlignedSession) -> Self:
        """Return the same results with the movies that were shown, for report, video and export.

        Raises
        ------
        ResultsError
            If `aligned` is not the session that was reconstructed.
        """
        return replace(self, true_movies=[true_movie(item, aligned) for item in self.reconstructions])

    def __repr__(self) -> str:
        items = self.reconstructions
        height, width = items.mask.shape
        lines = [
            f"Results: {len(items)} reconstructions of {len({item.clip for item in items})} clips by {items.method}, "
            f"{height}x{width} pixels, {items.mask.mean():.0%} of them scored"
        ]
        if self.scores is not None:
            rows = self.scores.summary[self.scores.summary["presentations"] == "all"]
            lines += [
                f"  {row.metric:<20} {row.method:<10} {row.average:6.3f}  ({row.low:.3f} to {row.high:.3f})"
                for row in rows.rename(columns={"mean": "average"}).itertuples()
            ]
        if self.warnings:
            lines.append(f"  {len(self.warnings)} warnings, see .warnings")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from nwbrecon.results.report.notebook import overview

        return overview(self)


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
