"""The player inside a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

import numpy as np

from nwbrecon.alignment import AlignedSession
from nwbrecon.errors import ResultsError
from nwbrecon.inversion import Reconstruction, Reconstructions
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


def play(
    shown: Results | Reconstructions | Reconstruction,
    *,
    aligned: AlignedSession | None = None,
    true: np.ndarray | Sequence[np.ndarray] | None = None,
    megabytes: float = 8.0,
) -> Player:
    """Show true, reconstructed and information map side by side in a notebook, with a scrubber.

    Parameters
    ----------
    shown
        What to show: the first showing of each clip.
    aligned
        The session that was reconstructed: gives the true movies and the responses.
    true
        In place of the session: what was shown, ``(time, height, width)`` grey level 0-255; of several
        reconstructions, one each.
    megabytes
        About how large the movies may grow together.

    Raises
    ------
    ResultsError
        If the true movies are not as many, or not of the size, of the reconstructions.
    """
    results = _as_results(shown)
    if aligned is not None:
        results = results.with_true_movies(aligned)
    elif true is not None:
        movies = [true] if isinstance(shown, Reconstruction) else list(true)
        sizes = [np.shape(movie) for movie in movies], [item.video.shape for item in results.reconstructions]
        if sizes[0] != sizes[1]:
            raise ResultsError(f"True movies of {sizes[0]} were given for reconstructions of {sizes[1]}.")
        results = replace(results, true_movies=[np.asarray(movie, dtype=np.float32) for movie in movies])
    parts = player_parts(results, aligned=aligned, megabytes=megabytes)
    return Player(environment().get_template("notebook.html").render(**parts))


def _as_results(shown: Results | Reconstructions | Reconstruction) -> Results:
    if isinstance(shown, Reconstruction):
        everywhere = np.ones(shown.video.shape[1:], dtype=bool)
        shown = Reconstructions([shown], "map", everywhere, everywhere.astype(np.float32))
    return shown if isinstance(shown, Results) else Results(shown)
