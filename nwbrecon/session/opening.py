"""The verb of this room: from a source to a `Session`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from nwbrecon.errors import SessionError
from nwbrecon.session.behavior import find_behavior
from nwbrecon.session.contents import Item, holdings, walk
from nwbrecon.session.frames import FrameAxes
from nwbrecon.session.model import BehaviorSeries, ResponseGroup, Session, Stimulus
from nwbrecon.session.responses import find_responses
from nwbrecon.session.stimulus import find_stimulus
from nwbrecon.sources import OpenFile, Source, resolve

__all__ = ["open_session"]

_SUBJECT = ("subject_id", "species", "strain", "genotype", "sex", "age", "date_of_birth", "weight", "description")


def open_session(
    source: Any,
    *,
    signal: Literal["auto", "events", "dff", "corrected", "raw"] = "auto",
    stimulus: str | None = None,
    frame_axes: FrameAxes = "auto",
    plane_delays: Mapping[str, float] | None = None,
    dandi_instance: str | None = None,
) -> Session:
    """Open a recording: find its responses, its stimulus and its behavior, whatever way the file lays them out.

    Clocks, tables and behavioral traces are read; responses, movies and ROI masks stay in the file. (Only where a movie
    of the whole session is cut into trials that the file gives no name, a few of its frames are read, to tell which
    trials show the same clip.)

    Parameters
    ----------
    source
        Path, folder, list of paths, URL, dandiset (``dandi:ID[@VERSION][/PATH]``), open NWBFile, h5py.File or binary
        file; see `nwbrecon.sources.resolve`.
    signal
        Which stored signal of the ROIs to use. ``auto`` prefers events, then dF/F, then corrected, then raw
        fluorescence.
    stimulus
        Path or name of what was shown, where the evidence in the file is not enough.
    frame_axes
        Order of the axes of stored movies: ``TYX`` is (frame, row, column). ``auto`` tells frames first from frames
        last.
    plane_delays
        Seconds to add to the clock of each plane, by its name.
    dandi_instance
        Name or API URL of the DANDI archive, where it is not DANDI itself.

    Returns
    -------
    Session
        A context manager; it closes the files that it opened.

    Raises
    ------
    SourceError
        If there is nothing to open, or it is not NWB.
    SessionError
        If the file holds no responses or no stimulus, and what it holds in their place.

    Examples
    --------
    ::

        with open_session("mouse.nwb") as session:
            print(session)
    """
    resolved: Source = resolve(source, dandi_instance=dandi_instance)
    files = resolved.open()
    closers = [file.close for file in files]
    try:
        return _session(resolved, files, signal, stimulus, frame_axes, dict(plane_delays or {}))
    except BaseException:
        while closers:
            closers.pop()()
        raise


def _session(
    source: Source,
    files: list[OpenFile],
    signal: str,
    wanted: str | None,
    axes: FrameAxes,
    delays: dict[str, float],
) -> Session:
    warnings = [*source.notes, *(note for file in files for note in file.notes)]
    contents = [list(walk(file.nwbfile)) for file in files]
    everything = [item for items in contents for item in items]

    if len({file.nwbfile.timestamps_reference_time for file in files}) > 1:
        warnings.append(
            "The files name different moments as time zero; their clocks were taken to be one all the same."
        )

    groups: dict[str, ResponseGroup] = {}
    for file, items in zip(files, contents, strict=True):
        for group in find_responses(items, warnings.append):
            group.name = _unused_name(group, file, groups, several=len(files) > 1)
            groups[group.name] = group.using(signal)
    if not groups:
        raise _no_responses(source, everything, warnings)
    for name, delay in delays.items():
        if name not in groups:
            raise SessionError(
                f"There is no plane {name} to delay by {delay:g} s.", f"The planes are {', '.join(groups)}."
            )
        groups[name].delay = delay

    shown: Stimulus | None = None
    behavior: dict[str, BehaviorSeries] = {}
    for items in contents:
        if shown is None:
            shown = find_stimulus(items, wanted=wanted, axes=axes, warn=warnings.append)
        if not behavior:
            # each further file repeats what the first has; only the last one's silence is worth a warning
            said: list[str] = []
            behavior = find_behavior(items, said.append)
            if behavior or items is contents[-1]:
                warnings += said
    if shown is None:
        raise _no_stimulus(source, everything, warnings)

    identity = {**files[0].identity, "location": source.location}
    if len(files) > 1:
        identity["files"] = [file.identity for file in files]
    return Session(
        identity=identity,
        subject=_subject(files[0].nwbfile.subject),
        responses=groups,
        stimulus=shown,
        behavior=behavior,
        warnings=list(dict.fromkeys(warnings)),
        closers=[file.close for file in files],
        source=source,
    )


def _subject(subject: Any) -> dict[str, Any]:
    values = {name: getattr(subject, name, None) for name in _SUBJECT}
    return {
        name: value if isinstance(value, float) else str(value) for name, value in values.items() if value is not None
    }


def _unused_name(group: ResponseGroup, file: OpenFile, taken: dict[str, ResponseGroup], *, several: bool) -> str:
    """Find a name of the group that no other has: the plane's, the series', or one with the file's or a number."""
    series = group.signal.path.rpartition("/")[2]
    names = [group.name, f"{group.name} {series}"]
    if several:
        session = str(file.identity["session_id"] or file.identity["identifier"])
        names.insert(0, f"{group.name} {session.rpartition('-acq-')[2]}")
    number = len(taken) + 1
    return next((name for name in names if name not in taken), f"{group.name} {number}")


def _no_responses(source: Source, items: list[Item], warnings: list[str]) -> SessionError:
    spikes = any(item.path == "units" for item in items)
    return SessionError(
        f"{source.location} holds no responses of ROIs"
        + (", only spike times of units, which cannot be read yet." if spikes else "."),
        f"A RoiResponseSeries with a clock was expected. {' '.join([holdings(items), *warnings])}",
        "Give a file with the processed two-photon data of the session"
        + (
            " (a raw movie has to go through segmentation first)."
            if any("TwoPhotonSeries" in i.types for i in items)
            else "."
        ),
    )


def _no_stimulus(source: Source, items: list[Item], warnings: list[str]) -> SessionError:
    reasons = " ".join(sentence for sentence in warnings if "stimulus" in sentence or "template" in sentence)
    return SessionError(
        f"{source.location} holds no stimulus whose frames and times are known.",
        "A movie with its own clock, an IndexSeries into a template, or a table of intervals that names templates was "
        f"expected. {holdings(items)}{' ' + reasons if reasons else ''}",
        'If one of these is the stimulus, name it with stimulus="PATH".',
    )
