"""The verb of this room: a mouse of the Sensorium 2023 competition as NWB."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pynwb import NWBHDF5IO

from nwbrecon.converters.mouse_file import FRAME_RATE, LICENSE, build
from nwbrecon.converters.mouse_folder import UNUSED, MouseTrial, read_mouse_folder
from nwbrecon.errors import SettingsError, SourceError
from nwbrecon.progress import progress
from nwbrecon.storage import atomic_path, size_text

__all__ = ["Imported", "Oracle", "import_sensorium"]

Oracle = Literal["auto", "test", "validation"]


@dataclass
class Imported:
    """What was converted.

    Attributes
    ----------
    path
        The NWB file.
    trials, clips, cells
        How many there are; equal videos are one clip.
    seconds
        Length of all trials together.
    splits
        Trials with responses, by split.
    withheld
        Trials without responses.
    license
        Under which terms the data are.
    warnings
        What the folder lacks, in sentences.
    """

    path: Path
    trials: int
    clips: int
    cells: int
    seconds: float
    splits: dict[str, int]
    withheld: int
    license: str
    warnings: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Give what JSON can hold."""
        return {**vars(self), "path": str(self.path)}

    def __str__(self) -> str:
        splits = ", ".join(f"{count} {split}" for split, count in self.splits.items())
        held = f"; {self.withheld} without responses" if self.withheld else ""
        return "\n".join(
            [
                f"{self.path} ({size_text(self.path.stat().st_size)})",
                f"{self.cells} cells, {self.trials} trials of {self.clips} clips, {self.seconds / 60:.0f} min",
                f"trials: {splits}{held}",
                *(f"Warning: {warning}" for warning in self.warnings),
                "",
                self.license,
            ]
        )


def import_sensorium(
    folder: str | Path, path: str | Path, *, oracle: Oracle = "auto", overwrite: bool = False
) -> Imported:
    """Turn the folder of a mouse of the Sensorium 2023 competition into NWB.

    Opened and aligned at 30 Hz and the size of its videos, the file gives back videos, behavior and responses as
    released; responses come divided by `AlignedGroup.scale`. The folder is read a trial at a time.

    Parameters
    ----------
    folder
        The unzipped folder, with ``data`` and ``meta`` in it.
    path
        The file, ``.nwb``.
    oracle
        What the trials of tier ``oracle`` are for. The competition validates on them and withholds the responses of its
        test trials; so ``auto`` takes them for testing, and leaves it to the aligner to draw validation clips from the
        training clips, unless the folder has responses of test trials: then they are for validation.
    overwrite
        Replace a file that is there already.

    Returns
    -------
    Imported

    Raises
    ------
    SettingsError
        If `path` is there already or does not end in ``.nwb``, or there is no such choice of `oracle`.
    SourceError
        If the folder is none of Sensorium 2023, or its files disagree.
    ResultsError
        If the file cannot be written.

    Examples
    --------
    ::

        import_sensorium("dynamic29515-10-12-Video-9b4f6a1a067fe51e15306b9628efea20", "mouse.nwb")
        session = nwbrecon.open_session("mouse.nwb")
    """
    path = Path(path)
    if path.suffix != ".nwb":
        raise SettingsError(f"The file name {path.name} does not end in .nwb.", action=f"Call it {path.stem}.nwb.")
    if oracle not in get_args(Oracle):
        raise SettingsError(f"oracle is {oracle!r}.", f"The choices are {', '.join(get_args(Oracle))}.")
    if path.exists() and not overwrite:
        raise SettingsError(f"{path} exists already.", action="Choose another name, or ask for it to be overwritten.")
    mouse = read_mouse_folder(folder)
    splits = _splits(mouse.trials, oracle)
    recorded = [trial.recorded for trial in mouse.trials]
    with progress(total=len(recorded) + sum(recorded), label="writing", unit="array") as bar:
        nwbfile = build(mouse, splits, bar.update)
        with atomic_path(path) as partial, NWBHDF5IO(partial, mode="w") as io:
            io.write(nwbfile)
    kept = [split for split, here in zip(splits, recorded, strict=True) if here]
    lacking = {"running and pupil dilation": mouse.behavior, "gaze": mouse.pupil_center, "depths": mouse.coordinates}
    return Imported(
        path=path,
        trials=len(mouse.trials),
        clips=len({trial.clip for trial in mouse.trials}),
        cells=len(mouse.unit_ids),
        seconds=sum(trial.n_frames for trial in mouse.trials) / FRAME_RATE,
        splits={split: kept.count(split) for split in ("train", "validation", "test", UNUSED) if split in kept},
        withheld=len(splits) - len(kept),
        license=LICENSE,
        warnings=[
            f"The folder has no {name}; the file goes without." for name, found in lacking.items() if found is None
        ],
    )


def _splits(trials: Sequence[MouseTrial], oracle: Oracle) -> list[str]:
    """Split of each trial, by its tier."""
    if oracle == "auto":
        tested = any("test" in trial.tier and trial.recorded for trial in trials)
        oracle = "validation" if tested else "test"
    known = {"train": "train", "oracle": oracle, "validation": "validation", UNUSED: UNUSED}
    splits = [known.get(trial.tier, "test" if "test" in trial.tier else "") for trial in trials]
    unknown = sorted({trial.tier for trial, split in zip(trials, splits, strict=True) if not split})
    if unknown:
        raise SourceError(
            f"meta/trials/tiers.npy has the tiers {', '.join(unknown)}.",
            f"{', '.join(known)} and names with test in them are known.",
        )
    return splits
