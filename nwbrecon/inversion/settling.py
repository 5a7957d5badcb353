"""Settling what clips share before they are reconstructed: decoders, priors, mask, calibration."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from nwbrecon.alignment import AlignedSession
from nwbrecon.alignment.cells import cells_of_rois
from nwbrecon.config import InversionSettings
from nwbrecon.encoding.device import device_of
from nwbrecon.inversion.amortized import fit_amortized
from nwbrecon.inversion.behavior import BehaviorModel
from nwbrecon.inversion.blending import Blend, fit_blend
from nwbrecon.inversion.evidence import Evidence, Margins
from nwbrecon.inversion.first_look import gradient_step
from nwbrecon.inversion.information import information_coverage
from nwbrecon.inversion.kinds import denoiser_of, generic_covariance, kinds_of, without_inventors
from nwbrecon.inversion.metric import behavior_sensitivity, sensitivity
from nwbrecon.inversion.priors import Prior, autocovariance
from nwbrecon.inversion.ridge import RidgeDecoder, fit_ridge
from nwbrecon.inversion.selection import (
    Candidates,
    Judged,
    Known,
    choose_by_held_out,
    choose_on_known,
    held_out_neighborhoods,
)
from nwbrecon.inversion.setup import INVERTED, Recording, Setup, Showing, gather, in_batches, in_range, invert_together
from nwbrecon.inversion.transparency import train_transparency
from nwbrecon.inversion.uncertainty import fit_error_model
from nwbrecon.metrics import correlation
from nwbrecon.progress import progress

__all__ = ["CALIBRATION_CLIPS", "CALIBRATION_FILMS", "UNSEARCHED_CLIPS", "make_setup"]

# products of pixels farther apart in time than this are noisy, and hardly differ any more (s)
_LONGEST_LAG = 3.0
# more clips than these change the average spectrum little, and the mask neither; of validation clips, on which the
# weights of the two movies and the error model rest, four were too few where clips differ much; where there is no
# search, a clip costs little
_SPECTRUM_CLIPS, _COVERAGE_CLIPS, CALIBRATION_CLIPS, UNSEARCHED_CLIPS = 24, 8, 8, 24
# films that should tell how far films are apart in what is missed of them
CALIBRATION_FILMS = 8


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
    started = time.perf_counter()
    setups = [_setup_of(recording, settings, method) for recording in recordings]
    setup = setups[0] if len(setups) == 1 else _join(setups, recordings)
    if method in INVERTED:
        known = _known(recordings)
        if settings.iterations:
            if "denoiser" in kinds_of(settings):
                setup.denoiser = denoiser_of([aligned for _, aligned in recordings], settings)
            _choose(setup, recordings, showings, settings)
            _calibrate(setup, recordings, known[:CALIBRATION_CLIPS], settings)
        elif settings.gradient_step:
            _calibrate_step(setup, recordings, known, settings)
    setup.seconds = time.perf_counter() - started
    return setup


def _setup_of(recording: Recording, settings: InversionSettings, method: str) -> Setup:
    """Set up one recording by itself: its decoder, its mask and its spectra."""
    encoder, aligned = recording
    ridge = fit_ridge(aligned)
    margins = Margins.needed(encoder, settings, aligned.frame_rate)
    train = aligned.trials_in("train")
    some = [train[index] for index in np.unique(np.linspace(0, len(train) - 1, _SPECTRUM_CLIPS).astype(int))]
    movies = [aligned.trial(trial).video for trial in some]
    mean = float(np.mean([movie.mean() for movie in movies]))
    if method == "ridge":
        coverage = _ridge_coverage(ridge, aligned)
        return Setup((ridge,), coverage >= 0.5, coverage, margins, mean)

    spread = some[:: max(1, len(some) // _COVERAGE_CLIPS)]
    coverage, mask = information_coverage(
        encoder,
        aligned,
        spread,
        threshold=settings.mask_threshold,
        seed=settings.seed,
        stretch_seconds=settings.stretch_seconds,
    )
    setup = Setup((ridge,), mask, coverage, margins, mean)
    if method in INVERTED and settings.decoder == "amortized":
        setup.amortized = (fit_amortized(encoder, aligned, coverage, seed=settings.seed),)
        _blend_decoders(setup, [recording])
    if method in INVERTED and not (settings.iterations or settings.gradient_step):
        return setup
    if method not in INVERTED:
        if settings.transparency is not None:
            setup.transparency = train_transparency(encoder, aligned, train, settings.transparency)
        return setup
    validation = [((trial,),) for trial in aligned.trials_in("validation")]
    setup.sensitivity = sensitivity(
        encoder, aligned, spread, seed=settings.seed, stretch_seconds=settings.stretch_seconds
    )
    if settings.behavior == "inferred":
        model = BehaviorModel.measure(aligned, train, _lags(aligned)[0])
        model.sensitivity = behavior_sensitivity(
            encoder, aligned, spread, model.mixing, seed=settings.seed, stretch_seconds=settings.stretch_seconds
        )
        setup.behaving = (model,)
    setup.covariances = {"movie": autocovariance(movies, _lags(aligned), mean)}
    kinds = kinds_of(settings)
    if "generic" in kinds:
        setup.covariances["generic"] = generic_covariance(setup.covariances["movie"], aligned.frame_rate, settings)
    if "ridge" in kinds:
        setup.covariances["ridge"] = autocovariance(_residuals(setup, [recording], validation), _lags(aligned))
    return setup


def _join(setups: list[Setup], recordings: Sequence[Recording]) -> Setup:
    """One setup for several recordings whose evidence is summed."""
    joint = Setup(
        ridges=tuple(setup.ridges[0] for setup in setups),
        amortized=tuple(decoder for setup in setups for decoder in setup.amortized),
        mask=np.logical_or.reduce([setup.mask for setup in setups]),
        coverage=np.maximum.reduce([setup.coverage for setup in setups]),
        margins=Margins(max(one.margins.lead for one in setups), max(one.margins.tail for one in setups)),
        mean=float(np.mean([setup.mean for setup in setups])),
    )
    if joint.amortized:
        _blend_decoders(joint, recordings)
    if not setups[0].covariances:
        return joint
    joint.sensitivity = np.sum([setup.sensitivity for setup in setups if setup.sensitivity is not None], axis=0)
    joint.behaving = tuple(model for setup in setups for model in setup.behaving)
    joint.covariances = {
        kind: np.mean([setup.covariances[kind] for setup in setups], axis=0) for kind in setups[0].covariances
    }
    if "ridge" in joint.covariances and (shared := _shared(recordings, "validation")):
        # the mean of several decoders is off by less than each of them
        lags = _lags(recordings[0][1])
        joint.covariances["ridge"] = autocovariance(_residuals(joint, recordings, shared), lags)
    return joint


def _shared(recordings: Sequence[Recording], split: str) -> list[Showing]:
    """List showings of the clips that all recordings hold in a split."""
    tables = [aligned.trials.loc[aligned.trials_in(split)] for _, aligned in recordings]
    first = tables[0].drop_duplicates("clip")
    showings: list[Showing] = []
    for clip, n_frames in zip(first["clip"], first["n_frames"], strict=True):
        found = [table.index[(table["clip"] == clip) & (table["n_frames"] == n_frames)] for table in tables]
        if all(len(labels) for labels in found):
            showings.append(tuple((int(labels[0]),) for labels in found))
    return showings


def _known(recordings: Sequence[Recording]) -> list[Showing]:
    """List showings of the validation clips that all recordings hold, one of every film before another of one."""
    return _spread_over_films(recordings[0][1], _shared(recordings, "validation"))


def _choose(
    setup: Setup, recordings: Sequence[Recording], showings: Sequence[Showing], settings: InversionSettings
) -> None:
    """Choose prior and weight: on validation clips, or by held-out ROIs on the clips that are reconstructed."""
    candidates = Candidates(
        kinds_of(settings),
        settings.candidate_weights if settings.prior_weight is None else (settings.prior_weight,),
        max(1, settings.iterations // 2),
        settings.tolerance,
        settings.optimizer,
    )
    if len(candidates) == 1:
        setup.prior, setup.prior_weight = candidates.kinds[0], candidates.weights[0]
        return
    most, several = settings.selection_trials, len(candidates.kinds) > 1
    known = _shared(recordings, "validation")[:most] if settings.choose_by == "validation" else []
    judged = []
    if several or not known:
        some = known or _of_each_clip(recordings[0][1], showings)[:most]
        cells = [cells_of_rois(aligned) for _, aligned in recordings]
        judged = [_judged(setup, recordings, showing, settings, cells, index) for index, showing in enumerate(some)]
    if known:
        choice = choose_on_known(
            [
                Known(
                    *_clip(setup, recordings, showing, settings),
                    _truth(recordings, showing),
                    setup.sensitivity_to(showing),
                )
                for showing in known
            ],
            setup.margins,
            candidates,
            setup.mask,
            recordings[0][1].frame_rate,
        )
    else:
        choice = choose_by_held_out(judged, setup.margins, candidates)
    if several:
        choice = without_inventors(choice, judged, setup.margins, candidates)
    setup.prior, setup.prior_weight, setup.choice, setup.curve = choice.prior, choice.weight, choice.table, choice.curve


def _clip(
    setup: Setup,
    recordings: Sequence[Recording],
    showing: Showing,
    settings: InversionSettings,
    without: Sequence[np.ndarray] | None = None,
) -> tuple[list[Evidence], Callable[[str], Prior], np.ndarray]:
    """Evidence of a clip, its prior by kind, and the decoder's movie, made without some ROIs."""
    decoded = setup.guess(recordings, showing, without)
    device = device_of(recordings[0][0])
    return (
        gather(recordings, showing, setup.margins, settings, setup.behaving),
        lambda kind: setup.prior_for(kind, decoded, device),
        in_range(decoded),
    )


def _judged(
    setup: Setup,
    recordings: Sequence[Recording],
    showing: Showing,
    settings: InversionSettings,
    cells: Sequence[np.ndarray],
    index: int,
) -> Judged:
    """Set a clip up to be judged by ROIs that are held out, and of which nothing goes into the movie.

    ``cells`` says of each recording which cell its ROIs are.
    """
    held_out = [
        held_out_neighborhoods(encoder.positions, settings.hold_out_share, settings.seed + index, of_rois)
        for (encoder, _), of_rois in zip(recordings, cells, strict=True)
    ]
    # the same ROIs judge in all witnesses of a recording
    judges = {id(encoder): judging for (encoder, _), judging in zip(recordings, held_out, strict=True)}
    evidence, prior_for, decoded = _clip(setup, recordings, showing, settings, held_out)
    rois = [judges[id(witness.encoder)] for witness in evidence]
    return Judged(evidence, prior_for, rois, setup.sensitivity_to(showing), decoded)


def _of_each_clip(aligned: AlignedSession, showings: Sequence[Showing]) -> list[Showing]:
    """Take the first showing of every clip: different clips say more about a choice than repeats of one."""
    first: dict[str, Showing] = {}
    for showing in showings:
        first.setdefault(str(aligned.trials.at[showing[0][0], "clip"]), showing)
    return list(first.values())


def _blend_decoders(setup: Setup, recordings: Sequence[Recording]) -> None:
    """On validation clips: how far to trust the amortized decoder, and how far the linear one."""
    some = _known(recordings)[:UNSEARCHED_CLIPS]
    clips = [(*setup.decoders(recordings, showing), _truth(recordings, showing)) for showing in some]
    if len(clips) > 1:
        setup.of_decoders = fit_blend(clips, setup.mask, recordings[0][1].frame_rate)


def _calibrate_step(
    setup: Setup, recordings: Sequence[Recording], showings: Sequence[Showing], settings: InversionSettings
) -> None:
    """On validation clips: how long the step from the decoder's movie is to be; without any, there is none."""
    setup.prior = kinds_of(settings)[0]
    setup.prior_weight = settings.prior_weight or settings.candidate_weights[0]
    setup.blend = Blend.of_second()
    clips = []
    for showing in progress(showings[:UNSEARCHED_CLIPS], label="calibrating", unit="clip"):
        guess = in_range(setup.guess(recordings, showing))
        step = gradient_step(setup, recordings, showing, settings, guess)
        clips.append((step, guess, _truth(recordings, showing)))
    if len(clips) > 1:
        blend = fit_blend(clips, setup.mask, recordings[0][1].frame_rate)
        if blend.explained > 0:
            setup.blend = blend


def _calibrate(
    setup: Setup, recordings: Sequence[Recording], showings: Sequence[Showing], settings: InversionSettings
) -> None:
    """On validation clips: how far to trust the inversion and how far the decoder, and how wrong both are."""
    if not showings:
        return
    aligned = recordings[0][1]
    known = [*showings, *(_learned_from(recordings, showings) if settings.uncertainty else [])]
    clips, information = [], []
    with progress(total=len(known), label="calibrating", unit="clip") as bar:
        for some in in_batches(known, settings.clips_at_once):
            for showing, made in zip(some, invert_together(setup, recordings, some, settings), strict=True):
                clips.append((made.fit.video, made.decoded, _truth(recordings, showing)))
                if settings.uncertainty:
                    information.append(made.information(settings.seed))
            bar.update(len(some))
    if len(showings) > 1:
        setup.blend = fit_blend(clips[: len(showings)], setup.mask, aligned.frame_rate)
    if settings.uncertainty:
        movies = [setup.blended(inverted, decoded) for inverted, decoded, _ in clips]
        features = [
            setup.error_features(movie, inverted, decoded, told)
            for movie, (inverted, decoded, _), told in zip(movies, clips, information, strict=True)
        ]
        setup.error_model = fit_error_model(
            features,
            [movie - true for movie, (_, _, true) in zip(movies, clips, strict=True)],
            setup.mask,
            [_film(aligned, showing) for showing in known],
            prior_variance=float(setup.covariances["movie"][0, 0, 0]),
            learned=[index >= len(showings) for index in range(len(known))],
        )


def _learned_from(recordings: Sequence[Recording], showings: Sequence[Showing]) -> list[Showing]:
    """Training clips, each of another film, that make up for what validation clips lack of films."""
    aligned = recordings[0][1]
    films = {_film(aligned, showing) for showing in showings}
    training = _spread_over_films(aligned, _shared(recordings, "train"))
    # one of each film comes first
    first = training[: len({_film(aligned, showing) for showing in training})]
    others = [showing for showing in first if _film(aligned, showing) not in films]
    return others[: max(0, CALIBRATION_FILMS - len(films))]


def _film(aligned: AlignedSession, showing: Showing) -> str:
    """Name what a clip is from; a clip of no named film is one by itself."""
    row = aligned.trials.loc[showing[0][0]]
    return str(row["film"] or row["clip"])


def _spread_over_films(aligned: AlignedSession, showings: Sequence[Showing]) -> list[Showing]:
    """Sort showings so that every film comes once before one comes again."""
    seen: dict[str, int] = {}
    turns = []
    for showing in showings:
        film = _film(aligned, showing)
        turns.append(seen.get(film, 0))
        seen[film] = turns[-1] + 1
    return [showings[index] for index in np.argsort(turns, kind="stable")]


def _residuals(setup: Setup, recordings: Sequence[Recording], showings: Sequence[Showing]) -> list[np.ndarray]:
    return [_truth(recordings, showing) - setup.guess(recordings, showing) for showing in showings]


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
