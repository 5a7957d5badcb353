"""One clock for responses, stimulus and behavior; trials and splits."""

from nwbrecon.alignment.model import AlignedGroup, AlignedSession, AlignedTrial

__all__ = ["AlignedGroup", "AlignedSession", "AlignedTrial"]
