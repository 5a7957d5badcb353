"""Encoders side by side on simulated mice: ours, and DwiseNeuro scaled to the same data.

Both predict the test clips; single-trial correlation is that of the field (each ROI's over all test trials one after
the other, mean over ROIs), on the same samples. It stands beside two ceilings that only a simulation knows: the
correlation of the measured activity with the true rate of that very trial, hidden state and noise included
(``of ceiling``), and with the rate that movie and behavior evoke, which is all that an encoder can know (``of
reachable``). Intervals are 95 % over ROIs.

(1) Ours at its defaults; DwiseNeuro (b) on as many training samples, and (a) for as long as ours took, and three times
as long. ``--until-best EPOCHS`` trains both until they improve no more. Time is that of the processor, so that a busy
machine counts for nothing, or that of the clock where there is a GPU. DwiseNeuro is scored as published, from windows
at every position; what 16 frames and their gradient with respect to the video cost is taken from the fewest windows.
(2) A learning curve over minutes of training movie and ROIs, each encoder at its defaults, and whether the gate says
that it sees.
(3) With ``--compositions``: ours of every core with every readout, at its defaults, on the mouse of (1).

Everything that is done is kept in ``--out``, so that the same command goes on where it was stopped. Mice are kept as
they are aligned, the one of (1) and the one of (2), so that they can be simulated elsewhere; that of (2) grows with the
largest of its ROIs and minutes (see what is printed).

    python benchmarks/encoder_quality.py --out quality --simulate-only
    python benchmarks/encoder_quality.py --out quality
    python benchmarks/encoder_quality.py --out quality-real --movies movies.npz --mice 2
    python benchmarks/encoder_quality.py --out quality --mice 0 --curve-minutes 2 8 --curve-rois 100
    python benchmarks/encoder_quality.py --out q --seed 0 --minutes 6 --test-clip-seconds 10 --ours-alone --curve-rois
    python benchmarks/encoder_quality.py --out quality --mice 0 --curve-rois --compositions
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from encoder_speed import measure
from mice import read_mouse, simulated_with_truth, write_mouse
from torch import Tensor, nn
from transfer import first_minutes

import nwbrecon as nr
from nwbrecon.alignment import AlignedSession
from nwbrecon.config import ARCHITECTURES, AlignmentSettings, EncoderSettings, SimulationSettings, TrainingSettings
from nwbrecon.encoding import EncoderEnsemble
from nwbrecon.encoding.observation import Window, observe
from nwbrecon.encoding.prediction import nan_correlation, single_trial_correlation
from nwbrecon.metrics import bootstrap_interval
from nwbrecon.progress import progress_shown
from nwbrecon.storage import read_json, write_json

OURS = "factorized"
# what no encoder is scored on, since some lack their past there
LEAD_FRAMES = 15
COST_FRAMES = 96
# architectures that this process has computed with on a GPU
AWAKE: set[str | EncoderSettings] = set()
# where the true rates of the ceilings stand in the truth
CEILINGS = {"ceiling": "rates", "reachable": "expected_rates"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for what is done")
    parser.add_argument("--movies", type=Path, help="npz or folder of movies to show instead of made ones")
    parser.add_argument("--seed", type=int, default=11, help="of the first mouse")
    parser.add_argument("--simulate-only", action="store_true", help="simulate the mice, and end")
    parser.add_argument("--mice", type=int, default=1, help="of (1)")
    parser.add_argument("--rois", type=int, default=300, help="of (1)")
    parser.add_argument("--minutes", type=float, default=8.0, help="of movie in (1), validation clips included")
    parser.add_argument(
        "--test-clip-seconds", type=float, default=6.0, help="of all mice; 10 is what simulated mice are by default"
    )
    parser.add_argument("--ours-alone", action="store_true", help="train no DwiseNeuro")
    parser.add_argument("--longer", type=float, nargs="*", default=[1.0, 3.0], help="times the seconds of ours, in (1)")
    parser.add_argument("--until-best", type=int, default=0, metavar="EPOCHS", help="train both this long at most")
    parser.add_argument("--dwiseneuro", default="dwiseneuro-small", choices=sorted(set(ARCHITECTURES) - {OURS}))
    parser.add_argument("--curve-minutes", type=float, nargs="*", default=[2.0, 4.0, 8.0, 16.0, 32.0])
    parser.add_argument("--curve-rois", type=int, nargs="*", default=[100, 300, 1000])
    parser.add_argument("--dwiseneuro-minutes", type=float, nargs="*", help="of its curve; default: the same")
    parser.add_argument("--dwiseneuro-rois", type=int, nargs="*", help="of its curve; default: the same")
    parser.add_argument("--compositions", action="store_true", help="do (3)")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    with progress_shown(False):
        if arguments.simulate_only:
            for index in range(max(arguments.mice, int(arguments.compositions))):
                Mouse.simulated(arguments, arguments.seed + index, arguments.rois, arguments.minutes)
            if points := curve_points(arguments):
                Mouse.simulated(arguments, arguments.seed, *curve_size(points))
            return
        rows = [
            {"mouse": index, **row}
            for index in range(arguments.mice)
            for row in comparison(arguments, arguments.seed + index)
        ]
        curve = learning_curve(arguments)
        composed = compositions(arguments) if arguments.compositions else []
    if rows:
        print(f"\n{arguments.rois} ROIs, {arguments.minutes:g} min of movie, {arguments.mice} mice")
        print(table(rows).to_string(index=False))
    if curve:
        print("\nlearning curve, defaults of each encoder")
        print(table(curve).to_string(index=False))
    if composed:
        print(f"\ncores and readouts, {arguments.rois} ROIs, {arguments.minutes:g} min of movie")
        print(table(composed).to_string(index=False))
    results = {"comparison": rows, "curve": curve, "compositions": composed}
    write_json(arguments.out / "encoder_quality.json", results)


def comparison(arguments: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
    """Rows of (1) for one mouse."""
    mouse = Mouse.simulated(arguments, seed, arguments.rois, arguments.minutes)
    rival = arguments.dwiseneuro
    ours = mouse.trained("ours", "defaults", OURS)
    if arguments.ours_alone:
        return [ours]
    epochs = ours["epochs"]
    same = mouse.trained(f"{rival}-samples", "same samples", rival, TrainingSettings(epochs=epochs, patience=epochs))
    rows = [ours, same]
    for times in arguments.longer:
        affordable = max(1, round((times * ours["seconds"] - same["seconds_before"]) / same["seconds_an_epoch"]))
        training = TrainingSettings(epochs=affordable, patience=affordable)
        rows.append(mouse.trained(f"{rival}-{times:g}x", f"{times:g}x the seconds", rival, training))
    if arguments.until_best:
        training = TrainingSettings(epochs=arguments.until_best, patience=10)
        for which in (OURS, rival):
            rows.append(mouse.trained(f"{which}-{arguments.until_best}", "until best", which, training))
    return rows


def compositions(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of (3), on the first mouse of (1)."""
    mouse = Mouse.simulated(arguments, arguments.seed, arguments.rois, arguments.minutes)
    rows = []
    for core, readout in product(("quadrature", "factorized"), ("gaussian", "factorized")):
        settings = EncoderSettings(core=core, readout=readout)
        rows.append({"mouse": 0, **mouse.trained(f"{core}-{readout}", "defaults", settings)})
    return rows


def learning_curve(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of (2): few minutes are the first of many, few ROIs some of many; what movies do not give is left out."""
    points = curve_points(arguments)
    if not points:
        return []
    most_rois, shown = curve_size(points)
    whole = Mouse.simulated(arguments, arguments.seed, most_rois, shown)
    train = whole.aligned.trials.loc[whole.aligned.trials_in("train"), "n_frames"]
    given = float(train.sum()) / whole.aligned.frame_rate / 60
    rows = []
    for n_rois, minutes, who in sorted(points):
        # made movies have no end; of films there are only so many
        if minutes > given and any(
            given <= shorter < minutes for some, shorter, other in points if (some, other) == (n_rois, who)
        ):
            print(
                f"{minutes:g} min: the movies give no more than {given:.1f} min, which stand in another row", flush=True
            )
            continue
        name = f"curve-{who}-{n_rois}-{minutes:g}"
        rows.append(
            {"minutes": round(min(minutes, given), 1), **whole.part(n_rois, minutes).trained(name, "defaults", who)}
        )
    return rows


def curve_points(arguments: argparse.Namespace) -> list[tuple[int, float, str]]:
    """ROIs, minutes of training movie and encoder of each point of (2)."""
    wanted = {OURS: (arguments.curve_rois, arguments.curve_minutes)}
    if not arguments.ours_alone:
        wanted[arguments.dwiseneuro] = (
            arguments.curve_rois if arguments.dwiseneuro_rois is None else arguments.dwiseneuro_rois,
            arguments.curve_minutes if arguments.dwiseneuro_minutes is None else arguments.dwiseneuro_minutes,
        )
    return [(n_rois, minutes, who) for who, (some, times) in wanted.items() for n_rois in some for minutes in times]


def curve_size(points: list[tuple[int, float, str]]) -> tuple[int, float]:
    """ROIs and minutes of movie of the mouse that all points of (2) are parts of."""
    longest = max(minutes for _, minutes, _ in points)
    # what is set apart for validation comes on top
    shown = float(np.ceil(longest / (1 - AlignmentSettings().validation_share) + 0.5))
    return max(n_rois for n_rois, _, _ in points), shown


@dataclass
class Mouse:
    """A simulated mouse, aligned, the ceilings of its ROIs, and where what is done with it is kept."""

    out: Path
    name: str
    aligned: AlignedSession
    ceilings: dict[str, np.ndarray]

    @classmethod
    def simulated(cls, arguments: argparse.Namespace, seed: int, n_rois: int, minutes: float) -> Mouse:
        """Simulate and align a mouse, unless that was done."""
        name = f"{seed}-{n_rois}-{minutes:g}-{arguments.test_clip_seconds:g}"
        path = arguments.out / f"mouse-{name}.npz"
        if not path.exists():
            clock = time.perf_counter()
            aligned, truth = simulated_with_truth(
                SimulationSettings(
                    seed=seed,
                    movies=arguments.movies,
                    rois=n_rois,
                    minutes=minutes,
                    test_clip_seconds=arguments.test_clip_seconds,
                )
            )
            write_mouse(path, aligned, {name: ceiling(aligned, truth, rates) for name, rates in CEILINGS.items()})
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
            print(
                f"{path.name}: {path.stat().st_size / 1e6:.0f} MB, in {time.perf_counter() - clock:.0f} s with at most "
                f"{memory:.1f} GB of memory",
                flush=True,
            )
        return cls(arguments.out, name, *read_mouse(path))

    def part(self, n_rois: int, minutes: float) -> Mouse:
        """Give some of its ROIs and the first minutes of its training movie."""
        chosen = np.sort(np.random.default_rng(0).permutation(self.aligned.n_rois)[:n_rois])
        aligned = first_minutes(fewer_rois(self.aligned, chosen), minutes)
        return Mouse(self.out, self.name, aligned, {name: values[chosen] for name, values in self.ceilings.items()})

    def trained(
        self, name: str, budget: str, architecture: str | EncoderSettings, training: TrainingSettings | None = None
    ) -> dict[str, Any]:
        """Train and score an encoder, unless that was done."""
        path = self.out / f"{self.name}-{name}.json"
        if not path.exists():
            if torch.cuda.is_available():
                self._wake(architecture)
            clock, processor = time.perf_counter(), time.process_time()
            encoder = nr.train(self.aligned, architecture, training)
            clock, processor = time.perf_counter() - clock, time.process_time() - processor
            write_json(path, self._described(encoder, budget, architecture, clock, processor))
        row: dict[str, Any] = read_json(path)
        print(f"{path.stem}: {np.mean(row['test']):.4f}, {row['sentence']}", flush=True)
        return row

    def _wake(self, architecture: str | EncoderSettings) -> None:
        """Let the GPU load what it computes an architecture with, which is done once and not counted."""
        if architecture not in AWAKE:
            nr.train(first_minutes(self.aligned, 0.5), architecture, TrainingSettings(epochs=1))
            AWAKE.add(architecture)

    def _described(
        self,
        encoder: EncoderEnsemble,
        budget: str,
        architecture: str | EncoderSettings,
        clock: float,
        processor: float,
    ) -> dict[str, Any]:
        seconds = clock if torch.cuda.is_available() else processor
        epochs = int(encoder.history["epoch"].max())
        in_epochs = seconds * float(encoder.history["seconds"].sum()) / clock
        frames = self.aligned.trials.loc[self.aligned.trials_in("train"), "n_frames"].sum()
        cost = self._cost(encoder)
        return {
            "encoder": architecture
            if isinstance(architecture, str)
            else f"{architecture.core} + {architecture.readout}",
            "budget": budget,
            "rois": self.aligned.n_rois,
            "epochs": epochs,
            "learned_minutes": float(epochs * frames / self.aligned.frame_rate / 60),
            "seconds": seconds,
            "clock": clock,
            "seconds_an_epoch": in_epochs / max(1, epochs),
            "seconds_before": seconds - in_epochs,
            "parameters": sum(value.numel() for value in encoder.parameters()),
            "ms_16_frames": 1000 * cost,
            "validation": float(np.nan_to_num(encoder.validation_scores).mean()),
            "sees": encoder.gate["sees"],
            "gap": encoder.gate["gap"],
            "sentence": encoder.gate["sentence"],
            "test": self._scores(encoder),
            **self.ceilings,
        }

    def _scores(self, encoder: EncoderEnsemble) -> np.ndarray:
        for member in encoder.encoders:
            if hasattr(member, "every_position"):
                member.every_position = True
        return np.nan_to_num(single_trial_correlation(Late(encoder), self.aligned, self.aligned.trials_in("test")))

    def _cost(self, encoder: EncoderEnsemble) -> float:
        """Seconds of the processor for 16 frames and the gradient with respect to them; the median of five."""
        behavior = torch.zeros(1, COST_FRAMES, len(self.aligned.behavior_names))
        video = 255 * torch.rand(1, 1, COST_FRAMES, *self.aligned.frame_size)
        device = next(encoder.parameters()).device
        predict: Callable[[Tensor], Tensor] = lambda x: encoder.predict_rates(x, behavior.to(device))  # noqa: E731
        key = "both" if torch.cuda.is_available() else "both_processor"
        return float(np.median([measure(predict, video.to(device))[key] for _ in range(6)][1:])) * 16 / COST_FRAMES


class Late(nn.Module):
    """An encoder that is scored from the same frame on as any other."""

    warm_up = LEAD_FRAMES

    def __init__(self, encoder: EncoderEnsemble) -> None:
        super().__init__()
        self.encoder, self.look_ahead = encoder, encoder.look_ahead

    def predict_rates(self, video: Tensor, behavior: Tensor) -> Tensor:
        """Rates of the encoder."""
        return self.encoder.predict_rates(video, behavior)


def ceiling(aligned: AlignedSession, truth: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Correlate the true rates of the test trials with what was measured, ``(roi,)``."""
    scores = []
    for index, group in enumerate(aligned.groups):
        cells = truth[f"roi_cells_{index + 1}"][group.rois.index - group.rois.index.min()]
        rates = torch.from_numpy(truth[name][:, cells].T.copy())[None]
        parts = []
        for trial in aligned.trials_in("test"):
            row = aligned.trials.loc[trial]
            first, n_frames = round(row["onset"] * aligned.frame_rate), int(row["n_frames"])
            seen = observe(aligned, [Window(trial, 0, n_frames)], warm_up=LEAD_FRAMES)[index]
            expected = torch.einsum("bst,brt->bsr", seen.weights, rates[..., first : first + n_frames])
            parts.append([np.where(seen.known[0] > 0, values[0], np.nan) for values in (expected, seen.measured)])
        expected, measured = (np.concatenate(column) for column in zip(*parts, strict=True))
        known = np.isfinite(measured).any(axis=1)
        scores.append(np.nan_to_num(nan_correlation(expected[known], measured[known])))
    return np.concatenate(scores)


def fewer_rois(aligned: AlignedSession, chosen: np.ndarray) -> AlignedSession:
    """Keep the ROIs with these places in the table of all."""
    groups, first = [], 0
    for group in aligned.groups:
        here = chosen[(chosen >= first) & (chosen < first + group.n_rois)] - first
        first += group.n_rois
        if len(here):
            groups.append(
                replace(
                    group,
                    activity=group.activity[:, here],
                    scale=group.scale[here],
                    rois=group.rois.iloc[here],
                )
            )
    return replace(aligned, groups=groups)


def table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Put together what is printed."""
    lines = []
    for row in rows:
        test = np.array(row["test"])
        line = {
            **({"mouse": row["mouse"]} if "mouse" in row else {"ROIs": row["rois"], "minutes": row["minutes"]}),
            "encoder": row["encoder"],
            "trained": row["budget"],
            "epochs": row["epochs"],
            "learned min": round(row["learned_minutes"], 1),
            "s": round(row["seconds"]),
            "parameters": row["parameters"],
            "ms/16 frames": round(row["ms_16_frames"], 1),
            "test correlation": "{:.3f} ({:.3f}-{:.3f})".format(*bootstrap_interval(test)),
        }
        for name in CEILINGS:
            line[f"of {name}"] = "{:.3f} ({:.3f}-{:.3f})".format(*ratio(test, np.array(row[name])))
        lines.append(line | {"true - wrong": round(row["gap"], 3), "sees": row["sees"]})
    return pd.DataFrame(lines)


def ratio(values: np.ndarray, whole: np.ndarray, draws: int = 2000) -> tuple[float, float, float]:
    """Ratio of means over ROIs, with a 95 % bootstrap interval."""
    chosen = np.random.default_rng(0).integers(0, len(values), (draws, len(values)))
    low, high = np.quantile(values[chosen].mean(axis=1) / whole[chosen].mean(axis=1), [0.025, 0.975])
    return float(values.mean() / whole.mean()), float(low), float(high)


if __name__ == "__main__":
    main()
