"""What a clip of ten seconds costs: the published loop and ours, with DwiseNeuro and with our encoder.

DwiseNeuro has the published size (expansion 7; one readout, of 8000 ROIs; random weights), and responses are noise:
what a search costs does not depend on what it finds. ``published``: the published loop, a window at a time, gradients
of the parameters that nobody uses included; ``--iterations`` of its 1000 are timed, and the rest extrapolated. ``map``:
our search at its defaults, with the same network fused, and with our encoder of as many ROIs.

Useful work is twice the multiplications and additions of the plain network's forward pass, which the gradient with
respect to the video needs as well, for every window and evaluation; what it achieves stands beside the rate of large
matrix products in the same process.

    python benchmarks/clip_cost.py [--device cuda] [--seconds 10] [--iterations 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from encoder_speed import published_network, window_input
from scaling import FRAME_SIZE, ensemble_of, recording, search, session_of_noise
from torch.utils.flop_counter import FlopCounterMode

from nwbrecon.config import InversionSettings
from nwbrecon.encoding.dwiseneuro import DwiseNeuroEncoder
from nwbrecon.inversion.bauer2026 import Bauer2026Loop
from nwbrecon.inversion.channels import window_targets

PUBLISHED_ITERATIONS = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rois", type=int, default=8000)
    parser.add_argument("--iterations", type=int, default=3, help="of the published loop that are timed")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, a clip of {arguments.seconds:g} s, {arguments.rois} ROIs")

    peaks = matmul_peaks(device)
    rows = costs(arguments, device)
    table = pd.DataFrame(rows)
    first = table["seconds"].iloc[0]
    table["published / this"] = first / table["seconds"]
    for kind, peak in peaks.items():
        print(f"matrix products in {kind}: {peak / 1e12:.1f} TFLOP/s")
        table[f"share of {kind}"] = table["flop_per_s"] / peak
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    if arguments.json:
        report = {"device": name, "torch": torch.__version__, "matmul": peaks, "costs": rows}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


def costs(arguments: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """One row a way: seconds, gradients of the network, and floating-point operations a second."""
    aligned = session_of_noise(arguments.seconds, arguments.rois)
    network = published_network(arguments.rois)
    per_window = 2 * forward_operations(network)
    iterations = InversionSettings().iterations
    rows = []

    plain = DwiseNeuroEncoder(network, fused=False).to(device).eval()
    trial = aligned.trial(0)
    responses = torch.from_numpy(window_targets(aligned, 0)).to(device)
    behavior = torch.from_numpy(trial.behavior).float().to(device)
    loop = Bauer2026Loop([plain], responses, behavior, frame_size=FRAME_SIZE)
    loop.step()
    spent = statistics.median(timed(loop.step, device) for _ in range(arguments.iterations))
    # every window of 32 frames is predicted as two of 16
    windows = 2 * len(loop.starts) * PUBLISHED_ITERATIONS
    rows.append(row("published, 1000 iterations", spent * PUBLISHED_ITERATIONS, windows, per_window, device))

    fused = DwiseNeuroEncoder(network, every_position=False).to(device)
    warm = search(ensemble_of(fused, aligned), aligned)
    warm.run(1, tolerance=0)
    rows.append(mapped("map, DwiseNeuro", search(ensemble_of(fused, aligned), aligned), iterations, device))
    n_windows = len(fused._positions(warm.margins.around(len(trial.video))))
    rows[-1] |= rated(rows[-1]["seconds"], rows[-1].pop("evaluations") * n_windows, per_window)

    ours, aligned = recording(arguments.seconds, arguments.rois)
    ours.to(device)
    search(ours, aligned).run(1, tolerance=0)
    rows.append(mapped("map, ours", search(ours, aligned), iterations, device))
    rows[-1].pop("evaluations")
    return rows


def mapped(name: str, made: Any, iterations: int, device: torch.device) -> dict[str, Any]:
    """Run a search to its end."""
    reset_peak(device)
    seconds = timed(lambda: made.run(iterations, tolerance=0), device)
    outcome = made.run(0)
    return {"way": name, "seconds": seconds, "evaluations": outcome.n_evaluations, "peak_gb": peak_gigabytes(device)}


def row(name: str, seconds: float, windows: int, per_window: float, device: torch.device) -> dict[str, Any]:
    return {"way": name, "seconds": seconds, "peak_gb": peak_gigabytes(device)} | rated(seconds, windows, per_window)


def rated(seconds: float, windows: int, per_window: float) -> dict[str, float]:
    return {"windows": windows, "flop_per_s": windows * per_window / seconds}


def forward_operations(network: Any) -> int:
    """Floating-point operations of the plain network for one window."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(window_input())
    return counter.get_total_flops()


def matmul_peaks(device: torch.device) -> dict[str, float]:
    """Floating-point operations a second of large square products, by type."""
    size = 8192 if device.type == "cuda" else 2048
    kinds = {"fp32": (torch.float32, "highest")}
    if device.type == "cuda":
        kinds |= {"tf32": (torch.float32, "high"), "bf16": (torch.bfloat16, "highest")}
    peaks, before = {}, torch.get_float32_matmul_precision()
    for kind, (dtype, precision) in kinds.items():
        torch.set_float32_matmul_precision(precision)
        one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        seconds = [timed(lambda a=one, b=other: a @ b, device) for _ in range(8)][3:]
        peaks[kind] = 2 * size**3 / statistics.median(seconds)
    torch.set_float32_matmul_precision(before)
    return peaks


def timed(work: Callable[[], Any], device: torch.device) -> float:
    """Seconds until the device has done the work."""
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_gigabytes(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else float("nan")


if __name__ == "__main__":
    main()
