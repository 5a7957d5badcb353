"""What a run says while it works: to whoever listens to the logger ``nwbrecon``, and to a file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging.handlers import MemoryHandler
from pathlib import Path

from nwbrecon.alignment import AlignedSession
from nwbrecon.pipeline.verdict import Verdict
from nwbrecon.session import Session

__all__ = ["logged_to", "say_aligned", "say_session", "say_verdict", "warnings_said"]

log = logging.getLogger("nwbrecon")


@contextmanager
def logged_to(path: Path) -> Iterator[Callable[[], None]]:
    """Keep what is said, and, once the given function is called, append it to a file; before, nothing is written.

    An exception that ends the block goes into the file with its traceback.
    """
    buffer = MemoryHandler(capacity=1_000_000, flushLevel=logging.CRITICAL + 1, flushOnClose=False)
    files: list[logging.FileHandler] = []

    def start() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(path, encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%Y-%m-%d %H:%M:%S"))
        files.append(file)
        buffer.setTarget(file)
        buffer.flush()
        log.removeHandler(buffer)
        log.addHandler(file)

    level = log.level
    log.addHandler(buffer)
    log.setLevel(logging.DEBUG)
    try:
        yield start
    except BaseException as error:
        # for the file only: those who listen are told by whoever catches it
        log.debug("%s: %s", type(error).__name__, error, exc_info=True)
        raise
    finally:
        log.setLevel(level)
        log.removeHandler(buffer)
        for file in files:
            log.removeHandler(file)
            file.close()


def say_session(session: Session) -> None:
    """Say what was opened and which of its signals is used."""
    groups = session.responses.values()
    signals = ", ".join(dict.fromkeys(group.kind.value for group in groups))
    log.info(
        "%s: %d ROIs in %d plane%s (%s), %d presentations of %d clips, behavior: %s.",
        session.identity.get("location"),
        session.n_rois,
        len(groups),
        "s" * (len(groups) > 1),
        signals,
        len(session.stimulus.shown),
        session.stimulus.shown["clip"].nunique(),
        ", ".join(session.behavior) or "none, the encoder goes without",
    )


def say_verdict(verdict: Verdict) -> None:
    """Say before any work begins if it will probably be in vain, and why."""
    if verdict.worth != "yes":
        log.warning("%s", verdict)


def say_aligned(aligned: AlignedSession) -> None:
    """Say which signal was made of the responses, which clips serve for what, and what was found wrong."""
    made: dict[str, list[str]] = {}
    for group in aligned.groups:
        # planes are mostly processed alike: what was read differs in its path only
        made.setdefault(group.origin.partition(" (")[2].replace(")", "", 1), []).append(group.name)
    for origin, planes in made.items():
        log.info("Signal of %s: %s", planes[0] + (f" and {len(planes) - 1} more" if planes[1:] else ""), origin)
    for line in aligned.describe_split().splitlines():
        log.info("%s", line)
    latency = aligned.info["latency"]
    if latency["clear"]:
        log.info("The population follows the screen by %.0f ms.", 1000 * latency["seconds"])
    for warning in aligned.warnings:
        log.warning("Warning: %s", warning)


@contextmanager
def warnings_said() -> Iterator[None]:
    """Say Python warnings of the block like any other warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        log.warning("Warning: %s", warning.message)
