"""Which sessions may share a core, which core a session may take over, and who may teach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nwbrecon.alignment import AlignedSession
from nwbrecon.alignment.together import check_same_clock, show_the_same
from nwbrecon.config import DwiseNeuroSettings, EncoderSettings
from nwbrecon.encoding.ensemble import EncoderEnsemble
from nwbrecon.encoding.trainable import TrainableEncoder
from nwbrecon.errors import EncoderError, SettingsError

__all__ = ["check_core", "check_given", "check_teacher", "check_together", "settings_of_core"]

# what a session may settle for itself: the rest of the architecture is the core's
_OWN = {"readout", "plane_delay", "gaze_shift", "gain", "readout_outputs"}
_PURPOSE = {"train": "training", "validation": "validation", "test": "testing"}


def check_together(sessions: Sequence[AlignedSession]) -> None:
    """Make sure that sessions can share a core.

    Raises
    ------
    EncoderError
        If there are none, they are aligned to different frame rates or sizes, or a clip that one of them learns from
        is set apart in another.
    """
    if not sessions:
        raise EncoderError("No sessions were given.", "An encoder needs at least one.")
    check_same_clock(sessions, EncoderError)
    for index, aligned in enumerate(sessions):
        for other in sessions[:index]:
            of_clip = _splits(other)
            differing = [
                (clip, split, of_clip[clip][0])
                for clip, (split, trial) in _splits(aligned).items()
                # clips of different movies may have one name
                if split != of_clip.get(clip, (split, 0))[0] and show_the_same(aligned, trial, other, of_clip[clip][1])
            ]
            _refuse(differing, "in one of the sessions", "in another")


def check_core(core: EncoderEnsemble, aligned: AlignedSession) -> None:
    """Make sure that a session can take over the core of an encoder.

    Raises
    ------
    EncoderError
        If the core is for another frame rate or size, or learned from a clip that this session sets apart.
    """
    first = core.encoders[0]
    if (first.frame_rate, tuple(first.frame_size)) != (aligned.frame_rate, tuple(aligned.frame_size)):
        found, expected = (
            f"{size[0]}x{size[1]} pixels at {rate:g} Hz"
            for rate, size in (
                (aligned.frame_rate, aligned.frame_size),
                (first.frame_rate, first.frame_size),
            )
        )
        raise EncoderError(
            f"The session is aligned to {found}.",
            f"The core was learned at {expected}.",
            "Align the session to that.",
        )
    for session in core.core_sessions:
        _refuse(_differing(aligned, session["clips"]), "in the session", "in what the core was learned from")


def check_given(encoder: TrainableEncoder, sessions: Sequence[AlignedSession], takes_core: bool) -> None:
    """Make sure that an encoder that was made elsewhere can be trained on a session.

    Raises
    ------
    EncoderError
        If there are several sessions, a core is to be taken over, or the encoder is for another session.
    """
    if len(sessions) > 1 or takes_core:
        raise EncoderError(
            f"An encoder was given to be trained, with {len(sessions)} session(s) and {int(takes_core)} other core(s).",
            "Such an encoder is of one session, and brings its core along.",
            "Give its settings instead.",
        )
    (aligned,) = sessions
    of_both = {
        "ROIs": (encoder.n_rois, aligned.n_rois),
        "frame size": (tuple(encoder.frame_size), tuple(aligned.frame_size)),
        "frame rate": (encoder.frame_rate, aligned.frame_rate),
        "behavior": (encoder.behavior_names, tuple(aligned.behavior_names)),
    }
    differing = {name: values for name, values in of_both.items() if values[0] != values[1]}
    if differing:
        raise EncoderError(
            "The encoder was made for " + ", ".join(f"{name} {values[0]}" for name, values in differing.items()) + ".",
            "The session has " + ", ".join(f"{name} {values[1]}" for name, values in differing.items()) + ".",
            "Make the encoder for this session.",
        )


def check_teacher(teacher: EncoderEnsemble, aligned: AlignedSession, likelihood: str) -> None:
    """Make sure that an encoder can teach one of this session.

    Raises
    ------
    EncoderError
        If it is of other ROIs or another clock, or learned from a clip that the session sets apart.
    SettingsError
        If the likelihood is one that only what was measured has.
    """
    if likelihood == "zig":
        raise SettingsError(
            "training.likelihood is 'zig', and a teacher was given.",
            "What a teacher expects is never zero, and has no place in a distribution of zeros and events.",
            "Use the Poisson likelihood, or train without a teacher.",
        )
    teacher.check_fits(aligned)
    for clips in [teacher.info["clips"], *(session["clips"] for session in teacher.core_sessions)]:
        _refuse(_differing(aligned, clips), "in the session", "in what the teacher learned from")


def settings_of_core(
    settings: EncoderSettings | DwiseNeuroSettings, core: EncoderEnsemble
) -> EncoderSettings | DwiseNeuroSettings:
    """Architecture of an encoder with a core that is taken over.

    Parameters
    ----------
    settings
        What is asked for; defaults count as not asked for.
    core
        Whose core it is.

    Raises
    ------
    SettingsError
        If something else is asked for than what the core has.
    """
    has: EncoderSettings | DwiseNeuroSettings = core.encoders[0].settings
    asked = {name: getattr(settings, name) for name in settings.model_fields_set}
    if asked or not isinstance(settings, EncoderSettings):
        # of two architectures, the name says it all
        asked = {"architecture": settings.architecture} if type(settings) is not type(has) else asked
    for name, value in asked.items():
        if name not in _OWN and value != getattr(has, name):
            raise SettingsError(
                f"encoder.{name} is {value!r}, but that of the core is {getattr(has, name)!r}.",
                "The architecture comes with the core.",
                "Leave the setting out, or train without a given core.",
            )
    return has.model_copy(update=asked)


def _splits(aligned: AlignedSession) -> dict[str, tuple[str, int]]:
    """Split and a trial of each clip that is in one."""
    rows = aligned.trials[aligned.trials["split"] != ""].drop_duplicates("clip")
    return {str(row.clip): (str(row.split), int(row.Index)) for row in rows.itertuples()}


def _differing(aligned: AlignedSession, clips: Mapping[str, Sequence[str]]) -> list[tuple[str, str, str]]:
    """Clips of a session that served for something else, with both purposes."""
    own = _splits(aligned)
    return [
        (clip, own[clip][0], split)
        for split, names in clips.items()
        for clip in names
        if clip in own and own[clip][0] != split
    ]


def _refuse(differing: list[tuple[str, str, str]], here: str, there: str) -> None:
    if not differing:
        return
    (clip, split, other), *more = differing
    raise EncoderError(
        f"Clip {clip!r} is for {_PURPOSE[split]} {here} and for {_PURPOSE[other]} {there}"
        + (f", and {len(more)} more clips differ likewise." if more else "."),
        "Nothing may be learned from what is set apart to validate or test it.",
        "Give the clip one split everywhere (in the file, or in the column split of the trials), or leave it out.",
    )
