"""The movie on the common clock and at the common size."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import pandas as pd

from nwbrecon.alignment.resample import held_weights, overlaps
from nwbrecon.config import Fit
from nwbrecon.progress import progress
from nwbrecon.session.frames import MID_GRAY
from nwbrecon.session.model import FrameClock, FrameStore, Stimulus

__all__ = ["clip_video", "fill_video", "scale_frames", "shape_warnings"]

CHUNK_BYTES = 2**26
SAME_CLOCK = 0.25
"""Showings whose frames appeared within this share of a frame of each other have the same video."""

DISTORTION = 0.03
"""A picture that becomes this much wider or narrower, or loses or gains this share, is worth a warning."""


def scale_frames(frames: np.ndarray, size: tuple[int, int], fit: Fit = "squeeze") -> np.ndarray:
    """Scale frames so that each new pixel is the average of the area that it covers.

    The average over the area (a box filter) is what keeps detail finer than the new pixels from folding into coarser
    stripes. It never leaves the range of the old pixels and, but for what is cut off or added, keeps the frame's mean.

    Parameters
    ----------
    frames
        ``(time, height, width)`` grey levels.
    size
        New ``(height, width)`` in pixels, smaller or larger.
    fit
        What happens to frames of another shape: ``squeeze`` makes them narrower or lower; ``crop`` cuts as much off
        both sides, or off top and bottom; ``letterbox`` adds mid-grey bars there.

    Returns
    -------
    numpy.ndarray
        ``(time, height, width)`` float32.

    Examples
    --------
    >>> frame = np.array([[[0, 2, 4, 6]]])
    >>> scale_frames(frame, (1, 2))
    array([[[1., 5.]]], dtype=float32)
    >>> scale_frames(frame, (1, 2), "crop")
    array([[[2., 4.]]], dtype=float32)
    >>> scale_frames(frame, (4, 4), "letterbox")[0, :, 0]
    array([127.5 ,  63.75,  63.75, 127.5 ], dtype=float32)
    """
    scaled = np.asarray(frames, dtype=np.float32)
    old = height, width = scaled.shape[1], scaled.shape[2]
    seen = _seen(old, size, fit)
    filled = np.ones(size, dtype=np.float32)
    if (size[0], seen[0]) != (height, height):
        weights = _area_weights(height, size[0], seen[0])
        scaled = weights @ scaled
        filled *= weights.sum(axis=1)[:, None]
    if (size[1], seen[1]) != (width, width):
        weights = _area_weights(width, size[1], seen[1])
        scaled = scaled @ weights.T
        filled *= weights.sum(axis=1)
    return scaled + np.float32(MID_GRAY) * (1 - filled) if fit == "letterbox" else scaled


def shape_warnings(stimulus: Stimulus, trials: pd.DataFrame, size: tuple[int, int], fit: Fit) -> list[str]:
    """Say what is done to pictures of another shape, one sentence for each size of movie."""
    stores = stimulus.presentations.loc[trials["presentation"].unique(), "store"].unique()
    sizes = dict.fromkeys((stimulus.stores[name].height, stimulus.stores[name].width) for name in stores)
    return [
        f"Movies of {old[0]}x{old[1]} pixels were scaled to {size[0]}x{size[1]}, {words}."
        for old in sizes
        if (words := _change(old, size, fit))
    ]


def _seen(old: tuple[int, int], size: tuple[int, int], fit: Fit) -> tuple[float, float]:
    """Height and width that the new frame shows, in old pixels, around the middle of the old frame."""
    if fit == "squeeze":
        return old
    whole_height = old[0], old[0] * size[1] / size[0]
    whole_width = old[1] * size[0] / size[1], old[1]
    wider = old[1] >= whole_height[1]
    return whole_height if wider == (fit == "crop") else whole_width


def _change(old: tuple[int, int], size: tuple[int, int], fit: Fit) -> str:
    high, wide = (shown / whole for shown, whole in zip(_seen(old, size, fit), old, strict=True))
    sides = "left and right" if wide != 1 else "top and bottom"
    if fit == "crop":
        change, words = 1 - high * wide, f"{1 - high * wide:.0%} of them, at {sides}, cut off"
    elif fit == "letterbox":
        change = 1 - 1 / (high * wide)
        words = f"of which gray bars at {sides} take {change:.0%}"
    else:
        ratio = (size[1] / size[0]) / (old[1] / old[0])
        change = abs(ratio - 1)
        direction = "wider" if ratio > 1 else "narrower"
        words = f"which makes the picture {change:.0%} {direction} in relation to its height"
    return words if change > DISTORTION else ""


def fill_video(
    video: np.ndarray,
    stimulus: Stimulus,
    trials: pd.DataFrame,
    clocks: Mapping[int, FrameClock],
    frame_rate: float,
    fit: Fit = "squeeze",
) -> None:
    """Write the video of every trial; repeats whose frames came at the same times are computed once.

    Parameters
    ----------
    video
        ``(time, height, width)`` to write to, trials one after the other.
    stimulus
        Where the pixels are.
    trials
        As `nwbrecon.alignment.trials.make_trials` gives it, with ``first_frame``.
    clocks
        Clock of each presentation, by row label.
    frame_rate
        Frames per second of the common clock (Hz).
    fit
        What happens to movies of another shape, as in `scale_frames`.
    """
    size = (video.shape[1], video.shape[2])
    done: dict[str, pd.Series] = {}
    for _, trial in progress(trials.iterrows(), total=len(trials), label="video", unit="trial"):
        target = slice(int(trial["first_frame"]), int(trial["first_frame"] + trial["n_frames"]))
        model = done.get(trial["clip"])
        if model is not None and _same_clock(trial, model, clocks, frame_rate):
            video[target] = video[int(model["first_frame"]) : int(model["first_frame"] + trial["n_frames"])]
            continue
        clock = clocks[trial["presentation"]]
        span = slice(trial["source_start"], trial["source_stop"])
        store = stimulus.stores[stimulus.presentations.at[trial["presentation"], "store"]]
        starts = trial["onset"] + np.arange(trial["n_frames"]) / frame_rate
        edges = np.append(clock.onsets, clock.end)[span.start : span.stop + 1]
        video[target] = clip_video(store, clock.frames[span], edges, starts, starts + 1 / frame_rate, size, fit)
        if model is None or trial["n_frames"] > model["n_frames"]:
            done[trial["clip"]] = trial


def _same_clock(trial: pd.Series, model: pd.Series, clocks: Mapping[int, FrameClock], frame_rate: float) -> bool:
    if trial["n_frames"] > model["n_frames"]:
        return False
    onsets, frames = [], []
    for row in (trial, model):
        clock, span = clocks[row["presentation"]], slice(row["source_start"], row["source_stop"])
        onsets.append(clock.onsets[span] - row["onset"])
        # one store may hold every showing, each in its place
        frames.append(clock.frames[span] - clock.frames[span.start])
    n = min(len(onsets[0]), len(onsets[1]))
    slack = SAME_CLOCK / frame_rate
    # where one has frames that the other lacks, they must lie beyond the frames in question
    beyond = np.concatenate([own[n:] for own in onsets])
    return bool(
        np.array_equal(frames[0][:n], frames[1][:n])
        and np.abs(onsets[0][:n] - onsets[1][:n]).max() <= slack
        and (beyond >= trial["n_frames"] / frame_rate - slack).all()
    )


def clip_video(
    store: FrameStore,
    frames: np.ndarray,
    edges: np.ndarray,
    starts: np.ndarray,
    stops: np.ndarray,
    size: tuple[int, int],
    fit: Fit = "squeeze",
) -> np.ndarray:
    """Bring displayed frames onto the common clock and to the common size.

    Parameters
    ----------
    store
        Where the pixels are; read a bounded number of frames at a time.
    frames
        ``(displayed,)`` indices into the store.
    edges
        ``(displayed + 1,)`` when each frame appeared, and when the last was taken away (s).
    starts, stops
        ``(time,)`` bins of the common clock (s).
    size
        ``(height, width)`` wanted.
    fit
        What happens to movies of another shape, as in `scale_frames`.

    Returns
    -------
    numpy.ndarray
        ``(time, height, width)`` float32, grey level 0-255: in each bin the average of what was displayed, weighted by
        time (`nwbrecon.alignment.resample.held_weights`) and by area (`scale_frames`).
    """
    weights = held_weights(edges, starts, stops).tocsc()
    video = np.zeros((len(starts), size[0] * size[1]), dtype=np.float32)
    step = max(1, CHUNK_BYTES // (4 * store.height * store.width))
    for first in range(0, len(frames), step):
        chunk = slice(first, min(first + step, len(frames)))
        scaled = scale_frames(store.read(frames[chunk]), size, fit)
        video += weights[:, chunk].astype(np.float32) @ scaled.reshape(len(scaled), -1)
    return video.reshape(-1, *size)


@lru_cache(maxsize=16)
def _area_weights(old: int, new: int, seen: float) -> np.ndarray:
    """Share that each old pixel has in each new one, where these divide the middle ``seen`` old pixels."""
    edges = np.linspace((old - seen) / 2, (old + seen) / 2, new + 1)
    pixels = np.arange(old + 1.0)
    shared = overlaps(edges[:-1], edges[1:], pixels[:-1], pixels[1:]).toarray()
    weights: np.ndarray = (shared * (new / seen)).astype(np.float32)
    weights.flags.writeable = False
    return weights
