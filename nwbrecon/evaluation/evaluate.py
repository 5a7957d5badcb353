"""Scores of reconstructions against the movies that were shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from nwbrecon.alignment import AlignedSession
from nwbrecon.config import EvaluationSettings
from nwbrecon.errors import NwbreconError
from nwbrecon.evaluation.scores import Scores
from nwbrecon.inversion import Reconstruction, Reconstructions
from nwbrecon.metrics import (
    block_intervals,
    bootstrap_interval,
    dynamic_correlation,
    frame_correlations,
    lag_correlations,
    pixel_correlation,
    space_band_correlations,
    time_band_correlations,
)

__all__ = ["METRICS", "evaluate", "likeness", "refuse_training_clips", "score_movies"]

METRICS = ("pixel_correlation", "dynamic_correlation", "frame_correlation")

# octaves; those that no frame rate or frame size of the recording reaches are left out
_TIME_EDGES = np.array([0, 0.5, 1, 2, 4, 8, 16, 32])  # Hz
_SPACE_EDGES = np.array([0, 1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2])  # cycles per pixel
_BLOCK_SECONDS = 1.0
_ENDS = ("low", "high")


def evaluate(
    reconstructions: Reconstructions, aligned: AlignedSession, settings: EvaluationSettings | None = None
) -> Scores:
    """Score reconstructions, and the baselines that come with them, against the true movies of a session.

    Parameters
    ----------
    reconstructions
        What was reconstructed.
    aligned
        The session it came from.
    settings
        How to score.

    Returns
    -------
    Scores
        One row a trial and method, beside chance and summaries with intervals.

    Raises
    ------
    NwbreconError
        If a reconstructed clip was trained on, unless the settings allow it.
    """
    settings = settings or EvaluationSettings()
    refuse_training_clips(reconstructions, aligned.trials.loc[aligned.trials["split"] == "train", "clip"], settings)
    movies = {item.trials[0]: np.asarray(aligned.trial(item.trials[0]).video) for item in reconstructions}
    repeats = aligned.trials["repeat"].to_dict()
    return score_movies(reconstructions, movies, repeats, settings)


def refuse_training_clips(
    reconstructions: Reconstructions, training_clips: Iterable[str], settings: EvaluationSettings
) -> None:
    """Refuse to score clips that were trained on, unless the settings allow it.

    Raises
    ------
    NwbreconError
        If one of the reconstructed clips is among ``training_clips``.
    """
    learned = sorted({item.clip for item in reconstructions} & set(training_clips))
    if learned and not settings.allow_training_clips:
        raise NwbreconError(
            f"The encoder was trained on {len(learned)} of the reconstructed clips ({', '.join(learned[:3])}).",
            "A score on a clip that was learned from says nothing about others.",
            "Reconstruct test clips, or ask for it by name with allow_training_clips.",
        )


def score_movies(
    reconstructions: Reconstructions,
    movies: Mapping[int, np.ndarray],
    repeats: Mapping[int, int],
    settings: EvaluationSettings | None = None,
) -> Scores:
    """Score reconstructions against true movies that are at hand.

    Parameters
    ----------
    reconstructions
        What was reconstructed.
    movies
        True movie ``(time, height, width)`` of each trial, grey level 0-255.
    repeats
        Which showing of its clip each trial was, 0 for the first.
    settings
        How to score.
    """
    settings = settings or EvaluationSettings()
    mask = reconstructions.mask
    methods = {reconstructions.method: {item.trials[0]: item.video for item in reconstructions}}
    for item in reconstructions:
        for name, video in item.baselines.items():
            methods.setdefault(name, {})[item.trials[0]] = video
    most_lag = round(settings.lag_seconds * reconstructions[0].frame_rate) if len(reconstructions) else 0
    lags = np.arange(-most_lag, most_lag + 1)

    trials, frames, curves, bands = [], [], [], []
    for method, videos in methods.items():
        for item in reconstructions:
            trial = item.trials[0]
            video, movie = videos[trial], movies[trial]
            by_frame = frame_correlations(video, movie, mask)
            curve = lag_correlations(video, movie, lags, mask)
            curves.append(pd.DataFrame({"method": method, "clip": item.clip, "lag": lags, "pixel_correlation": curve}))
            bands.append(_bands(video, movie, mask, item.frame_rate).assign(method=method))
            intervals = block_intervals(video, movie, mask, block=max(1, round(_BLOCK_SECONDS * item.frame_rate)))
            frames.append(
                pd.DataFrame(
                    {
                        "trial": trial,
                        "clip": item.clip,
                        "method": method,
                        "frame": np.arange(len(video)),
                        "time": item.times,
                        "frame_correlation": by_frame,
                    }
                )
            )
            trials.append(
                {
                    "clip": item.clip,
                    "trial": trial,
                    "repeat": int(repeats.get(trial, 0)),
                    "onset": item.onset,
                    "n_frames": len(video),
                    "method": method,
                    **likeness(video, movie, mask, by_frame),
                    **{f"{metric}_{end}": intervals[metric][at] for metric in METRICS for at, end in enumerate(_ENDS)},
                    "lag": int(lags[np.nanargmax(curve)]) if np.isfinite(curve).any() else 0,
                    "chance": _chance(item, video, reconstructions, movies, mask),
                    "ceiling": _ceiling(item, video, reconstructions, videos, mask),
                    **{f"{metric}_full": value for metric, value in likeness(video, movie).items()},
                }
            )
    table = pd.DataFrame(trials)
    by_lag = pd.concat(curves, ignore_index=True) if curves else pd.DataFrame()
    by_band = pd.concat(bands, ignore_index=True) if bands else pd.DataFrame()
    of_band = ["method", "domain", "from_frequency", "to_frequency"]
    return Scores(
        trials=table,
        frames=pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(),
        lags=by_lag.groupby(["method", "lag"], sort=False, as_index=False)["pixel_correlation"].mean(),
        summary=_summary(table),
        mask_fraction=float(mask.mean()),
        info={"settings": settings.model_dump(mode="json")},
        frequencies=by_band.groupby(of_band, sort=False, as_index=False)["pixel_correlation"].mean(),
    )


def likeness(
    video: np.ndarray, movie: np.ndarray, mask: np.ndarray | None = None, by_frame: np.ndarray | None = None
) -> dict[str, float]:
    """Correlate a movie with the one that was shown: the value of each of `METRICS`.

    Parameters
    ----------
    video, movie
        ``(time, height, width)``.
    mask
        ``(height, width)`` pixels that count; ``None`` for all.
    by_frame
        ``(time,)`` correlation of each frame, where it is known already.
    """
    by_frame = frame_correlations(video, movie, mask) if by_frame is None else by_frame
    return {
        "pixel_correlation": pixel_correlation(video, movie, mask),
        "dynamic_correlation": dynamic_correlation(video, movie, mask),
        "frame_correlation": _mean(by_frame),
    }


def _chance(
    item: Reconstruction,
    video: np.ndarray,
    reconstructions: Reconstructions,
    movies: Mapping[int, np.ndarray],
    mask: np.ndarray,
) -> float:
    """Mean pixel correlation with the other clips' movies: what a reconstruction of the wrong clip would score."""
    others = {other.clip: movies[other.trials[0]] for other in reconstructions if other.clip != item.clip}
    values = []
    for movie in others.values():
        length = min(len(movie), len(video))
        values.append(pixel_correlation(video[:length], movie[:length], mask))
    return _mean(np.array(values))


def _ceiling(
    item: Reconstruction,
    video: np.ndarray,
    reconstructions: Reconstructions,
    videos: Mapping[int, np.ndarray],
    mask: np.ndarray,
) -> float:
    """Correlation that noise from showing to showing would still allow; NaN for a clip that was shown once.

    The reconstructions of two showings have the movie in common, but not the noise: the root of their correlation
    bounds that of each with anything that both tell of (Spearman 1904, Am. J. Psychol. 15:72-101).
    """
    others = [videos[other.trials[0]] for other in reconstructions.of_clip(item.clip) if other is not item]
    alike = [pixel_correlation(video, other, mask) for other in others if other.shape == video.shape]
    return float(np.sqrt(max(_mean(np.array(alike)), 0.0))) if alike else float("nan")


def _bands(video: np.ndarray, movie: np.ndarray, mask: np.ndarray, frame_rate: float) -> pd.DataFrame:
    time_edges = _TIME_EDGES[: np.searchsorted(_TIME_EDGES, frame_rate / 2) + 1]
    parts = [
        ("time", time_edges, time_band_correlations(video, movie, frame_rate, time_edges, mask)),
        ("space", _SPACE_EDGES, space_band_correlations(video, movie, _SPACE_EDGES, mask)),
    ]
    return pd.concat(
        [
            pd.DataFrame(
                {"domain": name, "from_frequency": edges[:-1], "to_frequency": edges[1:], "pixel_correlation": values}
            )
            for name, edges, values in parts
        ],
        ignore_index=True,
    )


def _summary(trials: pd.DataFrame) -> pd.DataFrame:
    """Mean over clips with an interval; the showings of a clip are averaged first, since they are not independent."""
    rows = []
    metrics = [*METRICS, "chance", "ceiling", *(f"{metric}_full" for metric in METRICS)]
    shown = {"all": trials, "first": trials[trials["repeat"] == 0], "later": trials[trials["repeat"] > 0]}
    for presentations, part in shown.items():
        for method, of_method in part.groupby("method", sort=False):
            by_clip = of_method.groupby("clip")[metrics].mean()
            for metric in metrics:
                mean, low, high = bootstrap_interval(by_clip[metric].to_numpy())
                rows.append((method, metric, presentations, mean, low, high, len(by_clip)))
    return pd.DataFrame(rows, columns=["method", "metric", "presentations", "mean", "low", "high", "n_clips"])


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
