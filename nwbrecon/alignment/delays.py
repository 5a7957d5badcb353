"""How much later than its clock says each plane was scanned: as told, by the order of the planes, or from the data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import uniform_filter1d

from nwbrecon.alignment.model import AlignedGroup
from nwbrecon.alignment.resample import COVERED, overlaps
from nwbrecon.alignment.video import scale_frames
from nwbrecon.alignment.views import LONGEST_INTERVAL
from nwbrecon.config import ResponseSettings
from nwbrecon.errors import AlignmentError
from nwbrecon.progress import progress
from nwbrecon.session.model import ResponseGroup, SignalKind

__all__ = ["DelayEstimate", "delays_by_order", "estimate_delays", "shared_clock", "stated_delays"]

GRID = (9, 16)
COMPONENTS = 60
"""Principal components of each kind of feature."""
RIDGE = 1.0
FOLDS = 4
BLOCK_SECONDS = 10.0
"""Folds are made of stretches so long (s)."""
SMOOTH = 10.0
"""Fluctuations of a response slower than this (s) are taken out."""
EARLIEST, LATEST, STEP = -0.15, 0.6, 1 / 30
"""Lags of the responses behind the movie that are looked at (s)."""
LARGEST = 0.2
"""Largest difference between planes that is looked for (s): a frame period at 5 Hz."""
MOST_ROIS = 300
MOST_SECONDS = 1800.0
N_RESAMPLES = 40
LEAST_CORRELATION = 0.02


@dataclass
class DelayEstimate:
    """Delays of planes, from how their responses follow the movie.

    Attributes
    ----------
    delays
        Seconds by plane, the first one's 0.
    errors
        Standard errors by plane (s), from resampling the ROIs.
    clear
        Whether the movie predicts the responses of every plane well enough for its delay to be told to a quarter of a
        sample interval.
    """

    delays: dict[str, float]
    errors: dict[str, float]
    clear: bool

    def sentence(self, groups: Mapping[str, ResponseGroup]) -> str:
        """Say what was estimated, beside what the order of the planes would give."""
        if not self.clear:
            return (
                "The delays of the planes could not be estimated: the movie predicts too little of their responses, or "
                "the estimates scatter too much. None was added."
            )
        ordered = delays_by_order(groups)
        listed = ", ".join(
            f"{name} {1000 * delay:+.0f} ± {1000 * self.errors[name]:.0f} ms ({1000 * ordered[name]:+.0f})"
            for name, delay in self.delays.items()
        )
        return (
            "Delays of the planes, estimated from how their responses follow the movie (in brackets: by the order of "
            f"the planes): {listed}."
        )


def stated_delays(groups: Mapping[str, ResponseGroup], settings: ResponseSettings) -> dict[str, float]:
    """Delay of each group: as the settings state it, otherwise the group's own, but for what is still to be estimated.

    Raises
    ------
    AlignmentError
        If the settings name a plane that does not exist.
    """
    delays = {name: group.delay for name, group in groups.items()}
    if settings.plane_delays == "estimate":
        return delays
    stated = delays_by_order(groups) if settings.plane_delays == "order" else settings.plane_delays
    unknown = sorted(set(stated) - set(groups))
    if unknown:
        raise AlignmentError(
            f"plane_delays names {', '.join(unknown)}.",
            f"The recording has {', '.join(groups)}.",
            "Use these names.",
        )
    return delays | stated


def shared_clock(groups: Mapping[str, ResponseGroup]) -> list[list[str]]:
    """Find sets of planes whose time stamps are the same to the last, as if all were scanned at once."""
    sets: list[list[str]] = []
    for name, group in groups.items():
        if group.kind is SignalKind.SPIKES:
            continue
        for members in sets:
            other = groups[members[0]].timestamps
            # one may have lost its last samples
            n = min(len(other), len(group.timestamps))
            if abs(len(other) - len(group.timestamps)) <= 2 and np.array_equal(other[:n], group.timestamps[:n]):
                members.append(name)
                break
        else:
            sets.append([name])
    return [members for members in sets if len(members) > 1]


def delays_by_order(groups: Mapping[str, ResponseGroup]) -> dict[str, float]:
    """Delays of planes that share one clock, if they are scanned one after the other in the order of the file.

    The first plane is scanned when the clock says so, and each further one an equal part of the sample interval later.
    Planes with a clock of their own are not delayed.
    """
    delays = dict.fromkeys(groups, 0.0)
    for members in shared_clock(groups):
        interval = 1 / groups[members[0]].sampling_rate
        delays |= {name: place * interval / len(members) for place, name in enumerate(members)}
    return delays


def clock_warnings(
    groups: Mapping[str, ResponseGroup], delays: Mapping[str, float], settings: ResponseSettings
) -> list[str]:
    """Say where planes have one clock and no delays, so that stagger between them would be hidden."""
    warnings = []
    for members in shared_clock(groups):
        if settings.plane_delays or any(delays[name] for name in members):
            continue
        interval = 1 / groups[members[0]].sampling_rate
        warnings.append(
            f"{len(members)} planes have the same time stamps, every {1000 * interval:.0f} ms. Unless they were "
            f"scanned at once, the last ones are up to {1000 * interval * (1 - 1 / len(members)):.0f} ms late; set "
            'responses.plane_delays to their delays, or to "order" or "estimate".'
        )
    return warnings


def estimate_delays(
    groups: Sequence[AlignedGroup], videos: Iterable[np.ndarray], onsets: Iterable[float], frame_rate: float
) -> DelayEstimate:
    """Estimate the delays of planes from when their responses are best predicted by the movie, without an encoder.

    For every lag the responses are predicted from the movie that much earlier: a ridge regression, cross-validated over
    stretches of time, on the leading principal components of luminance, of the contrast along either axis, and of the
    change since the frame before, all on a coarse grid. The correlation, squared and averaged over ROIs, is a curve
    over the lags. A plane that was scanned later than its clock says shows the same curve at shorter lags; the shifts
    that bring all planes' curves best into line are the differences of their delays.

    It rests on cells of different planes having the same latency on average: what differs is taken for delay.

    Parameters
    ----------
    groups
        Response groups on their clocks.
    videos
        One ``(time, height, width)`` movie a trial, grey level 0-255, of training trials in time order.
    onsets
        ``(trial,)`` when each began (s).
    frame_rate
        Frames per second (Hz).
    """
    lags = np.arange(EARLIEST, LATEST + STEP / 2, STEP)
    starts, features = _features(videos, onsets, frame_rate)
    scores = [
        _lag_scores(group, starts, features, 1 / frame_rate, lags)
        for group in progress(groups, label="plane delays", unit="plane")
    ]
    names = [group.name for group in groups]
    unknown = DelayEstimate(dict.fromkeys(names, 0.0), dict.fromkeys(names, np.nan), clear=False)
    known = [score for score in scores if score is not None and score.mean(axis=1).max() > LEAST_CORRELATION]
    if len(known) < len(groups) or len(groups) < 2:
        return unknown
    shifts = _shifts(known, lags)
    # cells are drawn anew, so that the scatter of their latencies counts
    rng = np.random.default_rng(0)
    resampled = np.array(
        [
            _shifts([score[:, rng.integers(0, score.shape[1], score.shape[1])] for score in known], lags)
            for _ in range(N_RESAMPLES)
        ]
    )
    errors = resampled.std(axis=0)
    return DelayEstimate(
        delays={name: float(shifts[0] - shift) for name, shift in zip(names, shifts, strict=True)},
        errors=dict(zip(names, errors.tolist(), strict=True)),
        clear=bool(errors.max() < min(group.interval for group in groups) / 4),
    )


def _features(
    videos: Iterable[np.ndarray], onsets: Iterable[float], frame_rate: float
) -> tuple[np.ndarray, np.ndarray]:
    starts: list[np.ndarray] = []
    kinds: tuple[list[np.ndarray], ...] = ([], [], [], [])
    seconds = 0.0
    for video, onset in zip(videos, onsets, strict=True):
        if seconds > MOST_SECONDS:
            break
        seconds += len(video) / frame_rate
        frames = np.asarray(video, dtype=np.float32)
        change = np.abs(np.diff(frames, axis=0, prepend=frames[:1]))
        across, down = (np.abs(np.diff(frames, axis=axis)) for axis in (2, 1))
        grid = (min(GRID[0], frames.shape[1] - 1), min(GRID[1], frames.shape[2] - 1))
        for kind, values in zip(kinds, (frames, across, down, change), strict=True):
            kind.append(scale_frames(values, grid).reshape(len(frames), -1))
        starts.append(onset + np.arange(len(frames)) / frame_rate)
    return np.concatenate(starts), np.concatenate([_components(np.concatenate(kind)) for kind in kinds], axis=1)


def _components(values: np.ndarray) -> np.ndarray:
    """Leading principal components, each of variance 1."""
    values = values - values.mean(axis=0)
    variances, directions = np.linalg.eigh(values.T @ values / len(values))
    leading = np.argsort(variances)[::-1][:COMPONENTS]
    leading = leading[variances[leading] > 1e-6 * variances.max()]
    return (values @ directions[:, leading]) / np.sqrt(variances[leading])


def _lag_scores(
    group: AlignedGroup, starts: np.ndarray, features: np.ndarray, interval: float, lags: np.ndarray
) -> np.ndarray | None:
    """Cross-validated correlation of every ROI at every lag: ``(lag, roi)``; None where there is too little to tell."""
    columns = np.unique(np.linspace(0, group.n_rois - 1, MOST_ROIS).astype(int))
    responses = np.asarray(group.activity[:, columns], dtype=float)
    # a rise since the sample before stands for activity
    responses = np.diff(responses, axis=0) if group.kind is SignalKind.DFF else responses[1:]
    begin, end = group.timestamps[:-1], group.timestamps[1:]
    kept = np.isfinite(responses).all(axis=1) & (end - begin <= LONGEST_INTERVAL * group.interval)
    stops = np.minimum(starts + interval, np.append(starts[1:], np.inf))
    for lag in lags[[0, -1]]:
        shared = np.asarray(overlaps(begin - lag, end - lag, starts, stops).sum(axis=1))
        kept &= shared >= COVERED * (end - begin)
    begin, end, responses = begin[kept], end[kept], responses[kept]
    folds = (begin // BLOCK_SECONDS).astype(int) % FOLDS
    if np.bincount(folds, minlength=FOLDS).min() < features.shape[1] / FOLDS:
        return None
    responses = responses - uniform_filter1d(responses, max(3, round(SMOOTH / group.interval)), axis=0)
    spread = responses.std(axis=0)
    responses = responses[:, spread > 0] / spread[spread > 0]
    if responses.shape[1] == 0:
        return None
    scores = []
    for lag in lags:
        seen = (overlaps(begin - lag, end - lag, starts, stops) @ features) / (end - begin)[:, None]
        scores.append(_cross_validated(seen - seen.mean(axis=0), responses, folds))
    return np.array(scores)


def _cross_validated(seen: np.ndarray, responses: np.ndarray, folds: np.ndarray) -> np.ndarray:
    parts = [folds == fold for fold in range(FOLDS)]
    squares = [seen[part].T @ seen[part] for part in parts]
    products = [seen[part].T @ responses[part] for part in parts]
    correlations = []
    for part, own_squares, own_products in zip(parts, squares, products, strict=True):
        ridge = RIDGE * (~part).sum() * np.eye(seen.shape[1])
        weights = np.linalg.solve(sum(squares) - own_squares + ridge, sum(products) - own_products)
        predicted, measured = seen[part] @ weights, responses[part]
        predicted, measured = predicted - predicted.mean(axis=0), measured - measured.mean(axis=0)
        scale = np.sqrt((predicted**2).sum(axis=0) * (measured**2).sum(axis=0))
        correlations.append((predicted * measured).sum(axis=0) / np.where(scale > 0, scale, np.inf))
    return np.mean(correlations, axis=0)


def _shifts(scores: Sequence[np.ndarray], lags: np.ndarray) -> np.ndarray:
    """Shifts (s) that bring the planes' curves into line with their mean; ``(plane,)``, zero on average."""
    curves = [CubicSpline(lags, (np.maximum(score, 0) ** 2).mean(axis=1)) for score in scores]
    inner = np.linspace(lags[0] + LARGEST / 2, lags[-1] - LARGEST / 2, 200)
    tried = np.linspace(-LARGEST / 2, LARGEST / 2, 201)
    moved = [np.array([_standard(curve(inner + shift)) for shift in tried]) for curve in curves]
    shifts = np.zeros(len(curves))
    for _ in range(20):
        mean = np.mean([_standard(curve(inner + shift)) for curve, shift in zip(curves, shifts, strict=True)], axis=0)
        best = np.array([tried[np.argmax(one @ mean)] for one in moved])
        best -= best.mean()
        if np.abs(best - shifts).max() < 1e-4:
            break
        shifts = best
    return shifts


def _standard(curve: np.ndarray) -> np.ndarray:
    centered = curve - curve.mean()
    length = np.linalg.norm(centered)
    return centered / length if length > 0 else centered
