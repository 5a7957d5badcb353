"""Residuals made white before their squares are summed: noise that lasts, or is shared, then counts for what it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from nwbrecon.encoding.likelihoods import Likelihood
from nwbrecon.encoding.noise import ResidualNoise
from nwbrecon.encoding.observation import Observation

__all__ = ["Whitening", "whitening_for"]


@dataclass
class Whitening:
    """Gaussian negative log-likelihood of one response group, with correlated noise and variances that are held.

    With the expected values ``f(v)`` and variances ``V`` that are held at those of an earlier solution, it is
    ``(r - f)^T V^(-1/2) R^(-1) V^(-1/2) (r - f) / 2``, whose gradient is the generalized estimating equation of Liang &
    Zeger (1986, Biometrika 73:13-22) with the working correlation ``R``: either autoregressive of first order in each
    ROI, or one factor in each sample that all ROIs load on. What is not known is not zero but left out: ``R`` is that
    of the rest, but that an autoregression begins anew after a gap.

    Attributes
    ----------
    scale
        ``(1, sample, roi)`` one over the standard deviations ``V^(1/2)``.
    autocorrelation
        ``(roi,)`` correlation of successive residuals.
    loading
        ``(roi,)`` correlation of what is new in each residual with the common factor.
    """

    scale: Tensor
    autocorrelation: Tensor
    loading: Tensor

    def loss(self, seen: Observation, rates: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Give half the sum of squared white residuals.

        Parameters
        ----------
        seen
            What the group measured.
        rates
            ``(1, roi of all groups, time)`` predicted rates.
        chosen
            ``(roi of all groups,)`` 1 for the ROIs that count, otherwise 0; ``None`` for all.
        """
        known = seen.known if chosen is None else seen.known * chosen[seen.rois]
        residual = (seen.measured - seen.expected(rates)) * self.scale * known
        new = residual - self.autocorrelation * _before(residual)
        variance = 1 - self.autocorrelation**2 * _before(known)
        precision = known / (variance * (1 - self.loading**2))
        # of the factor, whose variance is one, given the residuals of a sample (Woodbury identity)
        share = self.loading * variance.sqrt() * precision
        evidence = (share * new * known).sum(dim=-1)
        certainty = 1 + (share * self.loading * variance.sqrt()).sum(dim=-1)
        return 0.5 * ((new * new * precision).sum() - (evidence * evidence / certainty).sum())


def whitening_for(
    seen: Observation,
    likelihood: Likelihood,
    rates: Tensor,
    noise: ResidualNoise,
    dispersion: Tensor,
    kind: Literal["shared", "autoregressive"],
) -> Whitening:
    """Make the whitening of a response group.

    Parameters
    ----------
    seen
        What the group measured.
    likelihood
        Says the variances.
    rates
        ``(1, roi of all groups, time)`` rates at which they are held.
    noise
        How the residuals of all ROIs hang together.
    dispersion
        ``(roi of all groups,)`` long-run dispersion, the strength of noise whose factor is ``shared``. For
        ``autoregressive`` noise it is that of single samples: the autocorrelation says how it adds up.
    kind
        What is whitened.
    """

    def own(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values[seen.rois]).to(rates)

    variance = likelihood.variance(seen.expected(rates)) + own(noise.floor)
    none = np.zeros_like(noise.loading)
    if kind == "shared":
        return Whitening((variance * dispersion[seen.rois]).rsqrt(), own(none), own(noise.loading))
    return Whitening((variance * own(noise.variance)).rsqrt(), own(noise.autocorrelation), own(none))


def _before(values: Tensor) -> Tensor:
    """Values ``(1, sample, roi)`` one sample earlier, zero before the first."""
    return torch.nn.functional.pad(values, (0, 0, 1, 0))[:, :-1]
