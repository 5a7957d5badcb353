"""What clips share when they are reconstructed, and the inversion of one with it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nwbrecon.alignment import AlignedSession
from nwbrecon.config import InversionSettings
from nwbrecon.encoding import EncoderEnsemble
from nwbrecon.encoding.device import device_of
from nwbrecon.inversion.amortized import AmortizedDecoder, kept_arrays, read_decoders
from nwbrecon.inversion.behavior import BehaviorModel
from nwbrecon.inversion.blending import Blend
from nwbrecon.inversion.denoiser import Denoiser, DenoiserPrior
from nwbrecon.inversion.evidence import Evidence, Margins, gather_evidence
from nwbrecon.inversion.information import fisher_information
from nwbrecon.inversion.metric import Metric
from nwbrecon.inversion.priors import MoviePrior, Prior
from nwbrecon.inversion.reconstructor import Outcome, Reconstructor
from nwbrecon.inversion.ridge import RidgeDecoder
from nwbrecon.inversion.together import search_together
from nwbrecon.inversion.uncertainty import ErrorModel, error_features
from nwbrecon.storage import read_arrays, read_json, write_arrays, write_json

__all__ = [
    "INVERTED",
    "SEARCH",
    "Inverted",
    "Recording",
    "Setup",
    "Showing",
    "gather",
    "in_batches",
    "in_range",
    "invert",
    "invert_together",
]

Recording = tuple[EncoderEnsemble, AlignedSession]
"""A session and its encoder."""

Showing = tuple[tuple[int, ...], ...]
"""Labels of the trials of one clip that make one movie together, of each recording."""

INVERTED = ("map", "fast")
"""Presets that search for the movie under a prior: they differ by what their settings default to."""

SEARCH = 5
"""To be raised when the same settings come to mean another search: work that was kept before is then not taken up."""

# directions in which the Fisher information is probed
_PROBES = 2


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
        Autocovariance by kind of prior (``movie``, ``ridge``, ``generic``); empty where only the linear decoder is
        used.
    denoiser
        What the kind ``denoiser`` adds to ``movie``; ``None`` where it is not asked for.
    sensitivity
        Sum of `nwbrecon.inversion.metric.sensitivity` over recordings; ``None`` where nothing is inverted by us.
    prior, prior_weight
        What was chosen.
    choice, curve
        How it was chosen, see `nwbrecon.inversion.selection.Choice`.
    error_model
        ``None`` where no uncertainty is asked for.
    transparency
        Mask of the published method, where that is used.
    blend
        How the inverted movie and the decoder's are added up; where there is a step in place of a search, it and the
        decoder's.
    seconds
        Time that it took to settle all this (s).
    behaving
        What is known of the behavior of each recording, where it is inferred; otherwise empty.
    amortized
        The amortized decoder of each recording, where the settings ask for it; its movie and the linear decoder's
        together then take the latter's place in everything but as a baseline.
    of_decoders
        How the amortized decoder's movie and the linear decoder's are added up, where there are both.
    """

    ridges: tuple[RidgeDecoder, ...]
    mask: np.ndarray
    coverage: np.ndarray
    margins: Margins
    mean: float
    covariances: dict[str, np.ndarray] = field(default_factory=dict)
    denoiser: Denoiser | None = None
    sensitivity: np.ndarray | None = None
    prior: str = ""
    prior_weight: float = 0.0
    choice: list[dict[str, Any]] = field(default_factory=list)
    curve: list[dict[str, float]] = field(default_factory=list)
    error_model: ErrorModel | None = None
    transparency: np.ndarray | None = None
    blend: Blend = field(default_factory=Blend.of_first)
    seconds: float = 0.0
    behaving: tuple[BehaviorModel, ...] = ()
    amortized: tuple[AmortizedDecoder, ...] = ()
    of_decoders: Blend = field(default_factory=Blend.of_first)
    _priors: dict[tuple[Any, ...], Prior] = field(default_factory=dict, init=False, repr=False, compare=False)
    _metric: tuple[Prior, float, float, Metric] | None = field(default=None, init=False, repr=False, compare=False)

    def blended(self, inverted: np.ndarray, decoded: np.ndarray) -> np.ndarray:
        """Give the movie that is best on validation clips: ``(..., height, width)`` float32, grey levels 0-255."""
        return in_range(self.blend.movie(inverted, decoded))

    def finished(self, made: Inverted, seed: int, *, uncertain: bool = True) -> tuple[np.ndarray, np.ndarray | None]:
        """Give the movie that comes of an inverted clip, and its standard deviation where that is asked for and known.

        Both are ``(time, height, width)`` float32, grey levels.
        """
        video = self.blended(made.fit.video, made.decoded)
        if self.error_model is None or not uncertain:
            return video, None
        return video, self.error_model.std(
            self.error_features(video, made.fit.video, made.decoded, made.information(seed))
        )

    def error_features(
        self, video: np.ndarray, inverted: np.ndarray, decoded: np.ndarray, information: np.ndarray
    ) -> np.ndarray:
        """Gather what the error of a finished movie is predicted from, given `Inverted.information`."""
        centered = "generic" if self.prior == "generic" else "movie"
        return error_features(video, inverted, decoded, information, self.covariances[centered])

    def decode(
        self, recordings: Sequence[Recording], showing: Showing, without: Sequence[np.ndarray] | None = None
    ) -> np.ndarray:
        """Decode a clip linearly, mean over its trials: ``(time, height, width)``, grey levels, not clipped.

        ``without`` says of each recording which ROIs ``(roi,)`` are not looked at.
        """
        unseen: Sequence[np.ndarray | None] = [None] * len(recordings) if without is None else without
        return np.mean(
            [
                ridge.predict(aligned, trial, blind)
                for ridge, (_, aligned), trials, blind in zip(self.ridges, recordings, showing, unseen, strict=True)
                for trial in trials
            ],
            axis=0,
        )

    def guess(
        self, recordings: Sequence[Recording], showing: Showing, without: Sequence[np.ndarray] | None = None
    ) -> np.ndarray:
        """Give the decoder's movie of a clip, which the search begins at: ``(time, height, width)``, not clipped.

        The linear decoder's or, where there is an amortized decoder and no ROIs are to be left out (see `decode`), both
        added up.
        """
        return self.decoded(recordings, showing)[0] if without is None else self.decode(recordings, showing, without)

    def decoded(self, recordings: Sequence[Recording], showing: Showing) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Give the decoder's movie of a clip, not clipped, and that of each decoder by name, grey levels 0-255."""
        if not self.amortized:
            linear = self.decode(recordings, showing)
            return linear, {"ridge": in_range(linear)}
        by_network, linear = self.decoders(recordings, showing)
        return self.of_decoders.movie(by_network, linear), {"ridge": linear, "amortized": by_network}

    def decoders(self, recordings: Sequence[Recording], showing: Showing) -> tuple[np.ndarray, np.ndarray]:
        """Give the amortized decoder's movie of a clip and the linear decoder's, grey levels 0-255.

        Showings that one amortized decoder is for are decoded together, from their mean response.
        """
        of_each: dict[int, tuple[AmortizedDecoder, list[tuple[AlignedSession, int]]]] = {}
        for decoder, (encoder, aligned), trials in zip(self.amortized, recordings, showing, strict=True):
            # one that was kept comes back on the CPU
            decoder.network.to(device_of(encoder))
            _, shown = of_each.setdefault(id(decoder), (decoder, []))
            shown += [(aligned, trial) for trial in trials]
        made = [decoder.predict(*zip(*shown, strict=True)) for decoder, shown in of_each.values()]
        return in_range(np.mean(made, axis=0)), in_range(self.decode(recordings, showing))

    def sensitivity_to(self, showing: Showing) -> np.ndarray | None:
        """Sensitivity of all witnesses of a showing together."""
        return None if self.sensitivity is None else self.sensitivity * float(np.mean([len(one) for one in showing]))

    def metric_for(self, prior: Prior, showing: Showing) -> Metric:
        """Metric of a search under a prior, with the chosen weight; needs the sensitivity."""
        sensitivity = self.sensitivity_to(showing)
        assert sensitivity is not None
        witnesses = float(np.mean([len(one) for one in showing]))
        # the clip before had the same, mostly
        asked = prior, witnesses, self.prior_weight
        if self._metric is None or self._metric[0] is not prior or self._metric[1:3] != asked[1:]:
            self._metric = *asked, Metric(sensitivity, prior, self.prior_weight)
        return self._metric[3]

    def prior_for(self, kind: str, ridge_video: np.ndarray, device: torch.device) -> Prior:
        """Prior of a clip with its margins, given what the linear decoder makes of it."""
        n_frames = self.margins.around(len(ridge_video))
        shape = (n_frames, *ridge_video.shape[1:])
        if kind == "ridge":
            return MoviePrior(self.covariances[kind], shape, self.margins.pad(ridge_video)).to(device)
        # clips of one length have one prior
        key = (kind, shape, device)
        if key not in self._priors:
            if kind == "denoiser":
                assert self.denoiser is not None
                # one of its own: it moves with the prior
                denoiser = copy.deepcopy(self.denoiser)
                prior: Prior = DenoiserPrior(self.covariances["movie"], shape, self.mean, denoiser)
            else:
                prior = MoviePrior(self.covariances[kind], shape, self.mean)
            self._priors[key] = prior.to(device)
        return self._priors[key]

    def write(self, folder: Path) -> None:
        """Keep it in a folder."""
        arrays = {"mask": self.mask, "coverage": self.coverage}
        arrays |= {f"covariance.{kind}": value for kind, value in self.covariances.items()}
        for index, ridge in enumerate(self.ridges):
            of_ridge = {name: value for name, value in vars(ridge).items() if isinstance(value, np.ndarray)}
            arrays |= {f"ridge-{index}.{name}": value for name, value in of_ridge.items()}
        for index, behaving in enumerate(self.behaving):
            arrays |= {f"behaving-{index}.{name}": value for name, value in behaving.arrays().items()}
        if self.denoiser is not None:
            arrays |= {f"denoiser.{name}": value for name, value in self.denoiser.arrays().items()}
        arrays |= kept_arrays(self.amortized)
        if self.sensitivity is not None:
            arrays["sensitivity"] = self.sensitivity
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
                "curve": self.curve,
                "blend": self.blend.as_dict(),
                "of_decoders": self.of_decoders.as_dict(),
                "seconds": self.seconds,
                "denoiser": None if self.denoiser is None else self.denoiser.scales(),
                "amortized": [decoder.numbers() for decoder in self.amortized],
                "error_model": None
                if model is None
                else {name: value for name, value in vars(model).items() if name != "weights"},
            },
        )

    @classmethod
    def read(cls, folder: Path) -> Setup:
        """Read what `write` kept."""
        kept, arrays = read_json(folder / "setup.json"), read_arrays(folder / "setup.safetensors")
        ridges = [
            RidgeDecoder(**_under(f"ridge-{n}.", arrays), penalty=penalty)
            for n, penalty in enumerate(kept["penalties"])
        ]
        behaving = [found for n in range(len(ridges)) if (found := _under(f"behaving-{n}.", arrays))]
        model = kept["error_model"]
        # setups that were kept before there were denoisers have none
        scales = kept.get("denoiser")
        return cls(
            ridges=tuple(ridges),
            mask=arrays["mask"],
            coverage=arrays["coverage"],
            margins=Margins(**kept["margins"]),
            mean=kept["mean"],
            covariances=_under("covariance.", arrays),
            denoiser=None if scales is None else Denoiser.of(_under("denoiser.", arrays), **scales),
            sensitivity=arrays.get("sensitivity"),
            prior=kept["prior"],
            prior_weight=kept["prior_weight"],
            choice=kept["choice"],
            curve=kept.get("curve", []),
            error_model=None if model is None else ErrorModel(arrays["error_model.weights"], **model),
            transparency=arrays.get("transparency"),
            blend=Blend.from_plain(kept["blend"]),
            seconds=kept["seconds"],
            behaving=tuple(BehaviorModel(**found) for found in behaving),
            amortized=read_decoders(arrays, kept["amortized"]),
            of_decoders=Blend.from_plain(kept["of_decoders"]) if "of_decoders" in kept else Blend.of_first(),
        )


def _under(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays whose names begin so, without the beginning."""
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def gather(
    recordings: Sequence[Recording],
    showing: Showing,
    margins: Margins,
    settings: InversionSettings,
    behaving: Sequence[BehaviorModel] = (),
) -> list[Evidence]:
    """Collect what all trials of a showing say about their clip; ``behaving`` is needed where behavior is inferred."""
    told: Sequence[bool | BehaviorModel] = [settings.behavior == "given"] * len(recordings)
    if settings.behavior == "inferred":
        told = behaving
    return [
        witness
        for (encoder, aligned), trials, behavior in zip(recordings, showing, told, strict=True)
        for trial in trials
        for witness in gather_evidence(
            encoder,
            aligned,
            trial,
            margins,
            behavior=behavior,
            shared_gain=settings.shared_gain,
            stretch_seconds=settings.stretch_seconds,
        )
    ]


@dataclass
class Inverted:
    """A clip inverted with a setup, before anything is made of it.

    Attributes
    ----------
    fit
        The search.
    outcome
        How it ended.
    evidence
        What it fitted, with the behavior that it found where it was to find it.
    decoded
        ``(time, height, width)`` the decoder's movie, at which the search began; grey levels 0-255.
    baselines
        The movie of each decoder by name, likewise.
    """

    fit: Reconstructor
    outcome: Outcome
    evidence: list[Evidence]
    decoded: np.ndarray
    baselines: dict[str, np.ndarray]

    def information(self, seed: int) -> np.ndarray:
        """Fisher information about each pixel of the clip, ``(time, height, width)`` per squared grey level."""
        with torch.no_grad():
            video = self.fit.prior.video(self.fit.white)
        information = fisher_information(
            self.evidence, video, n_probes=_PROBES, generator=torch.Generator().manual_seed(seed)
        )
        return information[self.fit.margins.lead : len(information) - self.fit.margins.tail]


def invert(
    setup: Setup,
    recordings: Sequence[Recording],
    showing: Showing,
    settings: InversionSettings,
    snapshots: Sequence[int] = (),
) -> Inverted:
    """Search for the movie that explains a showing best; see `invert_together`."""
    return invert_together(setup, recordings, [showing], settings, {showing: snapshots})[0]


def invert_together(
    setup: Setup,
    recordings: Sequence[Recording],
    showings: Sequence[Showing],
    settings: InversionSettings,
    snapshots: Mapping[Showing, Sequence[int]] | None = None,
) -> list[Inverted]:
    """Search for the movies that explain showings best, starting from what the decoder makes of them.

    Several are searched for side by side, and their movies predicted in one batch.

    Parameters
    ----------
    setup
        What the clips share.
    recordings
        The sessions and their encoders.
    showings
        The trials of each clip.
    settings
        How long to search, what is made of noise, and what is made of behavior.
    snapshots
        Iterations at which the video of a showing is kept.
    """
    decoded = [setup.decoded(recordings, showing) for showing in showings]
    fits = [
        _begun(setup, recordings, showing, settings, guess)
        for showing, (guess, _) in zip(showings, decoded, strict=True)
    ]
    kept = {id(fit): (snapshots or {}).get(showing, ()) for fit, showing in zip(fits, showings, strict=True)}
    outcomes = _searched(
        fits, lambda fit: fit.run(settings.iterations, tolerance=settings.tolerance, snapshots=kept[id(fit)])
    )
    if settings.noise != "dispersion":
        for fit in fits:
            with torch.no_grad():
                video = fit.prior.video(fit.white)
            fit.judge_by([witness.whitened(video[:, witness.frames], settings.noise) for witness in fit.evidence])
        half = math.ceil(settings.iterations / 2)
        outcomes = _searched(fits, lambda fit: fit.run(half, tolerance=settings.tolerance))
    return [
        Inverted(fit, outcome, fit.objective.told(fit.point), in_range(guess), baselines)
        for fit, outcome, (guess, baselines) in zip(fits, outcomes, decoded, strict=True)
    ]


def _searched(fits: Sequence[Reconstructor], search: Callable[[Reconstructor], Outcome]) -> list[Outcome]:
    return [search(fit) for fit in fits] if len(fits) == 1 else search_together(fits, search)


def _begun(
    setup: Setup,
    recordings: Sequence[Recording],
    showing: Showing,
    settings: InversionSettings,
    guess: np.ndarray,
) -> Reconstructor:
    """Set up the search for a clip."""
    prior = setup.prior_for(setup.prior, guess, device_of(recordings[0][0]))
    return Reconstructor(
        gather(recordings, showing, setup.margins, settings, setup.behaving),
        prior,
        setup.margins,
        prior_weight=setup.prior_weight,
        start=prior.white(setup.margins.pad(guess)),
        sensitivity=setup.sensitivity_to(showing),
        optimizer=settings.optimizer,
    )


def in_batches(showings: Sequence[Showing], size: int) -> list[Sequence[Showing]]:
    """Cut showings into batches, one after the other."""
    return [showings[first : first + size] for first in range(0, len(showings), size)]


def in_range(video: np.ndarray) -> np.ndarray:
    """Clip to what a screen can show: float32 grey levels 0-255."""
    return np.clip(video, 0, 255).astype(np.float32)
