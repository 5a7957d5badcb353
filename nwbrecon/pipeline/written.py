"""Files that a command wrote, to be shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Written"]


@dataclass
class Written:
    """Files that were written, by what they are.

    Examples
    --------
    >>> print(Written({"recording": Path("a.nwb"), "truth": Path("a.truth.npz")}))
    recording  a.nwb
    truth      a.truth.npz
    """

    files: Mapping[str, Path]

    def to_dict(self) -> dict[str, str]:
        """Give what JSON can hold."""
        return {name: str(path) for name, path in self.files.items()}

    def __str__(self) -> str:
        width = max(map(len, self.files))
        return "\n".join(f"{name:<{width}}  {path}" for name, path in self.files.items())
