"""How far a recording is from its prediction: shared by training and inversion."""

from __future__ import annotations

from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor

from nwbrecon.alignment import AlignedSession, samples_in
from nwbrecon.errors import SettingsError
from nwbrecon.session import SignalKind

__all__ = ["Gaussian", "Likelihood", "Poisson", "ZeroInflatedGamma", "fit_likelihoods", "likelihood_for"]


class Likelihood(Protocol):
    """The probability of a measured value, given the expected one."""

    name: str

    def loss(self, expected: Tensor, measured: Tensor) -> Tensor:
        """Give the negative log-likelihood of each value, up to a constant, for a dispersion of 1."""
        ...

    def variance(self, expected: Tensor) -> Tensor:
        """Give the variance of each value for a dispersion of 1."""
        ...


class Poisson:
    """Counts, or deconvolved activity, whose variance is proportional to its mean.

    For measured values that are not counts this is the quasi-likelihood of a variance proportional to the mean
    (Wedderburn 1974, Biometrika 61:439-447); the factor of proportion, the dispersion, is calibrated apart.
    """

    name = "poisson"
    # expected activity below this is a rounding error of a rectified model, not a prediction
    floor = 1e-4

    def loss(self, expected: Tensor, measured: Tensor) -> Tensor:
        """Give ``expected - measured log(expected)``."""
        return expected - measured * torch.log(expected + self.floor)

    def variance(self, expected: Tensor) -> Tensor:
        """Give the expected value itself."""
        return expected + self.floor


class Gaussian:
    """Signals such as dF/F, which may be negative, with a variance that does not depend on the mean."""

    name = "gaussian"

    def loss(self, expected: Tensor, measured: Tensor) -> Tensor:
        """Give half the squared difference."""
        return 0.5 * (expected - measured) ** 2

    def variance(self, expected: Tensor) -> Tensor:
        """Give one."""
        return torch.ones_like(expected)


class ZeroInflatedGamma:
    """Deconvolved activity: often exactly zero, otherwise spread over a long tail.

    A value is zero with probability ``exp(-mean / size)``, as if events came at random (Poisson) and added ``size``
    each on average; otherwise it is gamma distributed, with a shape that does not change and such a scale that the mean
    over all values is the expected one. That a point mass at zero and a gamma distribution suit deconvolved calcium
    activity is from Wei et al. (2020, Neurons, Behavior, Data Analysis, and Theory 3) and Bashiri et al. (2021,
    Advances in Neural Information Processing Systems 34), who predict the probability of a zero apart; here it follows
    from the mean, since an encoder predicts nothing else. Values below a thousandth count as zero.

    Parameters
    ----------
    size
        ``(roi,)`` mean of the values of a ROI that are not zero, where little is expected.
    shape
        ``(roi,)`` shape of the gamma distribution.
    """

    name = "zig"
    floor = Poisson.floor
    # values below this count as zero; activity is in units of its standard deviation
    zero = 1e-3

    def __init__(self, size: Tensor, shape: Tensor) -> None:
        self.size, self.shape = size, shape

    @classmethod
    def fit(cls, activity: np.ndarray) -> Self:
        """Estimate size and shape from activity ``(sample, roi)`` of training trials; NaN is left out.

        The size is that which gives the share of zeros at the mean of all values; the shape is that of greatest
        likelihood (in the closed approximation of Minka 2002, "Estimating a Gamma distribution") for the values that
        are not zero. What the expected value varies counts as spread. An ROI of which little is known is taken for a
        typical one.
        """
        known = np.isfinite(activity)
        positive = known & (np.where(known, activity, 0) >= cls.zero)
        count, n_positive = known.sum(axis=0), positive.sum(axis=0)
        values = np.where(positive, activity, 1.0).astype(float)
        total, logarithms = (values * positive).sum(axis=0), np.log(values).sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            # half a zero more and half a zero less: neither all nor none is ever certain
            share = (count - n_positive + 0.5) / (count + 1)
            size = -total / count / np.log(share)
            spread = np.log(total / n_positive) - logarithms / n_positive
            shape = (3 - spread + np.sqrt((spread - 3) ** 2 + 24 * spread)) / (12 * spread)
        enough = n_positive >= _LEAST_POSITIVE
        size, shape = (
            np.where(enough, values, np.median(values[enough]) if enough.any() else 1.0).clip(*_RANGE)
            for values in (size, shape)
        )
        return cls(torch.from_numpy(size).float(), torch.from_numpy(shape).float())

    def loss(self, expected: Tensor, measured: Tensor) -> Tensor:
        """Give the negative logarithm of the probability, or of the density where it is not zero, up to a constant."""
        expected, size, shape = self._like(expected)
        events = expected / size
        some = torch.log(-torch.expm1(-events))
        # of the values that are not zero
        mean = torch.log(expected) - some
        value = measured.clamp_min(self.zero)
        tail = shape * (mean + value * torch.exp(-mean)) - some
        return torch.where(measured < self.zero, events, tail - (shape - 1) * torch.log(value) + _gamma_constant(shape))

    def variance(self, expected: Tensor) -> Tensor:
        """Give the variance of a value."""
        expected, size, shape = self._like(expected)
        return expected**2 * ((1 + 1 / shape) / -torch.expm1(-expected / size) - 1)

    def _like(self, expected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return expected + self.floor, self.size.to(expected), self.shape.to(expected)


def _gamma_constant(shape: Tensor) -> Tensor:
    return torch.lgamma(shape) - shape * torch.log(shape)


# an ROI of fewer values than this that are not zero says little about their distribution
_LEAST_POSITIVE = 20
_RANGE = (0.01, 100.0)

_LIKELIHOODS: dict[str, type[Poisson] | type[Gaussian]] = {"poisson": Poisson, "gaussian": Gaussian}


def likelihood_for(kind: SignalKind, name: str = "auto") -> Likelihood:
    """Likelihood for a kind of signal: Poisson for what cannot be negative, otherwise Gaussian.

    Parameters
    ----------
    kind
        Kind of the signal.
    name
        ``auto``, ``poisson`` or ``gaussian``.

    Raises
    ------
    SettingsError
        If the likelihood does not fit the signal.
    """
    if name == "auto":
        name = "gaussian" if kind is SignalKind.DFF else "poisson"
    if name == "poisson" and kind is SignalKind.DFF:
        raise SettingsError(
            "The Poisson likelihood was asked for, but the responses are dF/F, which can be negative.",
            action="Deconvolve the responses or use the Gaussian likelihood.",
        )
    return _LIKELIHOODS[name]()


def fit_likelihoods(aligned: AlignedSession, trials: list[int], name: str = "auto") -> list[Likelihood]:
    """Likelihoods of the response groups of a session; what they need to know of the responses is from some trials.

    Parameters
    ----------
    aligned
        The session.
    trials
        Training trials.
    name
        ``auto``, ``poisson``, ``gaussian`` or ``zig`` (zero-inflated gamma).

    Raises
    ------
    SettingsError
        If the likelihood does not fit the signal.
    """
    if name != "zig":
        return [likelihood_for(group.kind, name) for group in aligned.groups]
    fitted: list[Likelihood] = []
    for group in aligned.groups:
        if group.kind is not SignalKind.EVENTS:
            raise SettingsError(
                f"The zero-inflated gamma likelihood was asked for, but what {group.name} measured is {group.kind}.",
                "It is for deconvolved activity.",
                "Deconvolve the responses or use another likelihood.",
            )
        onsets = aligned.trials.loc[trials, "onset"]
        stops = onsets + aligned.trials.loc[trials, "n_frames"] / aligned.frame_rate
        parts = [group.activity[samples_in(group, *span)] for span in zip(onsets, stops, strict=True)]
        fitted.append(ZeroInflatedGamma.fit(np.concatenate(parts)))
    return fitted
