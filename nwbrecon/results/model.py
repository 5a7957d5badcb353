"""The noun of this room: what a results file holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nwbrecon.evaluation import Scores
from nwbrecon.inversion import Reconstructions

__all__ = ["Results"]


@dataclass
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
    """

    reconstructions: Reconstructions
    scores: Scores | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    true_movies: list[np.ndarray] | None = None

    @property
    def warnings(self) -> list[str]:
        """Everything that was found wrong on the way, in sentences."""
        return list(self.provenance.get("warnings", self.reconstructions.warnings))
