"""Which clips are for training, validation and testing: by clip, film and content, never by frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from nwbrecon.config import AlignmentSettings
from nwbrecon.errors import AlignmentError

__all__ = ["Split", "choose_split", "guard", "near_duplicates"]

PRIORITY = {"test": 2, "validation": 1, "train": 0}
"""Where two splits meet, the one that comes lower here gives way."""

LEAST_CONTRAST = 0.5
"""Standard deviation (grey levels) below which a frame is blank."""

MIN_TRAINING_SHARE = 0.5
"""Share of the unique movie that should be left for training."""


@dataclass
class Split:
    """Which clip serves for what, and why.

    Attributes
    ----------
    of_clip
        ``train``, ``validation`` or ``test``, by clip.
    reason
        How the test and validation clips were chosen, in a sentence or two.
    warnings
        What the user should know, in sentences.
    """

    of_clip: dict[str, str]
    reason: str
    warnings: list[str]


def near_duplicates(thumbnails: Mapping[str, np.ndarray], threshold: float) -> list[tuple[str, str]]:
    """Pairs of clips that show nearly the same, wherever in the clip it comes.

    Two frames are alike if, each with its mean taken away, they correlate more than `threshold`; two clips are alike if
    at least half of the thumbnails of one are each like some thumbnail of the other, so that a clip that overlaps
    another is found as well as a copy. Frames without contrast are like nothing.

    Parameters
    ----------
    thumbnails
        ``(thumbnail, height, width)`` small frames by clip, all of one size.
    threshold
        Correlation, up to 1, which finds nothing.

    Returns
    -------
    list of tuple
        Pairs of keys, in the order of `thumbnails`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> a, b = rng.normal(size=(2, 5, 6, 8))
    >>> near_duplicates({"a": a, "b": b, "brighter a": a + 9}, 0.95)
    [('a', 'brighter a')]
    """
    unit = {}
    for name, frames in thumbnails.items():
        flat = np.asarray(frames, dtype=np.float32).reshape(len(frames), -1)
        flat = flat - flat.mean(axis=1, keepdims=True)
        length = np.linalg.norm(flat, axis=1)
        seen = length > LEAST_CONTRAST * np.sqrt(flat.shape[1])
        if seen.any():
            unit[name] = flat[seen] / length[seen, None]
    names = list(unit)
    sizes = np.array([len(frames) for frames in unit.values()])
    stacked = np.concatenate(list(unit.values())) if unit else np.zeros((0, 0))
    firsts = np.cumsum(sizes) - sizes
    pairs: list[tuple[str, str]] = []
    for index, name in enumerate(names[:-1]):
        others = slice(index + 1, None)
        later = firsts[others]
        alike = unit[name] @ stacked[later[0] :].T > threshold
        bounds = later - later[0]
        here = np.logical_or.reduceat(alike, bounds, axis=1).mean(axis=0)
        there = np.add.reduceat(alike.any(axis=0), bounds, dtype=float) / sizes[others]
        pairs.extend((name, names[index + 1 + other]) for other in np.flatnonzero(np.maximum(here, there) >= 0.5))
    return pairs


def choose_split(
    trials: pd.DataFrame, frame_rate: float, duplicates: Sequence[tuple[str, str]], settings: AlignmentSettings
) -> Split:
    """Choose test and validation clips.

    A split that the file states wins. Otherwise the clips with the most showings (``min_test_repeats`` at least) serve
    for testing, up to ``test_share`` of the unique movie; scenes of a longer movie are taken from its end, so that they
    are contiguous. Validation clips are drawn from the rest (scenes, again, from the end). Clips of one film and clips
    with nearly the same content stay together; should the films leave too little for training, content alone decides,
    with a warning.

    Parameters
    ----------
    trials
        ``clip``, ``film``, ``movie``, ``movie_stop``, ``n_frames``, ``onset`` and ``split`` (as the file states it).
    frame_rate
        Frames per second (Hz).
    duplicates
        Pairs of clips that must stay together.
    settings
        Shares, least number of showings, seed.

    Raises
    ------
    AlignmentError
        If nothing would be left to train on.
    """
    clips = _clip_table(trials, frame_rate)
    if (clips["stated"] != "").any():
        return _stated_split(clips, duplicates, settings)
    attempts = [(_film_pairs(clips), "")]
    if attempts[0][0]:
        attempts.append(
            (
                [],
                "The clips come from so few films that keeping each film in one split would leave too little for "
                "training; only clips of nearly the same content were kept together.",
            )
        )
    for films, warning in attempts:
        groups = _groups(clips, [*duplicates, *films])
        split = _split_groups(clips, groups, settings)
        left = sum(seconds for clip, seconds in clips["seconds"].items() if split.of_clip[str(clip)] == "train")
        share = left / clips["seconds"].sum()
        if share >= MIN_TRAINING_SHARE or (share > 0 and not films):
            split.warnings[:0] = [warning] if warning else []
            if share < MIN_TRAINING_SHARE:
                split.warnings.append(f"Only {share:.0%} of the unique movie ({left:.0f} s) is left for training.")
            return split
    if len(clips) == 1:
        raise AlignmentError(
            f"There is only one clip, {clips.index[0]}, of {clips['seconds'].iloc[0]:.0f} s, and without it nothing "
            "would be left to train on.",
            "At least two clips are needed, or one long enough to be cut into scenes.",
            "Give a recording with more movies, or set scene_seconds lower.",
        )
    raise AlignmentError(
        f"The {len(clips)} clips ({clips['seconds'].sum():.0f} s of unique movie) are all of nearly the same content, "
        "so that holding some out for testing would leave nothing different to train on.",
        "At least two clips or scenes of different content are needed.",
        "Give a recording with more movies, or set duplicate_correlation to 1 if the clips do differ.",
    )


def guard(trials: pd.DataFrame, frame_rate: float, seconds: float) -> np.ndarray:
    """Frames that lie too near to another split.

    Calcium outlasts what evoked it, and neighboring frames of a movie look alike. So a training frame is dropped within
    `seconds` of a validation or test trial, on the session clock and, for scenes cut from one movie, in the movie's own
    time; a validation frame within `seconds` of a test trial. Test trials lose nothing.

    Parameters
    ----------
    trials
        ``onset``, ``n_frames`` and ``split``, and for scenes ``movie``, ``movie_start``, ``movie_stop`` (s).
    frame_rate
        Frames per second (Hz).
    seconds
        Guard time (s).

    Returns
    -------
    numpy.ndarray
        ``(time,)`` bool, trials one after the other: True where the frame must not be used.
    """
    lengths = trials["n_frames"].to_numpy()
    row = np.repeat(np.arange(len(trials)), lengths)
    within = (np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)) / frame_rate
    rank = trials["split"].map(PRIORITY).fillna(-1).to_numpy()
    near = np.zeros(len(row), dtype=bool)
    clocks = [(trials["onset"].to_numpy(), np.zeros(len(trials), dtype=int))]
    if "movie" in trials:
        codes = pd.factorize(trials["movie"].where(trials["movie"] != ""))[0]
        clocks.append((trials["movie_start"].to_numpy(), codes))
    for begin, place in clocks:
        end = begin + lengths / frame_rate
        for split in ("validation", "test"):
            for where in np.unique(place[(rank == PRIORITY[split]) & (place >= 0)]):
                spans = (rank == PRIORITY[split]) & (place == where)
                mine = (rank[row] >= 0) & (rank[row] < PRIORITY[split]) & (place[row] == where)
                start = begin[row[mine]] + within[mine]
                near[mine] |= _within(start, start + 1 / frame_rate, begin[spans] - seconds, end[spans] + seconds)
    return near


def _within(starts: np.ndarray, stops: np.ndarray, lows: np.ndarray, highs: np.ndarray) -> np.ndarray:
    # a bin meets a span if more spans have begun before its end than have ended before its start
    slack = 1e-6
    begun = np.searchsorted(np.sort(lows), stops - slack, side="left")
    ended = np.searchsorted(np.sort(highs), starts + slack, side="right")
    return begun > ended


def _clip_table(trials: pd.DataFrame, frame_rate: float) -> pd.DataFrame:
    by_clip = trials.groupby("clip", sort=False)
    clips = pd.DataFrame(
        {
            "seconds": by_clip["n_frames"].max() / frame_rate,
            "showings": by_clip.size(),
            "film": by_clip["film"].first(),
            "movie": by_clip["movie"].first(),
            "end": by_clip["movie_stop"].max(),
            "first": by_clip["onset"].min(),
        }
    )
    # a clip that is test in one showing is test in all
    clips["stated"] = by_clip["split"].agg(lambda stated: max(stated, key=lambda name: PRIORITY.get(name, -1)))
    clips["contradicted"] = by_clip["split"].nunique() > 1
    # how far into its movie a scene ends, 1 at the end; 0 for a clip that is whole
    clips["place"] = (clips["end"] / clips.groupby("movie")["end"].transform("max")).where(clips["movie"] != "", 0.0)
    return clips


def _film_pairs(clips: pd.DataFrame) -> list[tuple[str, str]]:
    named = clips[(clips["film"] != "") & (clips["movie"] == "")]
    return [(members.index[0], other) for _, members in named.groupby("film") for other in members.index[1:]]


def _groups(clips: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> pd.Series:
    places = {clip: place for place, clip in enumerate(clips.index)}
    rows, columns = [places[a] for a, _ in pairs], [places[b] for _, b in pairs]
    links = sparse.coo_array((np.ones(len(pairs)), (rows, columns)), shape=(len(clips), len(clips)))
    return pd.Series(sparse.csgraph.connected_components(links, directed=False)[1], index=clips.index)


def _split_groups(clips: pd.DataFrame, groups: pd.Series, settings: AlignmentSettings) -> Split:
    table = clips.assign(group=groups).groupby("group").agg(
        seconds=("seconds", "sum"), showings=("showings", "max"), place=("place", "max"), first=("first", "min")
    )  # fmt: skip
    total = table["seconds"].sum()
    warnings = []
    test: list[int] = []
    if settings.test_share > 0:
        floor = min(settings.min_test_repeats, int(table["showings"].max()))
        if floor < settings.min_test_repeats:
            shown = "once" if floor == 1 else f"{floor} times"
            warnings.append(
                f"No clip was shown {settings.min_test_repeats} times or more; the test clips were shown {shown}, so "
                "reliability across repeats is known poorly or not at all."
            )
        eligible = table[table["showings"] >= floor].sort_values(
            ["showings", "place", "first"], ascending=[False, False, True], kind="stable"
        )
        test = _take(eligible["seconds"], settings.test_share * total, 1)
    rest = table.drop(index=test)
    validation = _draw_validation(rest, settings)
    role = pd.Series("train", index=table.index)
    role[validation], role[test] = "validation", "test"
    of_clip = {str(clip): str(role[group]) for clip, group in groups.items()}
    scenes = bool((clips["movie"] != "").any())
    what = "contiguous scenes from the end of each movie, most shown first" if scenes else "the clips shown most often"
    reason = (
        f"Test: {what}, at most {settings.test_share:.0%} of the unique movie. "
        f"Validation: {'scenes before those' if scenes else 'drawn'} from the rest (seed {settings.seed}). "
        "Clips of one film or of nearly the same content stay together."
    )
    return Split(of_clip, reason, warnings)


def _draw_validation(rest: pd.DataFrame, settings: AlignmentSettings) -> list[int]:
    if settings.validation_share == 0 or len(rest) < 2:
        return []
    rng = np.random.default_rng(settings.seed)
    chance = pd.Series(rng.random(len(rest)), index=rest.index)
    order = rest.assign(order=rest["place"].where(rest["place"] > 0, chance)).sort_values("order", ascending=False)
    return _take(order["seconds"], settings.validation_share * rest["seconds"].sum(), 2 if len(rest) >= 6 else 1)


def _take(seconds: pd.Series, budget: float, at_least: int) -> list[int]:
    # in the order given, whatever still fits; then the smallest, if that was too little
    taken: list[int] = []
    used = 0.0
    for group, length in seconds.items():
        if used + length <= budget * (1 + 1e-9):
            taken.append(int(group))
            used += length
    spare = seconds.drop(index=taken).sort_values(kind="stable").index
    return [*taken, *(int(group) for group in spare[: max(0, at_least - len(taken))])]


def _stated_split(clips: pd.DataFrame, duplicates: Sequence[tuple[str, str]], settings: AlignmentSettings) -> Split:
    of_clip = {str(clip): stated or "train" for clip, stated in clips["stated"].items()}
    warnings = []
    reason = "As the file states it."
    contradicted = clips.index[clips["contradicted"]]
    if len(contradicted):
        warnings.append(
            f"The file puts showings of the same clip in different splits ({', '.join(contradicted[:5])}): test was "
            "taken to outweigh validation, and validation training."
        )
    if "test" not in of_clip.values():
        warnings.append("The file states a split without test clips.")
    if "validation" not in of_clip.values():
        training = clips[[of_clip[str(clip)] == "train" for clip in clips.index]]
        groups = _groups(training, [pair for pair in duplicates if set(pair) <= set(training.index)])
        table = training.assign(group=groups).groupby("group").agg(seconds=("seconds", "sum"), place=("place", "max"))
        drawn = set(_draw_validation(table, settings))
        of_clip |= {str(clip): "validation" for clip, group in groups.items() if group in drawn}
        reason += f" Validation: drawn from its training clips (seed {settings.seed})."
    leaks = [pair for pair in duplicates if of_clip[pair[0]] != of_clip[pair[1]]]
    if leaks:
        listed = ", ".join(f"{a} ({of_clip[a]}) and {b} ({of_clip[b]})" for a, b in leaks[:5])
        warnings.append(
            f"{len(leaks)} pairs of clips with nearly the same content are in different splits in the file: {listed}. "
            "Scores on them flatter."
        )
    if "train" not in of_clip.values():
        raise AlignmentError(
            f"The file states a split of its {len(clips)} clips that leaves none for training.",
            "At least one clip must be for training.",
            "Correct the file's split column, or remove it to have the split chosen.",
        )
    return Split(of_clip, reason, warnings)
