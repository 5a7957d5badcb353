"""Results as plain arrays and pictures, for programs that do not read NWB."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from nwbrecon.errors import ResultsError
from nwbrecon.results.layout import slug
from nwbrecon.results.model import Results
from nwbrecon.storage import atomic_directory, atomic_path

__all__ = ["write_arrays", "write_frames"]


def write_arrays(path: str | Path, results: Results) -> Path:
    """Write movies, clock and scores as named arrays.

    Parameters
    ----------
    path
        ``.npz`` (NumPy, compressed; opens without pickle) or ``.zarr`` (a Zarr group).
    results
        From `read_results`; `Results.with_true_movies` adds the true movies where the file does not hold them.

    Returns
    -------
    pathlib.Path
        The file or folder. It holds ``mask`` and ``coverage`` ``(height, width)``; ``clip``, ``onset`` (s),
        ``first_frame`` and ``n_frames``, one value a reconstruction; ``times`` ``(frame,)`` (s); ``video`` and, where
        there are, ``std``, ``true`` and each baseline, ``(frame, height, width)`` float32 grey levels, clip after clip;
        and ``scores_<column>``, one value a row of the table of scores.

    Raises
    ------
    ResultsError
        If the suffix is another, a movie is there for some clips only, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in {".npz", ".zarr"}:
        raise ResultsError(f"{path.name} names no arrays.", "Arrays go into .npz or .zarr.")
    items = results.reconstructions
    lengths = np.array([len(item.video) for item in items])
    arrays = {
        "mask": items.mask,
        "coverage": items.coverage,
        "clip": np.array([item.clip for item in items], dtype=str),
        "onset": np.array([item.onset for item in items]),
        "first_frame": np.cumsum(lengths) - lengths,
        "n_frames": lengths,
        "times": np.concatenate([item.times for item in items]),
        **{name: np.concatenate(movies) for name, movies in _complete_movies(results)},
    }
    if results.scores is not None:
        for column, values in results.scores.trials.items():
            numeric = np.issubdtype(values.to_numpy().dtype, np.number)
            arrays[f"scores_{column}"] = values.to_numpy() if numeric else np.array(values.astype(str), dtype=str)
    if path.suffix == ".npz":
        with atomic_path(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, **arrays)
        return path
    import zarr

    with atomic_directory(path) as folder:
        # the format is the installed library's own: major versions 2 and 3 do not name the choice alike
        group = zarr.open_group(str(folder), mode="w")
        for name, values in arrays.items():
            # fixed-length text is no data type that every reader of Zarr knows; lists of names go into attributes
            if values.dtype.kind == "U":
                group.attrs[name] = values.tolist()
            else:
                group[name] = values
    return path


def write_frames(
    folder: str | Path,
    results: Results,
    kind: Literal["png", "tiff"] = "png",
) -> Path:
    """Write the frames of every reconstruction as pictures.

    Parameters
    ----------
    folder
        It gets a folder for each reconstruction, ``000_<clip>``, and ``frames.json``, which says when each began.
    results
        From `read_results`; `Results.with_true_movies` adds the true movies where the file does not hold them.
    kind
        ``png``: a file a frame, ``video_00000.png``, 8 bits; ``tiff``: a stack a movie, ``video.tiff``, 32-bit floating
        point, so that nothing is rounded.

    Returns
    -------
    pathlib.Path
        The folder. A folder of that name is replaced.
    """
    with atomic_directory(folder) as partial:
        clips = []
        for row, item in enumerate(results.reconstructions):
            name = f"{row:03d}_{slug(item.clip)[:80]}"
            (partial / name).mkdir()
            clips.append(
                {"folder": name, "clip": item.clip, "trials": item.trials, "onset": item.onset, "rate": item.frame_rate}
            )
            for movie_name, movie in _movies_of(results, row):
                _write_movie(partial / name / slug(movie_name), movie, kind)
        (partial / "frames.json").write_text(json.dumps(clips, indent=2, ensure_ascii=False), encoding="utf-8")
    return Path(folder)


def _write_movie(stem: Path, movie: np.ndarray, kind: Literal["png", "tiff"]) -> None:
    if kind == "png":
        for index, frame in enumerate(np.clip(np.rint(movie), 0, 255).astype(np.uint8)):
            Image.fromarray(frame).save(stem.with_name(f"{stem.name}_{index:05d}.png"))
    else:
        first, *rest = [Image.fromarray(np.asarray(frame, dtype=np.float32)) for frame in movie]
        first.save(stem.with_name(f"{stem.name}.tiff"), save_all=True, append_images=rest, compression="tiff_deflate")


def _movies_of(results: Results, row: int) -> Iterator[tuple[str, np.ndarray]]:
    item = results.reconstructions[row]
    yield "video", item.video
    if item.std is not None:
        yield "std", item.std
    if results.true_movies is not None:
        yield "true", results.true_movies[row]
    yield from item.baselines.items()


def _complete_movies(results: Results) -> Iterator[tuple[str, list[np.ndarray]]]:
    movies: dict[str, list[np.ndarray]] = {}
    for row in range(len(results.reconstructions)):
        for name, movie in _movies_of(results, row):
            movies.setdefault(name, []).append(movie)
    for name, found in movies.items():
        if len(found) < len(results.reconstructions):
            raise ResultsError(
                f"{len(found)} of {len(results.reconstructions)} reconstructions have {name!r}.",
                "Arrays hold all clips one after the other.",
                "Export the clips apart: Results with the items that have it.",
            )
        yield name, found
