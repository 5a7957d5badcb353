"""What is settled once, before clips are reconstructed: decoders, priors, mask, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage, optimize

from nwbrecon.alignment import AlignedSession
from nwbrecon.config import InversionSettings
from nwbrecon.encoding import EncoderEnsemble
from nwbrecon.encoding.device import device_of
from nwbrecon.inversion.information import fisher_information, information_coverage
from nwbrecon.inversion.objective import Evidence, Margins, gather_evidence
from nwbrecon.inversion.priors import MoviePrior, autocovariance
from nwbrecon.inversion.reconstructor import Reconstructor
from nwbrecon.inversion.ridge import RidgeDecoder, fit_ridge
from nwbrecon.inversion.selection import Case, choose_prior, held_out_neighborhoods
from nwbrecon.inversion.transparency import train_transparency
from nwbrecon.inversion.uncertainty import ErrorModel, error_features, fit_error_model
from nwbrecon.metrics import correlation
from nwbrecon.progress import progress
from nwbrecon.storage import read_arrays, read_json, write_arrays, write_json

__all__ = ["Recording", "Setup", "Showing", "features_of", "gather", "make_setup"]

Recording = tuple[EncoderEnsemble, AlignedSession]
"""A session and its encoder."""

Showing = tuple[tuple[int, ...], ...]
"""Labels of the trials of one clip that make one movie together, of each recording."""

# products of pixels farther apart in time than this are noisy, and hardly differ any more (s)
_LONGEST_LAG = 3.0
# more clips than these change the average spectrum little, and the mask and the error model neither
_SPECTRUM_CLIPS, _COVERAGE_CLIPS, _ERROR_CLIPS = 24, 8, 4
_PROBES = 6


@dataclass
class Setup:
    """What the reconstruction of each clip shares.

    Attributes
    ----------
    ridges
        The linear decoder of each recording.
    mask, coverage
        See `nwbrecon.inversion.Reconstructions`.
    margins
        Unknown frames around a clip.
    mean
        Mean grey level of the training movies.
    covariances
        Autocovariance by kind of prior (``movie``, ``ridge``); empty where only the linear decoder is used.
    prior, prior_weight
        What was chosen.
    choice
        How it was chosen.
    error_model
        ``None`` where no uncertainty is asked for.
    transparency
        Mask of the published method, where that is used.
    blend
        What the inverted movie and the linear decoder's are multiplied with before they are added, and the grey levels
        that are added to them.
    """

    ridges: tuple[RidgeDecoder, ...]
    mask: np.ndarray
    coverage: np.ndarray
    margins: Margins
    mean: float
    covariances: dict[str, np.ndarray] = field(default_factory=dict)
    prior: str = ""
    prior_weight: float = 0.0
    choice: list[dict[str, Any]] = field(default_factory=list)
    error_model: ErrorModel | None = None
    transparency: np.ndarray | None = None
    blend: tuple[float, float, float] = (1.0, 0.0, 0.0)

    def blended(self, inverted: np.ndarray, decoded: np.ndarray) -> np.ndarray:
        """Give the movie that is best on validation clips: ``(..., height, width)`` float32, grey levels 0-255."""
        of_inverted, of_decoded, level = self.blend
        return np.clip(of_inverted * inverted + of_decoded * decoded + level, 0, 255).astype(np.float32)

    def decode(self, recordings: Sequence[Recording], showing: Showing) -> np.ndarray:
        """Decode a clip linearly, mean over its trials: ``(time, height, width)``, grey levels, not clipped."""
        return np.mean(
            [
                ridge.predict(aligned, trial)
                for ridge, (_, aligned), trials in zip(self.ridges, recordings, showing, strict=True)
                for trial in trials
            ],
            axis=0,
        )

    def prior_for(self, kind: str, ridge_video: np.ndarray, device: torch.device) -> MoviePrior:
        """Prior of a clip with its margins, given what the linear decoder makes of it."""
        n_frames = self.margins.around(len(ridge_video))
        shape = (n_frames, *ridge_video.shape[1:])
        if kind == "movie":
            return MoviePrior(self.covariances[kind], shape, self.mean).to(device)
        margins = (self.margins.lead, self.margins.tail)
        mean = np.pad(ridge_video, (margins, (0, 0), (0, 0)), mode="edge")
        return MoviePrior(self.covariances[kind], shape, mean).to(device)

    def write(self, folder: Path) -> None:
        """Keep it in a folder."""
        arrays = {"mask": self.mask, "coverage": self.coverage}
        arrays |= {f"covariance.{kind}": value for kind, value in self.covariances.items()}
        for index, ridge in enumerate(self.ridges):
            of_ridge = {name: value for name, value in vars(ridge).items() if isinstance(value, np.ndarray)}
            arrays |= {f"ridge-{index}.{name}": value for name, value in of_ridge.items()}
        if self.transparency is not None:
            arrays["transparency"] = self.transparency
        if self.error_model is not None:
            arrays["error_model.weights"] = self.error_model.weights
        write_arrays(folder / "setup.safetensors", arrays)
        model = self.error_model
        write_json(
            folder / "setup.json",
            {
                "penalties": [ridge.penalty for ridge in self.ridges],
                "margins": asdict(self.margins),
                "mean": self.mean,
                "prior": self.prior,
                "prior_weight": self.prior_weight,
                "choice": self.choice,
                "blend": self.blend,
                "error_model": None if model is None else {"scale": model.scale, "n_clips": model.n_clips},
            },
        )

    @classmethod
    def read(cls, folder: Path) -> Setup:
        """Read what `write` kept."""
        kept, arrays = read_json(folder / "setup.json"), read_arrays(folder / "setup.safetensors")
        ridges = []
        for index, penalty in enumerate(kept["penalties"]):
            prefix = f"ridge-{index}."
            of_ridge = {name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)}
            ridges.append(RidgeDecoder(**of_ridge, penalty=penalty))
        model = kept["error_model"]
        return cls(
            ridges=tuple(ridges),
            mask=arrays["mask"],
            coverage=arrays["coverage"],
            margins=Margins(**kept["margins"]),
            mean=kept["mean"],
            covariances={
                name.removeprefix("covariance."): value
                for name, value in arrays.items()
                if name.startswith("covariance.")
            },
            prior=kept["prior"],
            prior_weight=kept["prior_weight"],
            choice=kept["choice"],
            error_model=None if model is None else ErrorModel(arrays["error_model.weights"], **model),
            transparency=arrays.get("transparency"),
            blend=tuple(kept["blend"]),
        )


def make_setup(
    recordings: Sequence[Recording], showings: Sequence[Showing], settings: InversionSettings, method: str
) -> Setup:
    """Settle what the clips share. Only training and validation movies, and responses, are looked at.

    Parameters
    ----------
    recordings
        The sessions and their encoders.
    showings
        What is to be reconstructed; prior and weight are chosen on the responses of some of these.
    settings
        How to invert.
    method
        The settings' preset, or ``ridge`` if the encoders are not good enough to be inverted.
    """
    setups = [
        _setup_of(recording, [showing[index] for showing in showings], settings, method)
        for index, recording in enumerate(recordings)
    ]
    setup = setups[0] if len(setups) == 1 else _join(setups, recordings)
    if method == "map":
        _calibrate(setup, recordings, settings)
    return setup


def gather(
    recordings: Sequence[Recording], showing: Showing, margins: Margins, settings: InversionSettings
) -> list[Evidence]:
    """Collect what all trials of a showing say about their clip."""
    given = settings.behavior == "given"
    return [
        gather_evidence(encoder, aligned, trial, margins, behavior=given)
        for (encoder, aligned), trials in zip(recordings, showing, strict=True)
        for trial in trials
    ]


def features_of(setup: Setup, fit: Reconstructor, evidence: list[Evidence], movie: np.ndarray, seed: int) -> np.ndarray:
    """Gather what the error of a reconstructed ``movie`` is predicted from."""
    with torch.no_grad():
        video = fit.prior.video(fit.white)
    information = fisher_information(evidence, video, n_probes=_PROBES, generator=torch.Generator().manual_seed(seed))
    inside = slice(setup.margins.lead, len(information) - setup.margins.tail)
    variance = float(setup.covariances["movie"][0, 0, 0])
    return error_features(movie, information[inside], variance, setup.mean)


def _setup_of(
    recording: Recording, trials: Sequence[tuple[int, ...]], settings: InversionSettings, method: str
) -> Setup:
    """Set up one recording by itself, without its error model."""
    encoder, aligned = recording
    ridge = fit_ridge(aligned)
    margins = Margins(encoder.warm_up, round(settings.tail_seconds * aligned.frame_rate))
    train = aligned.trials_in("train")
    some = [train[index] for index in np.unique(np.linspace(0, len(train) - 1, _SPECTRUM_CLIPS).astype(int))]
    movies = [aligned.trial(trial).video for trial in some]
    mean = float(np.mean([movie.mean() for movie in movies]))
    if method == "ridge":
        coverage = _ridge_coverage(ridge, aligned)
        return Setup((ridge,), coverage >= 0.5, coverage, margins, mean)

    spread = some[:: max(1, len(some) // _COVERAGE_CLIPS)]
    coverage, mask = information_coverage(
        encoder, aligned, spread, threshold=settings.mask_threshold, seed=settings.seed
    )
    setup = Setup((ridge,), mask, coverage, margins, mean)
    if method != "map":
        if settings.transparency is not None:
            setup.transparency = train_transparency(encoder, aligned, train, settings.transparency)
        return setup
    validation = [((trial,),) for trial in aligned.trials_in("validation")]
    setup.covariances = {
        "movie": autocovariance(movies, _lags(aligned), mean),
        "ridge": autocovariance(_residuals(setup, [recording], validation), _lags(aligned)),
    }
    _choose(setup, recording, trials, settings)
    return setup


def _join(setups: list[Setup], recordings: Sequence[Recording]) -> Setup:
    """One setup for several recordings whose evidence is summed."""
    joint = Setup(
        ridges=tuple(setup.ridges[0] for setup in setups),
        mask=np.logical_or.reduce([setup.mask for setup in setups]),
        coverage=np.maximum.reduce([setup.coverage for setup in setups]),
        margins=Margins(max(one.margins.lead for one in setups), max(one.margins.tail for one in setups)),
        mean=float(np.mean([setup.mean for setup in setups])),
    )
    if not setups[0].covariances:
        return joint
    joint.covariances = {
        kind: np.mean([setup.covariances[kind] for setup in setups], axis=0) for kind in setups[0].covariances
    }
    if shared := _shared_validation(recordings):
        # the mean of several decoders is off by less than each of them
        lags = _lags(recordings[0][1])
        joint.covariances["ridge"] = autocovariance(_residuals(joint, recordings, shared), lags)
    totals: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for setup in setups:
        for row in setup.choice:
            totals.setdefault((row["prior"], row["weight"]), []).append(row)
    joint.choice = [
        {"prior": kind, "weight": weight, **{name: sum(row[name] for row in rows) for name in ("held_out", "gain")}}
        for (kind, weight), rows in totals.items()
    ]
    best = min(joint.choice, key=lambda row: row["held_out"], default=None)
    joint.prior = best["prior"] if best else setups[0].prior
    joint.prior_weight = best["weight"] if best else setups[0].prior_weight
    return joint


def _shared_validation(recordings: Sequence[Recording]) -> list[Showing]:
    """List showings of the clips that all recordings hold for validation."""
    tables = [aligned.trials.loc[aligned.trials_in("validation")] for _, aligned in recordings]
    first = tables[0].drop_duplicates("clip")
    showings: list[Showing] = []
    for clip, n_frames in zip(first["clip"], first["n_frames"], strict=True):
        found = [table.index[(table["clip"] == clip) & (table["n_frames"] == n_frames)] for table in tables]
        if all(len(labels) for labels in found):
            showings.append(tuple((int(labels[0]),) for labels in found))
    return showings


def _choose(setup: Setup, recording: Recording, trials: Sequence[tuple[int, ...]], settings: InversionSettings) -> None:
    encoder, aligned = recording
    kinds = ("movie", "ridge") if settings.prior == "auto" else (settings.prior,)
    weights = settings.candidate_weights if settings.prior_weight is None else (settings.prior_weight,)
    if len(kinds) * len(weights) == 1:
        setup.prior, setup.prior_weight = kinds[0], weights[0]
        return
    # different clips say more about the choice than repeats of one
    labels = [label for of_clip in trials for label in of_clip]
    of_clip = aligned.trials.loc[labels].reset_index(names="trial").groupby("clip", sort=False)["trial"].first()
    cases = []
    for index, trial in enumerate(of_clip.iloc[: settings.selection_trials]):
        showing = ((int(trial),),)
        decoded = setup.decode([recording], showing)
        (evidence,) = gather([recording], showing, setup.margins, settings)
        cases.append(
            Case(
                evidence,
                {kind: setup.prior_for(kind, decoded, device_of(encoder)) for kind in kinds},
                held_out_neighborhoods(encoder.positions, settings.hold_out_share, settings.seed + index),
            )
        )
    choice = choose_prior(
        cases,
        setup.margins,
        weights=weights,
        iterations=settings.iterations // 2,
        tolerance=settings.tolerance,
    )
    setup.prior, setup.prior_weight, setup.choice = choice.prior, choice.weight, choice.table


def _calibrate(setup: Setup, recordings: Sequence[Recording], settings: InversionSettings) -> None:
    """On validation clips: how far to trust the inversion and how far the linear decoder, and how wrong both are.

    The weights of the two are those of least squares, none of them negative (stacked regression, Breiman 1996, Mach.
    Learn. 24:49-64). An encoder that knows little is so kept from doing worse than the linear decoder.
    """
    shown = _shared_validation(recordings)[:_ERROR_CLIPS]
    if not shown:
        return
    device = device_of(recordings[0][0])
    fits = []
    for showing in progress(shown, label="calibrating", unit="clip"):
        evidence = gather(recordings, showing, setup.margins, settings)
        decoded = setup.decode(recordings, showing)
        fit = Reconstructor(
            evidence,
            setup.prior_for(setup.prior, decoded, device),
            setup.margins,
            prior_weight=setup.prior_weight,
        )
        fit.run(settings.iterations, tolerance=settings.tolerance)
        fits.append((fit, evidence, np.clip(decoded, 0, 255), _truth(recordings, showing)))
    if len(shown) > 1:
        setup.blend = _best_blend([(fit.video, decoded, true) for fit, _, decoded, true in fits], setup.mask)
    if settings.uncertainty:
        features, errors = [], []
        for fit, evidence, decoded, true in fits:
            movie = setup.blended(fit.video, decoded)
            features.append(features_of(setup, fit, evidence, movie, settings.seed))
            errors.append(movie - true)
        setup.error_model = fit_error_model(features, errors, setup.mask)


def _best_blend(clips: list[tuple[np.ndarray, np.ndarray, np.ndarray]], mask: np.ndarray) -> tuple[float, float, float]:
    inverted, decoded, true = (
        np.concatenate([movie[:, mask].ravel() for movie in kind]) for kind in zip(*clips, strict=True)
    )
    columns = np.stack([inverted - inverted.mean(), decoded - decoded.mean()], axis=1)
    weights, _ = optimize.nnls(columns.astype(float), (true - true.mean()).astype(float))
    if not weights.any():
        return 1.0, 0.0, 0.0
    level = true.mean() - weights @ [inverted.mean(), decoded.mean()]
    return float(weights[0]), float(weights[1]), float(level)


def _residuals(setup: Setup, recordings: Sequence[Recording], showings: Sequence[Showing]) -> list[np.ndarray]:
    return [_truth(recordings, showing) - setup.decode(recordings, showing) for showing in showings]


def _truth(recordings: Sequence[Recording], showing: Showing) -> np.ndarray:
    return recordings[0][1].trial(showing[0][0]).video


def _lags(aligned: AlignedSession) -> tuple[int, int, int]:
    height, width = aligned.frame_size
    return round(_LONGEST_LAG * aligned.frame_rate), height - 1, width - 1


def _ridge_coverage(ridge: RidgeDecoder, aligned: AlignedSession) -> np.ndarray:
    """Correlation of each pixel with what the linear decoder makes of it on validation clips, over the largest."""
    validation = aligned.trials_in("validation")
    decoded = np.concatenate([ridge.predict(aligned, trial) for trial in validation])
    movies = np.concatenate([aligned.trial(trial).video for trial in validation])
    coverage = ndimage.gaussian_filter(np.nan_to_num(correlation(decoded, movies)).clip(0), 1.5)
    return (coverage / max(float(coverage.max()), 1e-9)).astype(np.float32)
