"""What is kept of remote recordings on this computer, to be shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nwbrecon.session.describe import text_table
from nwbrecon.sources import CacheEntry

__all__ = ["Cached", "Cleared", "Fetched"]


@dataclass
class Cached:
    """Remote files of which something is kept."""

    entries: Sequence[CacheEntry]

    def to_dict(self) -> dict[str, Any]:
        """Give what JSON can hold."""
        return {
            "files": [
                {
                    "location": entry.location,
                    "size": entry.size,
                    "cached": entry.cached,
                    "whole": entry.whole,
                    "last_used": entry.last_used.isoformat(timespec="seconds"),
                }
                for entry in self.entries
            ],
            "cached": sum(entry.cached for entry in self.entries),
        }

    def __str__(self) -> str:
        if not self.entries:
            return "The cache is empty."
        rows = [
            (
                entry.location,
                "whole" if entry.whole else f"{_megabytes(entry.cached)} of {_megabytes(entry.size)}",
                f"{entry.last_used:%Y-%m-%d}",
            )
            for entry in self.entries
        ]
        total = _megabytes(sum(entry.cached for entry in self.entries))
        return "\n".join([*text_table([("file", "kept", "last used"), *rows])[1:], f"{total} in all"])


@dataclass
class Cleared:
    """How much was deleted (bytes)."""

    freed: int

    def to_dict(self) -> dict[str, Any]:
        """Give what JSON can hold."""
        return {"freed": self.freed}

    def __str__(self) -> str:
        return f"{_megabytes(self.freed)} were freed."


@dataclass
class Fetched:
    """Files that are on this computer now."""

    paths: Sequence[Path]

    def to_dict(self) -> dict[str, Any]:
        """Give what JSON can hold."""
        return {"files": [str(path) for path in self.paths]}

    def __str__(self) -> str:
        return "\n".join(map(str, self.paths))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
