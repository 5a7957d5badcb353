"""Is the prior's weight chosen well without the movies? A part of ``inversion.py``.

Test clips are reconstructed under each weight of a wide range, one setup for all, and scored: the best weight is an
oracle's. Beside it stand the weights that validation clips choose, and that held-out ROIs choose on the test clips
themselves: single ROIs drawn at random, whole neighborhoods of the visual field, and neighborhoods in which ROIs of
other planes that are the same cell stay together. Cells of like tuning share noise, and some ROIs are the same cell:
both mislead judges that are near what they judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nwbrecon.alignment import AlignedSession
from nwbrecon.alignment.cells import cells_of_rois
from nwbrecon.config import InversionSettings
from nwbrecon.encoding import EncoderEnsemble
from nwbrecon.encoding.device import device_of
from nwbrecon.evaluation.evaluate import METRICS, likeness
from nwbrecon.inversion.blending import Blend, fit_blend
from nwbrecon.inversion.selection import Candidates, Judged, choose_by_held_out, held_out_neighborhoods
from nwbrecon.inversion.settling import make_setup
from nwbrecon.inversion.setup import Setup, gather, in_range
from nwbrecon.progress import progress_shown

WEIGHTS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
SETTINGS = InversionSettings(prior_weight=1.5, uncertainty=False)


def selection(
    mice: Sequence[tuple[EncoderEnsemble, AlignedSession]], out: Path, seed: int, n_clips: int
) -> pd.DataFrame:
    """Scores under each weight, and under those that are chosen; prints them.

    Parameters
    ----------
    mice
        Encoders and sessions.
    out
        Folder in which setups are kept.
    seed
        Seed of the first mouse, by which its setup is named.
    n_clips
        Number of test clips, and of validation clips, of each mouse.
    """
    tables = []
    for index, (encoder, aligned) in enumerate(mice):
        with progress_shown(False):
            tables.append(one_mouse(encoder, aligned, out / f"selection-{seed + index}", n_clips).assign(mouse=index))
        print(f"\nmouse {seed + index}, prior weight: each, and as chosen (means over clips; the best is an oracle's)")
        print(tables[-1].round(3).to_string(index=False), flush=True)
    return pd.concat(tables, ignore_index=True)


def one_mouse(encoder: EncoderEnsemble, aligned: AlignedSession, folder: Path, n_clips: int) -> pd.DataFrame:
    """Scores under each weight, and how far those that are chosen are from the best, metric by metric."""
    test = aligned.trials_in("test", repeats=[0])[:n_clips]
    setup = settled(encoder, aligned, test, folder)
    movies = {trial: under_each(setup, encoder, aligned, trial) for trial in test}
    known = {trial: under_each(setup, encoder, aligned, trial) for trial in aligned.trials_in("validation")[:n_clips]}
    rows, explained = {}, {}
    for weight in WEIGHTS:
        blend = blend_of(known, weight, aligned, setup)
        explained[weight] = blend.explained
        setup.blend = blend
        scores = [
            likeness(setup.blended(made[weight], decoded), aligned.trial(trial).video, setup.mask)
            for trial, (made, decoded) in movies.items()
        ]
        rows[weight] = pd.DataFrame(scores)[list(METRICS)].mean()
    chosen = {"validation clips": max(explained, key=lambda weight: explained[weight])}
    cells, single = cells_of_rois(aligned), np.arange(aligned.n_rois)
    for name, judges in {
        "single ROIs": lambda seed: np.random.default_rng(seed).random(aligned.n_rois) < SETTINGS.hold_out_share,
        "neighborhoods": lambda seed: neighborhoods(encoder, seed, single),
        "neighborhoods, cells together": lambda seed: neighborhoods(encoder, seed, cells),
    }.items():
        clips = []
        for index, trial in enumerate(test):
            evidence, prior_for = clip_of(setup, encoder, aligned, trial)
            held_out, showing = judges(index), ((trial,),)
            first = in_range(setup.decode([(encoder, aligned)], showing, [held_out]))
            rois = [held_out] * len(evidence)
            clips.append(Judged(evidence, prior_for, rois, setup.sensitivity_to(showing), first))
        candidates = Candidates(("movie",), WEIGHTS, SETTINGS.iterations // 2, SETTINGS.tolerance)
        chosen[name] = choose_by_held_out(clips, setup.margins, candidates).weight
    table = pd.DataFrame(
        [{"way": f"weight {weight:g}", "weight": weight, **rows[weight]} for weight in WEIGHTS]
        + [{"way": f"chosen by {way}", "weight": weight, **rows[weight]} for way, weight in chosen.items()]
    )
    for metric in METRICS:
        table[f"{metric} - best"] = table[metric] - table[metric].max()
    return table


def settled(encoder: EncoderEnsemble, aligned: AlignedSession, test: list[int], folder: Path) -> Setup:
    """Settle what clips share, unless that was done before."""
    if (folder / "setup.json").exists():
        return Setup.read(folder)
    setup = make_setup([(encoder, aligned)], [((trial,),) for trial in test], SETTINGS, "map")
    folder.mkdir(parents=True, exist_ok=True)
    setup.write(folder)
    return setup


def clip_of(setup: Setup, encoder: EncoderEnsemble, aligned: AlignedSession, trial: int) -> tuple:
    """Evidence of a clip, and its prior by kind."""
    evidence = gather([(encoder, aligned)], ((trial,),), setup.margins, SETTINGS)
    decoded = setup.decode([(encoder, aligned)], ((trial,),))
    return evidence, lambda kind: setup.prior_for(kind, decoded, device_of(encoder))


def under_each(
    setup: Setup, encoder: EncoderEnsemble, aligned: AlignedSession, trial: int
) -> tuple[dict[float, np.ndarray], np.ndarray]:
    """Movies of a clip under each weight, and the linear decoder's."""
    evidence, prior_for = clip_of(setup, encoder, aligned, trial)
    decoded = in_range(setup.decode([(encoder, aligned)], ((trial,),)))
    candidates = Candidates(("movie",), WEIGHTS, SETTINGS.iterations, SETTINGS.tolerance)
    fits = candidates.fits(
        evidence, prior_for, setup.margins, first=decoded, sensitivity=setup.sensitivity_to(((trial,),))
    )
    return {weight: fit.video for (_, weight), fit in fits}, decoded


def blend_of(
    known: dict[int, tuple[dict[float, np.ndarray], np.ndarray]], weight: float, aligned: AlignedSession, setup: Setup
) -> Blend:
    """Weigh inverted and linearly decoded validation clips."""
    clips = [(made[weight], decoded, aligned.trial(trial).video) for trial, (made, decoded) in known.items()]
    return fit_blend(clips, setup.mask, aligned.frame_rate)


def neighborhoods(encoder: EncoderEnsemble, seed: int, cells: np.ndarray) -> np.ndarray:
    """ROIs that are held out of a clip."""
    return held_out_neighborhoods(encoder.positions, SETTINGS.hold_out_share, seed, cells)
