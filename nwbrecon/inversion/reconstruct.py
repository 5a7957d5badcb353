"""The verb of this room: reconstruct the clips of a session."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from nwbrecon.alignment import AlignedSession
from nwbrecon.alignment.together import check_same_clock, show_the_same
from nwbrecon.config import InversionSettings
from nwbrecon.encoding import EncoderEnsemble
from nwbrecon.encoding.device import choose_device
from nwbrecon.encoding.validation import validate_once
from nwbrecon.errors import EncoderError, InversionError, SettingsError
from nwbrecon.inversion.bauer2026 import PRESETS, reconstruct_bauer2026
from nwbrecon.inversion.first_look import first_look
from nwbrecon.inversion.reconstruction import Reconstruction, Reconstructions
from nwbrecon.inversion.settling import make_setup
from nwbrecon.inversion.setup import INVERTED, SEARCH, Recording, Setup, Showing, in_batches, in_range, invert_together
from nwbrecon.progress import progress
from nwbrecon.session import SignalKind
from nwbrecon.storage import digest, keep_work_of, read_arrays, read_json, write_arrays, write_json

__all__ = ["reconstruct"]

_SNAPSHOTS = (0, 1, 2, 3, 5, 8)


def reconstruct(
    encoder: EncoderEnsemble | Sequence[EncoderEnsemble],
    aligned: AlignedSession | Sequence[AlignedSession],
    trials: Literal["test", "validation"] | Sequence[int] = "test",
    settings: InversionSettings | None = None,
    *,
    state: str | Path | None = None,
) -> Reconstructions:
    """Reconstruct what was shown from the responses to it.

    Each trial is reconstructed by itself, with the linear decoder's movie beside it, unless the settings fuse repeats.
    How it is done is the settings' preset.

    Several sessions (of several mice, say) that saw the same clips are fused: one movie is sought that explains the
    responses of all of them, a trial of each at a time, or all trials where repeats are fused as well. If an encoder
    does not see (its gate), the linear decoders' movies are given under that name.

    Parameters
    ----------
    encoder
        The session's encoder; with several sessions, one for each.
    aligned
        The session, or several, aligned with the same settings.
    trials
        A split, or labels of trials (of the first session, where there are several).
    settings
        How to invert.
    state
        Folder in which every finished clip is kept, so that an interrupted run goes on where it was.

    Returns
    -------
    Reconstructions
        In time order; trials, clips and onsets are those of the first session.

    Raises
    ------
    EncoderError
        If an encoder was trained on another session, does not say of its noise what the settings need, or cannot be
        inverted (`nwbrecon.validate_encoder`).
    InversionError
        If there are no such trials, or several sessions do not fit together.
    SettingsError
        If trials are to be fused by the published method, or behavior kept from it.
    """
    settings = settings or InversionSettings()
    recordings = _recordings(encoder, aligned)
    for one, session in recordings:
        one.check_fits(session)
        if settings.noise != "dispersion" and one.noise is None:
            raise EncoderError(
                f"The noise is to be whitened ({settings.noise}), but the encoder does not say how it hangs together.",
                "Encoders that this version of nwbrecon has trained do.",
                "Train it anew, or leave inversion.noise at dispersion.",
            )
        one.to(choose_device(settings.device))
        validate_once(
            one,
            n_rois=session.n_rois,
            frame_size=tuple(session.frame_size),
            n_variables=len(session.behavior_names),
            signed=all(group.kind is SignalKind.DFF for group in session.groups),
        )
    first = recordings[0][1]
    labels = _labels(first, trials)
    showings = _showings(recordings, labels, settings)
    keeper = _Keeper(state, recordings, labels, settings)

    blind = [one.gate["sentence"] for one, _ in recordings if not one.gate["sees"]]
    method = "ridge" if blind else settings.preset
    setup = keeper.setup()
    if setup is None:
        setup = make_setup(recordings, showings, settings, method)
        keeper.keep_setup(setup)

    items = []
    with progress(total=len(showings), label="reconstructing", unit="clip") as bar:
        for some in in_batches(showings, settings.clips_at_once):
            kept = [keeper.item(showing[0][0]) for showing in some]
            missing = [showing for showing, item in zip(some, kept, strict=True) if item is None]
            made = iter(_MAKERS[method](setup, recordings, missing, settings))
            for item in kept:
                if item is None:
                    item = next(made)
                    keeper.keep_item(item)
                items.append(item)
                bar.update()

    # decoders are not told what the animal did
    steps = settings.gradient_step and setup.blend.uses_first
    asked = method not in INVERTED or settings.iterations > 0 or steps
    warnings = list(dict.fromkeys(warning for _, session in recordings for warning in session.warnings))
    if method != settings.preset:
        warnings.append(
            f"{' '.join(blind)} The movies given are the linear decoder's. More minutes of unique movie, more "
            "or better cells, and a check of the clocks would help."
        )
    if not first.behavior_names:
        warnings.append("The recording has neither running nor pupil: the encoder does without behavior.")
    if method in INVERTED and settings.uncertainty and setup.error_model is None:
        warnings.append(
            "The sessions have no validation clip in common: the uncertainty could not be calibrated and is not given."
        )
    if method in INVERTED and settings.gradient_step and not steps:
        warnings.append("No validation clips told how long a step from the decoder's movie should be: it was left out.")
    return Reconstructions(
        items,
        method=method,
        mask=setup.mask,
        coverage=setup.coverage,
        settings=settings.model_dump(mode="json"),
        info={
            "gate": recordings[0][0].gate,
            "sessions": len(recordings),
            "behavior": (settings.behavior if asked else "withheld") if first.behavior_names else "absent",
            "behavior_names": list(first.behavior_names),
            "decoder": settings.decoder if method in INVERTED else "ridge",
            "prior": setup.prior,
            "prior_weight": setup.prior_weight,
            "shared_gain": _shared_gain(recordings, settings) if method in INVERTED and settings.iterations else None,
            "blend": setup.blend.as_dict(),
            **({"blend_of_decoders": setup.of_decoders.as_dict()} if setup.amortized else {}),
            "choice": setup.choice,
            **({"held_out_curve": setup.curve} if setup.curve else {}),
            "mask_fraction": float(setup.mask.mean()),
            "error_model": None if setup.error_model is None else setup.error_model.as_dict(),
            "ridge_penalty": setup.ridges[0].penalty,
            "settling_seconds": setup.seconds,
            "decoder_explained": [decoder.explained for decoder in setup.amortized],
        },
        warnings=warnings,
        setup=setup,
    )


def _shared_gain(recordings: list[Recording], settings: InversionSettings) -> list[dict[str, float]] | None:
    """Tell loading of the typical ROI and correlation time of the gain that was found along with the movies."""
    known = [encoder.shared_gain for encoder, _ in recordings if encoder.shared_gain is not None]
    found = [gain for gain in known if gain.loading.any()]
    if not settings.shared_gain or not found:
        return None
    return [{"loading": float(np.median(gain.loading)), "seconds": gain.seconds} for gain in found]


def _recordings(
    encoder: EncoderEnsemble | Sequence[EncoderEnsemble], aligned: AlignedSession | Sequence[AlignedSession]
) -> list[Recording]:
    encoders = [encoder] if isinstance(encoder, EncoderEnsemble) else list(encoder)
    sessions = [aligned] if isinstance(aligned, AlignedSession) else list(aligned)
    if len(encoders) != len(sessions) or not encoders:
        raise InversionError(
            f"{len(encoders)} encoders and {len(sessions)} sessions were given.", "Each session needs an encoder."
        )
    check_same_clock(sessions, InversionError)
    return list(zip(encoders, sessions, strict=True))


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


def _showings(recordings: list[Recording], labels: list[int], settings: InversionSettings) -> list[Showing]:
    """Trials that make one movie together."""
    if settings.preset in PRESETS and (settings.fuse != "none" or len(recordings) > 1):
        raise SettingsError(
            f"The preset {settings.preset} reconstructs one trial of one session at a time, and fuse is "
            f"{settings.fuse!r} with {len(recordings)} session(s).",
            action="Set fuse to 'none' and give one session, or use the preset map.",
        )
    if settings.preset in PRESETS and settings.behavior != "given":
        raise SettingsError(
            f"The preset {settings.preset} is told the behavior, and behavior is {settings.behavior!r}.",
            action="Set behavior to 'given', or use the preset map.",
        )
    if len(recordings) == 1 and settings.fuse == "none":
        return [((trial,),) for trial in labels]
    rows = recordings[0][1].trials.loc[labels]
    showings: list[Showing] = []
    for (clip, n_frames), own in rows.groupby(["clip", "n_frames"], sort=False):
        of_each = [own.index.tolist()]
        for _, other in recordings[1:]:
            table = other.trials[(other.trials["clip"] == clip) & (other.trials["n_frames"] == n_frames)]
            _check_same(recordings[0][1], other, own.index[0], table)
            of_each.append(table.index.tolist())
        if settings.fuse == "repeats":
            showings.append(tuple(tuple(int(label) for label in found) for found in of_each))
        else:
            # the first showing of a clip in one session goes with the first in another
            showings += [tuple((int(label),) for label in found) for found in zip(*of_each, strict=False)]
    return sorted(showings)


def _check_same(aligned: AlignedSession, other: AlignedSession, trial: int, found: pd.DataFrame) -> None:
    """Refuse a clip that another session lacks, knows by another content, or learned from."""
    clip = aligned.trials.at[trial, "clip"]
    if not len(found):
        raise InversionError(
            f"Clip {clip!r} was not shown in every session, or not for as long.",
            "Sessions are fused over clips that all of them saw.",
            "Name trials of such clips.",
        )
    if aligned.trials.at[trial, "split"] != "train" and (found["split"] == "train").any():
        raise InversionError(
            f"Clip {clip!r} is for training in one of the sessions.",
            "A clip that is reconstructed must be unknown to every encoder.",
            "Align the sessions with the same splits.",
        )
    if not show_the_same(aligned, trial, other, found.index[0]):
        raise InversionError(
            f"What clip {clip!r} shows differs between the sessions.",
            "Sessions are fused over clips that all of them saw.",
            "Check the names of the clips.",
        )


def _invert(
    setup: Setup, recordings: list[Recording], showings: Sequence[Showing], settings: InversionSettings
) -> Iterator[Reconstruction]:
    if not settings.iterations:
        yield from (_look(setup, recordings, showing, settings) for showing in showings)
        return
    if not showings:
        return
    started = time.perf_counter()
    repeats = recordings[0][1].trials["repeat"]
    snapshots = {showing: _SNAPSHOTS for showing in showings if repeats[showing[0][0]] == 0}
    found = invert_together(setup, recordings, showings, settings, snapshots)
    searched = (time.perf_counter() - started) / len(showings)
    for showing, made in zip(showings, found, strict=True):
        started = time.perf_counter()
        fit, outcome = made.fit, made.outcome
        video, std = setup.finished(made, settings.seed)
        yield replace(
            _reconstruction(recordings, showing, video),
            std=std,
            baselines=made.baselines,
            history=fit.history,
            snapshots=np.round(setup.blended(fit.snapshots, made.decoded)).astype(np.uint8),
            snapshot_iterations=np.array(fit.snapshot_iterations, dtype=int),
            behavior=fit.behavior,
            info={
                "converged": outcome.converged,
                "iterations": outcome.n_iterations,
                "evaluations": outcome.n_evaluations,
                "objective": outcome.value,
                "prior": setup.prior,
                "prior_weight": setup.prior_weight,
                "witnesses": sum(map(len, showing)),
                "seconds": searched + time.perf_counter() - started,
            },
        )


def _look(setup: Setup, recordings: list[Recording], showing: Showing, settings: InversionSettings) -> Reconstruction:
    started = time.perf_counter()
    guess, baselines = setup.decoded(recordings, showing)
    return replace(
        _reconstruction(recordings, showing, first_look(setup, recordings, showing, settings, guess)),
        baselines={"ridge": baselines["ridge"]},
        info={"witnesses": sum(map(len, showing)), "seconds": time.perf_counter() - started},
    )


def _as_published(
    setup: Setup, recordings: list[Recording], showings: Sequence[Showing], settings: InversionSettings
) -> Iterator[Reconstruction]:
    published = settings.published or PRESETS[settings.preset]
    for showing in showings:
        ((encoder, aligned),), ((trial,),) = recordings, showing
        item = reconstruct_bauer2026(encoder, aligned, trial, published, transparency=setup.transparency)
        item.baselines["ridge"] = in_range(setup.decode(recordings, showing))
        yield item


def _decode_linearly(
    setup: Setup, recordings: list[Recording], showings: Sequence[Showing], settings: InversionSettings
) -> Iterator[Reconstruction]:
    for showing in showings:
        video = in_range(setup.decode(recordings, showing))
        yield replace(_reconstruction(recordings, showing, video), info={"penalty": setup.ridges[0].penalty})


def _reconstruction(recordings: list[Recording], showing: Showing, video: np.ndarray) -> Reconstruction:
    """Name a movie as the first recording does: its clip, trials and onset."""
    aligned, trials = recordings[0][1], showing[0]
    row = aligned.trials.loc[trials[0]]
    return Reconstruction(
        clip=str(row["clip"]), trials=trials, video=video, onset=float(row["onset"]), frame_rate=aligned.frame_rate
    )


_MAKERS: dict[str, Callable[..., Iterator[Reconstruction]]] = {
    **dict.fromkeys(INVERTED, _invert),
    "ridge": _decode_linearly,
    **dict.fromkeys(PRESETS, _as_published),
}


class _Keeper:
    """Finished work in a folder; work of other settings, or of another encoder, is not taken up."""

    def __init__(
        self,
        folder: str | Path | None,
        recordings: list[Recording],
        labels: list[int],
        settings: InversionSettings,
    ) -> None:
        self.folder = None if folder is None else Path(folder)
        if self.folder is None:
            return
        key = digest([*([one.digest(), session.digest()] for one, session in recordings), settings, labels, SEARCH])
        patterns = ["setup.json", "setup.safetensors", "trial-*.json", "trial-*.safetensors"]
        keep_work_of(key, self.folder / "key.json", patterns)

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
