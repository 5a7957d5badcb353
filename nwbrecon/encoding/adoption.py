"""Encoders that were made elsewhere: what an inversion must know of them is found out on the session."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, nn

from nwbrecon._version import __version__
from nwbrecon.alignment import AlignedSession
from nwbrecon.encoding.calibration import dispersion, gate
from nwbrecon.encoding.ensemble import EncoderEnsemble
from nwbrecon.encoding.guide import guided
from nwbrecon.encoding.likelihoods import fit_likelihoods
from nwbrecon.encoding.noise import fit_noise
from nwbrecon.encoding.prediction import single_trial_correlation
from nwbrecon.encoding.shared_gain import fit_shared_gain
from nwbrecon.encoding.validation import validate_encoder
from nwbrecon.errors import EncoderError
from nwbrecon.session import SignalKind

__all__ = ["adopt_encoder", "calibrate"]

_SPLITS = ("train", "validation", "test")


def adopt_encoder(encoder: nn.Module, aligned: AlignedSession, *, likelihood: str = "auto") -> EncoderEnsemble:
    """Take an encoder that was made elsewhere for that of a session, so that it can be inverted.

    What an inversion needs beside predictions is estimated as for an encoder that was trained here: on validation clips
    how far each ROI's noise can be trusted and whether the encoder sees, on training clips which ROIs are visual and
    where their receptive fields are.

    Parameters
    ----------
    encoder
        A torch module with the methods of `Encoder`, for the ROIs, the frame rate and size and the behavioral variables
        of the session. It is frozen. That it has learned from no validation or test clip is for you to see to.
    aligned
        The session.
    likelihood
        ``auto``, ``poisson``, ``gaussian`` or ``zig``, as for training.

    Returns
    -------
    EncoderEnsemble
        For `nwbrecon.reconstruct`. It cannot be saved, since nothing here could build it again: keep what made it.

    Raises
    ------
    EncoderError
        If it is no encoder (`validate_encoder`), or there are no training or validation trials.
    SettingsError
        If the likelihood does not fit the kind of signal.

    Examples
    --------
    ::

        class Filters(torch.nn.Module):
            warm_up = 0

            def __init__(self, filters, bias):
                super().__init__()
                self.register_buffer("filters", filters)  # (roi, height, width)
                self.register_buffer("bias", bias)  # (roi, 1)

            def predict_rates(self, video, behavior):
                drive = torch.einsum("bctyx,nyx->bnt", video / 255, self.filters)
                return torch.nn.functional.softplus(drive + self.bias)

        encoder = nwbrecon.adopt_encoder(Filters(filters, bias), aligned)
        print(encoder)
        reconstructions = nwbrecon.reconstruct(encoder, aligned)
    """
    if not isinstance(encoder, nn.Module):
        raise EncoderError(
            f"The encoder is a {type(encoder).__name__}.",
            "A torch.nn.Module was expected, which knows its device and its weights.",
            "Wrap it in one.",
        )
    train, validation = aligned.trials_in("train"), aligned.trials_in("validation")
    if not train or not validation:
        raise EncoderError(
            f"There are {len(train)} training and {len(validation)} validation trials.",
            "At least one of each is needed to calibrate an encoder.",
            "Align the session so that some clips are for validation.",
        )
    encoder.eval().requires_grad_(False)
    validate_encoder(
        encoder,  # type: ignore[arg-type]
        n_rois=aligned.n_rois,
        frame_size=(aligned.frame_size[0], aligned.frame_size[1]),
        n_variables=len(aligned.behavior_names),
        signed=all(group.kind is SignalKind.DFF for group in aligned.groups),
    )
    scores, positions = guided(aligned, train)
    clips = {split: sorted(set(aligned.trials.loc[aligned.trials_in(split), "clip"])) for split in _SPLITS}
    ensemble = EncoderEnsemble(
        [_Adopted(encoder, aligned, positions)],  # type: ignore[list-item]
        rois=aligned.rois,
        kinds=[group.kind for group in aligned.groups],
        dispersion=np.ones(aligned.n_rois),
        linear_scores=scores,
        validation_scores=np.zeros(aligned.n_rois),
        gate={},
        history=pd.DataFrame(),
        info={
            "version": __version__,
            "adopted": type(encoder).__name__,
            "training": {"likelihood": likelihood},
            "session": aligned.identity,
            "alignment": dict(aligned.settings),
            "clips": clips,
        },
        likelihoods=fit_likelihoods(aligned, train, likelihood),
    )
    return calibrate(ensemble, aligned)


def calibrate(ensemble: EncoderEnsemble, aligned: AlignedSession) -> EncoderEnsemble:
    """Estimate on validation clips how well an encoder predicts, its noise, and whether it sees; gives itself."""
    validation = aligned.trials_in("validation")
    ensemble.validation_scores = single_trial_correlation(ensemble, aligned, validation)
    ensemble.dispersion = dispersion(ensemble, aligned, validation, ensemble.likelihoods)
    ensemble.noise = fit_noise(ensemble, aligned, validation, ensemble.likelihoods)
    ensemble.shared_gain = fit_shared_gain(ensemble, aligned, validation, ensemble.likelihoods, ensemble.dispersion)
    ensemble.gate = gate(ensemble, aligned, validation, ensemble.linear_scores).as_dict()
    return ensemble


class _Adopted(nn.Module):
    """An encoder made elsewhere, with what the members of an ensemble say of themselves."""

    settings = None
    plane_delays = None

    def __init__(self, encoder: nn.Module, aligned: AlignedSession, positions: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        # a parameter, so that where it is says where the encoder is, even if that has none
        self.positions = nn.Parameter(positions, requires_grad=False)
        self.n_rois, self.frame_rate = aligned.n_rois, aligned.frame_rate
        self.frame_size = (aligned.frame_size[0], aligned.frame_size[1])
        self.behavior_names = tuple(aligned.behavior_names)

    @property
    def warm_up(self) -> int:
        """Frames at the start of a video for which the prediction lacks its past."""
        return int(self.encoder.warm_up)  # type: ignore[arg-type]

    @property
    def look_ahead(self) -> int:
        """Frames at the end of a video for which the prediction lacks its future."""
        return int(getattr(self.encoder, "look_ahead", 0))

    @property
    def least_frames(self) -> int:
        """Frames of the shortest video that can be predicted."""
        return int(getattr(self.encoder, "least_frames", 1))

    def predict_rates(self, video: Tensor, behavior: Tensor) -> Tensor:
        """Rates ``(batch, roi, time)``; see `nwbrecon.encoding.encoder.Encoder`."""
        rates: Tensor = self.encoder.predict_rates(video, behavior)  # type: ignore[operator]
        return rates

    def freeze(self) -> Any:
        """Be done with learning; gives itself."""
        return self.eval().requires_grad_(False)
