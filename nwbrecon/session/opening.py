"""The verb of this room: from a source to a `Session`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nwbrecon.errors import SessionError
from nwbrecon.session.behavior import find_behavior
from nwbrecon.session.contents import Item, holdings, walk
from nwbrecon.session.frames import FrameAxes
from nwbrecon.session.model import BehaviorSeries, ResponseGroup, ScreenGeometry, Session, Stimulus
from nwbrecon.session.responses import find_responses
from nwbrecon.session.spikes import find_units
from nwbrecon.session.stimulus import find_stimulus
from nwbrecon.session.tables import read_intervals
from nwbrecon.sources import OpenFile, Source, resolve

__all__ = ["open_session"]

AROUND = 5.0
"""Spikes are counted from so long (s) before the first presentation to so long after the last."""
_SUBJECT = ("subject_id", "species", "strain", "genotype", "sex", "age", "date_of_birth", "weight", "description")


def open_session(
    source: Any,
    *,
    signal: str = "auto",
    stimulus: str | None = None,
    frame_axes: FrameAxes = "auto",
    plane_delays: Mapping[str, float] | None = None,
    stimulus_folder: str | Path | None = None,
    screen: ScreenGeometry | None = None,
    dandi_instance: str | None = None,
    incomplete: bool = False,
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
        Which stored signal of the ROIs to use: ``events``, ``dff``, ``corrected``, ``raw``, or the name or path of a
        series. ``auto`` prefers them in this order. ``spikes`` takes the sorted units (``Units.spike_times``, one group
        a probe), which ``auto`` does where there are no ROIs.
    stimulus
        Path or name of what was shown, where the evidence in the file is not enough.
    frame_axes
        Order of the axes of stored movies: ``TYX`` is (frame, row, column). ``auto`` tells frames first from frames
        last.
    plane_delays
        Seconds to add to the clock of each plane, by its name.
    stimulus_folder
        Where movies and pictures are that the file only names: video files, ``.npy`` arrays, pictures, or folders of
        pictures, called as the file calls them.
    screen
        Where the screen stood, where the file does not say it or says it wrongly.
    dandi_instance
        Name or API URL of the DANDI archive, where it is not DANDI itself.
    incomplete
        Give what there is where the file holds no responses or no stimulus; `Session.lacks` then says so.

    Returns
    -------
    Session
        A context manager; it closes the files that it opened.

    Raises
    ------
    SourceError
        If there is nothing to open, or it is not NWB.
    SessionError
        If the file holds no responses or no stimulus, and what it holds in their place (unless `incomplete`).

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
        shown = partial(
            find_stimulus,
            wanted=stimulus,
            axes=frame_axes,
            folder=None if stimulus_folder is None else Path(stimulus_folder).expanduser(),
            screen=screen,
        )
        return _session(resolved, files, signal, shown, dict(plane_delays or {}), incomplete=incomplete)
    except BaseException:
        while closers:
            closers.pop()()
        raise


def _session(
    source: Source,
    files: list[OpenFile],
    signal: str,
    find_shown: Callable[..., Stimulus | None],
    delays: dict[str, float],
    *,
    incomplete: bool,
) -> Session:
    warnings = [*source.notes, *(note for file in files for note in file.notes)]
    contents = [list(walk(file.nwbfile)) for file in files]
    everything = [item for items in contents for item in items]

    if len({file.nwbfile.timestamps_reference_time for file in files}) > 1:
        warnings.append(
            "The files name different moments as time zero; their clocks were taken to be one all the same."
        )

    shown: Stimulus | None = None
    behavior: dict[str, BehaviorSeries] = {}
    for file, items in zip(files, contents, strict=True):
        if shown is None:
            shown = find_shown(items, warn=warnings.append, beside=file.beside)
        if not behavior:
            # each further file repeats what the first has; only the last one's silence is worth a warning
            said: list[str] = []
            behavior = find_behavior(items, said.append)
            if behavior or items is contents[-1]:
                warnings += said
    units = any(item.path == "units" for item in everything)
    groups = {} if signal == "spikes" else _roi_groups(files, contents, signal, warnings)
    if groups and units:
        warnings.append('The sorted units of the file were left out; signal="spikes" takes them in place of the ROIs.')
    if shown is not None and units and not groups:
        groups = _unit_groups(files, contents, shown, warnings)
    missing = []
    if not (groups or (shown is None and units)):
        missing.append(_no_responses(source, everything, warnings))
    if shown is None:
        missing.append(_no_stimulus(source, everything, warnings))
    if missing and not incomplete:
        raise missing[0]
    for name, delay in delays.items():
        if name not in groups:
            raise SessionError(
                f"There is no plane {name} to delay by {delay:g} s.", f"The planes are {', '.join(groups)}."
            )
        groups[name].delay = delay

    invalid = _invalid_times(everything)
    if len(invalid):
        warnings.append(
            f"The file calls {len(invalid)} stretches invalid ({np.diff(invalid).sum():.0f} s); they are neither "
            "learned from nor scored."
        )

    identity = {**files[0].identity, "location": source.location}
    if len(files) > 1:
        identity["files"] = [file.identity for file in files]
    return Session(
        identity=identity,
        subject=_subject(files[0].nwbfile.subject),
        responses=groups,
        stimulus=shown or Stimulus.nothing(),
        behavior=behavior,
        warnings=list(dict.fromkeys(warnings)),
        invalid_times=invalid,
        closers=[file.close for file in files],
        source=source,
        lacks=[str(error) for error in missing],
    )


def _subject(subject: Any) -> dict[str, Any]:
    values = {name: getattr(subject, name, None) for name in _SUBJECT}
    return {
        name: value if isinstance(value, float) else str(value) for name, value in values.items() if value is not None
    }


def _invalid_times(items: list[Item]) -> np.ndarray:
    tables = [read_intervals(item) for item in items if item.is_intervals and item.name == "invalid_times"]
    spans = [table.rows[["start_time", "stop_time"]].to_numpy(dtype=float) for table in tables]
    return np.unique(np.concatenate([np.empty((0, 2)), *spans]), axis=0)


def _roi_groups(
    files: list[OpenFile], contents: list[list[Item]], signal: str, warnings: list[str]
) -> dict[str, ResponseGroup]:
    groups: dict[str, ResponseGroup] = {}
    for file, items in zip(files, contents, strict=True):
        for group in find_responses(items, warnings.append):
            group.name = _unused_name(group, file, groups, several=len(files) > 1)
            groups[group.name] = group.using(signal)
    return groups


def _unit_groups(
    files: list[OpenFile], contents: list[list[Item]], shown: Stimulus, warnings: list[str]
) -> dict[str, ResponseGroup]:
    rows = shown.presentations
    span = float(rows["onset"].min()) - AROUND, float(rows["offset"].max()) + AROUND
    groups: dict[str, ResponseGroup] = {}
    for file, items in zip(files, contents, strict=True):
        for group in find_units(items, span, warnings.append):
            group.name = _unused_name(group, file, groups, several=len(files) > 1)
            groups[group.name] = group
    return groups


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
    return SessionError(
        f"{source.location} holds no responses of ROIs, and no spikes of units.",
        f"A RoiResponseSeries with a clock, or spike times, was expected. {' '.join([holdings(items), *warnings])}",
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
        'If one of these is the stimulus, name it with stimulus="PATH"; if its pixels are outside the file, name their '
        "folder with stimulus_folder.",
    )
