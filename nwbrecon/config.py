"""Every setting with its unit, range and default, in one place.

Each model is validated before any work starts and travels, resolved, with every product.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from nwbrecon.errors import SettingsError

__all__ = [
    "ARCHITECTURES",
    "AlignmentSettings",
    "Architecture",
    "Bauer2026Settings",
    "ControlSettings",
    "DwiseNeuroSettings",
    "EncoderSettings",
    "InversionSettings",
    "ResponseSettings",
    "RunSettings",
    "SimulationSettings",
    "TrainingSettings",
    "TransparencySettings",
    "architecture",
    "load_settings",
    "stored_alignment",
]

Positive = Annotated[float, Field(gt=0)]
Fit = Literal["crop", "letterbox", "squeeze"]
Fraction = Annotated[float, Field(ge=0, le=1)]


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("an odd number is needed, so that a filter has a center")
    return value


def _one_or_several(value: Any) -> Any:
    """Let a single name, and any sequence of numbers, stand for a tuple."""
    if isinstance(value, str | int):
        return (value,)
    if isinstance(value, dict):
        return {name: _one_or_several(inner) for name, inner in value.items()}
    if value is None:
        return None
    plain = value.tolist() if hasattr(value, "tolist") else list(value)
    return tuple(item.item() if hasattr(item, "item") else item for item in plain)


def _rising(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError("the smaller of the two comes first")
    return value


Names = Annotated[tuple[str, ...], BeforeValidator(_one_or_several), Field(min_length=1)]
Ids = Annotated[tuple[int, ...], Field(min_length=1)]


class Settings(BaseModel):
    """Base of all settings: unknown names are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class SimulationSettings(Settings):
    """The simulated mouse and how its recording is laid out."""

    layout: Literal["microns", "visual-coding", "plain"] = "microns"
    """How the NWB file is laid out: like MICrONS (000402), like Allen Visual Coding (000728), or by best practice."""
    rois: Annotated[int, Field(ge=1)] = 300
    """Number of ROIs over all planes."""
    planes: Annotated[int, Field(ge=1, le=16)] = 3
    """Number of imaging planes (``visual-coding`` has one)."""
    minutes: Positive = 6.0
    """Minutes of unique training movie."""
    test_clips: Annotated[int, Field(ge=0)] = 6
    """Number of clips set aside for testing, shown ``test_repeats`` times."""
    test_repeats: Annotated[int, Field(ge=1)] = 5
    """How often each test clip is shown."""
    clip_seconds: Positive = 10.0
    """Length of a clip (s)."""
    test_clip_seconds: Positive | None = None
    """Length of a test clip (s); ``None`` makes them as long as the others."""
    movies: Path | None = None
    """Movies to show in place of made ones: an npz of ``(time, height, width)`` arrays, or a folder of video files.
    Where they are shorter than ``minutes`` they are shown again mirrored, backwards, and both."""
    seed: int = 0
    """Seed of everything random."""
    stimulus_seed: int | None = None
    """Seed of the movies and of the order in which they are shown, so that several mice see the same; ``None`` takes
    ``seed``."""


class ResponseSettings(Settings):
    """From what the file holds to the activity that an encoder predicts."""

    signal: Literal["auto", "events", "dff", "corrected", "raw", "spikes"] = "auto"
    """Which stored signal to use; ``auto`` prefers events, then dF/F, then corrected, then raw fluorescence, and takes
    the spikes of sorted units where there are no ROIs."""
    deconvolve: bool = True
    """Turn fluorescence and dF/F into deconvolved activity (AR(1) OASIS)."""
    neuropil_factor: Annotated[float, Field(ge=0, le=2)] = 0.7
    """Share of the neuropil signal that is taken away from raw fluorescence, where the file has it."""
    baseline_seconds: Positive = 60.0
    """Window of the running baseline F0 (s)."""
    baseline_percentile: Annotated[float, Field(ge=0, le=100)] = 10.0
    """Percentile of the window that is taken as baseline."""
    decay_seconds: Positive | None = None
    """Decay time of the calcium indicator (s); ``None`` takes what is usual for the indicator that the file names, or
    estimates it from the autocovariance. Too long a time harms more than one that is too short."""
    threshold: bool = False
    """Leave out activity that the noise of a trace explains (soft threshold), at the price of weak responses."""
    plane_delays: dict[str, float] | Literal["order", "estimate"] = Field(default_factory=dict)
    """Seconds to add to the clock of each plane, by name of the plane. ``order``: planes that share one clock are
    scanned one after the other in the order of the file. ``estimate``: from how the responses follow the movie."""


class ReadingSettings(Settings):
    """What in the file is the stimulus, where the evidence in it is not enough."""

    stimulus: str | None = None
    """Path or name of what was shown; ``None`` goes by the evidence."""
    stimulus_folder: Path | None = None
    """Folder of the movies and pictures that the file only names."""
    frame_axes: Literal["auto", "TYX", "TXY", "XYT", "YXT"] = "auto"
    """Order of the axes of stored movies: T frames, Y rows, X columns; ``auto`` tells frames first from frames last."""


class AlignmentSettings(Settings):
    """One clock, one frame size, trials and splits."""

    frame_rate: Annotated[float, Field(gt=0, le=240)] = 30.0
    """Frames per second (Hz) of the common clock."""
    frame_size: tuple[Annotated[int, Field(ge=4)], Annotated[int, Field(ge=4)]] = (36, 64)
    """Rows and columns of the aligned video (pixels)."""
    fit: Fit = "crop"
    """What happens to movies of another shape than ``frame_size``: ``crop`` cuts as much off both sides, or off top and
    bottom, so that every pixel is one that was shown and none is distorted; ``letterbox`` keeps the whole picture, with
    mid-grey bars beside it; ``squeeze`` makes it narrower or lower."""
    stimuli: Names = ("movie",)
    """Stimuli that are used: kinds (``movie``, ``image``, ``noise``, ``grating``), or names of stimuli, films or clips,
    in which ``*`` stands for anything; the others are left out."""
    rois: Annotated[dict[str, Ids] | Ids | None, BeforeValidator(_one_or_several)] = None
    """Ids of the ROIs to use, or ids by name of their plane where planes share them; ``None`` takes all."""
    areas: Names | None = None
    """Brain areas whose ROIs are used, as the file or ``roi_table`` names them; ``None`` takes all."""
    depth: Annotated[tuple[float, float], AfterValidator(_rising)] | None = None
    """Smallest and largest cortical depth of the ROIs to use (micrometers); ``None`` takes all."""
    snr: float | None = None
    """Least signal-to-noise ratio of the ROIs to use, by the column ``snr`` of the file or of ``roi_table``; ``None``
    takes all."""
    roi_table: Path | None = None
    """A CSV with what the file does not say of its ROIs, such as the brain area: one row an ROI, with its id
    (``roi_id``) and, where planes share ids, its plane (``plane``)."""
    monitor_delay_seconds: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Time by which the screen lags the time stamps of the stimulus, where the file has not corrected them for it
    (s)."""
    min_clip_seconds: Positive = 2.0
    """Shortest showing that is used (s)."""
    behavior_gap_seconds: Positive = 0.5
    """Longest gap in a behavioral trace that is bridged by interpolation (s)."""
    test_share: Fraction = 0.25
    """Largest share of the unique movie (repeats counted once) that goes to testing."""
    min_test_repeats: Annotated[int, Field(ge=2)] = 5
    """Least number of showings for a clip to serve as test clip."""
    validation_share: Fraction = 0.12
    """Share of the unique training movie that is set apart for validation."""
    scene_seconds: Positive = 10.0
    """Length of the scenes into which movies are cut where there are too few to hold any out whole (s)."""
    guard_seconds: Annotated[float, Field(ge=0)] = 2.0
    """Time dropped on the training side of a boundary between splits (s): calcium carries over."""
    duplicate_correlation: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Clips half of whose frames correlate more than this with frames of another clip stay in one split; 1: never."""
    memory_gigabytes: Positive = 1.0
    """Video and responses larger than this together are kept in files (GB)."""
    seed: int = 0
    """Seed of the choice of validation clips."""
    reading: ReadingSettings = ReadingSettings()
    """What in the file is the stimulus."""
    responses: ResponseSettings = ResponseSettings()
    """Which signal, and how it is processed."""


class EncoderSettings(Settings):
    """Architecture of our encoder."""

    learning: ClassVar[dict[str, Any]] = {}
    """Settings of training whose defaults are others for this architecture."""
    without: ClassVar[tuple[str, ...]] = ()
    """Settings of training that must be 0 for want of what they act on."""
    architecture: Literal["composed"] = "composed"
    """Which architecture this is: a core and a readout."""
    core: Literal["factorized", "quadrature"] = "factorized"
    """What makes feature maps of the video. ``factorized``: two layers of convolutions in space, then in time.
    ``quadrature``: one layer of filters in pairs, divided by local contrast."""
    readout: Literal["gaussian", "factorized"] = "gaussian"
    """How an ROI reads them. ``gaussian``: at one point, which is learned. ``factorized``: through a mask, which takes
    as much time as there are places in it."""
    channels: Annotated[int, Field(ge=2, multiple_of=2)] = 48
    """Number of feature maps (two a quadrature pair)."""
    temporal_kernels: Annotated[int, Field(ge=1)] = 4
    """Number of temporal kernels that the spatial filters of the core ``quadrature`` combine."""
    memory_seconds: Positive = 0.5
    """How far back a response can look (s)."""
    causal: bool = True
    """Responses follow what was shown. Otherwise filters also reach ahead, a third as far as back, for signals whose
    time stamps lead; what is shown after a clip is then inferred for so much longer."""
    kernel_size: Annotated[int, Field(ge=3), AfterValidator(_odd)] = 9
    """Rows and columns of the spatial filters (pixels, odd)."""
    stride: Annotated[int, Field(ge=1)] = 2
    """Pixels between neighboring features."""
    temporal_stride: Annotated[int, Field(ge=1)] = 2
    """Frames between successive rates; 2 halves the cost and at 30 Hz still follows what cortex does."""
    gaze_shift: bool = True
    """Shift the picture by a learned function of the gaze, where gaze was recorded."""
    gain: bool = True
    """Let behavior change each ROI's gain, where behavior was recorded."""
    plane_delay: bool = False
    """Learn what the clock of each imaging plane is off by (0.3 s at most), for clocks that are not known well."""

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_versions(cls, content: Any) -> Any:
        """Take what was named after the core that there was alone for what it is."""
        if isinstance(content, Mapping) and content.get("architecture") == "quadrature":
            return {"core": "quadrature", **content, "architecture": "composed"}
        return content


class DwiseNeuroSettings(Settings):
    """Architecture of DwiseNeuro, by the names and with the sizes of the published checkpoints."""

    # the learning rate is as published, 3e-4 for four windows of 16 frames; here 24 of them make a batch
    learning: ClassVar[dict[str, Any]] = {
        "epochs": 20,
        "patience": 4,
        "window_seconds": 1.07,
        "batch_windows": 12,
        "learning_rate": 2e-3,
        "weight_decay": 0.05,
        "readout_penalty": 0.0,
        "gain_penalty": 0.0,
    }
    """Settings of training whose defaults are others for this architecture."""
    without: ClassVar[tuple[str, ...]] = ("readout_penalty", "gain_penalty", "readout_dropout")
    """Settings of training that must be 0 for want of what they act on."""
    architecture: Literal["dwiseneuro"] = "dwiseneuro"
    """Which architecture this is."""
    readout_outputs: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Number of ROIs of each readout (one a mouse); training fills in that of the session."""
    in_channels: Annotated[int, Field(ge=1)] = 5
    """Video, pupil dilation, running speed, horizontal and vertical gaze."""
    core_features: tuple[Annotated[int, Field(ge=1)], ...] = (64, 64, 64, 64, 128, 128, 128, 256, 256)
    """Feature maps that enter each block; the last block gives as many as enter it."""
    spatial_strides: tuple[Annotated[int, Field(ge=1)], ...] = (2, 1, 1, 1, 2, 1, 1, 2, 1)
    """Pixels between neighboring features, block by block."""
    spatial_kernel: Annotated[int, Field(ge=1)] = 3
    """Rows and columns of the spatial filters (odd)."""
    temporal_kernel: Annotated[int, Field(ge=1)] = 5
    """Length of the temporal filters (input frames, odd)."""
    expansion_ratio: Annotated[int, Field(ge=1)] = 7
    """How many times wider a block is inside."""
    se_reduce_ratio: Annotated[int, Field(ge=1)] = 32
    """How many times narrower the hidden layer of the squeeze-excite gate is than what it gates."""
    cortex_features: tuple[Annotated[int, Field(ge=1)], ...] = (1024, 2048, 4096)
    """Features of the layers between pooling and readout."""
    groups: Annotated[int, Field(ge=1)] = 2
    """Groups of the layers after pooling."""
    softplus_beta: Positive = 0.07
    """Sharpness of the softplus that makes rates."""
    drop_rate: Annotated[float, Field(ge=0, lt=1)] = 0.4
    """Share of the features that a readout does not see in training."""
    drop_path_rate: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the samples that skip a layer in training (growing from 0 over the blocks of the core)."""
    canvas: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] | None = (64, 64)
    """Rows and columns of the input (pixels), in whose middle the video stands, on black; ``None`` takes the size of
    the video."""
    every_position: bool = False
    """Predict from a window at every position and average, as published; otherwise from the fewest windows that reach
    every frame, at a sixteenth of the cost."""

    @model_validator(mode="after")
    def _fit_together(self) -> DwiseNeuroSettings:
        if len(self.core_features) != len(self.spatial_strides):
            raise ValueError(
                f"{len(self.core_features)} core_features and {len(self.spatial_strides)} spatial_strides were given, "
                "one of each a block is needed"
            )
        if not (self.spatial_kernel % 2 and self.temporal_kernel % 2):
            raise ValueError("spatial_kernel and temporal_kernel must be odd")
        return self


ARCHITECTURES: dict[str, EncoderSettings | DwiseNeuroSettings] = {
    "factorized": EncoderSettings(),
    "quadrature": EncoderSettings(core="quadrature"),
    "dwiseneuro": DwiseNeuroSettings(),
    "dwiseneuro-small": DwiseNeuroSettings(
        core_features=(8, 16, 16, 32, 32, 64),
        spatial_strides=(2, 1, 2, 1, 2, 1),
        expansion_ratio=3,
        se_reduce_ratio=8,
        cortex_features=(128, 256),
        canvas=None,
    ),
}
"""Encoders that can be asked for by name: ours with either core, DwiseNeuro as published, and DwiseNeuro at the size of
minutes of data from hundreds of ROIs."""


def architecture(choice: Any) -> Any:
    """Look up the settings of an architecture by its name; anything else is given back.

    Raises
    ------
    ValueError
        If there is no architecture of that name.

    Examples
    --------
    >>> architecture("factorized") == EncoderSettings()
    True
    """
    if not isinstance(choice, str):
        return choice
    if choice not in ARCHITECTURES:
        raise ValueError(f"one of {', '.join(ARCHITECTURES)} was expected, or the settings of one")
    return ARCHITECTURES[choice]


def _architecture_name(value: Any) -> Any:
    if isinstance(value, Mapping):
        named = value.get("architecture", "composed")
        return "composed" if named == "quadrature" else named
    return getattr(value, "architecture", None)


Architecture = Annotated[
    Annotated[EncoderSettings, Tag("composed")] | Annotated[DwiseNeuroSettings, Tag("dwiseneuro")],
    Discriminator(
        _architecture_name,
        custom_error_type="architecture",
        custom_error_message=f"one of {', '.join(ARCHITECTURES)} was expected, or the settings of one",
    ),
    BeforeValidator(architecture),
]


class TrainingSettings(Settings):
    """How an encoder is trained; the defaults are those for our encoder."""

    members: Annotated[int, Field(ge=1)] = 1
    """Number of encoders, which differ by their seed; their predictions are averaged."""
    likelihood: Literal["auto", "poisson", "gaussian", "zig"] = "auto"
    """How responses scatter around their prediction; ``auto`` goes by the kind of signal. ``zig`` is the zero-inflated
    gamma distribution, for deconvolved activity."""
    epochs: Annotated[int, Field(ge=0)] = 16
    """Passes over the training clips, at most."""
    patience: Annotated[int, Field(ge=0)] = 8
    """Epochs in a row without a better validation correlation that are put up with."""
    window_seconds: Positive = 3.5
    """Length of the stretches of video that are learned from (s)."""
    batch_windows: Annotated[int, Field(ge=1)] = 2
    """Stretches a gradient step."""
    learning_rate: Positive = 8e-3
    """Largest learning rate (AdamW)."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-3
    """Weight decay (AdamW)."""
    readout_penalty: Annotated[float, Field(ge=0)] = 0.1
    """Weight of the absolute readout weights (mean over ROIs) beside the loss of a sample: few features an ROI."""
    gain_penalty: Annotated[float, Field(ge=0)] = 0.3
    """Weight of the squared weights from behavior to gain (mean over ROIs) beside the loss of a sample."""
    gradient_norm: Positive = 1.0
    """Gradients longer than this are shortened to it."""
    average_decay: Annotated[float, Field(ge=0, lt=1)] = 0.98
    """Share of the running mean of the weights that is kept at each step."""
    cutmix: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the stretches in which a box of the picture comes from another stretch; their responses count by area
    (CutMix)."""
    readout_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the weights of an ROI's readout that are left out of a step, others in each."""
    tune_core: bool = False
    """Let a core that is taken over from another encoder learn on, rather than leave it as it is."""
    teacher_weight: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Weight of what a teacher predicts, where there is one; what was measured has the rest."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; ``auto`` takes the GPU where there is one."""
    devices: Annotated[int, Field(ge=1)] = 1
    """Number of GPUs that share each gradient step (of processes, on a CPU); more than one needs the extra
    ``cluster``."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """``fp32``: single precision. ``bf16``: filters in bfloat16, readout and loss in single precision. ``auto`` is
    ``bf16`` on a GPU that computes in it and ``fp32`` elsewhere."""
    compile: bool = False
    """Compile the encoder for training (``torch.compile``): minutes at the start, faster steps on a GPU."""
    seed: int = 0
    """Seed of initial weights and data order."""

    def suited_to(self, encoder: EncoderSettings | DwiseNeuroSettings) -> TrainingSettings:
        """Take what was not asked for by name from what suits an architecture.

        Raises
        ------
        SettingsError
            If something is asked for that the architecture has no part for.

        Examples
        --------
        >>> TrainingSettings(epochs=3).suited_to(DwiseNeuroSettings()).epochs
        3
        """
        others = {name: value for name, value in encoder.learning.items() if name not in self.model_fields_set}
        suited = self.model_copy(update=others) if others else self
        for name in encoder.without:
            if value := getattr(suited, name):
                raise SettingsError(
                    f"training.{name} is {value:g}.",
                    f"The architecture {encoder.architecture!r} has nothing that it would act on.",
                    "Leave it out, or set it to 0.",
                )
        return suited


class Bauer2026Settings(Settings):
    """The published reconstruction (Bauer, Margrie & Clopath 2026, eLife 14:RP105081), as its code was released."""

    iterations: Annotated[int, Field(ge=1)] = 1000
    """Passes over the clip; the first only measures."""
    window_frames: Annotated[int, Field(ge=1)] = 32
    """Length of the stretches of the clip whose gradients are taken one by one (frames)."""
    window_stride: Annotated[int, Field(ge=1)] = 8
    """Frames between the starts of successive stretches."""
    learning_rate: Positive = 1000.0
    """Size of a step (grey levels) for a gradient of unit length."""
    warm_up_iterations: Annotated[int, Field(ge=1)] = 10
    """Iterations over which the learning rate grows to its full size."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Share of the running mean of gradients that is kept at each iteration."""
    second_momentum: Annotated[float, Field(gt=0, lt=1)] | None = 0.999
    """Decay of the second moment of Adam. There is no second moment, but its bias correction was kept, which makes the
    steps grow slowly over the whole run; ``None`` leaves the correction out and makes this momentum as in Adam."""
    normalize: Literal["window", "clip"] = "window"
    """Scale the gradient of each stretch to unit length before they are averaged, or their average after."""
    ensemble: Literal["video", "gradient"] = "video"
    """With several encoders: average their reconstructions, or their gradients at each iteration."""
    training_threshold: float = 0.5
    """Pixels with less transparency than this stay gray."""
    evaluation_threshold: float = 1.0
    """Pixels with less transparency than this are made gray at the end."""
    blur: Annotated[float, Field(ge=0)] = 0.5
    """Standard deviation of the Gaussian that smooths the result (pixels and frames)."""


class TransparencySettings(Settings):
    """How the transparency mask of the published method is trained."""

    iterations: Annotated[int, Field(ge=1)] = 1000
    """Steps, each with one random pair of trials."""
    learning_rate: Positive = 10.0
    """Size of a step for a gradient of unit length."""
    first_frame: Annotated[int, Field(ge=0)] = 50
    """Where in a trial the stretch begins that is looked at (frames); earlier in shorter trials."""
    window_frames: Annotated[int, Field(ge=1)] = 32
    """Length of this stretch (frames)."""
    blur: Annotated[float, Field(ge=0)] = 5.0
    """Standard deviation of the Gaussian that smooths each gradient (pixels)."""
    area_factor: bool = True
    """Scale predictions by one minus the mean of the mask, as in the paper's equation 3, which keeps the mask small.
    The released script leaves this out."""
    seed: int = 0
    """Seed of the initial mask and of the choice of trials."""


class InversionSettings(Settings):
    """How responses are turned into video."""

    preset: Literal["map", "fast", "ridge", "bauer2026", "bauer2026-text"] = "map"
    """``map``: inversion of the encoder under a prior. ``fast``: for a first look; where nothing else is said, the
    movie of the amortized decoder and one step from there, without a search (``decoder`` amortized, ``iterations`` 0,
    ``gradient_step`` true, ``uncertainty`` false); with ``iterations`` said, so short a search. ``ridge``: the linear
    decoder alone.
    ``bauer2026``: the published method as its code was released, slow; ``bauer2026-text``: as its paper says, where
    that differs."""
    decoder: Literal["ridge", "amortized"] = "ridge"
    """What the search begins at, and what its movie is blended with. ``ridge``: the linear decoder's movie.
    ``amortized``: that of a network, which is trained first, on the recording and on what the encoder answers to other
    movies; blended with the linear decoder's."""
    iterations: Annotated[int, Field(ge=0)] = 12
    """Iterations of the search a clip, at most; with 0 there is no search, and the decoder's movie is given, or a
    ``gradient_step`` from it."""
    gradient_step: bool = False
    """Instead of a search, take one step from the decoder's movie, as long in each band as is best on validation
    clips. It is under the plain prior of its kind and the first of ``candidate_weights``; noise is not whitened for it,
    and no gain and no behavior are found along with it."""
    optimizer: Literal["lbfgs", "gradient", "adam"] = "lbfgs"
    """What the movie is searched for with, by name: L-BFGS, steepest descent, or Adam, which need many more
    iterations."""
    tolerance: Annotated[float, Field(ge=0)] = 1e-4
    """Relative fall of the objective in an iteration below which the search has converged."""
    prior: Literal["auto", "movie", "ridge", "generic", "denoiser"] = "movie"
    """``movie``: Gaussian with the spectrum of the training movies. ``ridge``: the same with the decoder's movie as
    mean and the spectrum of its residuals. ``auto``: the better of the two, by ``choose_by``. ``generic``: Gaussian
    with the spectrum that natural movies have in general, where the training movies are few, or not natural.
    ``denoiser``: ``movie`` and, beside it, a small denoiser that is trained on the training movies, where ``choose_by``
    says that it helps. Of several, a kind that predicts ROIs that were not fitted worse than ``movie`` is refused."""
    degrees_per_pixel: Positive = 2.2
    """What a pixel of the frame covers of the mouse's visual field, on average (degrees): the spectrum of ``generic``
    goes by it. A screen of 93 x 124 degrees has 2.2 at 36 x 64 pixels (3.4 at its center, where it is nearest)."""
    prior_weight: Positive | None = None
    """Factor on the negative log-prior; ``None`` takes the best of ``candidate_weights``."""
    candidate_weights: Annotated[tuple[Positive, ...], Field(min_length=1)] = (0.3,)
    """Prior weights to choose from. A low one leaves noise that the blend of bands then takes away; validation clips of
    few films hardly tell which of several is best, and a choice takes time."""
    choose_by: Literal["validation", "held-out"] = "validation"
    """What prior and weight are chosen by. ``validation``: how much of the validation clips they explain.
    ``held-out``: how well ROIs that were not fitted are predicted, on the very clips that are reconstructed, for which
    no movie need be known; so, too, where there are no validation clips."""
    hold_out_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the ROIs that is held out to choose prior and weight."""
    selection_trials: Annotated[int, Field(ge=1)] = 8
    """Number of trials, each of another clip, on which prior and weight are chosen."""
    noise: Literal["dispersion", "shared", "autoregressive"] = "dispersion"
    """What is made of noise that is not white. ``dispersion``: an ROI counts by its noise in the long run. ``shared``,
    ``autoregressive``: after that search there is another, half as long, by weighted least squares, for which noise is
    whitened between the ROIs of a plane, of which one factor is taken away, or in time."""
    fuse: Literal["none", "repeats"] = "none"
    """``none`` reconstructs every trial by itself; ``repeats`` makes one movie of all showings of a clip."""
    behavior: Literal["given", "withheld", "inferred"] = "given"
    """Whether the encoder is told running, pupil and gaze of the trial that is reconstructed. ``inferred``: it is not,
    and they are found along with the movie, as what explains the responses best."""
    shared_gain: bool = True
    """Find the gain that the ROIs share in a trial (by arousal that nobody recorded, say) along with the movie, which
    must otherwise explain it; where the encoder has found, on validation clips, that there is one."""
    tail_seconds: Annotated[float, Field(ge=0)] = 0.3
    """Responses until so long after the clip's end are used; what was shown then is inferred too (s)."""
    stretch_seconds: Annotated[float, Field(ge=1)] = 10.0
    """Longer clips are predicted and compared with the responses stretch by stretch of about this length, one after the
    other, to the same result: less needs less memory, and more is not faster (s)."""
    clips_at_once: Annotated[int, Field(ge=1)] = 1
    """Clips that are searched for side by side, their movies predicted in one batch, to the same result but for
    rounding: of use on a GPU that one clip does not fill. A batch that memory does not hold is halved."""
    mask_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Pixels with at least this share of the best pixel's information are scored."""
    uncertainty: bool = True
    """Give an information map: for every pixel the standard deviation of the error that is to be expected given what
    the responses say, calibrated on validation clips."""
    published: Bauer2026Settings | None = None
    """Details of the published method, for the presets of its name; ``None`` takes them as published."""
    transparency: TransparencySettings | None = TransparencySettings()
    """How the mask of the published method is trained; ``None`` does without one."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to invert; ``auto`` takes the GPU where there is one."""
    seed: int = 0
    """Seed of held-out ROIs and random probes."""

    @model_validator(mode="before")
    @classmethod
    def _of_preset(cls, content: Any) -> Any:
        """Give the preset its own defaults; they are written out, so that settings mean the same wherever they go."""
        if isinstance(content, Mapping) and content.get("preset") == "fast":
            own: dict[str, Any] = {} if content.get("iterations") else {"decoder": "amortized", "iterations": 0}
            # settings that were written out before there were steps say the rest
            if own and not own.keys() <= content.keys():
                own["gradient_step"] = True
            return own | {"uncertainty": False} | dict(content)
        return content

    @model_validator(mode="after")
    def _uncertainty_is_of_a_search(self) -> Self:
        if self.uncertainty and not self.iterations and self.preset in ("map", "fast"):
            raise ValueError("without iterations there is no uncertainty: set uncertainty to false")
        return self

    @model_validator(mode="after")
    def _a_step_is_no_search(self) -> Self:
        if not self.gradient_step:
            return self
        if self.preset not in ("map", "fast"):
            raise ValueError(f"the preset {self.preset} takes no gradient step: set gradient_step to false")
        if self.iterations:
            raise ValueError(
                "a gradient step takes the place of a search: set iterations to 0, or gradient_step to false"
            )
        if self.behavior == "inferred":
            raise ValueError("behavior is inferred by a search: give iterations, or behavior given or withheld")
        return self


class EvaluationSettings(Settings):
    """How reconstructions are scored."""

    lag_seconds: Positive = 0.5
    """Largest lag at which reconstruction and true movie are compared (s)."""
    allow_training_clips: bool = False
    """Score clips that the encoder was trained on; their scores say nothing about other clips."""


class ControlSettings(Settings):
    """Which controls stand beside the reconstructions."""

    enabled: bool = True
    """Run them: without, nothing says whether what is reconstructed comes from the cells."""
    clips: Annotated[int, Field(ge=1)] = 3
    """Clips, spread over those that were reconstructed, on which the controls are run."""
    donors: Annotated[int, Field(ge=2)] = 2
    """Other showings of a clip, at most, that cells are shuffled across."""
    gray_stretches: Annotated[int, Field(ge=1)] = 2
    """Stretches of gray screen to reconstruct, at most."""
    gray_seconds: Annotated[float, Field(ge=1.5)] = 3.0
    """Length of these (s), at most."""
    seed: int = 0
    """Seed of permutations."""


class ResultsSettings(Settings):
    """What the results file holds."""

    include_stimulus: bool = False
    """Store the true movie, on the same clock, beside the reconstruction."""
    include_baselines: bool = True
    """Store the movies of the baselines (the ridge decoder's) beside the reconstruction."""
    include_snapshots: bool = True
    """Store the way from the first guess to the final movie, where it was recorded."""
    include_predictions: bool = True
    """Store what the encoder predicts for the reconstructed movies, ROI by ROI."""
    movie_dtype: Literal["uint8", "float32"] = "uint8"
    """How movies are stored; the reconstruction is scored as stored."""


class RunSettings(Settings):
    """The whole way, source to report."""

    alignment: AlignmentSettings = AlignmentSettings()
    encoder: Architecture = EncoderSettings()
    training: TrainingSettings = Field(TrainingSettings(), validate_default=True)
    inversion: InversionSettings = InversionSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    controls: ControlSettings = ControlSettings()
    results: ResultsSettings = ResultsSettings()

    @field_validator("training")
    @classmethod
    def _suit_the_encoder(cls, training: TrainingSettings, info: ValidationInfo) -> TrainingSettings:
        # an encoder that was refused is not there
        return training.suited_to(info.data["encoder"]) if "encoder" in info.data else training


Model = TypeVar("Model", bound=Settings)


def stored_alignment(content: Mapping[str, Any]) -> AlignmentSettings:
    """Give the settings that came with an encoder or with results, as they were meant when these were made.

    Raises
    ------
    SettingsError
        If a name is unknown, or a value is out of range.
    """
    # before there was a choice, movies of another shape were squeezed
    return load_settings(AlignmentSettings, **({"fit": "squeeze", **content} if content else {}))


def load_settings(model: type[Model], path: Path | None = None, **overrides: Any) -> Model:
    """Read settings from a YAML file, put ``overrides`` on top and validate.

    Parameters
    ----------
    model
        Which settings.
    path
        A YAML file with the same names; ``None`` starts from the defaults.
    overrides
        Single settings by name; ``None`` leaves a setting as it is. A name may be dotted with ``__``
        (``alignment__frame_rate``).

    Raises
    ------
    SettingsError
        If the file cannot be read, a name is unknown, or a value is out of range.

    Examples
    --------
    >>> load_settings(AlignmentSettings, frame_rate=15).frame_rate
    15.0
    >>> load_settings(RunSettings, alignment__frame_rate=-1)
    Traceback (most recent call last):
    nwbrecon.errors.SettingsError: alignment.frame_rate is -1: input should be greater than 0.
    """
    content: dict[str, Any] = {}
    if path is not None:
        import yaml

        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (OSError, yaml.YAMLError) as error:
            raise SettingsError(f"The settings file {path} cannot be read ({error}).") from error
        if not isinstance(content, dict):
            raise SettingsError(f"The settings file {path} does not hold names and values.")
    for name, value in overrides.items():
        if value is None:
            continue
        *parents, last = name.split("__")
        inner = content
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise SettingsError(f"{parent} is {inner!r}.", "Names and values of several settings were expected.")
        inner[last] = value
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise SettingsError(" ".join(_sentence(fault) for fault in error.errors())) from error


def _sentence(fault: Any) -> str:
    # an encoder's place is followed by the name of its architecture
    parts = [part for index, part in enumerate(fault["loc"]) if index != 1 or fault["loc"][0] != "encoder"]
    name = ".".join(map(str, parts))
    if fault["type"] == "extra_forbidden":
        return f"There is no setting {name}."
    message = fault["msg"].removeprefix("Value error, ")
    return f"{name} is {fault['input']!r}: {message[0].lower()}{message[1:]}."
