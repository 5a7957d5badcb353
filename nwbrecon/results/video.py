"""Videos to look at: true, reconstructed and information map side by side. Data stays in NWB."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from matplotlib import colormaps, get_data_path
from PIL import Image, ImageDraw, ImageFont

from nwbrecon.errors import ResultsError
from nwbrecon.inversion import Reconstruction
from nwbrecon.results.drawing import short
from nwbrecon.results.model import Results
from nwbrecon.results.tables import method_label
from nwbrecon.storage import atomic_path

__all__ = ["side_by_side", "write_video"]

_GAP = 8
_BAND = 28  # height of the band that the labels stand in
_CODECS = {
    # every browser plays H.264 with chroma at half size; the index goes in front so that it plays while it loads
    ".mp4": (
        "libx264",
        "yuv420p",
        {"crf": "18", "preset": "veryfast", "tune": "animation"},
        {"movflags": "+faststart"},
    ),
    ".mkv": ("ffv1", "bgr0", {"level": "3", "slicecrc": "1"}, {}),
}


def write_video(
    path: str | Path,
    results: Results,
    *,
    rows: Sequence[int] | None = None,
    height: int = 216,
    smooth: bool = False,
) -> Path:
    """Write reconstructed clips, one after the other, as a video.

    Parameters
    ----------
    path
        ``.mp4`` (H.264, plays in browsers), ``.mkv`` (FFV1, lossless) or ``.gif``.
    results
        From `read_results`; `Results.with_true_movies` adds the true movies where the file does not hold them.
    rows
        Which reconstructions; by default the first showing of each clip.
    height
        Height of each movie in the video (pixels); rounded to a whole multiple of the frame's rows.
    smooth
        Interpolate between pixels (bicubic) in place of showing them as squares.

    Returns
    -------
    pathlib.Path
        The file: as many frames as the clips have, at their frame rate. A GIF's frame lasts whole hundredths of a
        second; each is rounded so that the clip as a whole keeps its time.

    Raises
    ------
    ResultsError
        If the suffix is another, no clip is chosen, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in {*_CODECS, ".gif"}:
        raise ResultsError(f"{path.name} names no video.", "Videos end in .mp4, .mkv or .gif.")
    items = results.reconstructions
    if rows is None:
        rows = [row for row, item in enumerate(items) if item is items.of_clip(item.clip)[0]]
    chosen = [(items[row], results.true_movies[row] if results.true_movies is not None else None) for row in rows]
    if not chosen:
        raise ResultsError("There are no clips to show.", action="Choose at least one.")
    if any(item.std is None for item, _ in chosen):
        # all pictures of a video have one width
        chosen = [(replace(item, std=None), true) for item, true in chosen]
    label = method_label(items.method)
    frames = (
        frame
        for item, true in chosen
        for frame in side_by_side(item, true, mask=items.mask, label=label, height=height, smooth=smooth)
    )
    with atomic_path(path) as partial:
        if path.suffix == ".gif":
            _write_gif(partial, frames, chosen[0][0].frame_rate)
        else:
            _write_container(partial, frames, chosen[0][0].frame_rate, path.suffix)
    return path


def side_by_side(
    item: Reconstruction,
    true: np.ndarray | None = None,
    *,
    mask: np.ndarray | None = None,
    label: str = "reconstruction",
    height: int = 216,
    smooth: bool = False,
) -> Iterator[np.ndarray]:
    """Give each frame of a clip as a labeled picture: true, reconstructed and information map beside each other.

    Parameters
    ----------
    item
        The reconstructed clip.
    true
        ``(time, height, width)`` what was shown, grey level 0-255.
    mask
        ``(height, width)`` bool; the pixels outside it are darkened in the reconstruction and the information map.
    label
        What stands above the reconstruction.
    height
        Height of each movie (pixels), rounded to a whole multiple of the frame's rows.
    smooth
        Bicubic interpolation in place of squares.

    Yields
    ------
    numpy.ndarray
        ``(height, width, 3)`` uint8, both sides even, as video formats want them.
    """
    movies: list[tuple[str, np.ndarray]] = []
    dim = np.where(mask, 1.0, 0.45)[..., None] if mask is not None else np.ones((1, 1, 1))
    if true is not None:
        movies.append(("true movie", _gray(true)))
    movies.append((label, (_gray(item.video) * dim).astype(np.uint8)))
    if item.std is not None:
        top = float(np.ceil(item.std.max())) or 1.0
        colors = colormaps["magma"](np.clip(item.std / top, 0, 1), bytes=True)[..., :3]
        movies.append((f"information map (SD 0–{top:.0f})", (colors * dim).astype(np.uint8)))
    rows, columns = item.video.shape[1:]
    scale = max(1, round(height / rows))
    size = (columns * scale, rows * scale)
    full = _even(len(movies) * (size[0] + _GAP) + _GAP, size[1] + 2 * _BAND)
    # matplotlib brings a font that knows more letters than Pillow's own, and clips have all sorts of names
    font = ImageFont.truetype(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), 14)
    background = Image.new("RGB", full, (16, 19, 23))
    draw = ImageDraw.Draw(background)
    for place, (name, _) in enumerate(movies):
        draw.text((_GAP + place * (size[0] + _GAP), _BAND / 2), name, (232, 235, 238), font, anchor="lm")
    for index in range(len(item.video)):
        canvas = background.copy()
        for place, (_, movie) in enumerate(movies):
            frame = Image.fromarray(movie[index]).resize(
                size, Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
            )
            canvas.paste(frame, (_GAP + place * (size[0] + _GAP), _BAND))
        text = f"{short(item.clip, 40)}   {index / item.frame_rate:.2f} s"
        ImageDraw.Draw(canvas).text((_GAP, size[1] + 1.5 * _BAND), text, (154, 164, 175), font, anchor="lm")
        yield np.asarray(canvas)


def _gray(movie: np.ndarray) -> np.ndarray:
    return np.repeat(np.clip(np.rint(movie), 0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def _even(width: int, height: int) -> tuple[int, int]:
    return width + width % 2, height + height % 2


def _write_container(path: Path, frames: Iterator[np.ndarray], frame_rate: float, suffix: str) -> None:
    codec, pixel_format, options, container_options = _CODECS[suffix]
    with av.open(str(path), "w", options=container_options) as container:
        stream = None
        for frame in frames:
            if stream is None:
                rate = Fraction(frame_rate).limit_denominator(1001)
                stream = container.add_stream(codec, rate=rate, options=options)
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt = pixel_format
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        if stream is not None:
            container.mux(stream.encode())


def _write_gif(path: Path, frames: Iterator[np.ndarray], frame_rate: float) -> None:
    images = [Image.fromarray(frame).quantize(128, dither=Image.Dither.NONE) for frame in frames]
    ends = np.rint(np.arange(1, len(images) + 1) * 100 / frame_rate).astype(int)
    durations = (10 * np.diff(ends, prepend=0)).tolist()
    images[0].save(path, save_all=True, append_images=images[1:], duration=durations, loop=0, optimize=False)
