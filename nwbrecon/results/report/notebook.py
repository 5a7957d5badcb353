"""The player inside a notebook."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from nwbrecon.alignment import AlignedSession
from nwbrecon.results.model import Results
from nwbrecon.results.report import summary
from nwbrecon.results.report.page import environment, player_parts, stills

__all__ = ["Player", "overview", "play"]


def overview(results: Results) -> str:
    """Show the verdict and one frame, true and reconstructed, as HTML for a notebook's output."""
    sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in summary.verdict(results))
    images = "".join(
        f'<img src="{uri}" alt="{label} frame" style="width: 16em; image-rendering: pixelated; margin-right: 0.5em">'
        for label, uri in stills(results)["images"]
    )
    warnings = f"<p>{len(results.warnings)} warnings, see <code>.warnings</code></p>" if results.warnings else ""
    return f"<div><b>Reconstruction of {escape(summary.title(results))}</b><ul>{sentences}</ul>{images}{warnings}</div>"


@dataclass(frozen=True)
class Player:
    """A player that Jupyter shows; it needs neither a server nor the network.

    Attributes
    ----------
    page
        The page, complete.
    height
        Height of its frame in the notebook (pixels).
    """

    page: str
    height: int = 640

    def _repr_html_(self) -> str:
        return (
            f'<iframe title="Reconstructed movies" srcdoc="{escape(self.page, quote=True)}" '
            f'style="width: 100%; height: {self.height}px; border: 0"></iframe>'
        )

    def __repr__(self) -> str:
        return f"Player ({len(self.page) / 1e6:.1f} MB; Jupyter shows it)"


def play(results: Results, *, aligned: AlignedSession | None = None, megabytes: float = 8.0) -> Player:
    """Show true, reconstructed and uncertainty side by side in a notebook, with a scrubber.

    Parameters
    ----------
    results
        What to show: the first showing of each clip.
    aligned
        The session that was reconstructed: gives the true movies and the responses.
    megabytes
        About how large the movies may grow together.
    """
    if aligned is not None:
        results = results.with_true_movies(aligned)
    parts = player_parts(results, aligned=aligned, megabytes=megabytes)
    return Player(environment().get_template("notebook.html").render(**parts))
