"""From the stored signal of a response group to the activity that an encoder predicts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from nwbrecon.config import ResponseSettings
from nwbrecon.progress import progress
from nwbrecon.session.deconvolution import deconvolve, estimate_decay, noise_level, usual_decay
from nwbrecon.session.fluorescence import is_baseline_subtracted, relative_to_baseline, running_baseline
from nwbrecon.session.model import ResponseGroup, SignalKind

__all__ = ["Activity", "activity"]

ROIS_AT_ONCE = 64
BYTES_AT_ONCE = 128 * 2**20
"""Read so much at a time: few enough pieces that a chunk of the file is seldom read twice."""
ROIS_FOR_DECAY = 256
PROBE_SAMPLES = 4096


@dataclass
class Activity:
    """The activity of the ROIs of one group, on the group's clock.

    Attributes
    ----------
    values
        ``(sample, roi)`` float32. For events and spikes, sample ``k`` is what happened in
        ``(timestamps[k-1], timestamps[k]]``, never negative; for dF/F it is the value at ``timestamps[k]``. NaN where
        missing: deconvolved activity has none at the first sample, nor where the trace was missing.
    kind
        `SignalKind.EVENTS`, `SignalKind.SPIKES` or `SignalKind.DFF`.
    origin
        How it came from what the file holds, in a sentence.
    """

    values: np.ndarray
    kind: SignalKind
    origin: str


def activity(group: ResponseGroup, settings: ResponseSettings | None = None) -> Activity:
    """Read a group's responses and turn them into activity.

    Stored events and spikes are taken as they are. Raw fluorescence loses its share of the neuropil, where the file has
    it, and becomes dF/F over a running baseline; corrected fluorescence becomes dF/F likewise, unless its baseline was
    subtracted already. dF/F is deconvolved, unless the settings say otherwise.

    Parameters
    ----------
    group
        A response group of an open session.
    settings
        Which signal, and how it is processed; the defaults if left out.

    Returns
    -------
    Activity
        Memory is needed for one float32 array of the group's size, and blocks.

    Raises
    ------
    SessionError
        If the file has no signal of the kind that the settings ask for.
    """
    settings = settings or ResponseSettings()
    if settings.signal != "auto":
        group = group.using(settings.signal)
    values, steps = _read(group), [f"{group.signal.path} ({group.kind.value})"]
    if group.kind in (SignalKind.EVENTS, SignalKind.SPIKES):
        negative = int(np.count_nonzero(values < 0))
        if negative:
            np.maximum(values, 0, out=values)
            steps.append(f"{negative} negative values set to 0")
        return Activity(values, group.kind, "; ".join(steps) + ".")
    if group.kind is not SignalKind.DFF:
        steps += _to_dff(values, group, settings)
    if not settings.deconvolve:
        return Activity(values, SignalKind.DFF, "; ".join(steps) + ".")
    steps.append(_deconvolve(values, group, settings))
    return Activity(values, SignalKind.EVENTS, "; ".join(steps) + ".")


def _read(group: ResponseGroup) -> np.ndarray:
    values = np.empty(group.signal.shape, dtype=np.float32)
    for piece in progress(_pieces(values), label=f"reading {group.name}", unit="piece"):
        values[piece] = group.signal.read(piece.start, piece.stop)
    values[~np.isfinite(values)] = np.nan
    return values


def _pieces(values: np.ndarray) -> list[slice]:
    n_samples, n_rois = values.shape
    step = max(1, BYTES_AT_ONCE // (4 * max(1, n_rois)))
    return [slice(start, min(start + step, n_samples)) for start in range(0, n_samples, step)]


def _to_dff(values: np.ndarray, group: ResponseGroup, settings: ResponseSettings) -> list[str]:
    """Turn fluorescence into dF/F in place; gives the steps in words."""
    probe = values[:: max(1, len(values) // PROBE_SAMPLES)].T
    if is_baseline_subtracted(probe):
        return ["taken for dF/F: its baseline is subtracted already"]
    steps = []
    brightness = np.nan_to_num(_medians(probe))
    factor = settings.neuropil_factor
    if group.kind is SignalKind.RAW and group.neuropil is not None and factor > 0:
        for piece in _pieces(values):
            values[piece] -= np.float32(factor) * group.neuropil.read(piece.start, piece.stop)
        steps.append(f"less {factor:g} times {group.neuropil.path}")
    window = round(settings.baseline_seconds * group.sampling_rate)
    for block in _blocks(values, f"dF/F of {group.name}"):
        traces = np.ascontiguousarray(values[:, block].T)
        baseline = running_baseline(traces, window, settings.baseline_percentile)
        values[:, block] = relative_to_baseline(traces, baseline, brightness[block]).T
    return [
        *steps,
        f"dF/F over the running {settings.baseline_percentile:g}th percentile of {settings.baseline_seconds:g} s",
    ]


def _medians(probe: np.ndarray) -> np.ndarray:
    medians = np.full(len(probe), np.nan)
    some = np.isfinite(probe).any(axis=1)
    medians[some] = np.nanmedian(probe[some], axis=1)
    return medians


def _deconvolve(values: np.ndarray, group: ResponseGroup, settings: ResponseSettings) -> str:
    """Deconvolve in place; gives the step in words."""
    interval = 1 / group.sampling_rate
    window = round(settings.baseline_seconds / interval)
    lower = np.float32(-ndtri(np.clip(settings.baseline_percentile, 1, 50) / 100))
    decay, source = settings.decay_seconds, "given"
    if decay is None:
        decay, source = usual_decay(group.indicator), f"usual for {group.indicator}"
    if decay is None:
        chosen = np.unique(np.linspace(0, values.shape[1] - 1, ROIS_FOR_DECAY).astype(int))
        decay, source = estimate_decay(values[:, chosen].T, interval), "estimated from the autocovariance"
    if decay is None:
        decay, source = 1.0, "assumed, since no trace's autocovariance falls"
    for block in _blocks(values, f"deconvolving {group.name}"):
        traces = np.ascontiguousarray(values[:, block].T)
        noise = noise_level(traces)
        # of a silent trace, too, the percentile lies below the level: so many standard deviations of the noise
        traces -= running_baseline(traces, window, settings.baseline_percentile) + lower * noise[:, None]
        threshold = noise if settings.threshold else None
        values[:, block] = deconvolve(traces, group.timestamps, decay, threshold).T
    kind = "thresholded by its noise, " if settings.threshold else ""
    return f"{kind}non-negative AR(1) deconvolution (Friedrich et al. 2017) with a decay of {decay:.2g} s ({source})"


def _blocks(values: np.ndarray, label: str) -> list[slice]:
    starts = range(0, values.shape[1], ROIS_AT_ONCE)
    bar: list[slice] = progress([slice(start, start + ROIS_AT_ONCE) for start in starts], label=label, unit="block")
    return bar
