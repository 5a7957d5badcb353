"""Several encoders of one session as one, with what is known about them; saved and loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from nwbrecon.alignment import AlignedSession
from nwbrecon.config import Architecture
from nwbrecon.display import block, list_html, table_html
from nwbrecon.encoding.architectures import make_encoder
from nwbrecon.encoding.likelihoods import Likelihood, ZeroInflatedGamma, likelihood_for
from nwbrecon.encoding.noise import ResidualNoise
from nwbrecon.encoding.shared_gain import SharedGain
from nwbrecon.encoding.trainable import TrainableEncoder
from nwbrecon.errors import EncoderError
from nwbrecon.session import SignalKind
from nwbrecon.storage import atomic_directory, digest, read_arrays, read_json, write_arrays, write_json

__all__ = ["EncoderEnsemble"]

_FORMAT = 1


class EncoderEnsemble(nn.Module):
    """Encoders that differ by their seed; the prediction is the mean of theirs.

    Parameters
    ----------
    members
        The encoders.
    rois
        Table of the ROIs in the order of the rates, with ``group`` and ``roi_id``.
    kinds
        Kind of signal of each response group.
    dispersion
        ``(roi,)`` calibrated dispersion; see `nwbrecon.encoding.calibration`.
    linear_scores
        ``(roi,)`` correlation of the linear fit with held-out training activity.
    validation_scores
        ``(roi,)`` single-trial correlation on the validation clips.
    gate
        Whether the encoder sees: `nwbrecon.encoding.calibration.Gate` as plain values.
    history
        One row an epoch and member.
    info
        Settings, splits and versions; what JSON can hold.
    likelihoods
        One a response group; ``None`` for those that the settings of training name, where these have no parameters.
    noise
        How residuals hang together; ``None`` where that was not estimated, as in encoders of earlier versions.
    shared_gain
        What is known of the gain that the ROIs share; ``None`` where it was not estimated.
    """

    def __init__(
        self,
        members: Sequence[TrainableEncoder],
        *,
        rois: pd.DataFrame,
        kinds: Sequence[SignalKind],
        dispersion: np.ndarray,
        linear_scores: np.ndarray,
        validation_scores: np.ndarray,
        gate: dict[str, Any],
        history: pd.DataFrame,
        info: dict[str, Any],
        likelihoods: Sequence[Likelihood] | None = None,
        noise: ResidualNoise | None = None,
        shared_gain: SharedGain | None = None,
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.rois, self.kinds = rois, list(kinds)
        self.dispersion, self.linear_scores, self.validation_scores = dispersion, linear_scores, validation_scores
        self.gate, self.history, self.info, self._likelihoods = gate, history, info, likelihoods
        self.noise, self.shared_gain = noise, shared_gain
        self.eval().requires_grad_(False)
        for member in self.encoders:
            member.freeze()

    @property
    def warm_up(self) -> int:
        """Frames at the start of a video for which the prediction lacks its past."""
        return max(member.warm_up for member in self.encoders)

    @property
    def look_ahead(self) -> int:
        """Frames at the end of a video for which the prediction lacks its future."""
        return max(member.look_ahead for member in self.encoders)

    @property
    def plane_delays(self) -> pd.Series | None:
        """Learned delay of each response group by its name (s), mean of members; ``None`` where none was learned."""
        learned = [delays for member in self.encoders if (delays := member.plane_delays) is not None]
        if not learned:
            return None
        return pd.Series(torch.stack(learned).mean(dim=0).cpu().numpy(), self.rois["group"].unique())

    @property
    def least_frames(self) -> int:
        """Frames of the shortest video that can be predicted."""
        return max(member.least_frames for member in self.encoders)

    @property
    def likelihoods(self) -> list[Likelihood]:
        """One a response group."""
        if self._likelihoods is not None:
            return list(self._likelihoods)
        name = self.info["training"]["likelihood"]
        return [likelihood_for(kind, name) for kind in self.kinds]

    @property
    def n_rois(self) -> int:
        """Number of ROIs."""
        return len(self.rois)

    @property
    def positions(self) -> np.ndarray:
        """``(roi, 2)`` row and column of receptive fields from the center of the screen (pixels), mean of members."""
        return torch.stack([member.positions for member in self.encoders]).mean(dim=0).cpu().numpy()

    @property
    def core_sessions(self) -> list[dict[str, Any]]:
        """What the core was learned from: ``session`` (its identity) and ``clips`` by split, one a session."""
        own = [{"session": self.info["session"], "clips": self.info["clips"]}]
        return self.info.get("core", {}).get("sessions", own)

    @property
    def encoders(self) -> list[TrainableEncoder]:
        """The members."""
        return list(self.members)  # type: ignore[arg-type]

    def predict_rates(self, video: Tensor, behavior: Tensor) -> Tensor:
        """Mean of the members' rates ``(batch, roi, time)``; see `nwbrecon.encoding.encoder.Encoder`."""
        rates = [member.predict_rates(video, behavior) for member in self.encoders]
        return rates[0] if len(rates) == 1 else torch.stack(rates).mean(dim=0)

    forward = predict_rates

    def check_fits(self, aligned: AlignedSession) -> None:
        """Make sure that the encoder was trained on the ROIs and the clock of this session.

        Raises
        ------
        EncoderError
            If not, saying what differs.
        """
        first = self.encoders[0]
        found = {
            "ROIs": aligned.n_rois,
            "frame size": tuple(aligned.frame_size),
            "frame rate": aligned.frame_rate,
            "behavior": tuple(aligned.behavior_names),
        }
        expected = {
            "ROIs": self.n_rois,
            "frame size": tuple(first.frame_size),
            "frame rate": first.frame_rate,
            "behavior": first.behavior_names,
        }
        differing = [name for name in found if found[name] != expected[name]]
        if not differing:
            own = self.rois[["group", "roi_id"]].astype(str).to_numpy()
            if (own != aligned.rois[["group", "roi_id"]].astype(str).to_numpy()).any():
                raise EncoderError(
                    "The session has other ROIs than those that the encoder was trained on.",
                    action="Use the encoder with its own session, or train one on this session.",
                )
            return
        raise EncoderError(
            "The session has " + ", ".join(f"{name} {found[name]}" for name in differing) + ".",
            "The encoder was trained with " + ", ".join(f"{name} {expected[name]}" for name in differing) + ".",
            "Align the session as it was for training, or train an encoder on it.",
        )

    def save(self, folder: str | Path) -> Path:
        """Write a folder with ``encoder.json`` and ``weights.safetensors``; an older one is replaced as a whole.

        Raises
        ------
        EncoderError
            If it has a core or a readout that no settings name, or was made elsewhere
            (`nwbrecon.encoding.adopt_encoder`).
        """
        if any(getattr(member, "composed", False) for member in self.encoders):
            raise EncoderError(
                "An encoder was put together from modules of one's own.",
                "Only what settings describe can be made anew from a folder.",
                "Keep its state_dict(), and load it into an encoder that is put together in the same way.",
            )
        first = self.encoders[0]
        if first.settings is None:
            raise EncoderError(
                "The encoder was made elsewhere: nothing here could build it again from a file.",
                action="Keep what made it, and adopt it anew (nwbrecon.adopt_encoder).",
            )
        arrays: dict[str, Any] = {
            "dispersion": self.dispersion,
            "linear_scores": self.linear_scores,
            "validation_scores": self.validation_scores,
        }
        for index, member in enumerate(self.encoders):
            arrays |= {f"member.{index}.{name}": value for name, value in member.state_dict().items()}
        arrays |= self._likelihood_arrays() | self._noise_arrays() | self._gain_arrays()
        with atomic_directory(folder) as path:
            write_arrays(path / "weights.safetensors", arrays)
            write_json(
                path / "encoder.json",
                {
                    "format": _FORMAT,
                    "members": len(self.members),
                    "encoder": first.settings,
                    "frame_size": first.frame_size,
                    "frame_rate": first.frame_rate,
                    "behavior_names": first.behavior_names,
                    "kinds": [kind.value for kind in self.kinds],
                    "rois": self.rois[["group", "roi_id"]].to_dict(orient="list"),
                    "gate": self.gate,
                    "history": self.history.to_dict(orient="list"),
                    "info": self.info,
                },
            )
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> EncoderEnsemble:
        """Read what `save` wrote. Nothing is unpickled.

        Raises
        ------
        EncoderError
            If the folder holds no encoder, or one of a later version.
        """
        folder = Path(folder)
        if not (folder / "encoder.json").is_file():
            raise EncoderError(
                f"{folder} holds no encoder.",
                "A folder with encoder.json and weights.safetensors was expected.",
                "Give the folder that training wrote.",
            )
        kept = read_json(folder / "encoder.json")
        if kept.get("format") != _FORMAT:
            raise EncoderError(
                f"The encoder in {folder} has format {kept.get('format')}.",
                f"This version of nwbrecon reads format {_FORMAT}.",
                "Update nwbrecon, or train the encoder anew.",
            )
        arrays = read_arrays(folder / "weights.safetensors")
        settings = TypeAdapter(Architecture).validate_python(kept["encoder"])
        members = []
        for index in range(kept["members"]):
            member = make_encoder(
                settings,
                n_rois=len(kept["rois"]["roi_id"]),
                frame_size=tuple(kept["frame_size"]),
                frame_rate=kept["frame_rate"],
                behavior_names=tuple(kept["behavior_names"]),
                groups=tuple(pd.Series(kept["rois"]["group"]).value_counts(sort=False)),
            )
            prefix = f"member.{index}."
            weights = {
                name.removeprefix(prefix): torch.from_numpy(value)
                for name, value in arrays.items()
                if name.startswith(prefix)
            }
            try:
                member.load_state_dict(weights)
            except RuntimeError as error:
                raise EncoderError(
                    f"The weights in {folder} do not fit its encoder.json.", action="Train the encoder anew."
                ) from error
            members.append(member)
        return cls(
            members,
            rois=pd.DataFrame(kept["rois"]),
            kinds=[SignalKind(kind) for kind in kept["kinds"]],
            dispersion=arrays["dispersion"],
            linear_scores=arrays["linear_scores"],
            validation_scores=arrays["validation_scores"],
            gate=kept["gate"],
            history=pd.DataFrame(kept["history"]),
            info=kept["info"],
            likelihoods=_read_likelihoods(arrays, len(kept["kinds"])),
            noise=_read_noise(arrays),
            shared_gain=_read_gain(arrays),
        )

    def digest(self) -> str:
        """SHA-256 of the weights and the calibration."""
        hashes = [["dispersion", digest(np.ascontiguousarray(self.dispersion).tobytes())]]
        hashes += [[name, digest(value.numpy().tobytes())] for name, value in self._likelihood_arrays().items()]
        calibration = self._noise_arrays() | self._gain_arrays()
        hashes += [[name, digest(value.tobytes())] for name, value in calibration.items()]
        for member in self.encoders:
            for name, value in sorted(member.state_dict().items()):
                hashes.append([name, digest(value.contiguous().cpu().numpy().tobytes())])
        return digest(hashes)

    def _likelihood_arrays(self) -> dict[str, Tensor]:
        return {
            f"likelihood.{group}.{name}": value
            for group, likelihood in enumerate(self.likelihoods)
            if isinstance(likelihood, ZeroInflatedGamma)
            for name, value in (("size", likelihood.size), ("shape", likelihood.shape))
        }

    def _noise_arrays(self) -> dict[str, np.ndarray]:
        return {} if self.noise is None else {f"noise.{name}": value for name, value in self.noise.arrays().items()}

    def _gain_arrays(self) -> dict[str, np.ndarray]:
        known = {} if self.shared_gain is None else self.shared_gain.arrays()
        return {f"shared_gain.{name}": value for name, value in known.items()}

    def __repr__(self) -> str:
        correlation = float(np.nanmean(self.validation_scores))
        lines = [
            f"EncoderEnsemble: {len(self.members)} member(s), {self.n_rois} ROIs, single-trial correlation "
            f"{correlation:.3f} on validation clips",
            self.gate["sentence"],
            *self._delays_text(),
        ]
        return "\n  ".join(lines)

    def _delays_text(self) -> list[str]:
        if self.plane_delays is None:
            return []
        told = ", ".join(f"{name} {1000 * seconds:+.0f} ms" for name, seconds in self.plane_delays.items())
        return [f"Learned delays of the planes' clocks: {told}."]

    def _repr_html_(self) -> str:
        scores = self.validation_scores[np.isfinite(self.validation_scores)]
        quarters = np.quantile(scores, [0.25, 0.5, 0.75]) if len(scores) else np.full(3, np.nan)
        gate = self.gate
        rows = [
            ("members", "ROIs", "frame size", "frame rate (Hz)", "behavior", "epochs"),
            (
                str(len(self.members)),
                str(self.n_rois),
                "x".join(map(str, self.encoders[0].frame_size)),
                f"{self.encoders[0].frame_rate:g}",
                ", ".join(self.encoders[0].behavior_names) or "none",
                f"{self.history['epoch'].max():.0f}" if "epoch" in self.history else "",
            ),
        ]
        correlations = [
            ("single-trial correlation on validation clips", "25 %", "median", "75 %"),
            (
                f"{np.mean(scores):.3f} (mean over ROIs)" if len(scores) else "not known",
                *(f"{q:.3f}" for q in quarters),
            ),
        ]
        verdict = [*([str(gate["sentence"])] if "sentence" in gate else []), *self._delays_text()]
        return block("Encoder", list_html(verdict), table_html(rows), table_html(correlations))


def _read_likelihoods(arrays: dict[str, Any], n_groups: int) -> list[Likelihood] | None:
    if "likelihood.0.size" not in arrays:
        return None
    parameters = [[arrays[f"likelihood.{group}.{name}"] for name in ("size", "shape")] for group in range(n_groups)]
    return [ZeroInflatedGamma(*map(torch.from_numpy, values)) for values in parameters]


def _read_noise(arrays: dict[str, Any]) -> ResidualNoise | None:
    of_noise = _beginning_with("noise.", arrays)
    return ResidualNoise(**of_noise) if of_noise else None


def _read_gain(arrays: dict[str, Any]) -> SharedGain | None:
    of_gain = _beginning_with("shared_gain.", arrays)
    return SharedGain.from_arrays(of_gain) if of_gain else None


def _beginning_with(prefix: str, arrays: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
