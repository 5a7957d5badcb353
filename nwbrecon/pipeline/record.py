"""What has been done in a folder, from which source and with which settings, so that it can be picked up again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from nwbrecon._version import __version__
from nwbrecon.config import Settings
from nwbrecon.errors import SettingsError
from nwbrecon.results.provenance import to_rows
from nwbrecon.session import Session
from nwbrecon.storage import digest, make_folder, read_json, write_json

__all__ = ["RECORD", "STATE", "Record", "source_identity", "source_stamps", "workplace"]

RECORD, STATE = "run.json", "state"

_FORM = 1
_MOST_DIFFERENCES = 8


class Record:
    """The record of a work that is done in steps and may be interrupted between and within them.

    A step is done if the record says so, for the same source and the same settings of all the parts that it rests on,
    and all that it made is still there.

    Parameters
    ----------
    path
        The JSON file that holds it.
    source
        What identifies the source, see `source_identity`.
    settings
        Settings of the whole work.
    """

    def __init__(self, path: Path, source: Mapping[str, Any], settings: Settings) -> None:
        self.path = path
        self.source = dict(source)
        self.settings = settings.model_dump(mode="json")
        self.steps: dict[str, dict[str, Any]] = {}

    @classmethod
    def open(cls, path: Path, source: Mapping[str, Any], settings: Settings, *, overwrite: bool = False) -> Self:
        """Take up the record at `path`, or begin one; nothing is written yet.

        Parameters
        ----------
        path
            The JSON file.
        source, settings
            Of the work that is to be done.
        overwrite
            Do away with what other settings or another source led to. Steps that rest on none of what differs stay
            done; where nothing differs, all is done anew.

        Raises
        ------
        SettingsError
            If the record is of another source or of other settings, and is not to be overwritten.
        """
        record = cls(path, source, settings)
        if not path.exists():
            return record
        before = read_json(path)
        if before.get("form") != _FORM:
            raise SettingsError(
                f"{path} was written by another version of nwbrecon ({before.get('nwbrecon', 'unknown')}).",
                action="Choose another folder.",
            )
        differences = _differences(before, {"source": record.source, "settings": record.settings})
        if differences and not overwrite:
            listed = "; ".join(differences[:_MOST_DIFFERENCES])
            more = len(differences) - _MOST_DIFFERENCES
            raise SettingsError(
                f"{path.parent} holds work of other {'settings' if before['source'] == record.source else 'origin'}: "
                f"{listed}{f'; and {more} more' if more > 0 else ''}.",
                "Work goes on only from the same source with the same settings.",
                "Choose another folder, or overwrite it (--overwrite).",
            )
        if differences or not overwrite:
            record.steps = before["steps"]
        return record

    def done(self, step: str, rests_on: Sequence[str], made: Path) -> bool:
        """Whether a step is done.

        Parameters
        ----------
        step
            Its name.
        rests_on
            The parts of the settings that it depends on, by itself or through the steps before it.
        made
            The file or folder that it makes.
        """
        return self.steps.get(step, {}).get("key") == self.key(rests_on) and made.exists()

    @contextmanager
    def step(self, name: str, rests_on: Sequence[str], made: Path) -> Iterator[None]:
        """Do a step; it is written down as done once the block has ended well."""
        start = time.perf_counter()
        yield
        seconds = round(time.perf_counter() - start, 1)
        self.steps[name] = {"key": self.key(rests_on), "made": made.name, "seconds": seconds}
        self.write()

    def stale(self, steps: Mapping[str, tuple[Sequence[str], Path]]) -> list[Path]:
        """Find what was made with other settings or from another source, and is there still."""
        made = {name: self.path.parent / entry["made"] for name, entry in self.steps.items()}
        return [path for name, path in made.items() if path.exists() and not self.done(name, *steps[name])]

    def key(self, rests_on: Sequence[str]) -> str:
        """Stand for the source and these parts of the settings; other parts may differ."""
        return digest({"source": _lasting(self.source), **{part: self.settings[part] for part in rests_on}})[:16]

    def state_key(self, rests_on: Sequence[str]) -> str:
        """Stand for the same and this version: a half-done step of another version is not gone on with."""
        return digest([self.key(rests_on), __version__])[:16]

    def write(self) -> None:
        """Write the record."""
        write_json(
            self.path,
            {
                "form": _FORM,
                "nwbrecon": __version__,
                "source": self.source,
                "settings": self.settings,
                "steps": self.steps,
            },
        )


@contextmanager
def workplace(folder: Path) -> Iterator[None]:
    """Make a folder and keep others out of it while the block is at work; where that begins nothing, undo it.

    Parameters
    ----------
    folder
        Where the work goes. Something was begun if there is a record in it at the end.

    Raises
    ------
    SettingsError
        If this or another process is at work there already.
    ResultsError
        If the folder cannot be made.
    """
    new = not folder.exists()
    make_folder(folder / STATE)
    with (folder / STATE / "lock").open("w") as file:
        _lock(file, folder)
        try:
            yield
        finally:
            if not (folder / RECORD).exists():
                shutil.rmtree(folder / STATE, ignore_errors=True)
                if new and not any(folder.iterdir()):
                    folder.rmdir()


def _lock(file: Any, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows has other locks
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SettingsError(
            f"Another run is at work in {folder}.", action="Wait until it has ended, or choose another folder."
        ) from error


def source_identity(session: Session, before: Path) -> dict[str, Any]:
    """Tell a source from others, wherever it may have been moved to.

    Parameters
    ----------
    session
        The open session.
    before
        A record of earlier work: the digest of a file whose size and time of change are still the same is taken from
        there, since to make it every byte must be read.

    Returns
    -------
    dict
        Identity as in the session, ``digest`` of its bytes, and size and time of change of each of its files.
    """
    stamps = source_stamps(session)
    identity: dict[str, Any] = {**session.identity, "stamps": stamps}
    if before.exists() and stamps and all(stamps):
        known = read_json(before).get("source", {})
        if known.get("stamps") == stamps and known.get("digest"):
            return {**identity, "digest": known["digest"]}
    return {**identity, "digest": session.source.digest() if session.source is not None else None}


def source_stamps(session: Session) -> list[list[int] | None]:
    """Size (bytes) and time of change (ns) of each file of a source; ``None`` for what is no file on disk."""
    return [_stamp(file) for file in session.source.files] if session.source is not None else []


def _stamp(file: Any) -> list[int] | None:
    path = getattr(file, "path", None)
    # what is in a folder may change without the folder's time
    if not isinstance(path, Path) or not path.is_file():
        return None
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _lasting(source: Mapping[str, Any]) -> dict[str, Any]:
    # a file that was moved or copied is the same source: its digest says so, where it is known
    passing = {"location", "files", *(["stamps"] if source.get("digest") else [])}
    return {name: value for name, value in source.items() if name not in passing}


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    found = []
    for part, kept in (("source", _lasting), ("settings", dict)):
        old, new = (dict(to_rows(kept(content.get(part, {})))) for content in (before, now))
        for name in dict.fromkeys([*old, *new]):
            if old.get(name) != new.get(name):
                found.append(
                    f"{name if part == 'settings' else f'source {name}'} is {old.get(name, 'not set')} there and "
                    f"{new.get(name, 'not set')} here"
                )
    return found
