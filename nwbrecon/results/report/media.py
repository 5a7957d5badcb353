"""Movies and figures as data URIs, so that the report needs no other file."""

from __future__ import annotations

import io
from base64 import b64encode
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image

from nwbrecon.display import webp
from nwbrecon.results.drawing import DARK, LIGHT

__all__ = ["Picture", "Sheet", "mask_shade", "picture", "sheet", "still"]

_WIDEST = 4096  # pixels; every browser decodes images of this width
_STD_LEVELS = 48
_SHADE = 150  # opacity, of 255, of the black over pixels that are not scored


@dataclass(frozen=True)
class Sheet:
    """All frames of a movie in one image, row after row.

    Attributes
    ----------
    uri
        The image, lossless WebP.
    columns
        Frames in a row.
    """

    uri: str
    columns: int


@dataclass(frozen=True)
class Picture:
    """A figure for light and for dark pages, with words for those who do not see it."""

    light: str
    dark: str
    alt: str


def sheet(movie: np.ndarray, *, top: float | None = None) -> Sheet:
    """Lay the frames of ``(time, height, width)`` out in one image.

    Parameters
    ----------
    movie
        Grey level 0-255, or anything else if `top` is given.
    top
        The value that the color map (magma) ends at, for movies that are not pictures, such as the information map.
    """
    count, height, width = movie.shape
    columns = max(1, min(count, _WIDEST // width))
    rows = -(-count // columns)
    padded = np.zeros((rows * columns, height, width), dtype=np.float32)
    padded[:count] = movie
    tiled = padded.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)
    if top is None:
        pixels = np.clip(np.rint(tiled), 0, 255).astype(np.uint8)
    else:
        # few levels compress well, and the eye tells no more of them apart
        level = np.rint(np.clip(tiled / (top or 1), 0, 1) * (_STD_LEVELS - 1)).astype(int)
        colors = colormaps["magma"](np.linspace(0, 1, _STD_LEVELS), bytes=True)[:, :3]
        pixels = colors[level]
    return Sheet(webp(Image.fromarray(pixels)), columns)


def still(frame: np.ndarray, mask: np.ndarray) -> str:
    """Make an image of one ``(height, width)`` frame, grey level 0-255, darker where it is not scored."""
    shaded = np.where(mask, frame, (1 - _SHADE / 255) * frame)
    return webp(Image.fromarray(np.clip(np.rint(shaded), 0, 255).astype(np.uint8)))


def mask_shade(mask: np.ndarray) -> str:
    """Make an image that darkens the pixels that are not scored."""
    pixels = np.zeros((*mask.shape, 4), dtype=np.uint8)
    pixels[~mask, 3] = _SHADE
    return webp(Image.fromarray(pixels))


def picture(figure: Figure, alt: str) -> Picture:
    """Turn a figure in the light style into SVG, sharp on paper too, for light and for dark pages."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    light = dark = buffer.getvalue().decode()
    # drawing takes a hundred times as long as exchanging the colors of ink and lines
    for name in ("ink", "muted", "grid"):
        dark = dark.replace(getattr(LIGHT, name), getattr(DARK, name))
    for one, other in zip(LIGHT.methods, DARK.methods, strict=True):
        dark = dark.replace(one, other)
    light, dark = (f"data:image/svg+xml;base64,{b64encode(text.encode()).decode()}" for text in (light, dark))
    return Picture(light, dark, alt)
