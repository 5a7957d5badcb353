"""The verb of this room: train the encoders of one session, or of several that share a core."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import pandas as pd

from nwbrecon._version import __version__
from nwbrecon.alignment import AlignedSession
from nwbrecon.config import DwiseNeuroSettings, EncoderSettings, RunSettings, TrainingSettings, load_settings
from nwbrecon.encoding.adoption import calibrate
from nwbrecon.encoding.ensemble import EncoderEnsemble
from nwbrecon.encoding.observation import samples_seen
from nwbrecon.encoding.sharing import check_core, check_given, check_teacher, check_together, settings_of_core
from nwbrecon.encoding.trainable import TrainableEncoder
from nwbrecon.encoding.training import Trainer
from nwbrecon.errors import EncoderError
from nwbrecon.storage import digest

__all__ = ["train"]

_SPLITS = ("train", "validation", "test")


@overload
def train(
    aligned: AlignedSession,
    encoder: EncoderSettings | DwiseNeuroSettings | TrainableEncoder | str | None = None,
    training: TrainingSettings | None = None,
    *,
    core: EncoderEnsemble | str | Path | None = None,
    teacher: EncoderEnsemble | str | Path | None = None,
    state: str | Path | None = None,
) -> EncoderEnsemble: ...


@overload
def train(
    aligned: Sequence[AlignedSession],
    encoder: EncoderSettings | DwiseNeuroSettings | TrainableEncoder | str | None = None,
    training: TrainingSettings | None = None,
    *,
    core: EncoderEnsemble | str | Path | None = None,
    teacher: EncoderEnsemble | str | Path | None = None,
    state: str | Path | None = None,
) -> list[EncoderEnsemble]: ...


def train(
    aligned: AlignedSession | Sequence[AlignedSession],
    encoder: EncoderSettings | DwiseNeuroSettings | TrainableEncoder | str | None = None,
    training: TrainingSettings | None = None,
    *,
    core: EncoderEnsemble | str | Path | None = None,
    teacher: EncoderEnsemble | str | Path | None = None,
    state: str | Path | None = None,
) -> EncoderEnsemble | list[EncoderEnsemble]:
    """Train an encoder on the training trials of a session, stopped and calibrated by its validation trials.

    Several sessions (of several mice, say) are trained together: their encoders share one core, which learns from all
    of them, and have a readout, a gain and a gaze shift each. Training stops by the mean of their validation
    correlations.

    Parameters
    ----------
    aligned
        The session, or several of one frame rate and size. A clip that several of them saw must serve for the same in
        all.
    encoder
        Architecture: settings, or a name among `nwbrecon.config.ARCHITECTURES` (``factorized``, the default,
        ``dwiseneuro``, ``dwiseneuro-small``). With a core that is taken over, all that concerns it comes from there. Or
        an encoder made for the one session, of modules of one's own, say: copies of it are trained.
    training
        How to train, and how many members. What it does not set takes the default that suits the architecture.
    core
        An encoder of another session, or its folder, whose core is taken over as it is, so that only readout, gain and
        gaze shift are fitted; with ``training.tune_core`` it learns on. Where the encoder has fewer members than are
        asked for, its cores are taken in turns.
    teacher
        An encoder of the same session (of more members, say), or its folder: the new one also learns from what that
        predicts for the stretches it learns from, with ``training.teacher_weight`` (distillation, Hinton et al. 2015,
        arXiv:1503.02531).
    state
        Folder in which the state after each epoch is kept, so that an interrupted training goes on where it was.

    Returns
    -------
    EncoderEnsemble
        Frozen, with its calibration and the verdict of the gate; a list of them, one a session, where several were
        given. Each is complete without the others.

    Raises
    ------
    EncoderError
        If there is too little to train on, or sessions, or core or teacher and session, do not fit together.
    SettingsError
        If the likelihood does not fit the kind of signal, or the architecture asked for is not the core's.
    """
    sessions = [aligned] if isinstance(aligned, AlignedSession) else list(aligned)
    if isinstance(encoder, str):
        encoder = load_settings(RunSettings, encoder=encoder).encoder
    check_together(sessions)
    if isinstance(encoder, TrainableEncoder):
        check_given(encoder, sessions, core is not None)
    settings = encoder.settings if isinstance(encoder, TrainableEncoder) else encoder or EncoderSettings()
    donor, taught_by = (EncoderEnsemble.load(one) if isinstance(one, str | Path) else one for one in (core, teacher))
    if donor is not None:
        encoder = settings = settings_of_core(settings, donor)
        for session in sessions:
            check_core(donor, session)
    training = (training or TrainingSettings()).suited_to(settings)
    if taught_by is not None:
        if len(sessions) > 1:
            raise EncoderError(
                f"A teacher and {len(sessions)} sessions were given.",
                "A teacher teaches an encoder of its own session.",
                "Train the sessions one by one, or without a teacher.",
            )
        check_teacher(taught_by, sessions[0], training.likelihood)
    trainers, members = [], []
    for index in range(training.members):
        trainer = Trainer(
            sessions,
            settings if encoder is None else encoder,
            training,
            seed=training.seed + index,
            state=None if state is None else Path(state) / f"member-{index}",
            core=None if donor is None else donor.encoders[index % len(donor.encoders)],
            teacher=taught_by,
        )
        members.append(trainer.run())
        trainers.append(trainer)
    origin = _origin(sessions, donor, tuned=training.tune_core)
    if taught_by is not None:
        origin |= {"teacher": taught_by.digest()}
    ensembles = [
        _ensemble(session, [trained[index] for trained in members], trainers, index, origin)
        for index, session in enumerate(sessions)
    ]
    return ensembles[0] if isinstance(aligned, AlignedSession) else ensembles


def _ensemble(
    aligned: AlignedSession,
    members: list[TrainableEncoder],
    trainers: list[Trainer],
    index: int,
    origin: dict[str, Any],
) -> EncoderEnsemble:
    """Put the members of a session together and calibrate them."""
    validation = aligned.trials_in("validation")
    uncalibrated = EncoderEnsemble(
        members,
        rois=aligned.rois,
        kinds=[group.kind for group in aligned.groups],
        dispersion=np.ones(aligned.n_rois),
        linear_scores=np.mean([trainer.roi_scores[index] for trainer in trainers], axis=0),
        validation_scores=np.zeros(aligned.n_rois),
        gate={},
        history=pd.concat(
            [trainer.table(index).assign(member=member) for member, trainer in enumerate(trainers)], ignore_index=True
        ),
        info={
            "version": __version__,
            "training": trainers[0].settings.model_dump(mode="json"),
            "session": aligned.identity,
            "alignment": dict(aligned.settings),
            "training_data": _data_digest(aligned, [*aligned.trials_in("train"), *validation]),
            "clips": _clips(aligned),
            **origin,
        },
        likelihoods=trainers[0].batches[index].likelihoods,
    )
    return calibrate(uncalibrated, aligned)


def _origin(sessions: Sequence[AlignedSession], donor: EncoderEnsemble | None, *, tuned: bool) -> dict[str, Any]:
    """Tell where the core is from, unless it is the session's own."""
    if donor is None and len(sessions) == 1:
        return {}
    learned = [] if donor is None else list(donor.core_sessions)
    if donor is None or tuned:
        learned += [{"session": aligned.identity, "clips": _clips(aligned)} for aligned in sessions]
    return {"core": {"encoder": None if donor is None else donor.digest(), "sessions": learned}}


def _clips(aligned: AlignedSession) -> dict[str, list[str]]:
    return {split: sorted(set(aligned.trials.loc[aligned.trials_in(split), "clip"])) for split in _SPLITS}


def _data_digest(aligned: AlignedSession, trials: Sequence[int]) -> str:
    """SHA-256 of all that can be learned from these trials: movies, behavior, responses and when they were."""
    hashes = []
    for label in trials:
        trial = aligned.trial(label)
        onset, stop = trial.times[0], trial.times[0] + len(trial.times) / aligned.frame_rate
        parts = [trial.video, trial.behavior, trial.valid]
        for group in aligned.groups:
            seen = samples_seen(group, onset, stop)
            parts += [group.timestamps[seen] - onset, group.activity[seen]]
        hashes.append([digest(np.ascontiguousarray(part).tobytes()) for part in parts])
    return digest(hashes)
