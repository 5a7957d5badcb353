"""HTML for notebooks: tables and images that need no other file."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["block", "frame_row", "list_html", "player", "table_html", "webp"]


def block(title: str, *parts: str) -> str:
    """Put parts, HTML themselves, below a title, which is text."""
    return f"<div><b>{escape(title)}</b>{''.join(parts)}</div>"


def table_html(rows: Sequence[Sequence[str]]) -> str:
    """Make a table; its first row is the heading.

    Examples
    --------
    >>> table_html([("plane", "ROIs"), ("<1>", "20")])
    '<table><thead><tr><th>plane</th><th>ROIs</th></tr></thead><tbody><tr><td>&lt;1&gt;</td><td>20</td></tr></tbody></table>'
    """
    heading, *body = rows

    def line(cells: Sequence[str], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"

    return (
        f"<table><thead>{line(heading, 'th')}</thead><tbody>{''.join(line(row, 'td') for row in body)}</tbody></table>"
    )


def list_html(sentences: Iterable[str]) -> str:
    """Make a list of sentences; nothing where there are none."""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f"<ul>{items}</ul>" if items else ""


def frame_row(frames: Sequence[tuple[str, np.ndarray]], width: int = 192) -> str:
    """Show frames beside each other, each with a word below it.

    Parameters
    ----------
    frames
        Word and ``(height, width)`` frame, grey level 0-255.
    width
        Of each frame on the page (pixels).
    """
    from PIL import Image

    shown = []
    for word, frame in frames:
        uri = webp(Image.fromarray(np.clip(np.rint(frame), 0, 255).astype(np.uint8)))
        shown.append(
            f'<figure style="display: inline-block; margin: 0.3em 0.6em 0 0"><img src="{uri}" alt="{escape(word)}" '
            f'style="width: {width}px; image-rendering: pixelated"><figcaption>{escape(word)}</figcaption></figure>'
        )
    return f"<div>{''.join(shown)}</div>" if shown else ""


def player(shown: Any, true: Any = None) -> Any:
    """Make the player of reconstructions that a notebook shows; see `nwbrecon.play`.

    The player belongs to the room of results, and what is played to one before it: only here is that turned around, by
    a name that is looked up when somebody wants to see.
    """
    return import_module("nwbrecon.results.report").play(shown, true=true)


def webp(image: Image.Image) -> str:
    """Encode an image without loss as a data URI."""
    buffer = io.BytesIO()
    image.save(buffer, format="webp", lossless=True, quality=80, method=4)
    return f"data:image/webp;base64,{b64encode(buffer.getvalue()).decode()}"
