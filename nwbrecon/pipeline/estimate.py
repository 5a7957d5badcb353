"""What a run would take, from trying each kind of work in small on this computer."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from nwbrecon.alignment import AlignedGroup, AlignedSession
from nwbrecon.alignment.align import TrialPlan, plan_trials
from nwbrecon.alignment.splits import choose_split
from nwbrecon.alignment.video import scale_frames
from nwbrecon.config import AlignmentSettings, ControlSettings, InversionSettings, RunSettings
from nwbrecon.encoding import EncoderEnsemble, train
from nwbrecon.inversion import Reconstructor
from nwbrecon.inversion.amortized import training_seconds
from nwbrecon.inversion.denoiser import STEPS as STEPS_OF_DENOISER
from nwbrecon.inversion.denoiser import train_denoiser
from nwbrecon.inversion.evidence import Margins, gather_evidence
from nwbrecon.inversion.kinds import kinds_of
from nwbrecon.inversion.priors import MoviePrior, autocovariance
from nwbrecon.inversion.settling import CALIBRATION_CLIPS, CALIBRATION_FILMS, UNSEARCHED_CLIPS
from nwbrecon.inversion.setup import INVERTED
from nwbrecon.pipeline.opening import open_as_set
from nwbrecon.progress import progress_shown
from nwbrecon.session import ResponseGroup, Session, SignalKind, activity
from nwbrecon.session.describe import text_table

__all__ = ["STEPS", "Estimate", "estimate", "estimate_together"]

STEPS = ("alignment", "training", "reconstruction", "writing")

# what is tried: so much of the recording, or made-up clips of the recording's size
_ROIS, _SAMPLES, _FRAMES, _BYTES = 16, 20_000, 30, 2**25
_CLIP_SECONDS = 5.0
_CLIPS = {"train": 4, "validation": 2, "test": 1}
_MATRIX = 500
# seconds a reconstructed frame for results, report and video, whatever its size
_WRITING = 0.01


@dataclass
class Estimate:
    """What a run would take.

    Attributes
    ----------
    seconds
        Of each step (s). Training may stop earlier than its settings allow.
    memory_gigabytes
        Largest memory in use (GB).
    disk_gigabytes
        Arrays kept in files while the run is at work (GB).
    train_minutes, test_minutes
        Movie to learn from and to reconstruct, repeats counted.
    """

    seconds: dict[str, float]
    memory_gigabytes: float
    disk_gigabytes: float
    train_minutes: float
    test_minutes: float

    def to_dict(self) -> dict[str, Any]:
        """Give what JSON can hold."""
        return asdict(self)

    def __str__(self) -> str:
        rows = [(name, _duration(spent)) for name, spent in self.seconds.items()]
        rows.append(("all of it", _duration(sum(self.seconds.values()))))
        disk = f", {self.disk_gigabytes:.1f} GB of files meanwhile" if self.disk_gigabytes else ""
        return "\n".join(
            [
                *text_table([("step", "about"), *rows])[1:],
                "",
                f"{self.train_minutes:.1f} min of movie to learn from, {self.test_minutes:.1f} min to reconstruct; "
                f"{self.memory_gigabytes:.1f} GB of memory{disk}.",
                "From trying each step in small on this computer, as it is loaded now; training may stop earlier.",
            ]
        )


def estimate(source: Any, settings: RunSettings | None = None, steps: Sequence[str] = STEPS) -> Estimate:
    """Estimate time and memory of a run.

    Nothing is written. A little of the recording is read and processed, and an encoder is trained and inverted on
    made-up responses of the recording's size; what that takes is scaled up.

    Parameters
    ----------
    source
        As `nwbrecon.open_session` takes it.
    settings
        Settings of the run.
    steps
        Which of `STEPS`.

    Raises
    ------
    SourceError, SessionError, AlignmentError
        If the recording cannot be used.
    """
    settings = settings or RunSettings()
    alignment = settings.alignment
    with open_as_set(source, alignment) as session, progress_shown(False):
        plan = plan_trials(session, alignment)
        session = replace(session, responses=plan.groups)
        split = plan.trials["clip"].map(choose_split(plan.trials, alignment.frame_rate, [], alignment).of_clip)
        frames = plan.trials["n_frames"].groupby(split).sum()
        arrays = _array_bytes(session, plan, alignment)
        seconds = {}
        if "alignment" in steps:
            seconds["alignment"] = _alignment(session, plan, alignment)
        if "training" in steps or "reconstruction" in steps:
            longest = int(plan.trials["n_frames"].max())
            made_up = _made_up(session, alignment, min(longest, round(_CLIP_SECONDS * alignment.frame_rate)))
            encoder, each = _training(made_up, settings)
            if "training" in steps:
                seconds["training"] = each * float(frames.get("train", 0))
            if "reconstruction" in steps:
                lengths = plan.trials.loc[split == "test", "n_frames"].tolist()
                controls = _controls(settings.controls, plan.trials.loc[split == "test", "clip"].nunique())
                seconds["reconstruction"] = (
                    _inversion(encoder, made_up, settings.inversion, lengths, controls) if lengths else 0
                )
        if "writing" in steps:
            seconds["writing"] = _WRITING * float(frames.get("test", 0))
    in_files = arrays > alignment.memory_gigabytes * 1e9
    return Estimate(
        seconds=seconds,
        memory_gigabytes=_peak_memory() + (0 if in_files else arrays / 1e9) + _largest_group(session) / 1e9,
        disk_gigabytes=arrays / 1e9 if in_files else 0.0,
        train_minutes=float(frames.get("train", 0)) / alignment.frame_rate / 60,
        test_minutes=float(frames.get("test", 0)) / alignment.frame_rate / 60,
    )


def estimate_together(
    sources: Sequence[Any], settings: RunSettings | None = None, steps: Sequence[str] = STEPS
) -> Estimate:
    """Estimate time and memory (rather too much) of work on several recordings at once; see `estimate`."""
    each = [estimate(source, settings, steps) for source in sources]
    return Estimate(
        seconds={name: sum(one.seconds[name] for one in each) for name in each[0].seconds},
        memory_gigabytes=sum(one.memory_gigabytes for one in each),
        disk_gigabytes=sum(one.disk_gigabytes for one in each),
        train_minutes=sum(one.train_minutes for one in each),
        test_minutes=sum(one.test_minutes for one in each),
    )


def _array_bytes(session: Session, plan: TrialPlan, settings: AlignmentSettings) -> float:
    video = 2 * float(plan.trials["n_frames"].sum()) * float(np.prod(settings.frame_size))
    return video + sum(4.0 * np.prod(group.signal.shape) for group in session.responses.values())


def _largest_group(session: Session) -> float:
    # a group is read and processed as a whole
    return max(4.0 * np.prod(group.signal.shape) for group in session.responses.values())


def _alignment(session: Session, plan: TrialPlan, settings: AlignmentSettings) -> float:
    spent = 0.0
    for group in session.responses.values():
        n_samples, n_rois = group.signal.shape
        rows = min(n_samples, max(2, _BYTES // (4 * n_rois)))
        start = time.perf_counter()
        values = group.signal.read(0, rows)
        spent += (time.perf_counter() - start) * n_samples / rows
        few = _few_rois(group, values)
        start = time.perf_counter()
        activity(few, settings.responses)
        spent += (time.perf_counter() - start) * n_samples * n_rois / np.prod(few.signal.shape)
    first = int(plan.trials["presentation"].iloc[0])
    start = time.perf_counter()
    tried = len(scale_frames(session.stimulus.read(first, slice(0, _FRAMES)), settings.frame_size, settings.fit))
    # frames are read once for the movie, and a fraction of them for their duplicates and the latency
    return spent + 1.2 * (time.perf_counter() - start) * float(plan.trials["n_frames"].sum()) / tried


def _few_rois(group: ResponseGroup, values: np.ndarray) -> ResponseGroup:
    few = np.ascontiguousarray(values[:_SAMPLES, :_ROIS])
    signal = replace(group.signal, read=lambda start, stop: few[start:stop].copy(), shape=few.shape)
    neuropil = signal if group.neuropil is not None else None
    rows, columns = few.shape
    return replace(
        group, signal=signal, neuropil=neuropil, timestamps=group.timestamps[:rows], rois=group.rois.iloc[:columns]
    )


def _training(aligned: AlignedSession, settings: RunSettings) -> tuple[EncoderEnsemble, float]:
    """Train on made-up clips; gives the encoder, and the seconds that a training frame takes."""
    start = time.perf_counter()
    encoder = train(aligned, settings.encoder, settings.training.model_copy(update={"members": 1, "epochs": 1}))
    spent = time.perf_counter() - start
    epochs, epoch = settings.training.epochs, float(encoder.history["seconds"].iloc[-1])
    n_frames = aligned.trials.loc[aligned.trials_in("train"), "n_frames"].sum()
    return encoder, settings.training.members * (spent + (epochs - 1) * epoch) / float(n_frames)


def _inversion(
    encoder: EncoderEnsemble,
    aligned: AlignedSession,
    settings: InversionSettings,
    lengths: Sequence[int],
    controls: int,
) -> float:
    """Seconds to reconstruct clips of these lengths (frames) and some more, from evaluations of the objective."""
    (trial, *_) = aligned.trials_in("test")
    margins = Margins.needed(encoder, settings, aligned.frame_rate)
    video = aligned.trial(trial).video
    height, width = aligned.frame_size
    covariance = autocovariance([video], (5, height - 1, width - 1), float(video.mean()))
    prior = MoviePrior(covariance, (margins.around(len(video)), height, width), float(video.mean()))
    outcome = Reconstructor(gather_evidence(encoder, aligned, trial, margins), prior, margins).run(1)
    each = outcome.seconds / outcome.n_evaluations / margins.around(len(video))

    usual = float(np.mean(lengths))
    if settings.preset in INVERTED and settings.decoder == "amortized":
        decoder = training_seconds(encoder, aligned, each)
    else:
        decoder = 0.0
    if not settings.iterations:
        # mask and, for a step, the metric; decoding a clip takes no time beside it
        asked = int(settings.gradient_step)
        frames: float = asked * sum(margins.around(length) for length in lengths)
        frames += (16 + asked * (4 + UNSEARCHED_CLIPS + controls)) * margins.around(round(usual))
        return decoder + each * frames + _linear_decoder(aligned)

    # a search evaluates where it starts and to find its first length; a probe for the uncertainty is half an evaluation
    whitened = 1.0 if settings.noise == "dispersion" else 1.5
    clip = (settings.iterations + 2) * whitened + (1 if settings.uncertainty else 0)
    kinds = len(kinds_of(settings))
    weights = len(settings.candidate_weights) if settings.prior_weight is None else 1
    n_validation = len(aligned.trials_in("validation"))
    chosen_on = min(settings.selection_trials, n_validation or settings.selection_trials)
    choice = chosen_on * kinds * (settings.iterations * (1 + weights) / 4 + 2 * weights)
    if kinds > 1:
        # held-out ROIs judge each kind, too
        choice += chosen_on * kinds * (settings.iterations / 2 + 2)
    known = min(CALIBRATION_CLIPS, n_validation)
    if settings.uncertainty:
        # training clips make up for what validation clips lack of films
        known += max(0, CALIBRATION_FILMS - known)
    settled = (choice if kinds * weights > 1 else 0) + known * clip + 36
    frames = sum(clip * margins.around(length) for length in lengths)
    frames += (settled + controls * clip) * margins.around(round(usual))
    denoiser = _denoiser(video) if "denoiser" in kinds_of(settings) else 0.0
    return decoder + denoiser + each * frames + _linear_decoder(aligned)


def _controls(settings: ControlSettings, n_clips: int) -> int:
    """Inversions of a clip that the controls take: labels permuted, behavior withheld, a witness for each donor."""
    if not settings.enabled:
        return 0
    return min(settings.clips, n_clips) * (2 + settings.donors) + settings.gray_stretches


def _denoiser(video: np.ndarray) -> float:
    """Seconds to train the denoiser, from a few steps."""
    tried = 3
    start = time.perf_counter()
    train_denoiser([video], steps=tried)
    return (time.perf_counter() - start) * STEPS_OF_DENOISER / tried


def _linear_decoder(aligned: AlignedSession) -> float:
    """Seconds to fit the linear decoder: the eigenvectors of its features take most of it."""
    step = max(1, round(max(0.1, min(group.interval for group in aligned.groups)) * aligned.frame_rate))
    n_features = min(aligned.n_rois * (0.65 * aligned.frame_rate / step + 1), 6000)
    tried = torch.rand(_MATRIX, _MATRIX, dtype=torch.float64)
    start = time.perf_counter()
    torch.linalg.eigh(tried @ tried.T)
    return (time.perf_counter() - start) * 2 * float(n_features / _MATRIX) ** 3


def _made_up(session: Session, settings: AlignmentSettings, n_frames: int) -> AlignedSession:
    random = np.random.default_rng(0)
    splits = [name for name, count in _CLIPS.items() for _ in range(count)]
    seconds = n_frames / settings.frame_rate
    onsets = 5.0 + (seconds + 1.0) * np.arange(len(splits))
    groups = []
    for name, group in session.responses.items():
        times = np.arange(0.0, onsets[-1] + seconds + 5.0, 1 / group.sampling_rate)
        values = random.gamma(0.5, 2.0, (len(times), group.n_rois)).astype(np.float32)
        kind = (
            SignalKind.DFF
            if not settings.responses.deconvolve and group.kind is not SignalKind.EVENTS
            else SignalKind.EVENTS
        )
        groups.append(AlignedGroup(name, kind, times, values, np.ones(group.n_rois, np.float32), group.rois))
    return AlignedSession.from_arrays(
        [random.uniform(0, 255, (n_frames, *settings.frame_size)).astype(np.float32) for _ in splits],
        groups,
        onsets=onsets.tolist(),
        clips=[f"{name} {index}" for index, name in enumerate(splits)],
        splits=splits,
        frame_rate=settings.frame_rate,
        behaviors=[random.normal(size=(n_frames, len(session.behavior))) for _ in splits],
        behavior_names=tuple(session.behavior),
    )


def _peak_memory() -> float:
    """Gigabytes that this process has needed so far."""
    try:
        import resource
    except ImportError:  # Windows
        return 1.0
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (1e9 if sys.platform == "darwin" else 1e6)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
