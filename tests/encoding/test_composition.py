import copy
import json

import numpy as np
import pytest
import torch
from small import make_mouse, smooth_noise

from nwbrecon.config import EncoderSettings, InversionSettings, RunSettings, TrainingSettings, load_settings
from nwbrecon.encoding import (
    Core,
    EncoderEnsemble,
    FactorizedCore,
    MaskReadout,
    VideoEncoder,
    receptive_fields,
    train,
)
from nwbrecon.encoding.observation import Window, window_video
from nwbrecon.errors import EncoderError, SettingsError
from nwbrecon.inversion import reconstruct

COMPOSITIONS = [("quadrature", "factorized"), ("factorized", "gaussian"), ("factorized", "factorized")]


@pytest.fixture(scope="module")
def mouse():
    return make_mouse(
        train=20, validation=3, test=1, seconds=4.0, n_rois=24, noise=0.1, types=("simple",), make_movie=smooth_noise
    )


@pytest.fixture(scope="module", params=COMPOSITIONS, ids="-".join)
def composed(request, mouse):
    core, readout = request.param
    return train(mouse.aligned, EncoderSettings(core=core, readout=readout, channels=16), TrainingSettings(epochs=2))


def test_every_composition_learns_to_see(composed, mouse):
    before, *learned = composed.history["validation_correlation"]
    # the linear fit is a start, and training goes on from there
    assert before > 0.3
    assert max(learned) > before + 0.03
    assert composed.gate["sees"]
    assert composed.dispersion.shape == (24,)
    cells = mouse.cells()
    fields = receptive_fields(composed)
    clear = composed.validation_scores > 0.4
    assert clear.sum() > 8
    error = np.hypot(fields["row"] - cells["row"], fields["column"] - cells["column"])
    assert np.median(error[clear]) < 2.5
    # how wide a field is can be told of features that the readout looks at from one place
    assert fields["size"].isna().all() == (composed.encoders[0].settings.readout == "factorized")


def test_every_composition_is_saved_and_loaded(composed, mouse, tmp_path):
    back = EncoderEnsemble.load(composed.save(tmp_path / "encoder"))
    assert back.digest() == composed.digest()
    assert back.encoders[0].settings == composed.encoders[0].settings
    shown = window_video(mouse.aligned, [Window(0, 0, 60)])
    assert torch.equal(back.predict_rates(*shown), composed.predict_rates(*shown))


def test_every_composition_can_be_inverted(composed, mouse):
    aligned = mouse.aligned
    settings = InversionSettings(iterations=2, prior_weight=1.5, uncertainty=False, device="cpu")
    trial = aligned.trials_in("test")[0]
    (item,) = reconstruct(composed, aligned, [trial], settings)
    assert item.history["objective"].iloc[-1] < item.history["objective"].iloc[0]
    true = aligned.trial(trial).video
    assert np.corrcoef(item.video.ravel(), true.ravel())[0, 1] > 0.2


def test_a_core_is_shared_and_taken_over_whatever_reads_it(mouse):
    clips = {"train": 6, "validation": 2, "test": 1, "seconds": 3.0, "make_movie": smooth_noise}
    pair = [make_mouse(n_rois=n, cell_seed=n, **clips).aligned for n in (8, 10)]
    short = TrainingSettings(epochs=1, window_seconds=1.0)
    settings = EncoderSettings(core="factorized", channels=8)
    one, other = train(pair, settings, short)
    assert one.encoders[0].core_digest() == other.encoders[0].core_digest()
    taken = train(pair[1], EncoderSettings(readout="factorized"), short, core=one)
    assert taken.encoders[0].core_digest() == one.encoders[0].core_digest()
    assert taken.encoders[0].settings == settings.model_copy(update={"readout": "factorized"})
    with pytest.raises(SettingsError, match=r"encoder.core is 'quadrature'.*'factorized'"):
        train(pair[1], EncoderSettings(core="quadrature"), short, core=one)


def test_objects_compose_what_strings_do(mouse):
    options = {"n_rois": 3, "frame_size": (20, 31), "frame_rate": 30.0}
    named = VideoEncoder(EncoderSettings(core="factorized", readout="factorized", channels=8), **options)
    core = FactorizedCore(channels=8, memory=15, kernel_size=9, stride=2, temporal_stride=2, frame_rate=30.0)
    given = VideoEncoder(EncoderSettings(), core=core, readout=MaskReadout(3, 8, (10, 16)), **options)
    assert given.core is core
    assert {name: value.shape for name, value in given.state_dict().items()} == {
        name: value.shape for name, value in named.state_dict().items()
    }
    assert torch.equal(given.core.spatial, named.core.spatial)
    assert (given.warm_up, given.pace("readout.mask")) == (named.warm_up, named.pace("readout.mask"))


class Patches(Core):
    """A core of one's own: means over patches, one frame ago and two."""

    channels, stride, temporal_stride, past, ahead = 2, 4, 1, 2, 0

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, video):
        pooled = torch.nn.functional.avg_pool3d(video, (1, 4, 4), ceil_mode=True)[:, 0]
        late = torch.nn.functional.pad(pooled, (0, 0, 0, 0, 2, 0))
        return self.scale * torch.stack([late[:, 1:-1], late[:, :-2]], dim=2), None

    def rescale(self, video):
        self.scale.div_(self(video)[0].std())


def test_an_encoder_of_modules_of_ones_own_is_trained_calibrated_and_inverted(mouse, tmp_path):
    aligned = mouse.aligned
    options = {"n_rois": 24, "frame_size": (20, 32), "frame_rate": 30.0, "behavior_names": aligned.behavior_names}
    given = VideoEncoder(EncoderSettings(), core=Patches(), readout=MaskReadout(24, 2, (5, 8)), **options)
    before = {name: value.clone() for name, value in given.state_dict().items()}
    trained = train(aligned, given, TrainingSettings(epochs=2))
    assert all(torch.equal(value, before[name]) for name, value in given.state_dict().items())
    assert isinstance(trained.encoders[0].core, Patches)
    assert not torch.equal(trained.encoders[0].core.scale, given.core.scale)
    assert trained.gate["true"] > trained.gate["gray"] + 0.05
    assert train(aligned, given, TrainingSettings(epochs=2)).digest() == trained.digest()
    settings = InversionSettings(iterations=1, prior_weight=1.5, uncertainty=False, device="cpu")
    (item,) = reconstruct(trained, aligned, aligned.trials_in("test")[:1], settings)
    assert np.isfinite(item.video).all()
    with pytest.raises(EncoderError, match="modules of one's own"):
        trained.save(tmp_path / "encoder")
    assert not (tmp_path / "encoder").exists()
    with pytest.raises(EncoderError, match="was made for ROIs 3"):
        train(aligned, VideoEncoder(EncoderSettings(), **options | {"n_rois": 3}))
    with pytest.raises(EncoderError, match="brings its core along"):
        train([aligned, aligned], given)


def test_time_stamps_that_lead_are_followed_by_an_encoder_that_looks_ahead(mouse):
    aligned = copy.deepcopy(mouse.aligned)
    for group in aligned.groups:
        group.timestamps = group.timestamps - 0.2
    training = TrainingSettings(epochs=3)
    causal, ahead = (
        train(aligned, EncoderSettings(core="quadrature", channels=16, causal=which), training)
        for which in (True, False)
    )
    assert (causal.look_ahead, ahead.look_ahead) == (0, 5)
    scores = [float(np.nanmean(encoder.validation_scores)) for encoder in (causal, ahead)]
    assert scores[1] > scores[0] + 0.1
    assert ahead.gate["sees"]
    # what comes after the clip is inferred for so much longer
    settings = InversionSettings(iterations=1, prior_weight=1.5, uncertainty=False, device="cpu")
    found = reconstruct(ahead, aligned, aligned.trials_in("test")[:1], settings)
    assert found.setup.margins.tail == 9 + 5
    assert np.isfinite(found[0].video).all()


class TestDefaults:
    """An encoder at its defaults is what it was before there was anything else."""

    def test_weights_have_the_names_and_shapes_that_saved_encoders_have(self):
        encoder = VideoEncoder(
            EncoderSettings(core="quadrature"),
            n_rois=7,
            frame_size=(36, 64),
            frame_rate=30.0,
            behavior_names=("running_speed",),
            seed=3,
        )
        assert {name: tuple(value.shape) for name, value in encoder.state_dict().items()} == {
            "video_mean": (),
            "video_std": (),
            "behavior_mean": (1,),
            "behavior_std": (1,),
            "core.temporal": (4, 15),
            "core.spatial": (48, 4, 9, 9),
            "core.normalization": (),
            "readout.position": (7, 2),
            "readout.log_spread": (7,),
            "readout.linear": (7, 48),
            "readout.energy": (7, 24),
            "readout.own_pair": (7, 2, 48),
            "readout.own_energy": (7,),
            "readout.bias": (7,),
            "softplus.log_sharpness": (7,),
            "gain.hidden.weight": (8, 1),
            "gain.hidden.bias": (8,),
            "gain.out.weight": (7, 8),
            "gain.out.bias": (7,),
        }
        # as they were drawn at first
        spatial, temporal = encoder.core.spatial.detach().double(), encoder.core.temporal.detach().double()
        assert spatial[5, 2, 3, 4] == pytest.approx(-0.0809756592, rel=1e-5)
        assert spatial.abs().sum() == pytest.approx(723.569068, rel=1e-6)
        assert temporal.sum() == pytest.approx(10.0197865, rel=1e-6)
        assert float(encoder.gain.hidden.weight.detach().double().sum()) == pytest.approx(-3.06014788, rel=1e-6)

    def test_settings_of_before_mean_what_they_meant(self):
        before = {"architecture": "quadrature", "channels": 32}
        meant = load_settings(RunSettings, encoder=before).encoder
        assert meant == EncoderSettings(core="quadrature", channels=32)
        assert EncoderSettings(**json.loads(meant.model_dump_json())) == meant
        # now it goes by the core
        assert load_settings(RunSettings, encoder={"channels": 32}).encoder == EncoderSettings(channels=32)
        assert load_settings(RunSettings, encoder="quadrature").encoder.core == "quadrature"
        assert EncoderSettings().core == "factorized"
