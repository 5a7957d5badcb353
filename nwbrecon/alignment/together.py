"""What sessions must agree in to be used together."""

from __future__ import annotations

from collections.abc import Sequence

from nwbrecon.alignment.model import AlignedSession
from nwbrecon.errors import NwbreconError
from nwbrecon.metrics import correlation

__all__ = ["check_same_clock", "show_the_same"]

# two recordings' versions of one clip correlate more than this, whatever has been done to crop and scale them
_SAME = 0.8


def check_same_clock(sessions: Sequence[AlignedSession], error: type[NwbreconError]) -> None:
    """Make sure that sessions have one frame rate and one frame size.

    Parameters
    ----------
    sessions
        The sessions.
    error
        What is raised if not.
    """
    clocks = {(session.frame_rate, tuple(session.frame_size)) for session in sessions}
    if len(clocks) > 1:
        found = " and ".join(f"{size[0]}x{size[1]} pixels at {rate:g} Hz" for rate, size in sorted(clocks))
        raise error(f"The sessions are aligned to {found}.", "They must agree.", "Align them with the same settings.")


def show_the_same(aligned: AlignedSession, trial: int, other: AlignedSession, other_trial: int) -> bool:
    """Whether trials of two sessions, with these labels, show the same movie, however it was cropped and scaled."""
    one, two = aligned.trial(trial).video, other.trial(other_trial).video
    shorter = min(len(one), len(two))
    return bool(correlation(one[:shorter].ravel(), two[:shorter].ravel()) > _SAME)
