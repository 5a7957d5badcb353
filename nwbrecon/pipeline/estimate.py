"""What a run would take, from trying each kind of work on this computer in small."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from nwbrecon.alignment import AlignedGroup, AlignedSession
from nwbrecon.alignment.align import plan_trials
from nwbrecon.alignment.splits import choose_split
from nwbrecon.alignment.video import scale_frames
from nwbrecon.config import AlignmentSettings, RunSettings, TrainingSettings
from nwbrecon.encoding import EncoderEnsemble, train
from nwbrecon.inversion import reconstruct
from nwbrecon.progress import progress_shown
from nwbrecon.session import ResponseGroup, Session, Signal, SignalKind, activity, open_session
from nwbrecon.session.describe import text_table

__all__ = ["STEPS", "Estimate", "estimate"]

STEPS = ("alignment", "training", "reconstruction", "writing")

_PROBE_SECONDS = 5.0
_PROBE_CLIPS = {"train": 4, "validation": 2, "test": 1}
_PROBE_ROIS, _PROBE_SAMPLES, _PROBE_FRAMES = 16, 20_000, 30
_PROBE_BYTES = 2**25
# seconds a frame for results, report and video; they hardly depend on anything else
_WRITING_SECONDS = 0.004
