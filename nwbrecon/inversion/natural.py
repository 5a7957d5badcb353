"""The space-time spectrum of natural movies in general, for sessions whose own movies do not tell it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

__all__ = ["NATURAL", "NaturalSpectrum"]


@dataclass(frozen=True)
class NaturalSpectrum:
    """Power spectrum of natural movies, in cycles per degree of the visual field and Hz.

    It is ``(f^2 + f0^2)^(-(m + 1) / 2) (1 + (w / v0)^2 / (f^2 + f0^2))^(-n / 2)`` at the spatial frequency ``f`` and
    the temporal frequency ``w``, up to a factor. Still pictures have a power law in ``f``; things that move bring it to
    ``w``, at ``w / f`` for a speed. So space and time do not separate (Dong & Atick 1995, Network 6:345-358, from whom
    the form ``f^(-m-1) P(w / f)`` is). Here the speeds follow Student's distribution, and ``f0`` keeps the power of
    what is larger than the screen finite. Positive everywhere, it makes a valid covariance at any pixel size and frame
    rate.

    Attributes
    ----------
    falloff
        ``m``: exponent of the spatial power of still pictures.
    tail
        ``n``: exponent with which power falls at high temporal frequency.
    speed
        ``v0``: the speed that is usual (degrees per second).
    coarsest
        ``f0``: spatial frequency below which power grows no further (cycles per degree).
    deviation
        Standard deviation of a pixel (grey levels).
    """

    falloff: float
    tail: float
    speed: float
    coarsest: float
    deviation: float

    def power(self, spatial: np.ndarray, temporal: np.ndarray) -> np.ndarray:
        """Power at spatial (cycles per degree) and temporal (Hz) frequencies that broadcast, up to a factor."""
        coarse = spatial**2 + self.coarsest**2
        return coarse ** (-(self.falloff + 1) / 2) * (1 + (temporal / self.speed) ** 2 / coarse) ** (-self.tail / 2)

    def autocovariance(self, max_lags: tuple[int, int, int], frame_rate: float, degrees_per_pixel: float) -> np.ndarray:
        """Mean product of pixels by their distance, as `nwbrecon.inversion.priors.autocovariance` measures it.

        Parameters
        ----------
        max_lags
            Largest lag in frames, rows and columns.
        frame_rate
            Frames per second (Hz).
        degrees_per_pixel
            What a pixel covers of the visual field (degrees).

        Returns
        -------
        numpy.ndarray
            ``(lag + 1, row + 1, column + 1)`` float64, grey levels squared.
        """
        # with twice the longest lag for a period, distances are those to either side
        frames, rows, columns = (2 * max(lag, 1) for lag in max_lags)
        temporal = np.fft.fftfreq(frames, 1 / frame_rate)[:, None, None]
        down = np.fft.fftfreq(rows, degrees_per_pixel)[:, None]
        across = np.fft.rfftfreq(columns, degrees_per_pixel)
        power = self.power(np.hypot(down, across), temporal)
        covariance = np.fft.irfftn(power, (frames, rows, columns), axes=(0, 1, 2))
        covariance = covariance[tuple(slice(0, lag + 1) for lag in max_lags)]
        return self.deviation**2 * covariance / covariance[0, 0, 0]

    def at_level(self, deviation: float) -> NaturalSpectrum:
        """Give the same spectrum for movies of another contrast (standard deviation of a pixel, grey levels)."""
        return replace(self, deviation=deviation)


NATURAL = NaturalSpectrum(falloff=2.42, tail=1.81, speed=2.36, coarsest=0.00523, deviation=58.8)
"""What ``benchmarks/natural_spectrum.py`` printed for 23 films (167 s) of 36 x 64 pixels at 2.2 degrees a pixel."""
