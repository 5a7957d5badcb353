"""One clock for responses, stimulus and behavior; trials and splits."""

from nwbrecon.alignment.align import align
from nwbrecon.alignment.gray import gray_session
from nwbrecon.alignment.latency import Latency, population_latency
from nwbrecon.alignment.model import AlignedGroup, AlignedSession, AlignedTrial
from nwbrecon.alignment.reliability import leave_one_out_correlation, reliability
from nwbrecon.alignment.resample import interval_weights
from nwbrecon.alignment.views import behavior_on_frames, responses_in_bins, responses_on_frames, samples_in

__all__ = [
    "AlignedGroup",
    "AlignedSession",
    "AlignedTrial",
    "Latency",
    "align",
    "behavior_on_frames",
    "gray_session",
    "interval_weights",
    "leave_one_out_correlation",
    "population_latency",
    "reliability",
    "responses_in_bins",
    "responses_on_frames",
    "samples_in",
]
