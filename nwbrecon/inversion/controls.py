"""What is reconstructed to find out whether reconstructions can be trusted.

From gray screens, from behavior alone, from responses that have lost their cells or their trial. All of it is made
with the setup of the reconstructions themselves, so that only what went in differs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nwbrecon.alignment import AlignedGroup, AlignedSession, gray_session
from nwbrecon.alignment.align import frame_starts
from nwbrecon.config import ControlSettings, InversionSettings
from nwbrecon.encoding import EncoderEnsemble
from nwbrecon.encoding.device import choose_device
from nwbrecon.errors import InversionError
from nwbrecon.inversion.first_look import first_look
from nwbrecon.inversion.reconstruction import Reconstruction, Reconstructions
from nwbrecon.inversion.ridge import fit_ridge
from nwbrecon.inversion.setup import INVERTED, SEARCH, Recording, Setup, Showing, in_range, invert
from nwbrecon.progress import progress
from nwbrecon.session import SignalKind
from nwbrecon.storage import digest, keep_work_of, read_arrays, write_arrays

__all__ = ["ControlMovies", "chosen_items", "reconstruct_controls"]

# samples from so long before a trial to so long after it can matter to its reconstruction (s)
_REACH = 3.0
# behavior from so long before a frame to so long after it is looked at (s)
_BEHAVIOR_REACH = 0.5
# methods that are as quick as controls have to be
_QUICK = (*INVERTED, "ridge")


@dataclass
class ControlMovies:
    """What the controls reconstructed.

    Attributes
    ----------
    movies
        Reconstructions by control: ``behavior`` (inverted with behavior where it was withheld or inferred, without
        where it was given), ``shuffled`` (cells across repeats), ``behavior_alone``, ``permuted`` (labels of ROIs),
        and, with their uncertainty, ``gray``.
    left_out
        Why there is none, in a sentence, by control.
    """

    movies: dict[str, list[Reconstruction]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def reconstruct_controls(
    encoder: EncoderEnsemble,
    aligned: AlignedSession,
    reconstructions: Reconstructions,
    settings: ControlSettings | None = None,
    *,
    state: str | Path | None = None,
) -> ControlMovies:
    """Reconstruct what controls compare with.

    Parameters
    ----------
    encoder
        The session's encoder.
    aligned
        The session.
    reconstructions
        As `nwbrecon.reconstruct` gave them for this session alone.
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
    """
    settings = settings or ControlSettings()
    setup = reconstructions.setup
    if setup is None or len(setup.ridges) != 1:
        raise InversionError(
            "The reconstructions were read from a file."
            if setup is None
            else f"The reconstructions are of {len(setup.ridges)} sessions.",
            "Controls need what `reconstruct` gave for one session.",
            "Reconstruct the clips, and run the controls on what that gives.",
        )
    encoder.check_fits(aligned)
    inversion = InversionSettings.model_validate(reconstructions.settings)
    encoder.to(choose_device(inversion.device))
    plan = _Plan(encoder, aligned, setup, inversion, reconstructions.method, settings)
    items = chosen_items(reconstructions, settings.clips)
    trials = [item.trials for item in reconstructions]
    keeper = _Keeper(state, [encoder.digest(), aligned.digest(), inversion, settings, trials, SEARCH])

    made = ControlMovies()
    for name, tasks_of in (
        ("behavior", plan.behavior),
        ("shuffled", plan.shuffled),
        ("behavior_alone", plan.behavior_alone),
        ("permuted", plan.permuted),
        ("gray", plan.gray),
    ):
        tasks = tasks_of(items)
        if isinstance(tasks, str):
            made.left_out[name] = tasks
        else:
            label = f"control: {name.replace('_', ' ')}"
            made.movies[name] = [keeper.movie(name, task) for task in progress(tasks, label=label, unit="clip")]
    return made


def chosen_items(reconstructions: Sequence[Reconstruction], clips: int) -> list[Reconstruction]:
    """Choose the first reconstruction of each of a few clips, spread over all."""
    first = list({item.clip: item for item in reversed(reconstructions)}.values())[::-1]
    return [first[index] for index in np.unique(np.linspace(0, len(first) - 1, clips).round().astype(int))]


@dataclass
class _Task:
    """A movie that a control needs: where it belongs, and how to make it."""

    item: Reconstruction
    make: Callable[[], tuple[np.ndarray, np.ndarray | None]]


@dataclass
class _Plan:
    encoder: EncoderEnsemble
    aligned: AlignedSession
    setup: Setup
    inversion: InversionSettings
    method: str
    settings: ControlSettings

    def behavior(self, items: list[Reconstruction]) -> list[_Task] | str:
        """Invert the clips with behavior withheld where it was given, and given where it was not."""
        if not self.aligned.behavior_names:
            return "The recording has neither running nor pupil: every movie is from brain signals alone."
        if self.method in INVERTED and not (self.inversion.iterations or self.inversion.gradient_step):
            return "The decoder is never told the behavior: every movie is from brain signals alone."
        if self.method == "ridge":
            return "The linear decoder is never told the behavior: every movie is from brain signals alone."
        if self.method not in _QUICK:
            return _too_slow(self.method)
        other = "withheld" if self.inversion.behavior == "given" else "given"
        settings = self.inversion.model_copy(update={"behavior": other})
        recordings = [(self.encoder, self.aligned)]
        return [_Task(item, self._maker(self.setup, recordings, (item.trials,), settings)) for item in items]

    def shuffled(self, items: list[Reconstruction]) -> list[_Task] | str:
        """Invert the clips with each ROI's responses from another showing."""
        if self.method not in _QUICK:
            return _too_slow(self.method)
        if any(len(item.trials) > 1 for item in items):
            return "Repeats were fused: each movie is from all showings of its clip already."
        donors = {item.trials[0]: self._other_showings(item.trials[0]) for item in items}
        able = [item for item in items if len(donors[item.trials[0]]) > 1]
        if not able:
            return "No reconstructed clip was shown three times: there is nothing to shuffle across."
        return [self._shuffled_task(item, donors[item.trials[0]]) for item in able]

    def behavior_alone(self, items: list[Reconstruction]) -> list[_Task] | str:
        """Decode the clips linearly from running, pupil and gaze."""
        if not self.aligned.behavior_names:
            return "The recording has neither running nor pupil."
        behaved = _behavior_as_responses(self.aligned)
        fitted: list[Setup] = []

        def make(item: Reconstruction) -> tuple[np.ndarray, None]:
            if not fitted:
                ridge = fit_ridge(behaved, past_seconds=_BEHAVIOR_REACH, future_seconds=_BEHAVIOR_REACH)
                fitted.append(replace(self.setup, ridges=(ridge,)))
            return in_range(fitted[0].decode([(self.encoder, behaved)], (item.trials,))), None

        return [_Task(item, partial(make, item)) for item in items]

    def permuted(self, items: list[Reconstruction]) -> list[_Task] | str:
        """Invert the clips with the responses of each plane's ROIs handed out to others of the plane."""
        if self.method not in _QUICK:
            return _too_slow(self.method)
        random = np.random.default_rng(self.settings.seed)
        orders = [random.permutation(group.n_rois) for group in self.aligned.groups]
        tasks = []
        for item in items:
            other = _with_responses(self.aligned, item.trials, lambda index, values: values[:, orders[index]])
            tasks.append(_Task(item, self._maker(self.setup, [(self.encoder, other)], (item.trials,), self.inversion)))
        return tasks

    def gray(self, items: list[Reconstruction]) -> list[_Task] | str:
        """Invert the responses to a gray screen."""
        if self.method not in _QUICK:
            return _too_slow(self.method)
        found = gray_session(self.aligned, stretches=self.settings.gray_stretches, seconds=self.settings.gray_seconds)
        if found is None:
            return "None in the recording: the screen was never gray for a few seconds while responses were recorded."
        return [
            _Task(
                _named(found, trial),
                self._maker(self.setup, [(self.encoder, found)], ((trial,),), self.inversion, uncertain=True),
            )
            for trial in found.trials.index
        ]

    def _maker(
        self,
        setup: Setup,
        recordings: list[Recording],
        showing: Showing,
        settings: InversionSettings,
        *,
        uncertain: bool = False,
    ) -> Callable[[], tuple[np.ndarray, np.ndarray | None]]:
        def make() -> tuple[np.ndarray, np.ndarray | None]:
            if self.method == "ridge":
                return in_range(setup.decode(recordings, showing)), None
            if not settings.iterations:
                return first_look(setup, recordings, showing, settings), None
            made = invert(setup, recordings, showing, settings)
            return setup.finished(made, settings.seed, uncertain=uncertain)

        return make

    def _other_showings(self, trial: int) -> list[int]:
        others = [other for other in self.aligned.showings_like(trial) if other != trial]
        random = np.random.default_rng([self.settings.seed, trial])
        return sorted(int(label) for label in random.permutation(np.array(others, dtype=int))[: self.settings.donors])

    def _shuffled_task(self, item: Reconstruction, donors: list[int]) -> _Task:
        """Each donor is a witness of its own, of which only the ROIs that were drawn for it are known.

        So every response keeps its sample times, and the behavior that it came with.
        """
        random = np.random.default_rng([self.settings.seed, item.trials[0], len(donors)])
        drawn = [random.integers(len(donors), size=group.n_rois) for group in self.aligned.groups]
        recordings = [
            (
                self.encoder,
                _with_responses(
                    self.aligned,
                    (donor,),
                    partial(_only_drawn, drawn, number),
                ),
            )
            for number, donor in enumerate(donors)
        ]
        # The mean over witnesses, each with some of the responses, is to be what a decoder makes of all of them.
        ridge, count = self.setup.ridges[0], len(donors)
        part = replace(ridge, weights=count * ridge.weights, mean_responses=ridge.mean_responses / count)
        setup = replace(
            self.setup,
            ridges=(part,) * count,
            behaving=self.setup.behaving * count,
            amortized=self.setup.amortized * count,
        )
        return _Task(item, self._maker(setup, recordings, tuple((donor,) for donor in donors), self.inversion))


def _with_responses(
    aligned: AlignedSession, trials: Sequence[int], change: Callable[[int, np.ndarray], np.ndarray]
) -> AlignedSession:
    """Give the session with other responses around some trials, and without any elsewhere."""
    rows = aligned.trials.loc[list(trials)]
    spans = zip(rows["onset"] - _REACH, rows["onset"] + rows["n_frames"] / aligned.frame_rate + _REACH, strict=True)
    near = list(spans)
    groups = []
    for index, group in enumerate(aligned.groups):
        times = group.timestamps
        kept = np.logical_or.reduce([(times >= start) & (times <= stop) for start, stop in near])
        groups.append(replace(group, timestamps=times[kept], activity=change(index, np.asarray(group.activity[kept]))))
    return replace(aligned, groups=groups)


def _only_drawn(drawn: list[np.ndarray], number: int, index: int, values: np.ndarray) -> np.ndarray:
    return np.where(drawn[index] == number, values, np.nan)


def _behavior_as_responses(aligned: AlignedSession) -> AlignedSession:
    """Give the session with each behavioral variable in place of an ROI, over its spread in training time."""
    times = frame_starts(aligned.trials, aligned.frame_rate) + 0.5 / aligned.frame_rate
    training = np.repeat(aligned.trials["split"].to_numpy() == "train", aligned.trials["n_frames"])
    known = aligned.behavior[training & aligned.valid].astype(float)
    mean, spread = (np.zeros(known.shape[1]), np.ones(known.shape[1]))
    for column, values in enumerate(known.T):
        finite = values[np.isfinite(values)]
        if len(finite) and finite.std() > 0:
            mean[column], spread[column] = finite.mean(), finite.std()
    order = np.argsort(times, kind="stable")
    group = AlignedGroup(
        name="behavior",
        kind=SignalKind.DFF,
        timestamps=times[order],
        # the decoder takes what is missing for zero: the mean
        activity=((aligned.behavior - mean) / spread)[order].astype(np.float32),
        scale=spread,
        rois=pd.DataFrame(index=list(aligned.behavior_names)),
    )
    return replace(aligned, groups=[group])


def _named(aligned: AlignedSession, trial: int) -> Reconstruction:
    row = aligned.trials.loc[trial]
    return Reconstruction(
        clip=str(row["clip"]),
        trials=(int(trial),),
        video=np.empty((int(row["n_frames"]), *aligned.frame_size), np.float32),
        onset=float(row["onset"]),
        frame_rate=aligned.frame_rate,
    )


def _too_slow(method: str) -> str:
    return f"Left out: {method} takes too long for it."


class _Keeper:
    """Finished movies in a folder; those of other work are not taken up."""

    def __init__(self, folder: str | Path | None, work: list[Any]) -> None:
        self.folder = None if folder is None else Path(folder)
        if self.folder is None:
            return
        keep_work_of(digest(work), self.folder / "controls.json", ["control-*.safetensors"])

    def movie(self, control: str, task: _Task) -> Reconstruction:
        """Read the movie of a task, or make and keep it."""
        path = None if self.folder is None else self.folder / f"control-{control}-{task.item.trials[0]}.safetensors"
        if path is not None and path.exists():
            arrays = dict(read_arrays(path))
        else:
            video, std = task.make()
            arrays = {"video": video} | ({} if std is None else {"std": std})
            if path is not None:
                write_arrays(path, arrays)
        item = task.item
        return Reconstruction(
            item.clip, item.trials, arrays["video"], item.onset, item.frame_rate, std=arrays.get("std")
        )
