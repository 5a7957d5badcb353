"""How far a recording is from its prediction: shared by training and inversion."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from nwbrecon.errors import SettingsError
from nwbrecon.session import SignalKind

__all__ = ["Gaussian", "Likelihood", "Poisson", "likelihood_for"]


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
