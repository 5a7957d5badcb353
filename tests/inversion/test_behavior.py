from dataclasses import replace

import numpy as np
import pytest
import torch
from linear import MEAN, SHAPE, LinearEncoder, design, movie_prior, pixel_covariance, responses_to, sample_video

from nwbrecon.alignment import AlignedSession
from nwbrecon.config import DwiseNeuroSettings, EncoderSettings, InversionSettings
from nwbrecon.encoding import VideoEncoder
from nwbrecon.encoding.dwiseneuro.training import TrainableDwiseNeuro
from nwbrecon.encoding.likelihoods import Poisson
from nwbrecon.encoding.observation import Observation
from nwbrecon.errors import SettingsError
from nwbrecon.inversion import reconstruct
from nwbrecon.inversion.behavior import BehaviorModel, BehaviorPrior
from nwbrecon.inversion.evidence import Evidence, Margins
from nwbrecon.inversion.metric import behavior_sensitivity
from nwbrecon.inversion.objective import Objective
from nwbrecon.inversion.reconstructor import Reconstructor
from nwbrecon.inversion.selection import Candidates, Judged
from nwbrecon.inversion.settling import make_setup
from nwbrecon.inversion.setup import Setup, gather, invert
from nwbrecon.metrics import dynamic_correlation
from nwbrecon.session import SignalKind

RANDOM = np.random.default_rng(0)


def model(variables=2, longest=30, slowness=8.0, sensitivity=None):
    """Variables that go together, each component slower than the one before."""
    lags = np.arange(longest + 1)[:, None]
    mixing = np.array([[2.0, 0.5], [-1.0, 3.0]])[:variables, :variables]
    correlation = np.exp(-lags / (slowness * np.arange(1, variables + 1)))
    sensitivity = np.zeros((1, variables)) if sensitivity is None else sensitivity
    return BehaviorModel(np.array([5.0, -3.0])[:variables], mixing, correlation, sensitivity)


def matrix_of(prior):
    """``(frame x variable, coordinate)``: what each white coordinate adds to the behavior."""
    size = int(np.prod(prior.shape))
    columns = torch.eye(size, dtype=torch.float64).view(size, *prior.shape[1:])
    return (prior.values(columns) - prior.mean).flatten(1).T.numpy()


def test_the_prior_has_the_covariance_that_was_measured_and_does_not_wrap():
    known = model()
    prior = BehaviorPrior(known, 40)
    matrix = matrix_of(prior)
    found = (matrix @ matrix.T).reshape(40, 2, 40, 2)
    for first, second in ((0, 0), (0, 6), (10, 30), (3, 24)):
        expected = known.mixing @ np.diag(known.correlation[second - first]) @ known.mixing.T
        np.testing.assert_allclose(found[first, :, second], expected, atol=0.15)
    # ends are as far apart as they are, beyond what is known
    last = known.mixing @ np.diag(known.correlation[-1]) @ known.mixing.T
    np.testing.assert_allclose(found[0, :, -1], last, atol=0.15)
    assert prior.values(torch.zeros(prior.shape)).numpy()[0] == pytest.approx(np.tile(known.mean, (40, 1)))


def behaving(behaviors, names=("running_speed", "pupil_size")):
    """A session in which nothing but behavior matters."""
    onsets = np.cumsum([1.0, *(len(one) / 30 + 1 for one in behaviors[:-1])])
    return AlignedSession.from_arrays(
        [np.zeros((len(one), 2, 2), np.float32) for one in behaviors],
        [],
        onsets=onsets.tolist(),
        clips=[str(n) for n in range(len(behaviors))],
        splits=["train"] * len(behaviors),
        frame_rate=30.0,
        behaviors=behaviors,
        behavior_names=list(names)[: behaviors[0].shape[1]],
    )


def test_what_was_measured_is_what_the_trials_were_drawn_from():
    # of which the principal components are sum and difference
    known = replace(model(), mixing=np.array([[2.0, 1.0], [2.0, -1.0]]))
    prior = BehaviorPrior(known, 400)
    generator = torch.Generator().manual_seed(1)
    drawn = [prior.values(torch.randn(prior.shape, generator=generator))[0].numpy() for _ in range(60)]
    for one in drawn[::2]:
        # a gap in one variable
        one[100:130, 1] = np.nan
    found = BehaviorModel.measure(behaving(drawn), list(range(60)), 30)
    np.testing.assert_allclose(found.mean, known.mean, atol=0.3)
    for lag in (0, 5, 20):
        covariances = [one.mixing @ np.diag(one.correlation[lag]) @ one.mixing.T for one in (found, known)]
        np.testing.assert_allclose(*covariances, atol=0.5)


def test_what_was_never_recorded_stays_missing():
    trace = RANDOM.normal(size=(50, 2))
    trace[:, 1] = np.nan
    found = BehaviorModel.measure(behaving([trace]), [0], 10)
    prior = found.prior(20)
    behavior = prior.values(torch.randn(prior.shape))
    assert behavior[..., 0].isfinite().all()
    assert behavior[..., 1].isnan().all()
    trace[:] = np.nan
    assert BehaviorModel.measure(behaving([trace]), [0], 10).prior(20) is None
    assert BehaviorModel.measure(behaving([trace[:, :0]]), [0], 10).prior(20) is None
    # one that never changed is known
    still = BehaviorModel.measure(behaving([np.full((50, 1), 7.0)]), [0], 10).prior(20)
    np.testing.assert_allclose(still.values(torch.randn(still.shape)), 7.0)


class Driven:
    """A linear encoder to whose rates behavior adds."""

    warm_up = 0

    def __init__(self, encoder, weights):
        self.encoder, self.weights = encoder, weights

    @property
    def now(self):
        return self.encoder.now

    def predict_rates(self, video, behavior):
        behavior = behavior.nan_to_num()
        return self.encoder.predict_rates(video, behavior) + torch.einsum("btv,nv->bnt", behavior, self.weights)


def driven_by(behavior, video, prior, seed=0, n_rois=8):
    weights = torch.randn(n_rois, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    encoder = Driven(LinearEncoder.random(n_rois, seed=seed), weights)
    plain = responses_to(encoder.encoder, video, noise=1.0, seed=seed)
    driven = torch.einsum("btv,nv->bnt", behavior, weights)
    observations = [
        replace(seen, measured=seen.measured + seen.expected(driven) * seen.known) for seen in plain.observations
    ]
    told = prior.values(torch.zeros(prior.shape, dtype=torch.float64))
    return replace(plain, encoder=encoder, observations=observations, behavior=told, sought=prior)


def drawn(prior, seed):
    return prior.values(torch.randn(prior.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def behavior_design(evidence):
    """``(measurement, frame x variable)``: what behavior adds to each known sample."""
    columns = []
    for frame, variable in np.ndindex(SHAPE[0], 2):
        behavior = torch.zeros(1, SHAPE[0], 2, dtype=torch.float64)
        behavior[0, frame, variable] = 1
        rates = torch.einsum("btv,nv->bnt", behavior, evidence.encoder.weights)
        columns.append(torch.cat([seen.expected(rates).flatten() for seen in evidence.observations]))
    return torch.stack(columns, dim=1).numpy()


def test_in_a_linear_gaussian_world_movie_and_behavior_are_those_of_the_joint_posterior():
    video = sample_video()
    priors = [BehaviorPrior(model(slowness=2.0), SHAPE[0], weight=0.5) for _ in range(2)]
    truth = [drawn(prior, seed) for seed, prior in enumerate(priors)]
    witnesses = [
        driven_by(behavior, video, prior, seed)
        for seed, (behavior, prior) in enumerate(zip(truth, priors, strict=True))
    ]
    prior = movie_prior()
    fit = Reconstructor(
        witnesses, prior, Margins(0, 0), start=torch.zeros(1, *prior.coordinates, dtype=torch.float64), prior_weight=0.7
    )
    fit.run(300, tolerance=1e-10)

    pixels, frames = int(np.prod(SHAPE)), 2 * SHAPE[0]
    covariance = np.zeros((pixels + 2 * frames,) * 2)
    covariance[:pixels, :pixels] = pixel_covariance() / 0.7
    rows, measured = [], []
    for index, witness in enumerate(witnesses):
        blind = replace(witness, encoder=witness.encoder.encoder)
        of_video, values, _ = design(blind)
        place = pixels + index * frames
        row = np.zeros((len(of_video), len(covariance)))
        row[:, :pixels], row[:, place : place + frames] = of_video, behavior_design(witness)
        matrix = matrix_of(priors[index])
        covariance[place : place + frames, place : place + frames] = matrix @ matrix.T / 0.5
        rows.append(row)
        measured.append(values)
    row, values = np.concatenate(rows), np.concatenate(measured)
    center = np.concatenate([np.full(pixels, MEAN), *(np.tile(one.mean.numpy(), SHAPE[0]) for one in priors)])
    gain = covariance @ row.T @ np.linalg.inv(row @ covariance @ row.T + np.eye(len(values)))
    expected = center + gain @ (values - row @ center)
    np.testing.assert_allclose(fit.video, expected[:pixels].reshape(SHAPE).clip(0, 255), atol=0.5)
    # each trial has its own, near what it was, and the witnesses say so
    told = np.stack([witness.behavior[0].numpy() for witness in fit.evidence])
    np.testing.assert_allclose(told, expected[pixels:].reshape(2, SHAPE[0], 2), atol=0.05)
    assert np.abs(told[0] - told[1]).mean() > 0.5
    for found, behavior in zip(told, truth, strict=True):
        assert np.abs(found - behavior[0].numpy()).mean() < np.abs(behavior[0].numpy() - model().mean).mean()
    # of two sessions, the first one's is given
    np.testing.assert_allclose(fit.behavior, told[:1], rtol=1e-5)


@pytest.mark.parametrize("kind", ["quadrature", "dwiseneuro"])
def test_the_gradient_is_that_of_finite_differences(kind):
    names, frames, size = ("running_speed", "pupil_size", "gaze_x", "gaze_y"), 8, (6, 8)
    common = {"n_rois": 4, "frame_size": size, "frame_rate": 30.0, "behavior_names": names}
    if kind == "quadrature":
        settings = EncoderSettings(channels=4, kernel_size=3, memory_seconds=0.1, stride=1)
        encoder = VideoEncoder(settings, **common)
        for index, parameter in enumerate(
            (
                encoder.readout.linear,
                encoder.readout.energy,
                encoder.readout.bias,
                encoder.shifter.shift.weight,
                encoder.gain.out.weight,
            )
        ):
            torch.nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(index))
        torch.nn.init.normal_(encoder.shifter.shift.weight, std=0.1, generator=torch.Generator().manual_seed(9))
    else:
        frames = 32
        sizes = {"core_features": (4,), "spatial_strides": (2,), "cortex_features": (8,), "canvas": (6, 8)}
        encoder = TrainableDwiseNeuro(DwiseNeuroSettings(every_position=False, **sizes), **common)
    encoder = encoder.double()
    encoder.freeze()
    generator = torch.Generator().manual_seed(0)
    mixing = np.linalg.cholesky(0.5 * np.eye(4) + 0.5)
    known = BehaviorModel(np.zeros(4), mixing, np.exp(-np.arange(10)[:, None] / 4) * np.ones(4), np.zeros((1, 4)))
    first, second = known.prior(frames), known.prior(frames)
    movie = movie_prior((frames, *size))

    def witness(sought, part):
        length = len(range(frames)[part])
        seen = Observation(
            slice(0, 4),
            torch.rand(1, 3, length, generator=generator, dtype=torch.float64),
            torch.rand(1, 3, 4, generator=generator, dtype=torch.float64),
            (torch.rand(1, 3, 4, generator=generator) > 0.2).double(),
            SignalKind.EVENTS,
        )
        return Evidence(
            encoder,
            [Poisson()],
            [seen],
            torch.full((1, length, 4), torch.nan),
            torch.ones(4).double(),
            part,
            sought=sought,
        )

    # two stretches of one trial, that overlap, and another trial
    stretches = [slice(0, frames)] if kind == "dwiseneuro" else [slice(0, 5), slice(3, 8)]
    evidence = [*(witness(first, part) for part in stretches), witness(second, slice(0, frames))]
    objective = Objective(evidence, movie, prior_weight=0.7)
    assert objective.unknowns == [first, second]
    white = torch.randn(1, *movie.coordinates, generator=generator, dtype=torch.float64)
    point = objective.point([white, *(torch.randn(one.shape, generator=generator).double() for one in (first, second))])
    evaluation = objective(point)
    hidden = torch.arange(len(point)) >= white.numel()
    for seed in range(2):
        direction = torch.randn(len(point), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        for part in (direction, direction * hidden):
            # smaller than the distance to where the interpolation of a shifted picture has its kinks
            step = 1e-6
            forth, back = (objective(point + sign * step * part).value for sign in (1, -1))
            slope = float((evaluation.gradient * part).sum())
            assert (forth - back) / (2 * step) == pytest.approx(slope, rel=1e-3, abs=1e-4)
    assert float(evaluation.gradient[hidden].norm()) > 0


def test_the_metric_is_the_inverse_of_the_hessian_of_behavior_that_does_not_change():
    # white noise as behavior, information of every frame by itself: a diagonal Hessian
    white = BehaviorModel(np.zeros(1), np.ones((1, 1)), np.eye(20)[:, :1], np.array([[3.0]]))
    prior = BehaviorPrior(white, 30, weight=2.0)
    gradient = torch.randn(prior.shape, generator=torch.Generator().manual_seed(0))
    share = 30 / prior.torus
    np.testing.assert_allclose(prior.metric(gradient), gradient / (2 + 3.0 * share), rtol=1e-4)


INFERRED = InversionSettings(prior_weight=1.0, iterations=6, uncertainty=False, device="cpu", behavior="inferred")


@pytest.fixture(scope="module")
def settled(small_mouse, small_encoder):
    aligned = small_mouse.aligned
    showings = [((trial,),) for trial in aligned.trials_in("test")]
    return make_setup([(small_encoder, aligned)], showings, INFERRED, "map")


def test_running_is_found_from_responses_alone(settled, small_mouse, small_encoder):
    aligned = small_mouse.aligned
    recordings = [(small_encoder, aligned)]
    trials = aligned.trials_in("test")
    found, scores = [], {"inferred": [], "withheld": []}
    for trial in trials:
        for behavior, kept in scores.items():
            made = invert(settled, recordings, ((trial,),), INFERRED.model_copy(update={"behavior": behavior}))
            kept.append(dynamic_correlation(made.fit.video, aligned.trial(trial).video, settled.mask))
            if behavior == "inferred":
                found.append(made.fit.behavior[0, :, 0])
                np.testing.assert_allclose(
                    made.evidence[0].behavior[0, settled.margins.lead :, 0][: len(found[-1])], found[-1], rtol=1e-5
                )
                assert made.information(0).shape == made.fit.video.shape
            else:
                assert made.fit.behavior is None
    run = np.concatenate([aligned.trial(trial).behavior[:, 0] for trial in trials])
    assert np.corrcoef(np.concatenate(found), run)[0, 1] > 0.3
    assert np.mean(scores["inferred"]) > np.mean(scores["withheld"]) - 0.02


def test_each_showing_has_its_own_behavior_and_stretches_share_theirs(settled, small_mouse, small_encoder):
    aligned = small_mouse.aligned
    trials = tuple(aligned.trials_in("test")[:2])
    long = INFERRED.model_copy(update={"stretch_seconds": 1.5})
    witnesses = gather([(small_encoder, aligned)], (trials,), settled.margins, long, settled.behaving)
    assert len(witnesses) > 4
    assert len({id(witness.sought) for witness in witnesses}) == 2
    whole, parts = (invert(settled, [(small_encoder, aligned)], (trials,), settings) for settings in (INFERRED, long))
    assert whole.fit.behavior.shape == (2, len(aligned.trial(trials[0]).video), 1)
    np.testing.assert_allclose(parts.fit.behavior, whole.fit.behavior, atol=0.05)
    assert parts.outcome.value == pytest.approx(whole.outcome.value, rel=1e-4)


def test_it_goes_with_whitened_noise_and_held_out_rois(settled, small_mouse, small_encoder):
    aligned = small_mouse.aligned
    recordings, showing = [(small_encoder, aligned)], ((aligned.trials_in("test")[0],),)
    plain, whitened = (
        invert(settled, recordings, showing, INFERRED.model_copy(update={"noise": noise}))
        for noise in ("dispersion", "shared")
    )
    assert whitened.outcome.n_iterations > plain.outcome.n_iterations
    # what the search for behavior had found is where the second begins
    change = np.abs(whitened.fit.behavior - plain.fit.behavior).mean()
    assert 0 < change < np.abs(plain.fit.behavior - settled.behaving[0].mean).mean()
    evidence = gather(recordings, showing, settled.margins, INFERRED, settled.behaving)
    held_out = np.arange(aligned.n_rois) % 5 == 0
    prior = settled.prior_for("movie", plain.decoded, evidence[0].behavior.device)
    clip = Judged(evidence, lambda kind: prior, [held_out], settled.sensitivity_to(showing))
    (_, fit), *_ = Candidates(("movie",), (1.0,), 4, 0.0).fits(
        evidence, clip.prior_for, settled.margins, chosen=clip.fitted, sensitivity=clip.sensitivity
    )
    with torch.no_grad():
        video = fit.prior.video(fit.white)
    # what the other ROIs say of behavior helps to predict those that were held out
    assert clip.judge(video, fit.evidence) < clip.judge(video)


def test_the_model_of_behavior_is_kept(settled, tmp_path):
    settled.write(tmp_path)
    (back,) = Setup.read(tmp_path).behaving
    for name, values in settled.behaving[0].arrays().items():
        np.testing.assert_array_equal(getattr(back, name), values)


def test_the_population_is_sensitive_to_what_changes_its_gain(small_mouse, small_encoder):
    aligned = small_mouse.aligned
    trials = aligned.trials_in("train")[:2]
    one, double = (behavior_sensitivity(small_encoder, aligned, trials, np.full((1, 1), size)) for size in (1.0, 2.0))
    assert one[0, 0] > 0
    np.testing.assert_allclose(double, 4 * one, rtol=1e-4)


def test_it_is_given_with_the_movie_and_kept(small_mouse, small_encoder, tmp_path):
    aligned = small_mouse.aligned
    trials = aligned.trials_in("test")[:1]
    made = reconstruct(small_encoder, aligned, trials, INFERRED, state=tmp_path)
    assert made.info["behavior"] == "inferred"
    assert made[0].behavior.shape == (1, len(made[0].video), 1)
    again = reconstruct(small_encoder, aligned, trials, INFERRED, state=tmp_path)
    np.testing.assert_array_equal(again[0].behavior, made[0].behavior)
    with pytest.raises(SettingsError, match="is told the behavior"):
        reconstruct(small_encoder, aligned, trials, INFERRED.model_copy(update={"preset": "bauer2026"}))


def test_the_behavior_that_is_given_is_never_of_another_session():
    video, unknown = sample_video(), BehaviorPrior(model(), SHAPE[0])
    second = driven_by(drawn(unknown, 0), video, unknown, 1)
    # the first session's behavior was never recorded, and so is not sought
    first = replace(driven_by(drawn(unknown, 0), video, unknown, 0), sought=None)
    prior = movie_prior()
    fit = Reconstructor(
        [first, second], prior, Margins(0, 0), start=torch.zeros(1, *prior.coordinates, dtype=torch.float64)
    )
    fit.run(2)
    assert fit.behavior is None
    assert Reconstructor([second, first], prior, Margins(0, 0), start=fit.point).behavior.shape == (1, SHAPE[0], 2)


def test_a_recording_without_behavior_has_none_to_be_sought(small_mouse, small_encoder):
    nothing = behavior_sensitivity(small_encoder, small_mouse.aligned, [0], np.zeros((0, 0)))
    assert nothing.shape[1] == 0
