"""Time of prediction and of the gradient with respect to the video: DwiseNeuro three ways, and our encoder.

DwiseNeuro has the published size (expansion 7; one readout, of 8000 ROIs; random weights) and gets windows of 16
frames. ``published``: as its authors run it, with gradients of the parameters that nobody uses. ``frozen``: without
these. ``fused``: `nwbrecon.encoding.dwiseneuro.FusedDwiseNeuro`. ``ours``: the default `VideoEncoder` with as many
ROIs, given 96 frames at once; its time is per 16 frames. All take turns, so that a busy machine slows all of them;
ratios are medians over rounds. Threads that wait sleep: by default those of OpenMP spin, and where other programs
compute too they keep the thread that is waited for from its processor, until all that is measured is waiting.

    python benchmarks/encoder_speed.py [--rounds 5] [--threads N] [--device cuda] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

# OpenMP reads it when torch is loaded
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from torch import Tensor

from nwbrecon.config import DwiseNeuroSettings, EncoderSettings
from nwbrecon.encoding import VideoEncoder
from nwbrecon.encoding.dwiseneuro import DwiseNeuro, FusedDwiseNeuro

WINDOW, CANVAS, FRAME_SIZE = 16, (64, 64), (36, 64)
OUR_FRAMES, FRAME_RATE = 96, 30.0
BEHAVIOR = ("pupil_size", "running_speed", "gaze_x", "gaze_y")


def published_network(n_rois: int) -> DwiseNeuro:
    """Network of the published size whose batch norms fit its random weights."""
    network = DwiseNeuro(DwiseNeuroSettings(readout_outputs=(n_rois,)))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm3d):
            module.momentum = 1.0
    with torch.no_grad():
        network(window_input())
    return network.eval()


def window_input() -> Tensor:
    """One window of noise."""
    generator = torch.Generator().manual_seed(0)
    return 255 * torch.rand(1, 1 + len(BEHAVIOR), WINDOW, *CANVAS, generator=generator)


def our_encoder(n_rois: int) -> VideoEncoder:
    """Our default encoder, its readouts spread over the frame."""
    encoder = VideoEncoder(
        EncoderSettings(), n_rois=n_rois, frame_size=FRAME_SIZE, frame_rate=FRAME_RATE, behavior_names=BEHAVIOR
    )
    with torch.no_grad():
        for parameter in (encoder.readout.linear, encoder.readout.energy):
            parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
        encoder.readout.position.uniform_(-8, 8, generator=torch.Generator().manual_seed(1))
    return encoder.eval().requires_grad_(False)


def contenders(n_rois: int, device: str) -> dict[str, tuple[Callable[[Tensor], Tensor], Tensor, float]]:
    """Prediction, input, and the share of the input that is 16 frames, by name."""
    network = published_network(n_rois).to(device)
    inputs = window_input().to(device)
    frozen = published_network(n_rois).to(device).requires_grad_(False)
    fused = FusedDwiseNeuro(network)
    ours = our_encoder(n_rois).to(device)
    video = 255 * torch.rand(1, 1, OUR_FRAMES, *FRAME_SIZE, device=device)
    behavior = torch.zeros(1, OUR_FRAMES, len(BEHAVIOR), device=device)
    return {
        "published": (lambda x: network(x)[0], inputs, 1.0),
        "frozen": (lambda x: frozen(x)[0], inputs, 1.0),
        "fused": (fused, inputs, 1.0),
        "ours": (lambda x: ours.predict_rates(x, behavior), video, WINDOW / OUR_FRAMES),
    }


def measure(predict: Callable[[Tensor], Tensor], inputs: Tensor) -> dict[str, float]:
    """Seconds of the forward and of both passes, on the clock and of the processor."""
    inputs = inputs.clone().requires_grad_()
    wall, processor = time.perf_counter(), time.process_time()
    rates = predict(inputs)
    wait_for(inputs)
    forward = time.perf_counter() - wall
    rates.mean().backward()
    wait_for(inputs)
    return {
        "forward": forward,
        "both": time.perf_counter() - wall,
        "both_processor": time.process_time() - processor,
    }


def wait_for(inputs: Tensor) -> None:
    """Wait until the device has done what it was asked."""
    if inputs.is_cuda:
        torch.cuda.synchronize()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rois", type=int, default=8000)
    parser.add_argument("--threads", type=int, help="default: as torch chooses")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)

    tried = contenders(arguments.rois, arguments.device)
    for predict, inputs, _ in tried.values():
        measure(predict, inputs)
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in tried}
    for _ in range(arguments.rounds):
        for name, (predict, inputs, share) in tried.items():
            rounds[name].append({key: value * share for key, value in measure(predict, inputs).items()})

    medians = {
        name: {key: statistics.median(row[key] for row in rows) for key in rows[0]} for name, rows in rounds.items()
    }

    def ratio(slow: str, fast: str, key: str) -> float:
        return statistics.median(a[key] / b[key] for a, b in zip(rounds[slow], rounds[fast], strict=True))

    pairs = (("published", "fused", 3), ("frozen", "fused", 2), ("fused", "ours", 10))
    ratios = [
        {"slow": slow, "fast": fast, "aim": aim, "clock": ratio(slow, fast, "both")}
        | {"processor": ratio(slow, fast, "both_processor")}
        for slow, fast, aim in pairs
    ]
    report = {
        "machine": platform.processor() or platform.machine(),
        "device": arguments.device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rois": arguments.rois,
        "rounds": arguments.rounds,
        "seconds_per_16_frames": medians,
        "ratios": ratios,
    }
    print(
        f"Seconds per 16 frames, {arguments.rois} ROIs, {report['threads']} thread(s) on {arguments.device}, medians\n"
    )
    print(f"{'':<12}{'forward':>10}{'+ gradient':>12}{'processor':>12}")
    for name, row in medians.items():
        print(f"{name:<12}{row['forward']:>10.3f}{row['both']:>12.3f}{row['both_processor']:>12.3f}")
    print(f"\n{'':<24}{'by the clock':>14}{'by processor':>14}{'aim':>8}")
    for row in ratios:
        print(
            f"{row['slow'] + ' / ' + row['fast']:<24}{row['clock']:>13.1f}x{row['processor']:>13.1f}x{row['aim']:>7}x"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
