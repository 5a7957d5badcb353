"""Do again what a results file says was done, and compare."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from nwbrecon.alignment import align
from nwbrecon.config import RunSettings, load_settings, stored_alignment
from nwbrecon.encoding import train
from nwbrecon.errors import ResultsError, SettingsError
from nwbrecon.evaluation import evaluate
from nwbrecon.inversion import reconstruct
from nwbrecon.metrics import pixel_correlation
from nwbrecon.pipeline.opening import open_as_set
from nwbrecon.pipeline.saying import say_aligned, say_session
from nwbrecon.pipeline.stored import check_source
from nwbrecon.pipeline.storing import store_results
from nwbrecon.results import Results, as_stored, read_results
from nwbrecon.results.provenance import portable_text, software
from nwbrecon.session.describe import text_table

__all__ = ["ClipComparison", "Reproduced", "reproduce"]

log = logging.getLogger("nwbrecon")

# movies of other hardware or library versions differ by rounding that training and optimization amplify
_ALIKE = 0.99
# controls say whether to trust the movies, and make none of them
_PARTS = tuple(part for part in RunSettings.model_fields if part != "controls")


@dataclass(frozen=True)
class ClipComparison:
    """How a clip that was reconstructed again compares with the stored one.

    Attributes
    ----------
    clip, trials
        Which.
    identical
        Whether the movies are equal to the last bit, as stored.
    correlation
        Pixel correlation of the two, over the mask.
    largest_difference
        In grey levels.
    """

    clip: str
    trials: tuple[int, ...]
    identical: bool
    correlation: float
    largest_difference: float


@dataclass(frozen=True)
class Reproduced:
    """What came of doing it again.

    Attributes
    ----------
    clips
        One comparison a reconstruction.
    same
        Whether ``source`` (the digest of its bytes), ``training_data``, ``encoder`` (weights) and ``mask`` are the
        same; ``None`` where the results file does not say.
    scores
        Mean of each score of the main method, ``(stored, again)``.
    software
        Packages whose versions differ, ``(stored, here)``.
    path
        The new results file, where it was asked for.
    """

    clips: list[ClipComparison]
    same: dict[str, bool | None]
    scores: dict[str, tuple[float, float]]
    software: dict[str, tuple[str, str]]
    path: Path | None = None

    @property
    def identical(self) -> bool:
        """Whether every movie is the same to the last bit."""
        return all(clip.identical for clip in self.clips)

    @property
    def reproduced(self) -> bool:
        """Whether every movie is the same but for what rounding makes of it (correlation 0.99 at least)."""
        return all(clip.identical or clip.correlation >= _ALIKE for clip in self.clips)

    def to_dict(self) -> dict[str, Any]:
        """Give what JSON can hold."""
        return {
            "reproduced": self.reproduced,
            "identical": self.identical,
            "same": self.same,
            "scores": {name: {"stored": one, "again": other} for name, (one, other) in self.scores.items()},
            "software": {name: {"stored": one, "here": other} for name, (one, other) in self.software.items()},
            "clips": [asdict(clip) for clip in self.clips],
            "results": None if self.path is None else str(self.path),
        }

    def __str__(self) -> str:
        words = {True: "the same", False: "DIFFERENT", None: "not known"}
        verdict = (
            "Reproduced: every movie is the same to the last bit."
            if self.identical
            else f"Reproduced: every movie is alike (correlation of {_ALIKE:g} at least)."
            if self.reproduced
            else "NOT reproduced: some movies differ by more than rounding explains."
        )
        rows = [(name.replace("_", " "), f"{one:.4f}", f"{other:.4f}") for name, (one, other) in self.scores.items()]
        clips = [
            (
                clip.clip[:40],
                " ".join(map(str, clip.trials)),
                "identical" if clip.identical else f"r = {clip.correlation:.4f}",
                f"{clip.largest_difference:.1f}",
            )
            for clip in self.clips
        ]
        return "\n".join(
            [
                verdict,
                *(f"{name.replace('_', ' ').capitalize()}: {words[same]}." for name, same in self.same.items()),
                *(f"{name} was {one} and is {other}." for name, (one, other) in self.software.items()),
                *(text_table([("mean over clips", "stored", "again"), *rows]) if rows else []),
                *text_table([("clip", "trials", "movie", "largest difference (gray levels)"), *clips]),
                *(["", f"results  {self.path}"] if self.path is not None else []),
            ]
        )


def reproduce(path: str | Path, source: Any = None, *, out: str | Path | None = None) -> Reproduced:
    """Train and invert again as a results file says that it was done, and compare the movies.

    Parameters
    ----------
    path
        The results file.
    source
        The recording. Not needed where the results came from an archive or a URL, or where the recording lies beside
        the results, in the folder above, or in the working directory.
    out
        Where to keep the new results (``.nwb``); what is done meanwhile is kept in ``OUT.state`` and gone on with.
        Nothing is kept where it is not given.

    Returns
    -------
    Reproduced

    Raises
    ------
    ResultsError
        If the results do not say all that is needed, or the recording is another.
    SourceError
        If the recording cannot be opened.
    SettingsError
        If the settings are of a version of nwbrecon that knows others, or `out` exists.
    """
    stored = read_results(path)
    content = stored.provenance
    settings = _settings(Path(path), content)
    if out is not None and Path(out).exists():
        raise SettingsError(f"{out} exists already.", action="Choose another name.")
    found = source if source is not None else _find_source(Path(path), content)
    items = stored.reconstructions
    labels = sorted({trial for item in items for trial in item.trials})
    with open_as_set(found, settings.alignment) as session, _state(out) as state:
        check_source(path, content, session)
        say_session(session)
        digest = session.source.digest() if session.source is not None else None
        aligned = align(session, settings.alignment)
        say_aligned(aligned)
        log.info("Training the encoder again.")
        encoder = train(aligned, settings.encoder, settings.training, state=state / "training")
        log.info("Reconstructing again.")
        made = reconstruct(encoder, aligned, labels, settings.inversion, state=state / "reconstruction")
        made = as_stored(made, settings.results)
        scores = evaluate(made, aligned, settings.evaluation) if stored.scores is not None else None
        if out is not None:
            store_results(
                out,
                made,
                scores,
                settings,
                encoder=encoder,
                aligned=aligned,
                session=session,
                source_digest=digest,
                reproduces=portable_text(str(path), [Path(path).parent]),
            )
    recorded = content.get("encoder", {})
    now = {"source": digest, "training_data": encoder.info["training_data"], "encoder": encoder.digest()}
    before = {
        "source": content.get("source", {}).get("digest"),
        "training_data": recorded.get("training_data"),
        "encoder": recorded.get("weights"),
    }
    same: dict[str, bool | None] = {name: None if before[name] is None else before[name] == now[name] for name in now}
    again = Results(made, scores)
    return Reproduced(
        clips=_compare(stored, again),
        same=same | {"mask": bool(np.array_equal(items.mask, made.mask))},
        scores=_compare_scores(stored, again),
        software={
            name: (old, new)
            for name, new in software().items()
            if (old := content.get("software", {}).get(name, new)) != new
        },
        path=None if out is None else Path(out),
    )


def _settings(path: Path, content: dict[str, Any]) -> RunSettings:
    found = content.get("settings", {})
    missing = [part for part in _PARTS if part not in found]
    if missing:
        raise ResultsError(
            f"{path} does not say with which settings of {', '.join(missing)} it was made.",
            "What `nwbrecon run` and `nwbrecon reconstruct` write says so.",
        )
    if "core" in content.get("encoder", {}):
        others = [one["session"].get("location") for one in content["encoder"]["core"]["sessions"]]
        raise ResultsError(
            f"{path} was made by an encoder whose core was learned from {', '.join(map(str, others))}.",
            "Only an encoder that was trained on its own recording alone can be trained again from a results file.",
            "Train it again with `nwbrecon train`, and reconstruct with it.",
        )
    if "teacher" in content.get("encoder", {}):
        raise ResultsError(
            f"{path} was made by an encoder that learned from the predictions of another.",
            "Only an encoder that learned from its recording alone can be trained again from a results file.",
            "Train it again with `nwbrecon train`, and reconstruct with it.",
        )
    alignment = stored_alignment(found["alignment"]).model_dump()
    parts = {part: found[part] for part in _PARTS} | {"alignment": alignment, "controls": {"enabled": False}}
    return load_settings(RunSettings, **parts)


def _find_source(path: Path, content: dict[str, Any]) -> Any:
    location = str(content.get("source", {}).get("location") or "")
    if ":" in location[2:]:
        # an archive or a URL, not the drive of a path
        return location
    places = [folder / location for folder in (path.parent, path.parent.parent, Path()) if location]
    for place in places:
        if place.exists():
            return place
    raise ResultsError(
        f"{path} was made from {location or 'a recording without a name'}, which is not beside it.",
        "Results keep the name of a local recording, not its folder.",
        "Give the recording with --source.",
    )


@contextmanager
def _state(out: str | Path | None) -> Iterator[Path]:
    if out is None:
        with TemporaryDirectory(prefix="nwbrecon-") as passing:
            yield Path(passing)
        return
    folder = Path(out).with_name(Path(out).name + ".state")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _compare(stored: Results, again: Results) -> list[ClipComparison]:
    made = {item.trials: item for item in again.reconstructions}
    mask = stored.reconstructions.mask
    compared = []
    for item in stored.reconstructions:
        other = made.get(item.trials)
        if other is None or other.video.shape != item.video.shape:
            compared.append(ClipComparison(item.clip, item.trials, False, float("nan"), float("nan")))
            continue
        compared.append(
            ClipComparison(
                item.clip,
                item.trials,
                bool(np.array_equal(item.video, other.video)),
                pixel_correlation(item.video, other.video, mask),
                float(np.abs(item.video - other.video).max()),
            )
        )
    return compared


def _compare_scores(stored: Results, again: Results) -> dict[str, tuple[float, float]]:
    if stored.scores is None or again.scores is None:
        return {}
    metrics = ("pixel_correlation", "dynamic_correlation", "frame_correlation")
    methods = stored.reconstructions.method, again.reconstructions.method
    return {
        metric: (stored.scores.mean(metric, methods[0]), again.scores.mean(metric, methods[1])) for metric in metrics
    }
