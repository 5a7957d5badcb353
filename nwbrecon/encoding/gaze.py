"""How far the picture moves on the retina with the gaze, found from linear fits before any training.

A readout that is fitted while the picture moves unseen blurs what it reads, and what is blurred asks for less of a
shift: descent on both is long in coming out of that. Here readouts are fitted anew for every shift that is considered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nwbrecon.alignment import AlignedSession
from nwbrecon.encoding.linear_fits import RIDGE, best_rois, by_step, group_shifts, local_features
from nwbrecon.encoding.observation import Window, observe, window_video
from nwbrecon.progress import progress

if TYPE_CHECKING:
    from nwbrecon.encoding.encoder import VideoEncoder

__all__ = ["find_gaze_shift"]

# the shift has four weights, for which these suffice
_MOST_MINUTES = 6
_MOST_ROIS = 60
# windows are cut to this length (s), so that there are some to judge by where clips are long
_PIECE_SECONDS = 10.0
# fits are judged by windows that they were not made from
_FOLDS = 4
# rounds, and more as long as they go as far as they may
_ROUNDS, _MOST_ROUNDS = 2, 6
# share of half the frame by which shifts are tried: half a pixel or so of the frames that encoders see
_TRIED = 0.02
# the farthest that one round goes, beyond which features do not change in proportion
_FARTHEST = 0.06


@torch.no_grad()
def find_gaze_shift(encoder: VideoEncoder, aligned: AlignedSession, windows: Sequence[Window]) -> None:
    """Set the weights from gaze to shift, if there are any, to those at which linear fits predict activity best.

    The features at the position of an ROI change in proportion to each weight, for small changes; how they do is found
    by trying. For features that are so extrapolated, the fit of every ROI and its error follow from sums of products
    that are made once, so that the weights of least error are quickly found. Then features are computed anew, twice or
    for as long as the weights still change a lot.

    Parameters
    ----------
    encoder
        An encoder with a core that is scaled and units of behavior that are fixed.
    aligned
        The session.
    windows
        Windows of training trials. Where they are long, some from all over them are used; where all there is is short,
        nothing can be judged, and nothing is shifted.

    Raises
    ------
    EncoderError
        If a response group measured nothing in these windows.
    """
    if encoder.shifter is None or len(pieces := _pieces(aligned, windows)) < 2:
        return
    found = best_rois(encoder, aligned, windows, -(-_MOST_ROIS // len(aligned.groups)))
    weight = encoder.shifter.shift.weight
    for done in range(1, _MOST_ROUNDS + 1):
        step = _best_step(_sums(encoder, aligned, pieces, found), weight.numel())
        weight.add_(step.to(weight).view_as(weight))
        if done >= _ROUNDS and float(step.abs().max()) < 0.9 * _FARTHEST:
            break


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


def _sums(
    encoder: VideoEncoder,
    aligned: AlignedSession,
    windows: Sequence[Window],
    found: Sequence[tuple[np.ndarray, Tensor]],
) -> Tensor:
    """Add up products of all that a fit knows, over the samples of each fold of windows.

    Returns
    -------
    torch.Tensor
        ``(fold, roi, column, column)``. The columns: features, their changes with each weight of the shift, 1, and
        what was measured.
    """
    assert encoder.shifter is not None
    sizes, positions = [len(rois) for rois, _ in found], torch.cat([at for _, at in found])
    # features and energies, and as many changes with each weight
    n_columns = encoder.core.channels * 3 // 2 * (1 + encoder.shifter.shift.weight.numel()) + 2
    sums = torch.zeros(min(_FOLDS, len(windows)), len(positions), n_columns, n_columns)
    for index, window in enumerate(progress(windows, label="finding the shift with gaze", unit="clip")):
        columns = _features_and_changes(encoder, *window_video(aligned, [window]), positions)
        seen_by = observe(aligned, [window], warm_up=encoder.warm_up, look_ahead=encoder.look_ahead)
        of_groups = zip(
            torch.split(sums[index % len(sums)], sizes),
            torch.split(columns, sizes),
            seen_by,
            found,
            group_shifts(encoder, len(found)),
            strict=True,
        )
        for of_group, part, seen, (rois, _), shift in of_groups:
            weights = by_step(seen.weights[0], encoder.core.temporal_stride, shift)
            known, measured = (values[0][:, rois].T[:, :, None] for values in (seen.known, seen.measured))
            # mean of the features over the interval of each sample: (roi, sample, column)
            means = (weights / weights.sum(dim=1, keepdim=True).clamp_min(1e-6)) @ part
            means = torch.cat([means, torch.ones_like(measured), measured], dim=2)
            of_group += (known * means).transpose(1, 2) @ means
    return sums


def _features_and_changes(encoder: VideoEncoder, video: Tensor, behavior: Tensor, positions: Tensor) -> Tensor:
    """Features at the positions of ROIs, and how they change with each weight of the shift, ``(roi, step, column)``."""
    assert encoder.shifter is not None
    weight = encoder.shifter.shift.weight
    before, columns = weight.clone(), [local_features(encoder, video, behavior, positions)]
    for index in range(weight.numel()):
        tried = []
        for sign in (1, -1):
            weight.view(-1)[index] += sign * _TRIED
            tried.append(local_features(encoder, video, behavior, positions))
            weight.copy_(before)
        # to both sides: moving between pixels blurs, whichever the way
        columns.append((tried[0] - tried[1]) / (2 * _TRIED))
    return torch.cat(columns, dim=2)


def _best_step(sums: Tensor, n_weights: int) -> Tensor:
    """Change of the weights of the shift ``(weight,)`` at which fits to the extrapolated features err least.

    Errors are of each fold, with a fit to the others: larger features fit better in any case.
    """
    sums = sums.double()
    n_samples = sums[:, :, -2, -2].sum(dim=0)
    fitted, held_out = (_centered(part, n_weights) for part in (sums.sum(dim=0) - sums, sums))
    penalty = RIDGE * fitted.count[..., None, None] * torch.eye(fitted.gram.shape[-1], dtype=torch.float64)

    def errors(step: Tensor) -> Tensor:
        gram, cross = fitted.shifted(step)
        weights = torch.linalg.solve(gram + penalty, cross)
        gram, cross = held_out.shifted(step)
        explained = 2 * (weights * cross).sum(dim=-1) - torch.einsum("krf,krfg,krg->kr", weights, gram, weights)
        return (held_out.power - explained).sum(dim=0)

    # in parts of the farthest step
    step = torch.zeros(n_weights, dtype=torch.float64, requires_grad=True)
    # the errors of each ROI are relative to its own at first
    at_first = errors(step.detach())
    precision = torch.where(at_first > 0, n_samples / at_first.clamp_min(1e-9), 0.0) / n_samples.sum()
    # errors differ little where activity tells little
    optimizer = torch.optim.LBFGS([step], max_iter=20, line_search_fn="strong_wolfe", tolerance_change=1e-9)

    def closure() -> Tensor:
        optimizer.zero_grad()
        error = (precision * errors(_FARTHEST * torch.tanh(step))).sum()
        error.backward()  # type: ignore[no-untyped-call]
        return error

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return _FARTHEST * torch.tanh(step.detach())


@dataclass
class _Centered:
    """Sums of products of deviations from means: of features and changes, these and what was measured, and that."""

    gram: Tensor
    cross: Tensor
    power: Tensor
    count: Tensor

    def shifted(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """Give ``(fold, roi, feature, feature)`` and ``(fold, roi, feature)`` sums for the features after a step."""
        scale = torch.cat([step.new_ones(1), step])
        return (
            torch.einsum("k,arkflg,l->arfg", scale, self.gram, scale),
            torch.einsum("k,arkf->arf", scale, self.cross),
        )


def _centered(sums: Tensor, n_weights: int) -> _Centered:
    count = sums[..., -2, -2].clamp_min(1)
    centered = sums - sums[..., -2:-1] * sums[..., -2:-1, :] / count[..., None, None]
    leading, shape = centered.shape[:2], (n_weights + 1, (sums.shape[-1] - 2) // (n_weights + 1))
    return _Centered(
        centered[..., :-2, :-2].reshape(*leading, *shape, *shape),
        centered[..., :-2, -1].reshape(*leading, *shape),
        centered[..., -1, -1],
        count,
    )
