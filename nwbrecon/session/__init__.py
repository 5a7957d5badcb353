"""What one recording holds: responses, stimulus and behavior, each on its own clock, lazily."""

from nwbrecon.session.activity import Activity, activity
from nwbrecon.session.model import (
    BehaviorSeries,
    FrameClock,
    FrameStore,
    ResponseGroup,
    ScreenGeometry,
    Session,
    Signal,
    SignalKind,
    Stimulus,
)
from nwbrecon.session.opening import open_session

__all__ = [
    "Activity",
    "BehaviorSeries",
    "FrameClock",
    "FrameStore",
    "ResponseGroup",
    "ScreenGeometry",
    "Session",
    "Signal",
    "SignalKind",
    "Stimulus",
    "activity",
    "open_session",
]
