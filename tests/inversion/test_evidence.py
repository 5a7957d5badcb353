from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from linear import covariance, white_noise
from small import FRAME_SIZE

from nwbrecon.alignment import AlignedGroup, AlignedSession
from nwbrecon.config import DwiseNeuroSettings, EncoderSettings
from nwbrecon.encoding import EncoderEnsemble, VideoEncoder
from nwbrecon.encoding.architectures import make_encoder
from nwbrecon.inversion.evidence import Margins, gather_evidence
from nwbrecon.inversion.information import fisher_information
from nwbrecon.inversion.objective import Objective
from nwbrecon.inversion.priors import MoviePrior
from nwbrecon.session import SignalKind


def long_session(seed=0, seconds=6.0):
    """A long clip with gaze, seen by three planes of their own clocks and kinds, with gaps in responses and frames."""
    rng = np.random.default_rng(seed)
    n_frames = round(30 * seconds)
    groups = []
    for index, (interval, kind) in enumerate(((0.137, "EVENTS"), (0.061, "DFF"), (1 / 30, "EVENTS"))):
        clock = np.arange(0.01 * index, seconds + 4, interval)
        clock = np.delete(clock, [40, 41, 42, 43])
        activity = rng.gamma(1, 1, (len(clock), 3)).astype(np.float32)
        activity[rng.random(activity.shape) < 0.05] = np.nan
        rois = pd.DataFrame(index=range(3))
        groups.append(AlignedGroup(f"plane {index}", SignalKind[kind], clock, activity, np.ones(3), rois))
    aligned = AlignedSession.from_arrays(
        [rng.uniform(0, 255, (n_frames, 8, 10))],
        groups,
        onsets=[1.503],
        clips=["clip"],
        splits=["test"],
        frame_rate=30.0,
        behaviors=[rng.normal(size=(n_frames, 3))],
        behavior_names=["running_speed", "gaze_x", "gaze_y"],
    )
    aligned.valid[70:75] = False
    return aligned


def random_encoder(aligned, seed=0, memory_seconds=0.25, **settings):
    """An encoder of the session whose every part matters, in double precision."""
    encoder = VideoEncoder(
        EncoderSettings(channels=4, kernel_size=3, memory_seconds=memory_seconds, temporal_stride=3, **settings),
        n_rois=aligned.n_rois,
        frame_size=aligned.frame_size,
        frame_rate=30.0,
        behavior_names=aligned.behavior_names,
        groups=tuple(group.n_rois for group in aligned.groups),
        seed=seed,
    )
    if encoder.delays is not None:
        encoder.delays.start(torch.tensor([0.11, -0.08, 0.02, 0.05])[: len(aligned.groups)])
    generator = torch.Generator().manual_seed(seed)
    for part in (encoder.readout, encoder.shifter, encoder.gain):
        for parameter in part.parameters():
            torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    return ensemble_of(encoder, aligned)


def random_dwiseneuro(aligned):
    """A DwiseNeuro of the session, in double precision."""
    settings = DwiseNeuroSettings(
        core_features=(4,), spatial_strides=(2,), se_reduce_ratio=4, cortex_features=(8,), canvas=None
    )
    encoder = make_encoder(
        settings,
        n_rois=aligned.n_rois,
        frame_size=aligned.frame_size,
        frame_rate=30.0,
        behavior_names=aligned.behavior_names,
    )
    return ensemble_of(encoder, aligned)


def ensemble_of(encoder, aligned):
    return EncoderEnsemble(
        [encoder.double()],
        rois=aligned.rois,
        kinds=[group.kind for group in aligned.groups],
        dispersion=np.linspace(0.5, 2, aligned.n_rois),
        linear_scores=np.ones(aligned.n_rois),
        validation_scores=np.ones(aligned.n_rois),
        gate={},
        history=pd.DataFrame(),
        info={"training": {"likelihood": "auto"}},
    )


def in_double(evidence):
    """What was measured, in double precision."""

    def double(seen):
        return replace(seen, weights=seen.weights.double(), measured=seen.measured.double(), known=seen.known.double())

    return [
        replace(witness, behavior=witness.behavior.double(), observations=[double(one) for one in witness.observations])
        for witness in evidence
    ]


@pytest.mark.parametrize(
    ("stretch_seconds", "settings"),
    [(1.0, {}), (1.7, {}), (2.9, {}), (1.7, {"plane_delay": True}), (1.0, {"causal": False})],
)
def test_stretch_by_stretch_a_long_clip_gives_the_same(stretch_seconds, settings):
    sessions = [long_session(seed) for seed in range(2)]
    encoders = [random_encoder(aligned, seed, 0.15 + 0.1 * seed, **settings) for seed, aligned in enumerate(sessions)]
    # the longest warm-up of all, and a tail
    margins = Margins(*(max(values) for values in zip(*((e.warm_up, 9 + e.look_ahead) for e in encoders), strict=True)))
    assert (margins.tail > 9) == bool(settings)
    shape = (margins.around(180), 8, 10)
    prior = MoviePrior(covariance(shape), shape, 110.0)

    def gathered(seconds):
        return [
            witness
            for encoder, aligned in zip(encoders, sessions, strict=True)
            for witness in in_double(gather_evidence(encoder, aligned, 0, margins, stretch_seconds=seconds))
        ]

    whole, parts = gathered(np.inf), gathered(stretch_seconds)
    assert len(whole) == 2
    # steps of the encoder round their number
    assert abs(len(parts) - 2 * shape[0] / 30 / stretch_seconds) < 2
    longest = max(witness.behavior.shape[1] for witness in parts)
    assert longest < 30 * stretch_seconds + 45
    chosen = torch.tensor([1.0, 0, 1, 1, 1, 0, 1, 1, 0])
    white = white_noise(prior)
    expected = Objective(whole, prior, chosen=[chosen] * len(whole))(white)
    found = Objective(parts, prior, chosen=[chosen] * len(parts))(white)
    assert found.value == pytest.approx(expected.value, rel=1e-9)
    assert found.parts == pytest.approx(expected.parts, rel=1e-9)
    torch.testing.assert_close(found.gradient, expected.gradient, rtol=1e-7, atol=1e-9)
    # every sample is in one stretch
    for complete in whole:
        for group, seen in enumerate(complete.observations):
            known = [part.observations[group].known.sum((0, 1)) for part in parts if part.encoder is complete.encoder]
            torch.testing.assert_close(torch.stack(known).sum(dim=0), seen.known.sum((0, 1)))


# the last stretch of 2 s would have but 21 frames
@pytest.mark.parametrize("stretch_seconds", [1.0, 2.0])
def test_stretches_are_whole_windows_of_a_dwiseneuro(stretch_seconds):
    aligned = long_session(seconds=6.8)
    encoder = random_dwiseneuro(aligned)
    margins = Margins(0, 9)
    shape = (margins.around(204), 8, 10)
    prior = MoviePrior(covariance(shape), shape, 110.0)
    whole, parts = (
        in_double(gather_evidence(encoder, aligned, 0, margins, stretch_seconds=seconds))
        for seconds in (np.inf, stretch_seconds)
    )
    assert len(whole) == 1 < len(parts)
    white = white_noise(prior)
    expected, found = (Objective(witnesses, prior)(white) for witnesses in (whole, parts))
    assert found.value == pytest.approx(expected.value, rel=1e-9)
    torch.testing.assert_close(found.gradient, expected.gradient, rtol=1e-7, atol=1e-9)


def test_information_is_the_same_stretch_by_stretch():
    aligned = long_session(seconds=3.0)
    encoder = random_encoder(aligned)
    margins = Margins(encoder.warm_up, 3)
    video = torch.full((1, margins.around(90), 8, 10), 127.0, dtype=torch.float64)
    whole, parts = (
        fisher_information(
            in_double(gather_evidence(encoder, aligned, 0, margins, stretch_seconds=seconds)),
            video,
            n_probes=800,
            generator=torch.Generator().manual_seed(0),
        )
        for seconds in (np.inf, 1.0)
    )
    assert parts.sum() == pytest.approx(whole.sum(), rel=0.03)
    np.testing.assert_allclose(parts.mean(axis=(1, 2)), whole.mean(axis=(1, 2)), rtol=0.15)


def test_evidence_of_a_trial_is_what_was_measured_around_it(small_mouse, small_encoder):
    aligned = small_mouse.aligned
    trial = aligned.trials_in("test")[0]
    margins = Margins(small_encoder.warm_up, 9)
    (evidence,) = gather_evidence(small_encoder, aligned, trial, margins)
    n_frames = int(aligned.trials.at[trial, "n_frames"])
    assert margins.around(n_frames) == n_frames + small_encoder.warm_up + 9
    assert evidence.behavior.shape == (1, margins.around(n_frames), 1)
    torch.testing.assert_close(
        evidence.behavior[0, margins.lead : margins.lead + n_frames],
        torch.from_numpy(aligned.trial(trial).behavior),
    )
    (withheld,) = gather_evidence(small_encoder, aligned, trial, margins, behavior=False)
    assert torch.isnan(withheld.behavior).all()
    np.testing.assert_allclose(evidence.weights, 1 / small_encoder.dispersion, rtol=1e-6)
    # samples that began before the onset depend on frames that are not known
    onset = aligned.trials.at[trial, "onset"]
    for group, seen in zip(aligned.groups, evidence.observations, strict=True):
        after = group.timestamps[(group.timestamps > onset) & (group.timestamps <= onset + (n_frames + 9) / 30 + 1e-9)]
        assert seen.known[0].any(dim=1).sum() == len(after) - 1
    # and it points to the movie that was shown
    shown = torch.full((1, margins.around(n_frames), *FRAME_SIZE), 127.0)
    gray = evidence.loss(shown)
    shown[:, margins.lead : margins.lead + n_frames] = torch.from_numpy(aligned.trial(trial).video)
    right = evidence.loss(shown)
    shown[:, margins.lead : margins.lead + n_frames] = torch.from_numpy(
        aligned.trial(aligned.trials_in("train")[0]).video
    )
    assert right < gray
    assert right < evidence.loss(shown)
