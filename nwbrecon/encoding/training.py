"""Training of our encoder on one session."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from nwbrecon.alignment import AlignedSession
from nwbrecon.config import EncoderSettings, TrainingSettings
from nwbrecon.encoding.device import choose_device
from nwbrecon.encoding.encoder import VideoEncoder
from nwbrecon.encoding.initialization import initialize
from nwbrecon.encoding.likelihoods import Likelihood, fit_likelihoods
from nwbrecon.encoding.observation import Observation, Window, observe, window_video
from nwbrecon.encoding.prediction import single_trial_correlation
from nwbrecon.errors import EncoderError
from nwbrecon.progress import progress
from nwbrecon.storage import digest, read_arrays, read_json, write_arrays, write_json

__all__ = ["Trainer"]


class Trainer:
    """Trains one encoder; can be stopped at any time and resumed from its last epoch.

    Parameters
    ----------
    aligned
        The session.
    encoder_settings
        Architecture.
    settings
        How to train.
    seed
        Seed of initial weights, data order and jitter.
    state
        Folder in which the state after each epoch is kept; a training that was interrupted goes on from there, if it
        was one of the same session, settings and seed. ``None`` keeps nothing.

    Raises
    ------
    EncoderError
        If there is nothing to train or validate on.
    """

    def __init__(
        self,
        aligned: AlignedSession,
        encoder_settings: EncoderSettings,
        settings: TrainingSettings,
        *,
        seed: int = 0,
        state: Path | None = None,
    ) -> None:
        self.aligned, self.settings, self.state, self.seed = aligned, settings, state, seed
        self.train_trials, self.validation_trials = aligned.trials_in("train"), aligned.trials_in("validation")
        if not self.train_trials or not self.validation_trials:
            raise EncoderError(
                f"There are {len(self.train_trials)} training and {len(self.validation_trials)} validation trials.",
                "An encoder needs at least one of each.",
                "Check the split, or give a recording with more clips.",
            )
        self.device = choose_device(settings.device)
        self.likelihoods = fit_likelihoods(aligned, self.train_trials, settings.likelihood)
        self.encoder = VideoEncoder(
            encoder_settings,
            n_rois=aligned.n_rois,
            frame_size=aligned.frame_size,
            frame_rate=aligned.frame_rate,
            behavior_names=aligned.behavior_names,
            seed=seed,
        )
        self.window = min(
            self.encoder.warm_up + round(settings.window_seconds * aligned.frame_rate),
            int(aligned.trials.loc[self.train_trials, "n_frames"].max()),
        )
        lengths = aligned.trials.loc[self.train_trials, "n_frames"].to_numpy()
        shortest = 2 * self.encoder.warm_up
        if lengths.max() < shortest:
            raise EncoderError(
                f"The longest training trial has {lengths.max()} frames.",
                f"At least {shortest} are needed for a memory of {self.encoder.warm_up + 1} frames.",
                "Shorten memory_seconds or use longer clips.",
            )
        # trials are learned from in proportion to their length, but for those that end before much can be predicted
        self.lengths, chance = lengths, np.where(lengths < shortest, 0, lengths)
        self.chance = chance / chance.sum()
        self.n_steps = max(1, round(lengths.sum() / (self.window - self.encoder.warm_up) / settings.batch_windows))
        self.epoch, self.best_epoch, self.best_score = 0, -1, -math.inf
        self.history: list[dict[str, float]] = []
        self.roi_scores = np.zeros(aligned.n_rois)

    def run(self) -> VideoEncoder:
        """Train until validation no longer improves; returns the best encoder, in evaluation mode, frozen.

        Raises
        ------
        EncoderError
            If the training diverges.
        """
        torch.manual_seed(self.seed)
        order = np.random.default_rng(self.seed)
        encoder, settings = self.encoder, self.settings
        resumed = self._resume_before_start()
        if not resumed:
            self.roi_scores = initialize(encoder, self.aligned, self.train_trials)
        encoder.to(self.device)
        self.average = copy.deepcopy(encoder)
        self.best = copy.deepcopy(encoder)
        positions = {"readout.position", "readout.log_spread"}
        named = dict(encoder.named_parameters())
        self.optimizer = torch.optim.AdamW(
            [
                {
                    "params": [value for name, value in named.items() if name not in positions],
                    "weight_decay": settings.weight_decay,
                    "factor": 1.0,
                },
                # positions are in feature widths and must be free to move; decay would pull them to the center
                {"params": [named[name] for name in sorted(positions)], "weight_decay": 0.0, "factor": 10.0},
            ],
            lr=settings.learning_rate,
        )
        if resumed:
            self._resume(order)
        else:
            self._record(float("nan"), self._validate(), 0.0)
        with progress(total=settings.epochs, label="training", unit="epoch") as bar:
            bar.update(self.epoch)
            while self.epoch < settings.epochs and self.epoch - self.best_epoch <= settings.patience:
                started = time.perf_counter()
                loss = self._train_epoch(order)
                self.epoch += 1
                score = self._validate()
                self._record(loss, score, time.perf_counter() - started)
                self._keep(order)
                bar.set_postfix(loss=f"{loss:.3f}", correlation=f"{score:.3f}", best=f"{self.best_score:.3f}")
                bar.update()
        return self.best.eval().requires_grad_(False)

    def table(self) -> pd.DataFrame:
        """Return one row an epoch: ``epoch``, ``loss``, ``validation_correlation``, ``learning_rate``, ``seconds``."""
        return pd.DataFrame(self.history)

    def _train_epoch(self, order: np.random.Generator) -> float:
        encoder, settings = self.encoder.train(), self.settings
        total = 0.0
        for step, windows in enumerate(self._batches(order)):
            done = self.epoch + step / self.n_steps
            rate = settings.learning_rate * _schedule(done, settings.epochs)
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group["factor"]
            rates = encoder.predict_rates(*window_video(self.aligned, windows, self.device))
            loss = _loss(
                rates, observe(self.aligned, windows, warm_up=encoder.warm_up, device=self.device), self.likelihoods
            )
            self.optimizer.zero_grad()
            penalty = settings.readout_penalty * encoder.readout_size() + settings.gain_penalty * encoder.gain_size()
            torch.autograd.backward(loss + penalty)
            norm = torch.nn.utils.clip_grad_norm_(encoder.parameters(), settings.gradient_norm)
            if not torch.isfinite(norm):
                raise EncoderError(
                    f"The training diverged in epoch {self.epoch + 1}: the gradient is {float(norm)}.",
                    action="Lower learning_rate, and check the responses for extreme values.",
                )
            self.optimizer.step()
            self._average_weights()
            total += float(loss.detach())
        return total / self.n_steps

    def _batches(self, order: np.random.Generator) -> Iterator[list[Window]]:
        for _ in range(self.n_steps):
            picked = order.choice(len(self.lengths), self.settings.batch_windows, p=self.chance)
            # the windows of a batch are of one length
            window = min(self.window, int(self.lengths[picked].min()))
            yield [
                Window(self.train_trials[index], int(order.integers(0, self.lengths[index] - window + 1)), window)
                for index in picked
            ]

    @torch.no_grad()
    def _average_weights(self) -> None:
        # the average starts to matter once the first steps are over
        share = max(1 - self.settings.average_decay, 1 / (1 + 0.2 * (self.epoch * self.n_steps + 1)))
        for mean, value in zip(self.average.state_dict().values(), self.encoder.state_dict().values(), strict=True):
            mean.lerp_(value, share)

    def _validate(self) -> float:
        scores = single_trial_correlation(self.average, self.aligned, self.validation_trials)
        return float(np.nanmean(scores))

    def _record(self, loss: float, score: float, seconds: float) -> None:
        self.history.append(
            {
                "epoch": self.epoch,
                "loss": loss,
                "validation_correlation": score,
                "learning_rate": self.settings.learning_rate * _schedule(self.epoch, self.settings.epochs),
                "seconds": seconds,
            }
        )
        if score > self.best_score:
            self.best_score, self.best_epoch = score, self.epoch
            self.best.load_state_dict(self.average.state_dict())

    def _keep(self, order: np.random.Generator) -> None:
        if self.state is None:
            return
        arrays: dict[str, Tensor] = {}
        for part in ("encoder", "average", "best"):
            arrays |= {f"{part}.{name}": value for name, value in getattr(self, part).state_dict().items()}
        states = self.optimizer.state_dict()["state"]
        for index, slots in states.items():
            arrays |= {f"optimizer.{index}.{name}": value for name, value in slots.items()}
        arrays["random"] = torch.get_rng_state()
        arrays["roi_scores"] = torch.from_numpy(self.roi_scores)
        # the arrays name the epoch they belong to; the JSON, written last, says which arrays count
        name = f"epoch-{self.epoch}.safetensors"
        write_arrays(self.state / name, arrays)
        write_json(
            self.state / "training.json",
            {
                "key": self._key(),
                "arrays": name,
                "epoch": self.epoch,
                "best_epoch": self.best_epoch,
                "best_score": self.best_score,
                "history": self.history,
                "order": order.bit_generator.state,
            },
        )
        for old in self.state.glob("epoch-*.safetensors"):
            if old.name != name:
                old.unlink()

    def _resume_before_start(self) -> bool:
        if self.state is None or not (self.state / "training.json").exists():
            return False
        self._kept: dict[str, Any] = read_json(self.state / "training.json")
        if self._kept.get("key") != self._key():
            return False
        self._arrays = read_arrays(self.state / self._kept["arrays"])
        self._load("encoder", self.encoder)
        return True

    def _key(self) -> str:
        return digest([self.aligned.digest(), self.encoder.settings, self.settings, self.seed])

    def _resume(self, order: np.random.Generator) -> None:
        kept, arrays = self._kept, self._arrays
        self._load("average", self.average)
        self._load("best", self.best)
        state = self.optimizer.state_dict()
        state["state"] = {}
        for name, value in arrays.items():
            if name.startswith("optimizer."):
                _, index, slot = name.split(".", 2)
                state["state"].setdefault(int(index), {})[slot] = torch.from_numpy(value)
        self.optimizer.load_state_dict(state)
        torch.set_rng_state(torch.from_numpy(arrays["random"]))
        order.bit_generator.state = kept["order"]
        self.epoch, self.best_epoch, self.best_score = kept["epoch"], kept["best_epoch"], kept["best_score"]
        self.history = kept["history"]
        self.roi_scores = arrays["roi_scores"]

    def _load(self, part: str, module: VideoEncoder) -> None:
        prefix = f"{part}."
        module.load_state_dict(
            {
                name.removeprefix(prefix): torch.from_numpy(value)
                for name, value in self._arrays.items()
                if name.startswith(prefix)
            }
        )


def _schedule(done: float, epochs: int) -> float:
    """Linear warm-up over the first epoch, then half a cosine down to a twentieth."""
    return min(1.0, done + 0.05) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, done / max(1, epochs)))))


def _loss(rates: Tensor, observations: list[Observation], likelihoods: list[Likelihood]) -> Tensor:
    total = sum(
        ((likelihood.loss(seen.expected(rates), seen.measured) * seen.known).sum())
        for seen, likelihood in zip(observations, likelihoods, strict=True)
    )
    return torch.as_tensor(total) / sum(seen.known.sum() for seen in observations).clamp_min(1)  # type: ignore[union-attr]
