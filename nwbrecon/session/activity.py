"""Activity of a response group, for signals that need no deconvolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nwbrecon.config import ResponseSettings
from nwbrecon.errors import SessionError
from nwbrecon.session.model import ResponseGroup, SignalKind

__all__ = ["Activity", "activity"]


@dataclass
class Activity:
    """What an encoder predicts.

    Attributes
    ----------
    values
        ``(sample, roi)`` float32.
    kind
        What they are.
    origin
        How they came from what the file holds, in words.
    """

    values: np.ndarray
    kind: SignalKind
    origin: str


def activity(group: ResponseGroup, settings: ResponseSettings) -> Activity:
    """Activity of a group.

    Raises
    ------
    SessionError
        If the group holds fluorescence.
    """
    if group.kind not in {SignalKind.EVENTS, SignalKind.SPIKES, SignalKind.DFF}:
        raise SessionError(f"{group.name} holds {group.kind}.", "Events, spikes or dF/F were expected.")
    values = np.asarray(group.signal.read(0, group.signal.shape[0]), dtype=np.float32)
    return Activity(values, group.kind, group.signal.path)
