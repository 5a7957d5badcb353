"""Movies that look natural to a visual system: occluding textured objects at several depths, seen by a moving camera.

Occlusion with scale-free object sizes gives the 1/f spectra, edges and long correlations of natural scenes (Lee,
Mumford & Huang 2001, Int. J. Comput. Vis. 41:35-59, "Occlusion models for natural images"); textures are Gaussian
fields with a power-law spectrum; the camera pans, zooms and cuts.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

__all__ = ["dead_leaves_movie", "power_law_field"]

# a canvas is this many times the frame, so that the camera can travel without coming to its edge (it wraps around)
_CANVAS_FACTOR = 3


def power_law_field(shape: tuple[int, int], exponent: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian random field whose amplitude spectrum falls as ``1 / frequency**exponent``, periodic, unit variance.

    Parameters
    ----------
    shape
        Rows and columns.
    exponent
        1 for natural images (Field 1987, J. Opt. Soc. Am. A 4:2379-2394).
    rng
        Source of randomness.

    Returns
    -------
    numpy.ndarray
        ``shape``, float, mean 0, standard deviation 1.

    Examples
    --------
    >>> field = power_law_field((32, 48), 1.0, np.random.default_rng(0))
    >>> field.shape, bool(abs(field.mean()) < 1e-9), bool(abs(field.std() - 1) < 1e-9)
    ((32, 48), True, True)
    """
    rows, columns = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = np.inf
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) / frequency**exponent, s=shape)
    return field / field.std()


def dead_leaves_movie(
    n_frames: int,
    frame_size: tuple[int, int] = (36, 64),
    frame_rate: float = 30.0,
    *,
    rng: np.random.Generator,
    n_layers: int = 3,
    cut_seconds: float = 5.0,
) -> np.ndarray:
    """Make a clip of occluding textured objects at several depths under a moving camera.

    Parameters
    ----------
    n_frames
        Length of the clip (frames).
    frame_size
        Rows and columns (pixels).
    frame_rate
        Frames per second (Hz); speeds are per second.
    rng
        Source of randomness; the same state gives the same clip.
    n_layers
        Number of depths in front of the background.
    cut_seconds
        Mean time between cuts to another scene (s).

    Returns
    -------
    numpy.ndarray
        ``(time, height, width)`` uint8, grey level 0-255, row 0 the top of the screen.

    Examples
    --------
    >>> dead_leaves_movie(4, (18, 32), rng=np.random.default_rng(0)).shape
    (4, 18, 32)
    """
    shots, remaining = [], n_frames
    while remaining:
        # a shot shorter than half a second is no shot
        length = max(1, int(frame_rate * max(0.5, rng.exponential(cut_seconds))))
        length = remaining if remaining - length < frame_rate / 2 else length
        shots.append(_shot(length, frame_size, frame_rate, rng, n_layers))
        remaining -= length
    return np.concatenate(shots)


def _shot(
    n_frames: int, frame_size: tuple[int, int], frame_rate: float, rng: np.random.Generator, n_layers: int
) -> np.ndarray:
    height, width = frame_size
    time = np.arange(n_frames) / frame_rate
    # frame heights per second: many shots are nearly still, some are fast, as in films
    speed = rng.lognormal(np.log(0.12), 0.9)
    camera = _smooth_path(n_frames, frame_rate, speed * height, rng)
    zoom = np.exp(0.25 * rng.standard_normal() * (time - time.mean()) * min(1.0, speed / 0.12) / 3)
    rows, columns = np.mgrid[:height, :width].astype(float)
    rows -= (height - 1) / 2
    columns -= (width - 1) / 2

    video = np.zeros((n_frames, height, width))
    for layer in range(n_layers + 1):
        canvas, cover = _canvas(frame_size, rng, background=layer == 0)
        parallax = 0.4 + 0.6 * layer / n_layers
        own = _smooth_path(n_frames, frame_rate, 0.5 * speed * height, rng) if layer else 0.0
        center = parallax * camera + own + rng.uniform(0, _CANVAS_FACTOR * height, size=(1, 2))
        scale = zoom[:, None, None] ** parallax
        where = np.stack([center[:, 0, None, None] + rows / scale, center[:, 1, None, None] + columns / scale])
        texture = ndimage.map_coordinates(canvas, where, order=1, mode="grid-wrap")
        alpha = ndimage.map_coordinates(cover, where, order=1, mode="grid-wrap")
        video = alpha * texture + (1 - alpha) * video
    contrast, brightness = rng.uniform(35, 60), rng.uniform(85, 150)
    video = brightness + contrast * video
    return np.clip(np.round(video), 0, 255).astype(np.uint8)


def _smooth_path(n_frames: int, frame_rate: float, speed: float, rng: np.random.Generator) -> np.ndarray:
    """``(time, 2)`` path with a steady and a slowly changing velocity (pixels)."""
    steady = rng.standard_normal(2)
    wander = ndimage.gaussian_filter1d(rng.standard_normal((n_frames, 2)), 0.4 * frame_rate, axis=0, mode="nearest")
    wander /= wander.std() + 1e-9
    return np.cumsum(speed * (0.7 * steady + 0.7 * wander) / frame_rate, axis=0)


def _canvas(
    frame_size: tuple[int, int], rng: np.random.Generator, *, background: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Texture and cover of one depth, periodic; objects lie over one another like leaves."""
    height, width = (_CANVAS_FACTOR * size for size in frame_size)
    texture = np.zeros((height, width))
    cover = np.full((height, width), float(background))
    # a few textures, shifted at random, serve all objects: making one is the costly part
    fields = [power_law_field((height, width), exponent, rng) for exponent in rng.uniform(0.8, 1.4, size=3)]
    if background:
        texture += fields[0]
    rows, columns = np.mgrid[:height, :width].astype(float)
    n_objects = 40 if background else 7
    # radii with density r^-3 between two bounds: the scale-free law of the dead-leaves model
    smallest, largest = 0.1 * frame_size[0], 0.8 * frame_size[0]
    radii = smallest / np.sqrt(1 - rng.uniform(size=n_objects) * (1 - (smallest / largest) ** 2))
    for radius in radii:
        dy = (rows - rng.uniform(0, height) + height / 2) % height - height / 2
        dx = (columns - rng.uniform(0, width) + width / 2) % width - width / 2
        angle = np.arctan2(dy, dx)
        outline = 1 + sum(
            rng.normal(0, 0.25 / order) * np.cos(order * angle + rng.uniform(0, 2 * np.pi)) for order in (1, 2, 3, 4)
        )
        # a soft edge one pixel wide, as a camera gives
        inside = np.clip(radius * outline - np.hypot(dy, dx * rng.uniform(0.6, 1.2)) + 0.5, 0, 1)
        field = np.roll(fields[rng.integers(3)], rng.integers(0, (height, width)), axis=(0, 1))
        leaf = rng.normal(0, 1.0) + rng.uniform(0.1, 0.8) * field
        texture = inside * leaf + (1 - inside) * texture
        cover = np.maximum(cover, inside)
    return texture, cover
