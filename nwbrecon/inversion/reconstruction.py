"""The nouns of this room: a reconstructed clip, and many of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np
import pandas as pd

from nwbrecon.display import block, frame_row, list_html, player, table_html
from nwbrecon.errors import InversionError
from nwbrecon.inversion.setup import Setup

__all__ = ["Reconstruction", "Reconstructions"]

_FRAMES_SHOWN, _ROWS_SHOWN = 4, 20


def _yes_or_no(value: Any) -> str:
    return "" if value is None else "yes" if value else "no"


@dataclass
class Reconstruction:
    """One reconstructed clip.

    Attributes
    ----------
    clip
        Identity of the clip, as in the trials table.
    trials
        Labels of the trials whose responses went in (several where repeats were fused).
    video
        ``(time, height, width)`` float32, grey level 0-255.
    std
        ``(time, height, width)`` float32, grey levels: the information map, the standard deviation of the error that is
        to be expected given what the responses say; ``None`` where not asked for.
    onset
        Seconds on the session clock at which the clip began (of the first trial).
    frame_rate
        Frames per second (Hz).
    baselines
        Other reconstructions of the same clip from the same responses, by name (``ridge``), shaped like `video`.
    history
        One row an iteration: ``iteration``, ``objective``, ``negative_log_likelihood``, ``negative_log_prior``,
        ``seconds``.
    snapshots
        ``(snapshot, time, height, width)`` uint8: the way from the first guess to `video`; may be empty.
    snapshot_iterations
        ``(snapshot,)`` the iteration of each.
    behavior
        ``(trial, time, variable)`` float32, in the units of the aligned session: running, pupil and gaze of each trial
        as they were found along with the movie (``inversion.behavior=inferred``); ``None`` where they were not sought.
        Where several sessions are fused, that of the first.
    info
        How it ended: ``converged``, ``prior_weight``, ``prior``, ``seconds``, ...; what JSON can hold.
    """

    clip: str
    trials: tuple[int, ...]
    video: np.ndarray
    onset: float
    frame_rate: float
    std: np.ndarray | None = None
    baselines: dict[str, np.ndarray] = field(default_factory=dict)
    history: pd.DataFrame = field(default_factory=pd.DataFrame)
    snapshots: np.ndarray | None = None
    snapshot_iterations: np.ndarray | None = None
    behavior: np.ndarray | None = None
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def times(self) -> np.ndarray:
        """``(time,)`` onset of each frame, seconds on the session clock."""
        return self.onset + np.arange(len(self.video)) / self.frame_rate

    def play(self, true: np.ndarray | None = None) -> Any:
        """Play it in a notebook, with its information map and its baselines: a `nwbrecon.Player`.

        Parameters
        ----------
        true
            ``(time, height, width)`` what was shown, grey level 0-255, to be played beside it.
        """
        return player(self, true)

    def _repr_html_(self) -> str:
        count = len(self.video)
        frames = [
            (f"{index / self.frame_rate:.1f} s", self.video[index])
            for index in np.unique(np.linspace(0, count - 1, _FRAMES_SHOWN + 2).round().astype(int)[1:-1])
        ]
        known = [("what", "value"), *((str(key), str(value)) for key, value in self.info.items())]
        return block(
            f"Reconstruction of clip {self.clip} from trials {', '.join(map(str, self.trials))}: {count} frames of "
            f"{self.video.shape[1]}x{self.video.shape[2]} pixels at {self.frame_rate:g} Hz",
            frame_row(frames),
            table_html(known) if self.info else "",
        )


@dataclass
class Reconstructions(Sequence[Reconstruction]):
    """Reconstructed clips of one recording by one method.

    Attributes
    ----------
    items
        The reconstructions.
    method
        What made them: ``map``, ``ridge``, ``bauer2026``, ...
    mask
        ``(height, width)`` bool: the pixels that the recorded cells cover; scores are over these.
    coverage
        ``(height, width)`` float32 in 0-1: how well the population covers each pixel; `mask` is where it passes a
        threshold that is frozen once per recording.
    settings
        Resolved settings.
    info
        What concerns all of them: the gate's figures, calibration, how prior and weight were chosen; where held-out
        ROIs chose, ``held_out_curve``, how badly these were predicted after each iteration, summed over clips.
    warnings
        What the user should know, in sentences.
    setup
        What the clips shared when they were inverted, for controls; ``None`` where they were read from a file.
    """

    items: list[Reconstruction]
    method: str
    mask: np.ndarray
    coverage: np.ndarray
    settings: dict[str, Any] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    setup: Setup | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        for item in self.items:
            if item.video.shape[1:] != self.mask.shape:
                raise InversionError(
                    f"Clip {item.clip!r} has frames of {item.video.shape[1:]} pixels and the mask {self.mask.shape}.",
                    "They must be of one size.",
                )

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> Reconstruction: ...
    @overload
    def __getitem__(self, index: slice) -> list[Reconstruction]: ...
    def __getitem__(self, index: int | slice) -> Reconstruction | list[Reconstruction]:
        return self.items[index]

    def __iter__(self) -> Iterator[Reconstruction]:
        return iter(self.items)

    def play(self, true: Sequence[np.ndarray] | None = None) -> Any:
        """Play the first showing of each clip in a notebook: a `nwbrecon.Player`.

        Parameters
        ----------
        true
            What was shown, one ``(time, height, width)`` movie a reconstruction, to be played beside it.
        """
        return player(self, true)

    def _repr_html_(self) -> str:
        rows = [
            ("clip", "trials", "onset (s)", "frames", "converged", "expected error (SD)"),
            *(
                (
                    item.clip,
                    ", ".join(map(str, item.trials)),
                    f"{item.onset:.2f}",
                    str(len(item.video)),
                    _yes_or_no(item.info.get("converged")),
                    "" if item.std is None else f"{item.std.mean():.1f}",
                )
                for item in self.items[:_ROWS_SHOWN]
            ),
        ]
        more = [f"{len(self) - _ROWS_SHOWN} more"] if len(self) > _ROWS_SHOWN else []
        some = list({item.clip: item for item in reversed(self.items)}.values())[::-1][:_FRAMES_SHOWN]
        gate = self.info.get("gate", {})
        return block(
            f"{len(self)} reconstructions by {self.method}, {self.mask.mean():.0%} of the frame covered",
            list_html([str(gate["sentence"])] if "sentence" in gate else []),
            frame_row([(item.clip[:16], item.video[len(item.video) // 2]) for item in some]),
            table_html(rows),
            list_html([*more, *(f"Warning: {warning}" for warning in self.warnings)]),
        )

    def of_clip(self, clip: str) -> list[Reconstruction]:
        """Every reconstruction of one clip, in time order."""
        return [item for item in self.items if item.clip == clip]
