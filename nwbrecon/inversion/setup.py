"""What is settled once for a recording before its clips are reconstructed: decoder, priors, mask, calibration."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

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

__all__ = ["Setup", "make_setup"]

# products of pixels farther apart in time than this are noisy, and hardly differ any more (s)
_LONGEST_LAG = 3.0
# more clips than these change the average spectrum little, and the mask and the error model neither
_SPECTRUM_CLIPS, _COVERAGE_CLIPS, _ERROR_CLIPS = 24, 4, 4
_PROBES = 6


@dataclass
class Setup:
    """What the reconstruction of each clip of a recording shares.

    Attributes
    ----------
    ridge
        The linear decoder.
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
    """

    ridge: RidgeDecoder
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
        ridge = {name: value for name, value in vars(self.ridge).items() if isinstance(value, np.ndarray)}
        arrays |= {f"ridge.{name}": value for name, value in ridge.items()}
        if self.transparency is not None:
            arrays["transparency"] = self.transparency
        if self.error_model is not None:
            arrays["error_model.weights"] = self.error_model.weights
        write_arrays(folder / "setup.safetensors", arrays)
        model = self.error_model
        write_json(
            folder / "setup.json",
            {
                "penalty": self.ridge.penalty,
                "margins": asdict(self.margins),
                "mean": self.mean,
                "prior": self.prior,
                "prior_weight": self.prior_weight,
                "choice": self.choice,
                "error_model": None if model is None else {"scale": model.scale, "n_clips": model.n_clips},
            },
        )

    @classmethod
    def read(cls, folder: Path) -> Setup:
        """Read what `write` kept."""
        kept, arrays = read_json(folder / "setup.json"), read_arrays(folder / "setup.safetensors")
        ridge = {name.removeprefix("ridge."): value for name, value in arrays.items() if name.startswith("ridge.")}
        model = kept["error_model"]
        return cls(
            ridge=RidgeDecoder(**ridge, penalty=kept["penalty"]),
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
        )


def make_setup(
    encoder: EncoderEnsemble, aligned: AlignedSession, trials: list[int], settings: InversionSettings, method: str
) -> Setup:
    """Settle what the clips share. Only training and validation movies, and responses, are looked at.

    Parameters
    ----------
    encoder
        The session's encoder.
    aligned
        The session.
    trials
        Trials that are to be reconstructed; prior and weight are chosen on the responses of some of these.
    settings
        How to invert.
    method
        The settings' preset, or ``ridge`` if the encoder is not good enough to be inverted.
    """
    ridge = fit_ridge(aligned)
    margins = Margins(encoder.warm_up, round(settings.tail_seconds * aligned.frame_rate))
    train = aligned.trials_in("train")
    some = [train[index] for index in np.unique(np.linspace(0, len(train) - 1, _SPECTRUM_CLIPS).astype(int))]
    movies = [aligned.trial(trial).video for trial in some]
    mean = float(np.mean([movie.mean() for movie in movies]))
    if method == "ridge":
        coverage = _ridge_coverage(ridge, aligned)
        return Setup(ridge, coverage >= 0.5, coverage, margins, mean)

    coverage, mask = information_coverage(
        encoder, aligned, some[:_COVERAGE_CLIPS], threshold=settings.mask_threshold, seed=settings.seed
    )
    if method != "map":
        setup = Setup(ridge, mask, coverage, margins, mean)
        if settings.transparency is not None:
            setup.transparency = train_transparency(encoder, aligned, train, settings.transparency)
        return setup
    height, width = aligned.frame_size
    lags = (round(_LONGEST_LAG * aligned.frame_rate), height - 1, width - 1)
    validation = aligned.trials_in("validation")
    residuals = [aligned.trial(trial).video - ridge.predict(aligned, trial) for trial in validation]
    setup = Setup(
        ridge,
        mask,
        coverage,
        margins,
        mean,
        covariances={"movie": autocovariance(movies, lags, mean), "ridge": autocovariance(residuals, lags)},
    )
    _choose(setup, encoder, aligned, trials, settings)
    if settings.uncertainty:
        setup.error_model = _fit_errors(setup, encoder, aligned, validation, settings)
    return setup


def _choose(
    setup: Setup, encoder: EncoderEnsemble, aligned: AlignedSession, trials: list[int], settings: InversionSettings
) -> None:
    kinds = ("movie", "ridge") if settings.prior == "auto" else (settings.prior,)
    weights = settings.candidate_weights if settings.prior_weight is None else (settings.prior_weight,)
    if len(kinds) * len(weights) == 1:
        setup.prior, setup.prior_weight = kinds[0], weights[0]
        return
    # different clips say more about the choice than repeats of one
    of_clip = aligned.trials.loc[trials].reset_index(names="trial").groupby("clip", sort=False)["trial"].first()
    cases = []
    for index, trial in enumerate(of_clip.iloc[: settings.selection_trials]):
        decoded = setup.ridge.predict(aligned, int(trial))
        cases.append(
            Case(
                gather_evidence(encoder, aligned, int(trial), setup.margins, behavior=settings.behavior == "given"),
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


def _fit_errors(
    setup: Setup, encoder: EncoderEnsemble, aligned: AlignedSession, validation: list[int], settings: InversionSettings
) -> ErrorModel:
    features, errors = [], []
    for trial in progress(validation[:_ERROR_CLIPS], label="calibrating uncertainty", unit="clip"):
        evidence = gather_evidence(encoder, aligned, trial, setup.margins, behavior=settings.behavior == "given")
        prior = setup.prior_for(setup.prior, setup.ridge.predict(aligned, trial), device_of(encoder))
        fit = Reconstructor([evidence], prior, setup.margins, prior_weight=setup.prior_weight)
        fit.run(settings.iterations, tolerance=settings.tolerance)
        features.append(features_of(setup, fit, [evidence], settings.seed))
        errors.append(fit.video - aligned.trial(trial).video)
    return fit_error_model(features, errors, setup.mask)


def features_of(setup: Setup, fit: Reconstructor, evidence: list[Evidence], seed: int) -> np.ndarray:
    """Gather what the error of a reconstruction is predicted from."""
    with torch.no_grad():
        video = fit.prior.video(fit.white)
    information = fisher_information(evidence, video, n_probes=_PROBES, generator=torch.Generator().manual_seed(seed))
    inside = slice(setup.margins.lead, len(information) - setup.margins.tail)
    variance = float(setup.covariances["movie"][0, 0, 0])
    return error_features(fit.video, information[inside], variance, setup.mean)


def _ridge_coverage(ridge: RidgeDecoder, aligned: AlignedSession) -> np.ndarray:
    """Correlation of each pixel with what the linear decoder makes of it on validation clips, over the largest."""
    validation = aligned.trials_in("validation")
    decoded = np.concatenate([ridge.predict(aligned, trial) for trial in validation])
    movies = np.concatenate([aligned.trial(trial).video for trial in validation])
    coverage = ndimage.gaussian_filter(np.nan_to_num(correlation(decoded, movies)).clip(0), 1.5)
    return (coverage / max(float(coverage.max()), 1e-9)).astype(np.float32)
