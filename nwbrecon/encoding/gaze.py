"""How far the picture moves on the retina with the gaze, found from linear fits before any training.

A readout that is fitted while the picture moves unseen blurs what it reads, and what is blurred asks for less of a
shift: descent on both is long in coming out of that. Here positions and readouts are fitted anew for every shift that
is tried. Positions too: those that were best while the picture moved are best only then.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from nwbrecon.alignment import AlignedSession
from nwbrecon.encoding.linear_fits import fit_everywhere
from nwbrecon.encoding.observation import Window
from nwbrecon.progress import progress, progress_shown

if TYPE_CHECKING:
    from nwbrecon.encoding.encoder import VideoEncoder

__all__ = ["find_gaze_shift"]

# the shift has four weights, for which this suffices
_MOST_MINUTES = 6
# windows are cut to this length (s), so that there are some to judge by where clips are long
_PIECE_SECONDS = 10.0
# shares of half the frame: a pixel or so of the frames that encoders see at first, and what training is left to find
_FIRST_STEP, _LAST_STEP = 0.03, 0.01
_MOST_TRIED = 20
# what is large in natural movies hardly changes with a shift of a pixel; fits to it, and to little else, tell more
_RIDGE = 1.0


@torch.no_grad()
def find_gaze_shift(encoder: VideoEncoder, aligned: AlignedSession, windows: Sequence[Window]) -> None:
    """Set the weights from gaze to shift, if there are any, to those at which linear fits predict activity best.

    A shift is as good as the mean over ROIs of the correlation, with activity that was held out, of the fit at the best
    position of each. That is a smooth function of the weights but for small steps; a quadratic model of it is made and
    followed, without derivatives (COBYQA; Ragonneau 2022, doctoral thesis, The Hong Kong Polytechnic University).

    Parameters
    ----------
    encoder
        An encoder with a core that is scaled and units of behavior that are fixed.
    aligned
        The session.
    windows
        Windows of training trials. Where they are long, some from all over them are used; where all there is is short,
        nothing can be judged, and nothing is shifted.
    """
    if encoder.shifter is None or len(pieces := _pieces(aligned, windows)) < 2:
        return
    weight = encoder.shifter.shift.weight
    positions = _every_other(encoder.readout.map_size)
    varies = _varies(aligned, windows)[encoder.shifter.gaze_variables]
    searched = torch.from_numpy(varies).expand_as(weight)
    if not varies.any():
        return

    with progress(total=_MOST_TRIED, label="finding the shift with gaze", unit="shift") as bar:

        def error(values: np.ndarray) -> float:
            weight[searched] = torch.from_numpy(values).to(weight)
            with progress_shown(False):
                fits = fit_everywhere(encoder, aligned, pieces, positions)
            bar.update()
            return -float(torch.cat([fit.score(_RIDGE).amax(dim=0) for fit in fits if fit.fitted]).mean())

        found = optimize.minimize(
            error,
            weight[searched].double().numpy(),
            method="COBYQA",
            options={"initial_tr_radius": _FIRST_STEP, "final_tr_radius": _LAST_STEP, "maxfev": _MOST_TRIED},
        )
    weight[searched] = torch.from_numpy(found.x).to(weight)


def _pieces(aligned: AlignedSession, windows: Sequence[Window]) -> list[Window]:
    """Short pieces from all over some windows, of so many minutes as are of use."""
    longest, pieces = round(_PIECE_SECONDS * aligned.frame_rate), []
    for window in windows:
        edges = np.linspace(0, window.n_frames, -(-window.n_frames // longest) + 1).round().astype(int)
        pieces += [
            Window(window.trial, window.start + int(start), int(stop - start)) for start, stop in pairwise(edges)
        ]
    share = min(1.0, _MOST_MINUTES * 60 * aligned.frame_rate / sum(piece.n_frames for piece in pieces))
    few = np.linspace(0, len(pieces) - 1, max(1, round(share * len(pieces)))).round().astype(int)
    return [pieces[index] for index in few]


def _every_other(map_size: tuple[int, int]) -> Tensor:
    """Every other position in every other row."""
    rows, columns = (torch.arange(0, size, 2) for size in map_size)
    return (rows[:, None] * map_size[1] + columns).flatten()


def _varies(aligned: AlignedSession, windows: Sequence[Window]) -> np.ndarray:
    """``(variable,)`` whether a behavioral variable was measured, and not always the same, in some windows."""
    behavior = np.concatenate([aligned.trial(trial).behavior for trial in {window.trial for window in windows}])
    known = np.isfinite(behavior)
    high = np.where(known, behavior, -np.inf).max(axis=0)
    low = np.where(known, behavior, np.inf).min(axis=0)
    return np.asarray(high > low)
