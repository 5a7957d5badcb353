"""How good an encoder is: the verb, and what it rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from nwbrecon.alignment import AlignedSession, leave_one_out_correlation, responses_on_frames
from nwbrecon.encoding.baselines import fit_baselines
from nwbrecon.encoding.calibration import wrong_clips, wrong_movie
from nwbrecon.encoding.encoder import Encoder, look_ahead
from nwbrecon.encoding.ensemble import EncoderEnsemble
from nwbrecon.encoding.likelihoods import Poisson
from nwbrecon.encoding.observation import samples_seen
from nwbrecon.encoding.prediction import nan_correlation, predict_samples
from nwbrecon.encoding.repeats import Powers, mean_over_showings, response_powers
from nwbrecon.encoding.scores import METRICS, EncoderScores
from nwbrecon.errors import EncoderError
from nwbrecon.metrics import bootstrap_interval
from nwbrecon.session import SignalKind

__all__ = ["score_encoder"]

# resamples of a bootstrap; thousands of ROIs make more of them slow
_DRAWS = 2000

# (expected, measured) of a trial, one a response group, each ``(sample, roi)``
_Samples = list[tuple[np.ndarray, np.ndarray]]


def score_encoder(encoder: Encoder, aligned: AlignedSession, split: str = "test") -> EncoderScores:
    """Score an encoder on clips that it has not learned from, beside baselines, ceilings and controls.

    *Single-trial correlation* is that of the Sensorium competition (Turishcheva et al. 2023, arXiv:2305.19654): for
    each ROI, the Pearson correlation of predicted and recorded activity over all samples of all trials together, each
    showing of a clip with its own behavior; the mean over ROIs is the score. Samples that reach into the encoder's
    warm-up do not count (the competition leaves out 50 frames), and a prediction that never changes scores 0. Samples
    are those of each plane on its own clock, not frames to which responses were resampled.

    *Correlation to average* is that of the mean over showings of the predictions with that of the responses, over all
    frames of clips that were shown again. *Normalized correlation* is CCnorm of Schoppe et al. (2016, Front. Comput.
    Neurosci. 10:10): correlation to average over CCmax, the correlation that the signal itself would have with the
    average, from the signal power of Sahani & Linden (2003, Advances in Neural Information Processing Systems 15); NaN
    where the estimated signal power is not positive. *Bits* are bits per unit of activity (per spike, of spikes) by
    which the prediction is ahead of the mean rate over training trials: the difference in Poisson log-likelihood,
    divided by the sum of the activity, which makes it independent of the unit (Pillow et al. 2008, Nature 454:995-999);
    NaN for dF/F, which has no rate.

    Showings of a clip fall differently on the samples of a plane, since a plane's clock does not heed onsets. To bring
    them together, responses are resampled to the frames of the clip so that their area is kept
    (`nwbrecon.alignment.responses_on_frames`), and so are the predictions *of the samples*, not the rates that were
    predicted for frames: what is lost by sampling is lost on both sides. Two showings of different sampling have a
    little less in common than the mean over them holds, so that normalized correlation can come out a few percent high
    where planes are slower than what their cells respond to. It can also exceed 1 where behavior makes showings differ,
    and the encoder knows the behavior.

    Baselines are those of `nwbrecon.encoding.baselines.fit_baselines`. Controls give the same encoder less or something
    else: ``behavior withheld`` (missing in every frame), ``gray screen`` (uniform, of the mean gray level), ``wrong
    clip`` (another, of another film if there is one), and ``other ROIs``, where each ROI's prediction is held against
    the responses of another of its plane, as if the labels had been shuffled: what all ROIs have in common, for which
    no label is needed. (An encoder that is *trained* on shuffled labels would learn the same, but costs a training.)

    Parameters
    ----------
    encoder
        An encoder of the session.
    aligned
        The session, with training trials for the baselines.
    split
        Which trials: ``test``, ``validation`` or ``train``.

    Returns
    -------
    EncoderScores
        For each ROI, and the mean over ROIs with a bootstrap interval.

    Raises
    ------
    EncoderError
        If the encoder is of another session, the split has no trials, the session none to train the baselines on, or
        the encoder was trained on clips of the split.

    Examples
    --------
    ::

        scores = nr.score_encoder(encoder, aligned)
        scores.mean("single_trial_correlation")
    """
    _check(encoder, aligned, split)
    trials = aligned.trials_in(split)
    unpredicted = {"warm_up": encoder.warm_up, "look_ahead": look_ahead(encoder)}
    methods: dict[str, Encoder] = {"encoder": encoder, **fit_baselines(aligned, **unpredicted)}
    recorded = _Recorded.of(aligned, trials, list(_predictions(methods["mean"], aligned, trials)))
    tables = {}
    for name, method in methods.items():
        predictions = list(_predictions(method, aligned, trials))
        tables[name] = recorded.score(predictions)
        if name == "encoder":
            tables["other ROIs"] = recorded.score([_mixed(one) for one in predictions])
    if aligned.behavior_names:
        tables["behavior withheld"] = recorded.score(_predictions(_Withheld(encoder), aligned, trials))
    for name, movie in (("gray screen", _gray), ("wrong clip", _other)):
        tables[name] = recorded.score(_predictions(encoder, aligned, trials, movie))
    keys = aligned.rois[["group", "roi_id"]]
    rois = pd.concat([keys.assign(method=name, **table) for name, table in tables.items()], ignore_index=True)
    repeats = keys.assign(
        oracle=recorded.oracle,
        single_trial_ceiling=recorded.powers.single_trial_ceiling,
        average_ceiling=recorded.powers.mean_ceiling,
        signal_power=recorded.powers.signal,
        noise_power=recorded.powers.noise,
    )
    rows = aligned.trials.loc[trials]
    return EncoderScores(
        rois=rois,
        repeats=repeats,
        summary=_summary(rois, repeats),
        info={
            "split": split,
            "clips": int(rows["clip"].nunique()),
            "trials": len(trials),
            "repeated_clips": len(recorded.repeated),
            "seconds": float(rows["n_frames"].sum() / aligned.frame_rate),
        },
    )


def _check(encoder: Encoder, aligned: AlignedSession, split: str) -> None:
    counts = {name: len(aligned.trials_in(name)) for name in (split, "train")}
    if not all(counts.values()):
        raise EncoderError(
            f"There are {counts[split]} {split} trials and {counts['train']} training trials.",
            "An encoder is scored on trials of a split, beside baselines that are fitted to training trials.",
            "Check the split.",
        )
    if not isinstance(encoder, EncoderEnsemble):
        return
    encoder.check_fits(aligned)
    learned = set(encoder.info.get("clips", {}).get("train", ()))
    found = sorted(learned & set(aligned.trials.loc[aligned.trials_in(split), "clip"]))
    if found and split != "train":
        raise EncoderError(
            f"The encoder was trained on {len(found)} of the {split} clips ({', '.join(found[:3])}).",
            "A score on a clip that was learned from says nothing about others.",
            "Align the session as it was for training.",
        )


def _predictions(
    encoder: Encoder,
    aligned: AlignedSession,
    trials: list[int],
    movie: Callable[[AlignedSession, list[int], int], Tensor] | None = None,
) -> Iterator[_Samples]:
    shown = None if movie is None else partial(movie, aligned, trials)
    for trial in trials:
        yield predict_samples(encoder, aligned, [trial], shown=shown)


def _gray(aligned: AlignedSession, trials: list[int], trial: int) -> Tensor:
    movie = torch.from_numpy(aligned.trial(trial).video)[None, None]
    return torch.full_like(movie, float(movie.mean()))


def _other(aligned: AlignedSession, trials: list[int], trial: int) -> Tensor:
    return wrong_movie(aligned, trial, wrong_clips(aligned, trial, trials, 1)[0])


class _Withheld:
    """An encoder that is told nothing of the animal."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder, self.warm_up, self.look_ahead = encoder, encoder.warm_up, look_ahead(encoder)

    def predict_rates(self, video: Tensor, behavior: Tensor) -> Tensor:
        return self.encoder.predict_rates(video, torch.full_like(behavior, torch.nan))


def _mixed(samples: _Samples) -> _Samples:
    """Give every ROI the prediction of another of its group; NaN where it is alone."""
    mixed = []
    for expected, measured in samples:
        n_rois = expected.shape[1]
        order = np.random.default_rng(0).permutation(n_rois)
        source = np.empty(n_rois, dtype=int)
        source[order] = np.roll(order, 1)
        mixed.append((expected[:, source] if n_rois > 1 else np.full_like(expected, np.nan), measured))
    return mixed


@dataclass
class _Recorded:
    """What was recorded in the trials that are scored, and what follows from it whatever predicts it.

    ``measured`` and ``at_mean_rate`` are ``(sample, roi)`` over all trials, one a response group; ``repeated`` holds
    the places of the showings of each clip that was shown again, ``averages`` their mean responses ``(time, roi)``.
    """

    aligned: AlignedSession
    trials: list[int]
    measured: list[np.ndarray]
    at_mean_rate: list[np.ndarray]
    repeated: list[list[int]]
    averages: list[np.ndarray]
    powers: Powers
    oracle: np.ndarray

    @classmethod
    def of(cls, aligned: AlignedSession, trials: list[int], at_mean_rate: list[_Samples]) -> _Recorded:
        rows = aligned.trials.loc[trials].reset_index()
        shown = rows.groupby(["clip", "n_frames"], sort=False).indices.values()
        repeated = [[int(place) for place in places] for places in shown if len(places) > 1]
        showings = [
            np.stack(
                [
                    _on_frames(aligned, trials[place], [measured for _, measured in at_mean_rate[place]])
                    for place in clip
                ]
            )
            for clip in repeated
        ]
        expected, measured = (_joined(at_mean_rate, which) for which in range(2))
        return cls(
            aligned,
            trials,
            measured,
            expected,
            repeated,
            [mean_over_showings(of_clip) for of_clip in showings],
            response_powers(showings, aligned.n_rois),
            leave_one_out_correlation(showings, aligned.n_rois),
        )

    def score(self, predictions: Iterator[_Samples] | list[_Samples]) -> dict[str, np.ndarray]:
        """Score predictions, one a trial: ``(roi,)`` by metric."""
        predictions = list(predictions)
        expected = _joined(predictions, 0)
        to_average = self._correlation_to_average(predictions)
        return {
            "single_trial_correlation": np.concatenate(list(map(_correlation, expected, self.measured))),
            "correlation_to_average": to_average,
            "normalized_correlation": to_average / self.powers.mean_ceiling,
            "bits": np.concatenate(
                [
                    np.full(group.n_rois, np.nan) if group.kind is SignalKind.DFF else _bits(*values)
                    for group, *values in zip(
                        self.aligned.groups, expected, self.at_mean_rate, self.measured, strict=True
                    )
                ]
            ),
        }

    def _correlation_to_average(self, predictions: list[_Samples]) -> np.ndarray:
        if not self.repeated:
            return np.full(self.aligned.n_rois, np.nan)
        averages = []
        for clip in self.repeated:
            showings = [
                _on_frames(self.aligned, self.trials[place], [expected for expected, _ in predictions[place]])
                for place in clip
            ]
            averages.append(mean_over_showings(np.stack(showings)))
        return _correlation(np.concatenate(averages), np.concatenate(self.averages))


def _on_frames(aligned: AlignedSession, trial: int, values: list[np.ndarray]) -> np.ndarray:
    """Bring values at the samples of a trial to its frames, as responses are: ``(time, roi)``."""
    onset = float(aligned.trials.at[trial, "onset"])
    stop = onset + int(aligned.trials.at[trial, "n_frames"]) / aligned.frame_rate
    groups = [
        replace(group, timestamps=group.timestamps[samples_seen(group, onset, stop)], activity=activity)
        for group, activity in zip(aligned.groups, values, strict=True)
    ]
    return responses_on_frames(replace(aligned, groups=groups), trial)


def _joined(samples: list[_Samples], which: int) -> list[np.ndarray]:
    return [np.concatenate([part[which] for part in parts]) for parts in zip(*samples, strict=True)]


def _correlation(expected: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Correlation over what is known, ``(roi,)``; 0 for a prediction that never changes of activity that does."""
    known = np.isfinite(measured).any(axis=1)
    expected, measured = expected[known], measured[known]
    scores = nan_correlation(expected, measured)
    predicted, varies = np.isfinite(expected).any(axis=0), np.isfinite(nan_correlation(measured, measured))
    return np.where(np.isnan(scores) & predicted & varies, 0.0, scores)


def _bits(expected: np.ndarray, at_mean_rate: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Bits per unit of activity over the mean rate; a rate below zero is no rate, and counts as none."""
    activity, model, mean = (
        torch.from_numpy(values.astype(float)).clamp_min(0) for values in (measured, expected, at_mean_rate)
    )
    gained = (Poisson().loss(mean, activity) - Poisson().loss(model, activity)).numpy()
    total = np.where(np.isfinite(gained), measured, 0.0).sum(axis=0, dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, np.nansum(gained, axis=0) / (np.log(2) * total), np.nan)


def _summary(rois: pd.DataFrame, repeats: pd.DataFrame) -> pd.DataFrame:
    """Mean over ROIs of each metric and method, and of what repeats allow, with intervals."""
    values = {
        (str(name), metric): table[metric] for name, table in rois.groupby("method", sort=False) for metric in METRICS
    }
    values |= {
        ("oracle", "single_trial_correlation"): repeats["oracle"],
        ("ceiling", "single_trial_correlation"): repeats["single_trial_ceiling"],
        ("ceiling", "correlation_to_average"): repeats["average_ceiling"],
    }
    found = [
        (*key, *bootstrap_interval(of_rois.to_numpy(), draws=_DRAWS), int(of_rois.notna().sum()))
        for key, of_rois in values.items()
    ]
    return pd.DataFrame(found, columns=["method", "metric", "mean", "low", "high", "n_rois"])
