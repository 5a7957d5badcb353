"""Fill the report's page."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from nwbrecon.alignment import AlignedSession
from nwbrecon.inversion import Reconstruction
from nwbrecon.results import curves, figures
from nwbrecon.results.drawing import short
from nwbrecon.results.model import Results
from nwbrecon.results.provenance import to_rows
from nwbrecon.results.report import summary
from nwbrecon.results.report.media import Picture, mask_shade, picture, sheet, still
from nwbrecon.results.report.rasters import response_rasters
from nwbrecon.results.settled import information_map
from nwbrecon.results.tables import by_frame, method_label, methods, told
from nwbrecon.storage import atomic_path

__all__ = ["environment", "player_parts", "stills", "write_report"]


def write_report(
    path: str | Path,
    results: Results,
    *,
    aligned: AlignedSession | None = None,
    megabytes: float = 8.0,
) -> Path:
    """Write one self-contained HTML page: scores first, then the movies, then all that led to them.

    Parameters
    ----------
    path
        The file, ``report.html`` by convention.
    results
        From `read_results`, so that the page shows what is stored.
    aligned
        The session that was reconstructed: gives the true movies, and the responses that run in step with them.
    megabytes
        About how large the movies in the page may grow together. The first showing of each clip goes in as long as
        there is room; the page says which do.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ResultsError
        If the file cannot be written.
    """
    path = Path(path)
    if aligned is not None:
        results = results.with_true_movies(aligned)
    parts = player_parts(results, aligned=aligned, megabytes=megabytes)
    page = (
        environment()
        .get_template("page.html")
        .render(
            **parts,
            title=summary.title(results),
            source=summary.source(results),
            verdict=summary.verdict(results),
            stills=stills(results),
            cards=[*summary.cards(results), *([gate] if (gate := summary.gate_card(results)) else [])],
            showings=summary.showings(results),
            told=told(results.reconstructions),
            controls=summary.controls(results),
            warnings=results.warnings,
            ingredients=summary.ingredients(results),
            trials=summary.trials(results, {clip["row"] for clip in parts["clips"]}),
            pictures=_pictures(results, aligned),
            predictions=summary.predictions(results),
            training=summary.training(results),
            settings=to_rows(results.provenance.get("settings", {})),
            # what concerns single clips is in the results file; here it would bury the rest
            provenance=to_rows(
                {name: part for name, part in results.provenance.items() if name not in {"settings", "reconstructions"}}
            ),
        )
    )
    with atomic_path(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")
    return path


def environment() -> Environment:
    """Where the page's templates are; everything that is filled in is escaped."""
    return Environment(
        loader=PackageLoader("nwbrecon.results", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def player_parts(results: Results, *, aligned: AlignedSession | None, megabytes: float) -> dict[str, Any]:
    """Make all that the player is filled with: clips and streams, data, style and script."""
    clips = _player_clips(results, megabytes)
    if aligned is not None:
        shown = [results.reconstructions[clip["row"]] for clip in clips]
        for clip, image in zip(clips, response_rasters(shown, aligned), strict=True):
            clip["responses"] = image
    folder = files("nwbrecon.results.report")
    uncertain = any("std" in clip for clip in clips)
    return {
        "clips": clips,
        "streams": [(key, label) for key, label in _streams(results) if any(key in clip for clip in clips)],
        "information_map": information_map(results.reconstructions.info) if uncertain else "",
        "data": _script_json({"clips": clips, "shade": mask_shade(results.reconstructions.mask)}),
        "style": (folder / "style.css").read_text(encoding="utf-8"),
        "script": (folder / "player.js").read_text(encoding="utf-8"),
    }


def _streams(results: Results) -> list[tuple[str, str]]:
    baselines = dict.fromkeys(name for item in results.reconstructions for name in item.baselines)
    return [
        *([("true", "True movie")] if results.true_movies is not None else []),
        ("video", method_label(results.reconstructions.method).capitalize()),
        ("std", "Information map: SD"),
        *((f"baseline {name}", method_label(name).capitalize()) for name in baselines),
    ]


def stills(results: Results) -> dict[str, Any]:
    """Make a frame of the trial of median score, true and reconstructed, with its caption."""
    row = summary.median_row(results)
    item = results.reconstructions[row]
    frame, mask = len(item.video) // 2, results.reconstructions.mask
    images = [("true", still(results.true_movies[row][frame], mask))] if results.true_movies is not None else []
    images.append(("reconstructed", still(item.video[frame], mask)))
    return {
        "images": images,
        "caption": f"second {frame / item.frame_rate:.1f} of clip {short(item.clip)}, of median score",
    }


def _player_clips(results: Results, megabytes: float) -> list[dict[str, Any]]:
    clips: list[dict[str, Any]] = []
    seen: set[str] = set()
    room = megabytes * 1e6
    # a few extreme pixels must not make all others dark
    stds = [float(np.quantile(item.std, 0.995)) for item in results.reconstructions if item.std is not None]
    top = float(np.ceil(max(stds, default=0.0)))
    for row, item in enumerate(results.reconstructions):
        if item.clip in seen:
            continue
        movies = {"video": sheet(item.video)}
        if results.true_movies is not None:
            movies["true"] = sheet(results.true_movies[row])
        if item.std is not None:
            movies["std"] = sheet(item.std, top=top)
        movies |= {f"baseline {name}": sheet(movie) for name, movie in item.baselines.items()}
        room -= sum(len(movie.uri) for movie in movies.values())
        if room < 0 and clips:
            break
        seen.add(item.clip)
        clips.append(
            {
                "row": row,
                "label": short(item.clip, 100),
                "frames": len(item.video),
                "height": item.video.shape[1],
                "width": item.video.shape[2],
                "rate": item.frame_rate,
                "onset": item.onset,
                "top": top,
                "curves": _curves(results, item),
                **{name: {"uri": movie.uri, "columns": movie.columns} for name, movie in movies.items()},
            }
        )
    return clips


def _curves(results: Results, item: Reconstruction) -> list[dict[str, Any]]:
    if results.scores is None:
        return []
    curves = []
    for method in methods(results.scores, results.reconstructions.method):
        values = by_frame(results.scores, item.trials[0], method, len(item.video))
        if not np.isnan(values).all():
            plain = [None if np.isnan(value) else round(float(value), 3) for value in values]
            curves.append({"label": method_label(method), "values": plain})
    return curves


def _pictures(results: Results, aligned: AlignedSession | None) -> dict[str, Picture]:
    reconstructions, scores = results.reconstructions, results.scores
    row = summary.median_row(results)
    item = reconstructions[row]
    true = results.true_movies[row] if results.true_movies is not None else None
    mask = reconstructions.mask
    shown = f"clip {short(item.clip)}"
    main = reconstructions.method
    made: dict[str, Picture] = {}
    frame_scores = by_frame(scores, item.trials[0], main, len(item.video)) if scores is not None else None
    made["frames"] = picture(
        figures.frames_figure(item, true, mask=mask, frame_scores=frame_scores),
        f"Frames of {shown} at eight times: "
        + ", ".join(
            [*(["true"] if true is not None else []), "reconstructed"]
            + (["difference"] if true is not None else [])
            + (["information map"] if item.std is not None else [])
        )
        + ", one above the other.",
    )
    alike = [item, *reconstructions.of_clip(item.clip), *reconstructions]
    way = next(
        (one for one in alike if one.snapshots is not None), next((one for one in alike if len(one.history)), None)
    )
    if way is not None:
        made["way"] = picture(
            figures.way_figure(way, mask=mask),
            f"The middle frame of clip {short(way.clip)} from the first guess to the final movie, and the objective's "
            "descent.",
        )
    if scores is not None:
        for metric in ("pixel_correlation", "dynamic_correlation"):
            if metric in scores.trials:
                made[metric] = picture(
                    figures.scores_figure(scores, metric, main=main),
                    f"{metric.replace('_', ' ').capitalize()} of each method on each clip and over all clips; the same "
                    "figures are in the table of clips.",
                )
        if len(scores.lags):
            made["lag"] = picture(
                figures.lag_figure(scores, main=main, frame_rate=item.frame_rate),
                f"Pixel correlation by lag. {summary.lag_sentence(results)}",
            )
        if len(scores.frequencies):
            made["frequency"] = picture(
                curves.frequency_figure(scores, main=main),
                "Correlation with the true movie by frequency band, in time and in space, for each method.",
            )
    if results.controls is not None:
        made["controls"] = picture(
            curves.controls_figure(results.controls),
            "What the controls measured, mean over clips and 95 % interval; the text below has the same figures.",
        )
    if results.rois is not None:
        made["fields"] = picture(
            curves.fields_figure(results.rois, reconstructions),
            "Outlines of the ROIs' receptive fields on the screen, brighter where the encoder predicts them better.",
        )
        if results.rois["reliability"].notna().any():
            made["reliability"] = picture(
                curves.reliability_figure(results.rois),
                "Validation correlation of each ROI against its reliability over repeats.",
            )
        if "single_trial_correlation" in results.rois:
            made["prediction"] = picture(
                curves.prediction_figure(results.rois),
                "Single-trial correlation of each ROI on the test clips, beside its ceiling where clips were repeated.",
            )
    made["timeline"] = picture(
        curves.timeline_figure(_shown(results, aligned), reconstructions),
        "When clips of each split were shown over the session, and which showings were reconstructed.",
    )
    made["mask"] = picture(
        figures.mask_figure(reconstructions),
        f"Coverage of the screen by receptive fields, with the outline of the mask: {mask.mean():.0%} of the frame.",
    )
    if len(results.training):
        made["training"] = picture(figures.training_figure(results.training), "Training curves of the encoder.")
    return made


def _shown(results: Results, aligned: AlignedSession | None) -> pd.DataFrame:
    """When each trial began, how long it was, and its split; of the reconstructed ones only, without the session."""
    if aligned is not None:
        trials = aligned.trials
        return trials[["onset", "split"]].assign(seconds=trials["n_frames"] / aligned.frame_rate)
    splits = {clip: name for name, clips in results.provenance.get("split", {}).items() for clip in clips}
    rows = [(item.onset, len(item.video) / item.frame_rate, item.clip) for item in results.reconstructions]
    table = pd.DataFrame(rows, columns=["onset", "seconds", "clip"])
    return table.assign(split=[splits.get(clip, "") for clip in table["clip"]])


def _script_json(content: Any) -> str:
    # "<" could end the script element or begin a comment inside it
    return json.dumps(content, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
