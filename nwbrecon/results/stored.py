"""What storing does to a movie: the one place that knows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nwbrecon.config import ResultsSettings
from nwbrecon.errors import ResultsError
from nwbrecon.inversion import Reconstruction, Reconstructions

__all__ = ["STD_STEP", "as_stored", "decode", "encode"]

# No distribution over 0-255 has a standard deviation above 127.5, so 255 steps of half a grey level reach them all.
STD_STEP = 0.5


def encode(movie: np.ndarray, dtype: str, *, step: float = 1.0) -> np.ndarray:
    """Turn a movie into what the file holds.

    Parameters
    ----------
    movie
        ``(time, height, width)`` in grey levels.
    dtype
        ``uint8`` rounds to whole steps and clips to 0-255 steps; ``float32`` leaves the values as they are.
    step
        Grey levels that a step stands for, in a ``uint8`` movie.

    Raises
    ------
    ResultsError
        If the movie holds NaN or infinity and is to be stored as ``uint8``, which has neither.
    """
    if dtype == "float32":
        return np.asarray(movie, dtype=np.float32)
    if not np.isfinite(movie).all():
        raise ResultsError(
            "A movie holds values that are not finite.",
            "Grey levels stored as uint8 have no way to say so.",
            "Store it with movie_dtype='float32', or find out why the inversion diverged.",
        )
    return np.clip(np.rint(np.asarray(movie, dtype=np.float32) / np.float32(step)), 0, 255).astype(np.uint8)


def decode(stored: np.ndarray, *, step: float = 1.0) -> np.ndarray:
    """Turn what the file holds into ``(time, height, width)`` float32 grey levels."""
    if stored.dtype == np.float32:
        return stored
    return stored.astype(np.float32) * np.float32(step)


def as_stored(reconstructions: Reconstructions, settings: ResultsSettings | None = None) -> Reconstructions:
    """Give reconstructions as they will be read back, so that what is scored is what is stored.

    Parameters
    ----------
    reconstructions
        As they came from the inversion. They are left as they are.
    settings
        ``movie_dtype`` decides: ``uint8`` rounds movies to whole grey levels in 0-255 and standard deviations to half
        grey levels; ``float32`` changes nothing.

    Returns
    -------
    Reconstructions
        With the videos, standard deviations and baselines that `read_results` will give, equal to the last bit.

    Raises
    ------
    ResultsError
        If a movie holds NaN or infinity and is to be stored as ``uint8``.

    Examples
    --------
    >>> from nwbrecon import Reconstruction, Reconstructions
    >>> clip = Reconstruction("a", (0,), np.full((2, 4, 4), 99.6, np.float32), onset=0.0, frame_rate=30.0)
    >>> mask = np.ones((4, 4), bool)
    >>> float(as_stored(Reconstructions([clip], "map", mask, mask.astype(np.float32)))[0].video[0, 0, 0])
    100.0
    """
    dtype = (settings or ResultsSettings()).movie_dtype

    def stored(item: Reconstruction) -> Reconstruction:
        return replace(
            item,
            video=decode(encode(item.video, dtype)),
            std=None if item.std is None else decode(encode(item.std, dtype, step=STD_STEP), step=STD_STEP),
            baselines={name: decode(encode(movie, dtype)) for name, movie in item.baselines.items()},
        )

    return replace(reconstructions, items=[stored(item) for item in reconstructions])
