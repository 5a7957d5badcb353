"""What one recording holds: responses, stimulus and behavior, each on its own clock, lazily."""

from nwbrecon.session.model import (
    BehaviorSeries,
    FrameClock,
    FrameStore,
    ResponseGroup,
    Session,
    Signal,
    SignalKind,
    Stimulus,
)

__all__ = [
    "BehaviorSeries",
    "FrameClock",
    "FrameStore",
    "ResponseGroup",
    "Session",
    "Signal",
    "SignalKind",
    "Stimulus",
]
