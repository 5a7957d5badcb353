"""The controls that stand beside reconstructions: the noun and its verb."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from nwbrecon.alignment import AlignedSession
from nwbrecon.config import ControlSettings
from nwbrecon.display import block, table_html
from nwbrecon.encoding import EncoderEnsemble
from nwbrecon.evaluation.findings import (
    Case,
    Finding,
    of_another_judge,
    of_behavior,
    of_behavior_alone,
    of_gray,
    of_permuted,
    of_shuffled,
)
from nwbrecon.inversion import Reconstructions, reconstruct_controls
from nwbrecon.inversion.controls import chosen_items
from nwbrecon.metrics import bootstrap_interval

__all__ = ["CONTROLS", "Controls", "run_controls"]

CONTROLS = {
    "behavior": "behavior told or withheld",
    "shuffled": "cells shuffled across repeats",
    "behavior_alone": "behavior alone",
    "permuted": "ROI labels permuted",
    "gray": "gray screen",
    "judge": "another judge",
}
"""Controls in the order in which they are shown, in words."""


@dataclass
class Controls:
    """What the controls found.

    Attributes
    ----------
    table
        One row a value: ``control`` (see `CONTROLS`), ``condition`` (what was scored: ``reconstruction``, ``control``,
        ``chance``, ...), ``clip``, ``metric``, ``value``.
    verdicts
        One row a control: ``control``, ``verdict`` (``passed``, ``not passed``, ``left out``, or ``compare`` where
        there is nothing to pass), ``sentence``.
    info
        On how many of the clips they were run, with which settings; what JSON can hold.
    """

    table: pd.DataFrame
    verdicts: pd.DataFrame
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> pd.DataFrame:
        """Mean over clips with its 95 % bootstrap interval, one row a control, condition and metric."""
        keys = ["control", "condition", "metric"]
        rows = [
            (*key, *bootstrap_interval(part["value"].to_numpy()), len(part))
            for key, part in self.table.groupby(keys, sort=False)
        ]
        return pd.DataFrame(rows, columns=[*keys, "mean", "low", "high", "n_clips"])

    def mean(self, control: str, condition: str, metric: str) -> float:
        """Mean of a metric over clips; NaN where it was not measured."""
        rows = self.table.query("control == @control and condition == @condition and metric == @metric")["value"]
        return float(rows.mean())

    def verdict(self, control: str) -> str:
        """Verdict on a control."""
        return str(self.verdicts.set_index("control").at[control, "verdict"])

    def to_dict(self) -> dict[str, Any]:
        """Give what JSON can hold."""
        return {
            "summary": self.summary.to_dict("records"),
            "verdicts": self.verdicts.to_dict("records"),
            "info": self.info,
        }

    def __str__(self) -> str:
        rows = zip(self.verdicts["control"], self.verdicts["verdict"], self.verdicts["sentence"], strict=True)
        return "\n".join(f"{CONTROLS[control]} ({verdict}): {sentence}" for control, verdict, sentence in rows)

    def _repr_html_(self) -> str:
        rows = [("control", "verdict", "what was found")]
        rows += [(CONTROLS[row.control], row.verdict, row.sentence) for row in self.verdicts.itertuples()]
        return block(f"Controls, on {self.info.get('clips', 'some')} clips", table_html(rows))


def run_controls(
    encoder: EncoderEnsemble,
    aligned: AlignedSession,
    reconstructions: Reconstructions,
    settings: ControlSettings | None = None,
    *,
    state: str | Path | None = None,
) -> Controls:
    """Run the controls that tell whether to trust reconstructions.

    On a few of the reconstructed clips: behavior withheld (or told), cells shuffled across repeats, behavior alone,
    permuted labels of ROIs, and another encoder as judge; and what is seen in a gray screen.

    Parameters
    ----------
    encoder
        The session's encoder.
    aligned
        The session.
    reconstructions
        As `nwbrecon.reconstruct` gave them for this session.
    settings
        On how many clips.
    state
        Folder in which every finished movie is kept, so that an interrupted run goes on where it was.

    Raises
    ------
    InversionError
        If the reconstructions were read from a file, or are of several sessions.
    EncoderError
        If the encoder was trained on another session.

    Examples
    --------
    ::

        controls = run_controls(encoder, aligned, reconstructions)
        print(controls)
    """
    settings = settings or ControlSettings()
    made = reconstruct_controls(encoder, aligned, reconstructions, settings, state=state)
    case = Case(aligned, reconstructions, chosen_items(reconstructions, settings.clips))
    findings = {
        name: of(case, made.movies[name]) if name in made.movies else Finding(sentence=made.left_out[name])
        for name, of in _OF_MOVIES.items()
    }
    findings["judge"] = of_another_judge(case)
    rows = [{"control": name, **row} for name, finding in findings.items() for row in finding.rows]
    verdicts = [(name, finding.verdict, finding.sentence) for name, finding in findings.items()]
    return Controls(
        pd.DataFrame(rows, columns=["control", "condition", "clip", "metric", "value"]),
        pd.DataFrame(verdicts, columns=["control", "verdict", "sentence"]),
        {
            "clips": len(case.items),
            "reconstructed_clips": len(case.true),
            "settings": settings.model_dump(mode="json"),
        },
    )


_OF_MOVIES = {
    "behavior": of_behavior,
    "shuffled": of_shuffled,
    "behavior_alone": of_behavior_alone,
    "permuted": of_permuted,
    "gray": of_gray,
}
