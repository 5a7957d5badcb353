"""The verb of this room: reconstruct the clips of a session."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from nwbrecon.alignment import AlignedSession
from nwbrecon.config import InversionSettings
from nwbrecon.encoding import EncoderEnsemble
from nwbrecon.encoding.device import choose_device, device_of
from nwbrecon.errors import InversionError, SettingsError
from nwbrecon.inversion.bauer2026 import PRESETS, reconstruct_bauer2026
from nwbrecon.inversion.objective import gather_evidence
from nwbrecon.inversion.reconstruction import Reconstruction, Reconstructions
from nwbrecon.inversion.reconstructor import Reconstructor
from nwbrecon.inversion.setup import Setup, features_of, make_setup
from nwbrecon.progress import progress
from nwbrecon.storage import digest, read_arrays, read_json, write_arrays, write_json

__all__ = ["reconstruct"]

_SNAPSHOTS = (0, 1, 2, 3, 5, 8, 13)


def reconstruct(
    encoder: EncoderEnsemble,
    aligned: AlignedSession,
    trials: Literal["test", "validation"] | Sequence[int] = "test",
    settings: InversionSettings | None = None,
    *,
    state: str | Path | None = None,
) -> Reconstructions:
    """Reconstruct what was shown from the responses to it.

    Each trial is reconstructed by itself, with the linear decoder's movie beside it, unless the settings fuse repeats.
    How it is done is the settings' preset.
    If the encoder does not see (its gate), the linear decoder's movies are given under that name.

    Parameters
    ----------
    encoder
        The session's encoder.
    aligned
        The session.
    trials
        A split, or labels of trials.
    settings
        How to invert.
    state
        Folder in which every finished clip is kept, so that an interrupted run goes on where it was.

    Returns
    -------
    Reconstructions
        In time order.

    Raises
    ------
    EncoderError
        If the encoder was trained on another session.
    InversionError
        If there are no such trials.
    SettingsError
        If repeats are to be fused by the published method.
    """
    settings = settings or InversionSettings()
    encoder.check_fits(aligned)
    encoder.to(choose_device(settings.device))
    labels = _labels(aligned, trials)
    groups = _groups(aligned, labels, settings)
    keeper = _Keeper(state, encoder, aligned, labels, settings)

    method = settings.preset if encoder.gate["sees"] else "ridge"
    setup = keeper.setup()
    if setup is None:
        setup = make_setup(encoder, aligned, labels, settings, method)
        keeper.keep_setup(setup)

    items = []
    for members in progress(groups, label="reconstructing", unit="clip"):
        item = keeper.item(members[0])
        if item is None:
            item = _MAKERS[method](setup, encoder, aligned, members, settings)
            keeper.keep_item(item)
        items.append(item)

    warnings = list(aligned.warnings)
    if method != settings.preset:
        warnings.append(
            f"{encoder.gate['sentence']} The movies given are the linear decoder's. More minutes of unique movie, more "
            "or better cells, and a check of the clocks would help."
        )
    if not aligned.behavior_names:
        warnings.append("The recording has neither running nor pupil: the encoder does without behavior.")
    return Reconstructions(
        items,
        method=method,
        mask=setup.mask,
        coverage=setup.coverage,
        settings=settings.model_dump(mode="json"),
        info={
            "gate": encoder.gate,
            "behavior": settings.behavior if aligned.behavior_names else "absent",
            "prior": setup.prior,
            "prior_weight": setup.prior_weight,
            "held_out_choice": setup.choice,
            "mask_fraction": float(setup.mask.mean()),
            "error_model": None if setup.error_model is None else setup.error_model.as_dict(),
            "ridge_penalty": setup.ridge.penalty,
        },
        warnings=warnings,
    )


def _labels(aligned: AlignedSession, trials: str | Sequence[int]) -> list[int]:
    if isinstance(trials, str):
        labels = aligned.trials_in(trials)
        if not labels:
            raise InversionError(
                f"The session has no {trials} trials.", action="Name the trials to reconstruct by their labels."
            )
        return labels
    unknown = [trial for trial in trials if trial not in aligned.trials.index]
    if unknown or not len(trials):
        raise InversionError(
            f"There is no trial {unknown[0]}." if unknown else "No trials were given.",
            f"The session's trials have the labels {aligned.trials.index.min()} to {aligned.trials.index.max()}.",
        )
    return sorted({int(trial) for trial in trials})


def _groups(aligned: AlignedSession, labels: list[int], settings: InversionSettings) -> list[tuple[int, ...]]:
    """Trials that make one movie together."""
    if settings.fuse == "none":
        return [(trial,) for trial in labels]
    if settings.preset in PRESETS:
        raise SettingsError(
            f"The preset {settings.preset} reconstructs one trial at a time, and fuse is {settings.fuse!r}.",
            action="Set fuse to 'none', or use the preset map.",
        )
    rows = aligned.trials.loc[labels]
    return [
        tuple(int(trial) for trial in of_clip.index) for _, of_clip in rows.groupby(["clip", "n_frames"], sort=False)
    ]


def _invert(
    setup: Setup,
    encoder: EncoderEnsemble,
    aligned: AlignedSession,
    trials: tuple[int, ...],
    settings: InversionSettings,
) -> Reconstruction:
    started = time.perf_counter()
    item = _decode_linearly(setup, aligned, trials)
    decoded = item.video
    evidence = [
        gather_evidence(encoder, aligned, trial, setup.margins, behavior=settings.behavior == "given")
        for trial in trials
    ]
    linear = np.mean([setup.ridge.predict(aligned, trial) for trial in trials], axis=0)
    fit = Reconstructor(
        evidence,
        setup.prior_for(setup.prior, linear, device_of(encoder)),
        setup.margins,
        prior_weight=setup.prior_weight,
    )
    first = aligned.trials.at[trials[0], "repeat"] == 0
    outcome = fit.run(settings.iterations, tolerance=settings.tolerance, snapshots=_SNAPSHOTS if first else ())
    std = None
    if setup.error_model is not None:
        std = setup.error_model.std(features_of(setup, fit, evidence, settings.seed))
    return Reconstruction(
        clip=item.clip,
        trials=trials,
        video=fit.video,
        onset=item.onset,
        frame_rate=item.frame_rate,
        std=std,
        baselines={"ridge": decoded},
        history=fit.history,
        snapshots=fit.snapshots,
        snapshot_iterations=np.array(fit.snapshot_iterations, dtype=int),
        info={
            "converged": outcome.converged,
            "iterations": outcome.n_iterations,
            "evaluations": outcome.n_evaluations,
            "objective": outcome.value,
            "prior": setup.prior,
            "prior_weight": setup.prior_weight,
            "seconds": time.perf_counter() - started,
        },
    )


def _as_published(
    setup: Setup,
    encoder: EncoderEnsemble,
    aligned: AlignedSession,
    trials: tuple[int, ...],
    settings: InversionSettings,
) -> Reconstruction:
    item = reconstruct_bauer2026(
        encoder,
        aligned,
        trials[0],
        settings.published or PRESETS[settings.preset],
        transparency=setup.transparency,
    )
    item.baselines["ridge"] = _decode_linearly(setup, aligned, trials).video
    return item


def _linear_only(
    setup: Setup,
    encoder: EncoderEnsemble,
    aligned: AlignedSession,
    trials: tuple[int, ...],
    settings: InversionSettings,
) -> Reconstruction:
    return _decode_linearly(setup, aligned, trials)


_MAKERS: dict[str, Callable[..., Reconstruction]] = {
    "map": _invert,
    "ridge": _linear_only,
    **dict.fromkeys(PRESETS, _as_published),
}


def _decode_linearly(setup: Setup, aligned: AlignedSession, trials: tuple[int, ...]) -> Reconstruction:
    row = aligned.trials.loc[trials[0]]
    video = np.mean([setup.ridge.predict(aligned, trial) for trial in trials], axis=0)
    return Reconstruction(
        clip=str(row["clip"]),
        trials=trials,
        video=np.clip(video, 0, 255).astype(np.float32),
        onset=float(row["onset"]),
        frame_rate=aligned.frame_rate,
        info={"penalty": setup.ridge.penalty},
    )


class _Keeper:
    """Finished work in a folder; work of other settings, or of another encoder, is not taken up."""

    def __init__(
        self,
        folder: str | Path | None,
        encoder: EncoderEnsemble,
        aligned: AlignedSession,
        labels: list[int],
        settings: InversionSettings,
    ) -> None:
        self.folder = None if folder is None else Path(folder)
        if self.folder is None:
            return
        key = digest([encoder.digest(), settings, labels, aligned.digest()])
        kept = self.folder / "key.json"
        if not kept.exists() or read_json(kept) != key:
            # only what is ours: the folder may hold other things
            for pattern in ("setup.json", "setup.safetensors", "trial-*.json", "trial-*.safetensors"):
                for old in self.folder.glob(pattern):
                    old.unlink()
            write_json(kept, key)

    def setup(self) -> Setup | None:
        if self.folder is None or not (self.folder / "setup.json").exists():
            return None
        return Setup.read(self.folder)

    def keep_setup(self, setup: Setup) -> None:
        if self.folder is not None:
            setup.write(self.folder)

    def item(self, trial: int) -> Reconstruction | None:
        if self.folder is None or not (self.folder / f"trial-{trial}.json").exists():
            return None
        plain = read_json(self.folder / f"trial-{trial}.json")
        arrays: dict[str, Any] = dict(read_arrays(self.folder / f"trial-{trial}.safetensors"))
        baselines = {name.removeprefix("baseline."): arrays.pop(name) for name in list(arrays) if "baseline." in name}
        history = pd.DataFrame(plain.pop("history"))
        return Reconstruction(
            **plain | {"trials": tuple(plain["trials"])}, **arrays, baselines=baselines, history=history
        )

    def keep_item(self, item: Reconstruction) -> None:
        if self.folder is None:
            return
        arrays: dict[str, Any] = {
            name: value for name, value in vars(item).items() if isinstance(value, np.ndarray)
        } | {f"baseline.{name}": video for name, video in item.baselines.items()}
        plain = {name: getattr(item, name) for name in ("clip", "trials", "onset", "frame_rate", "info")}
        plain["history"] = item.history.to_dict(orient="list")
        write_arrays(self.folder / f"trial-{item.trials[0]}.safetensors", arrays)
        # the JSON, written last, says that the arrays are whole
        write_json(self.folder / f"trial-{item.trials[0]}.json", plain)
