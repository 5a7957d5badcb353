"""The trials table: one row a showing of a clip; long movies are cut into scenes where there is no other way."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd

from nwbrecon.config import AlignmentSettings
from nwbrecon.errors import AlignmentError
from nwbrecon.session.model import FrameClock, Stimulus

__all__ = ["make_trials", "presentation_clocks"]

KINDS = ("movie", "image", "noise", "grating")
MOST_LISTED = 12

MIN_CLIPS = 6
"""With fewer clips than this, holding some out whole would leave too little, and movies are cut into scenes."""

TOLERANCE = 0.1
"""Share of a frame by which a showing may end early and still count it: monitors' clocks jitter."""


def presentation_clocks(stimulus: Stimulus, settings: AlignmentSettings) -> tuple[dict[int, FrameClock], list[str]]:
    """Clocks of the presentations that are of use, by row label, in time order.

    Parameters
    ----------
    stimulus
        What was shown.
    settings
        ``stimuli`` and ``min_clip_seconds`` say what is of use; ``monitor_delay_seconds`` is added to the clocks.

    Returns
    -------
    clocks : dict
        Clock by row label of ``stimulus.presentations``.
    warnings : list of str
        What was left out, in sentences.

    Raises
    ------
    AlignmentError
        If nothing is left.
    """
    presentations = stimulus.presentations.sort_values("onset", kind="stable")
    warnings = []
    clocks = {}
    short = overlapping = broken = 0
    free_from = -np.inf
    wanted = _wanted(stimulus, settings.stimuli).loc[presentations.index]
    for label in presentations.index[wanted]:
        clock = _on_screen(stimulus.clocks(int(label)), settings.monitor_delay_seconds)
        steps = np.diff(np.append(clock.onsets, clock.end))
        if len(clock.onsets) != len(clock.frames) or not (np.isfinite(steps) & (steps > 0)).all():
            broken += 1
        elif len(clock.onsets) < 2 or clock.end - clock.onsets[0] < settings.min_clip_seconds:
            short += 1
        elif clock.onsets[0] < free_from:
            overlapping += 1
        else:
            clocks[int(label)] = clock
            # clocks may disagree by a fraction of a frame about where one clip ends and the next begins
            free_from = clock.end - 0.5 / settings.frame_rate
    # that nothing was shown in between goes without saying
    unused = ~wanted & (presentations["kind"] != "gray")
    others = presentations.loc[unused, "kind"].value_counts()
    if short:
        warnings.append(f"{short} presentations shorter than {settings.min_clip_seconds:g} s were left out.")
    if broken:
        warnings.append(f"{broken} presentations whose frame times do not increase, or lack, were left out.")
    if overlapping:
        warnings.append(f"{overlapping} presentations that begin before the one before has ended were left out.")
    if len(others):
        found = ", ".join(f"{count} of kind {kind}" for kind, count in others.items())
        warnings.append(f"Presentations other than {' and '.join(settings.stimuli)} were left out: {found}.")
    if not clocks:
        raise AlignmentError(
            f"None of the {len(presentations)} stimulus presentations can be used. {' '.join(warnings)}".rstrip(),
            f"Alignment needs presentations of {' or '.join(settings.stimuli)} of at least "
            f"{settings.min_clip_seconds:g} s.",
            "Change the settings stimuli or min_clip_seconds, or give a recording with movies.",
        )
    return clocks, warnings


def _on_screen(clock: FrameClock, delay: float) -> FrameClock:
    return replace(clock, onsets=clock.onsets + delay, end=clock.end + delay) if delay else clock


def _wanted(stimulus: Stimulus, names: Sequence[str]) -> pd.Series:
    """Which presentations are of these kinds, or of stimuli, films or clips of these names."""
    rows = stimulus.presentations
    stores = rows["store"].map(lambda key: stimulus.stores[key].name)
    shown = rows["kind"] != "gray"
    wanted = pd.Series(False, index=rows.index)
    for name in names:
        pattern = re.compile(fnmatch.translate(name))
        matches = shown & (rows["kind"] == name)
        for column in (stores, rows["film"], rows["clip"]):
            matches |= shown & column.map(lambda text, pattern=pattern: pattern.match(str(text)) is not None)
        if not matches.any() and name not in KINDS:
            raise AlignmentError(
                f"No stimulus is called {name}.",
                f"Shown were {_listed(rows.loc[shown, 'kind'])}: {_listed(stores[shown])}"
                + (f"; films {films}" if (films := _listed(rows.loc[shown, "film"])) else "")
                + ".",
                "Name a kind, a stimulus, a film or a clip; * stands for anything.",
            )
        wanted |= matches
    return wanted


def _listed(names: pd.Series) -> str:
    unique = [str(name) for name in names.unique() if name]
    return ", ".join(unique[:MOST_LISTED]) + (" and others" if len(unique) > MOST_LISTED else "")


def make_trials(
    presentations: pd.DataFrame, clocks: Mapping[int, FrameClock], settings: AlignmentSettings
) -> pd.DataFrame:
    """One row a trial, in time order, ``split`` as the file states it.

    A trial is a presentation. Where there are fewer than six clips and the file states no split, movies of
    1.5 ``scene_seconds`` and longer are cut into scenes, each a clip of its own, at the same frames in every showing,
    so that whole contiguous scenes can be held out. Scenes are shorter than ``scene_seconds`` where there would be
    fewer than six otherwise.

    Parameters
    ----------
    presentations
        As `nwbrecon.session.model.Stimulus` has it.
    clocks
        Clocks of the presentations to use, by row label, in time order.
    settings
        Frame rate, length of scenes, shortest clip.

    Returns
    -------
    pandas.DataFrame
        ``clip``, ``film``, ``kind``, ``repeat``, ``onset`` (s), ``n_frames``, ``split``, ``presentation``,
        ``source_start`` and ``source_stop`` (positions among the presentation's frames), ``movie`` (what a scene was
        cut from, else empty), ``movie_start`` and ``movie_stop`` (seconds in it).
    """
    used = presentations.loc[list(clocks)]
    stated = used["split"].isin(["train", "validation", "test"]).any()
    cuts = {} if stated or used["clip"].nunique() >= MIN_CLIPS else _scene_cuts(used["clip"], clocks, settings)
    rows = []
    for label, clock in clocks.items():
        edges = np.append(clock.onsets, clock.end)
        clip = str(used.at[label, "clip"])
        for start, end in pairwise(cuts.get(clip, np.array([0, len(clock.onsets)]))):
            stop = min(end, len(clock.onsets))
            if stop <= start:
                continue
            n_frames = int((edges[stop] - edges[start]) * settings.frame_rate + TOLERANCE)
            # what is left of a scene in a showing that was broken off; scenes differ in length by a frame
            if n_frames < 0.9 * settings.min_clip_seconds * settings.frame_rate:
                continue
            rows.append(
                {
                    "clip": f"{clip}[{start}:{end}]" if clip in cuts else clip,
                    "film": str(used.at[label, "film"]),
                    "kind": str(used.at[label, "kind"]),
                    "onset": float(edges[start]),
                    "n_frames": n_frames,
                    "split": str(used.at[label, "split"]) if stated else "",
                    "presentation": label,
                    "source_start": int(start),
                    "source_stop": int(stop),
                    "movie": clip if clip in cuts else "",
                    "movie_start": float(edges[start] - edges[0]) if clip in cuts else np.nan,
                    "movie_stop": float(edges[stop] - edges[0]) if clip in cuts else np.nan,
                }
            )
    trials = pd.DataFrame(rows).sort_values("onset", kind="stable", ignore_index=True)
    trials.insert(3, "repeat", trials.groupby("clip").cumcount())
    trials["n_frames"] = trials.groupby("clip")["n_frames"].transform(_common_length)
    return trials


def _scene_cuts(
    clips: pd.Series, clocks: Mapping[int, FrameClock], settings: AlignmentSettings
) -> dict[str, np.ndarray]:
    # the longest showing is the whole movie; others may have been cut off
    whole: dict[str, FrameClock] = {}
    for label, clip in clips.items():
        if clip not in whole or len(clocks[label].onsets) > len(whole[clip].onsets):
            whole[clip] = clocks[label]
    lengths = {clip: clock.end - clock.onsets[0] for clip, clock in whole.items()}
    total = sum(lengths.values())
    seconds = max(min(settings.scene_seconds, total / MIN_CLIPS), settings.min_clip_seconds)
    cuts = {}
    for clip, clock in whole.items():
        n_scenes = min(int(lengths[clip] / seconds + 0.5), int(lengths[clip] / settings.min_clip_seconds))
        if n_scenes > 1 and lengths[clip] >= 1.5 * settings.scene_seconds:
            cuts[str(clip)] = np.linspace(0, len(clock.onsets), n_scenes + 1).round().astype(int)
    return cuts


def _common_length(lengths: pd.Series) -> pd.Series:
    # repeats that differ by a frame or two of jitter are brought to one length so that they can be compared frame by
    # frame; one that was really cut off keeps its own
    usual = lengths.median()
    alike = (lengths - usual).abs() <= 2
    return lengths.where(~alike, lengths[alike].min() if alike.any() else 0)
