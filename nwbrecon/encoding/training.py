"""Training of an encoder on one session, or on several that share its core."""

from __future__ import annotations

import copy
import math
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from nwbrecon.alignment import AlignedSession
from nwbrecon.config import DwiseNeuroSettings, EncoderSettings, TrainingSettings
from nwbrecon.encoding.architectures import make_encoder
from nwbrecon.encoding.batches import Batches, turns
from nwbrecon.encoding.device import choose_device
from nwbrecon.encoding.ensemble import EncoderEnsemble
from nwbrecon.encoding.gradients import Gradients
from nwbrecon.encoding.parts import set_dropout
from nwbrecon.encoding.precision import Forward
from nwbrecon.encoding.prediction import single_trial_correlation
from nwbrecon.encoding.processes import Processes, launch
from nwbrecon.encoding.trainable import Pace, TrainableEncoder
from nwbrecon.errors import EncoderError, SettingsError
from nwbrecon.progress import progress
from nwbrecon.storage import digest, read_arrays, read_json, write_arrays, write_json

__all__ = ["Trainer"]

_PARTS = ("encoders", "average", "best")


class Trainer:
    """Trains an encoder a session, with one core; can be stopped at any time and resumed from its last epoch.

    The sessions take turns, a gradient step each, as often as their training clips are long.

    Parameters
    ----------
    sessions
        The sessions, of one frame rate and size.
    encoder_settings
        Architecture; or an encoder of the one session, a copy of which is trained.
    settings
        How to train.
    seed
        Seed of initial weights, data order and jitter.
    state
        Folder in which the state after each epoch is kept; a training that was interrupted goes on from there, if it
        was one of the same sessions, core, settings and seed. ``None`` keeps nothing.
    core
        An encoder whose core is taken over, and left as it is unless the settings tune it; ``None`` trains a new one.
    teacher
        An encoder of the one session, whose predictions count beside what was measured; ``None`` does without.

    Raises
    ------
    EncoderError
        If there is nothing to train or validate on.
    SettingsError
        If there is less to do in a step than there are devices.
    """

    def __init__(
        self,
        sessions: Sequence[AlignedSession],
        encoder_settings: EncoderSettings | DwiseNeuroSettings | TrainableEncoder,
        settings: TrainingSettings,
        *,
        seed: int = 0,
        state: Path | None = None,
        core: TrainableEncoder | None = None,
        teacher: EncoderEnsemble | None = None,
    ) -> None:
        if settings.devices > settings.batch_windows:
            raise SettingsError(
                f"training.devices is {settings.devices}, and training.batch_windows {settings.batch_windows}.",
                "Each device needs at least one of the stretches of a step.",
                "Raise batch_windows, or lower devices.",
            )
        self.sessions, self.settings, self.state, self.seed = list(sessions), settings, state, seed
        self.device, self.processes, self.teacher = choose_device(settings.device), Processes(), teacher
        self._asked = {
            "sessions": self.sessions,
            "encoder_settings": encoder_settings,
            "settings": settings,
            "seed": seed,
            "core": core,
            "teacher": teacher,
        }
        self.encoders = [
            copy.deepcopy(encoder_settings)
            if isinstance(encoder_settings, TrainableEncoder)
            else make_encoder(
                encoder_settings,
                n_rois=aligned.n_rois,
                frame_size=aligned.frame_size,
                frame_rate=aligned.frame_rate,
                behavior_names=aligned.behavior_names,
                groups=tuple(group.n_rois for group in aligned.groups),
                seed=seed,
            )
            for aligned in self.sessions
        ]
        first = self.encoders[0]
        self.core_is_new = core is None
        # what a training that was interrupted must have been of
        self.key = digest(
            [
                [aligned.digest() for aligned in self.sessions],
                _identity(encoder_settings),
                settings,
                seed,
                None if core is None else core.core_digest(),
                None if teacher is None else teacher.digest(),
            ]
        )
        for encoder in self.encoders:
            encoder.share(first)
            if core is not None:
                encoder.copy_core(core)
        first.shared.requires_grad_(self.core_is_new or settings.tune_core)
        # what a teacher cannot tell is not learned from what was measured either
        those: list[TrainableEncoder | EncoderEnsemble] = [first] if teacher is None else [first, teacher]
        warm_up, ahead, least = (
            max(getattr(one, name) for one in those) for name in ("warm_up", "look_ahead", "least_frames")
        )
        self.batches = [Batches(aligned, settings, warm_up, least, ahead) for aligned in self.sessions]
        self.turns = turns([batches.n_steps for batches in self.batches])
        self.epoch, self.best_epoch, self.best_score = 0, -1, -math.inf
        self.history: list[dict[str, Any]] = []
        self.roi_scores = [np.zeros(aligned.n_rois) for aligned in self.sessions]

    def run(self) -> list[TrainableEncoder]:
        """Train until validation no longer improves; returns the best encoders, in evaluation mode, frozen.

        Returns
        -------
        list of TrainableEncoder
            One a session, each with a copy of the core.

        Raises
        ------
        EncoderError
            If the training diverges, or memory does not hold a single stretch.
        """
        torch.manual_seed(self.seed)
        order = np.random.default_rng(self.seed)
        alone = self.settings.devices == self.processes.count or not self.settings.epochs
        kept = self._kept(self.state) if alone else self._train_in_processes()
        if kept is None:
            self._initialize()
            _together(self.encoders).load_state_dict(self.processes.agree(_together(self.encoders).state_dict()))
        for encoder in self.encoders:
            encoder.to(self.device)
            set_dropout(encoder, self.settings.readout_dropout)
        self.average, self.best = copy.deepcopy(self.encoders), copy.deepcopy(self.encoders)
        self.optimizer = self._make_optimizer()
        self.forwards = [Forward(encoder.predict_rates, self.device, self.settings) for encoder in self.encoders]
        self.gradients = Gradients(
            self.device,
            self.processes,
            teacher=copy.deepcopy(self.teacher).to(self.device) if self.teacher else None,
            teacher_weight=self.settings.teacher_weight,
            exact=not self.encoders[0].mixes_stretches,
        )
        if kept is None:
            self._record(float("nan"), self._validate(), 0.0)
        else:
            self._resume(*kept, order)
        epochs, patience = self.settings.epochs, self.settings.patience
        with progress(total=epochs, label="training", unit="epoch") as bar:
            bar.update(self.epoch)
            while self.epoch < epochs and self.epoch - self.best_epoch <= patience:
                started = time.perf_counter()
                loss = self._train_epoch(order)
                self.epoch += 1
                score = self._record(loss, self._validate(), time.perf_counter() - started)
                self._keep(order)
                bar.set_postfix(loss=f"{loss:.3f}", correlation=f"{score:.3f}", best=f"{self.best_score:.3f}")
                bar.update()
        return [copy.deepcopy(encoder).freeze() for encoder in self.best]

    def table(self, session: int = 0) -> pd.DataFrame:
        """Tell how it went for one of the sessions.

        Returns
        -------
        pandas.DataFrame
            One row an epoch: ``epoch``, ``loss`` (mean over the steps of all sessions), ``validation_correlation``,
            ``learning_rate``, ``seconds``; where there are several sessions, also ``mean_correlation``, the mean of
            their validation correlations, by which training is stopped.
        """
        table = pd.DataFrame(self.history)
        scores = np.array(table["validation_correlation"].tolist())
        table["validation_correlation"] = scores[:, session]
        return table if len(self.sessions) == 1 else table.assign(mean_correlation=scores.mean(axis=1))

    def _train_in_processes(self) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        """Train in several processes; gives what they kept at the end."""
        with ExitStack() as stack:
            state = self.state or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nwbrecon-")))
            launch(_train, self.device, self.settings.devices, {**self._asked, "state": state})
            return self._kept(state)

    def _initialize(self) -> None:
        trials = [batches.train_trials for batches in self.batches]
        if self.core_is_new:
            self.encoders[0].initialize_shared(self.encoders, self.sessions, trials)
        self.roi_scores = [
            encoder.initialize(aligned, own)
            for encoder, aligned, own in zip(self.encoders, self.sessions, trials, strict=True)
        ]

    def _make_optimizer(self) -> torch.optim.AdamW:
        groups: dict[Pace, list[nn.Parameter]] = {}
        for name, value in _together(self.encoders).named_parameters():
            if value.requires_grad:
                index, own = name.split(".", 1)
                groups.setdefault(self.encoders[int(index)].pace(own), []).append(value)
        return torch.optim.AdamW(
            [
                {
                    "params": values,
                    "weight_decay": self.settings.weight_decay if pace.decays else 0.0,
                    "factor": pace.factor,
                }
                for pace, values in groups.items()
            ],
            lr=self.settings.learning_rate,
        )

    def _train_epoch(self, order: np.random.Generator) -> float:
        settings, n_steps = self.settings, len(self.turns)
        total = 0.0
        for step, session in enumerate(self.turns):
            rate = settings.learning_rate * _schedule(self.epoch + step / n_steps, settings.epochs)
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group["factor"]
            encoder, batches = self.encoders[session].train(), self.batches[session]
            self.optimizer.zero_grad()
            batch = batches.load(self.processes.share(batches.draw(order)))
            loss = self.gradients.compute(self.forwards[session], encoder.parameters(), batch, batches.likelihoods)
            penalty = encoder.penalty(settings)
            if penalty.requires_grad:
                torch.autograd.backward(penalty)
            norm = torch.nn.utils.clip_grad_norm_(encoder.parameters(), settings.gradient_norm)
            if not torch.isfinite(norm):
                raise EncoderError(
                    f"The training diverged in epoch {self.epoch + 1}: the gradient is {float(norm)}.",
                    action="Lower learning_rate, and check the responses for extreme values.",
                )
            self.optimizer.step()
            self._average_weights(session)
            total += float(loss)
        return total / n_steps

    @torch.no_grad()
    def _average_weights(self, session: int) -> None:
        # the average starts to matter once the first steps are over
        share = max(1 - self.settings.average_decay, 1 / (1 + 0.2 * (self.epoch * len(self.turns) + 1)))
        means, values = (encoders[session].state_dict().values() for encoders in (self.average, self.encoders))
        for mean, value in zip(means, values, strict=True):
            # what is counted, such as the batches that a batch norm has seen, has no average
            mean.lerp_(value, share) if mean.is_floating_point() else mean.copy_(value)

    def _validate(self) -> list[float]:
        if not self.processes.first:
            return self.processes.agree([])
        scores = [
            float(np.nanmean(single_trial_correlation(encoder, aligned, batches.validation_trials)))
            for encoder, aligned, batches in zip(self.average, self.sessions, self.batches, strict=True)
        ]
        return self.processes.agree(scores)

    def _record(self, loss: float, scores: list[float], seconds: float) -> float:
        self.history.append(
            {
                "epoch": self.epoch,
                "loss": loss,
                "validation_correlation": scores,
                "learning_rate": self.settings.learning_rate * _schedule(self.epoch, self.settings.epochs),
                "seconds": seconds,
            }
        )
        score = float(np.mean(scores))
        if score > self.best_score:
            self.best_score, self.best_epoch = score, self.epoch
            _together(self.best).load_state_dict(_together(self.average).state_dict())
        return score

    def _keep(self, order: np.random.Generator) -> None:
        if self.state is None or not self.processes.first:
            return
        arrays: dict[str, Tensor] = {}
        for part in _PARTS:
            weights = _together(getattr(self, part)).state_dict()
            arrays |= {f"{part}.{name}": value for name, value in weights.items()}
        states = self.optimizer.state_dict()["state"]
        for index, slots in states.items():
            arrays |= {f"optimizer.{index}.{name}": value for name, value in slots.items()}
        arrays["random"] = torch.get_rng_state()
        arrays |= {f"roi_scores.{index}": torch.from_numpy(scores) for index, scores in enumerate(self.roi_scores)}
        # the arrays name the epoch they belong to; the JSON, written last, says which arrays count
        name = f"epoch-{self.epoch}.safetensors"
        write_arrays(self.state / name, arrays)
        write_json(
            self.state / "training.json",
            {
                "key": self.key,
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

    def _kept(self, state: Path | None) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        if state is None or not (state / "training.json").exists():
            return None
        kept: dict[str, Any] = read_json(state / "training.json")
        if kept.get("key") != self.key:
            return None
        arrays = read_arrays(state / kept["arrays"])
        return kept, {name: torch.from_numpy(value) for name, value in arrays.items()}

    def _resume(self, kept: dict[str, Any], arrays: dict[str, Tensor], order: np.random.Generator) -> None:
        for part in _PARTS:
            _together(getattr(self, part)).load_state_dict(_beginning_with(f"{part}.", arrays))
        state = self.optimizer.state_dict()
        state["state"] = {}
        for name, value in _beginning_with("optimizer.", arrays).items():
            index, slot = name.split(".", 1)
            state["state"].setdefault(int(index), {})[slot] = value
        self.optimizer.load_state_dict(state)
        torch.set_rng_state(arrays["random"])
        order.bit_generator.state = kept["order"]
        self.epoch, self.best_epoch, self.best_score = kept["epoch"], kept["best_epoch"], kept["best_score"]
        self.history = kept["history"]
        self.roi_scores = [arrays[f"roi_scores.{index}"].numpy() for index in range(len(self.sessions))]


def _train(processes: Processes, device: torch.device, asked: dict[str, Any]) -> None:
    """Train as one of several processes."""
    trainer = Trainer(**asked)
    trainer.processes, trainer.device = processes, device
    trainer.run()


def _together(encoders: list[TrainableEncoder]) -> nn.ModuleList:
    """Several encoders as one module, which counts a core that they share once among its parameters."""
    return nn.ModuleList(encoders)


def _beginning_with(prefix: str, arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def _schedule(done: float, epochs: int) -> float:
    """Linear warm-up over the first epoch, then half a cosine down to a twentieth."""
    return min(1.0, done + 0.05) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, done / max(1, epochs)))))


def _identity(encoder: EncoderSettings | DwiseNeuroSettings | TrainableEncoder) -> Any:
    if not isinstance(encoder, TrainableEncoder):
        return encoder
    return [
        encoder.settings,
        str(encoder),
        *(digest(value.numpy().tobytes()) for value in encoder.state_dict().values()),
    ]
