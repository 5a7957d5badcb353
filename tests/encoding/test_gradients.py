import shutil
import sysconfig
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from small import make_mouse, smooth_noise

from nwbrecon.config import EncoderSettings, TrainingSettings
from nwbrecon.encoding import VideoEncoder
from nwbrecon.encoding.batches import Batches
from nwbrecon.encoding.gradients import Gradients
from nwbrecon.encoding.parts import set_dropout
from nwbrecon.encoding.precision import Forward
from nwbrecon.encoding.processes import Processes
from nwbrecon.errors import EncoderError

CPU = torch.device("cpu")
SETTINGS = TrainingSettings(batch_windows=5, window_seconds=1.0, cutmix=0.5)


@pytest.fixture(scope="module")
def aligned():
    return make_mouse(train=5, validation=1, test=0, seconds=2.0, n_rois=8, make_movie=smooth_noise).aligned


@pytest.fixture
def encoder(aligned):
    encoder = VideoEncoder(
        EncoderSettings(channels=4, kernel_size=5),
        n_rois=8,
        frame_size=aligned.frame_size,
        frame_rate=30.0,
        behavior_names=aligned.behavior_names,
    )
    with torch.no_grad():
        encoder.readout.linear.normal_(std=0.3, generator=torch.Generator().manual_seed(0))
    set_dropout(encoder, 0.3)
    return encoder.train()


class Computed:
    """Loss and gradient of one batch."""

    def __init__(self, aligned, encoder, gradients, predict=None, seed=0):
        batches = Batches(aligned, SETTINGS, encoder.warm_up)
        batch = batches.load(batches.draw(np.random.default_rng(4)))
        torch.manual_seed(seed)
        forward = Forward(predict or encoder.predict_rates, CPU, SETTINGS)
        self.loss = float(gradients.compute(forward, encoder.parameters(), batch, batches.likelihoods))
        self.gradient = {
            name: value.grad.clone() for name, value in encoder.named_parameters() if value.grad is not None
        }
        self.next_draw = float(torch.rand(()))

    def assert_close(self, other):
        assert self.loss == pytest.approx(other.loss, rel=1e-5)
        for name, value in self.gradient.items():
            torch.testing.assert_close(value, other.gradient[name], rtol=1e-4, atol=1e-6)
        assert self.next_draw == other.next_draw


def no_room_for(predict, most, sizes):
    """As the encoder of a GPU whose memory holds no more than `most` stretches."""

    def with_little_memory(video, behavior):
        sizes.append(len(video))
        rates = predict(video, behavior)
        if len(video) > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return rates

    return with_little_memory


def test_the_gradient_is_that_of_the_mean_over_known_samples(aligned, encoder):
    found = Computed(aligned, encoder, Gradients(CPU, Processes()))
    batches = Batches(aligned, SETTINGS, encoder.warm_up)
    batch = batches.load(batches.draw(np.random.default_rng(4)))
    torch.manual_seed(0)
    loss = batch.loss(encoder.predict_rates(batch.video, batch.behavior), batches.likelihoods) / batch.n_known
    encoder.zero_grad()
    loss.backward()
    assert found.loss == pytest.approx(float(loss.detach()), rel=1e-6)
    for name, value in encoder.named_parameters():
        torch.testing.assert_close(found.gradient[name], value.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("most", "tried"), [(4, [5, 3, 2]), (2, [5, 3, 2, 2, 1]), (1, [5, 3, 2, 1, 1, 1, 1, 1])])
def test_where_memory_runs_out_smaller_parts_give_the_same_gradient(aligned, encoder, most, tried):
    whole = Computed(aligned, encoder, Gradients(CPU, Processes()))
    sizes, gradients = [], Gradients(CPU, Processes())
    predict = no_room_for(encoder.predict_rates, most, sizes)
    with pytest.warns(UserWarning, match=r"Memory ran out with \d stretches of video at a time; from now on") as said:
        Computed(aligned, encoder, gradients, predict).assert_close(whole)
    assert [str(one.message).split()[4] for one in said] == [str(size) for size in tried if size > most]
    assert sizes == tried
    # it is remembered
    sizes.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Computed(aligned, encoder, gradients, predict).assert_close(whole)
    assert max(sizes) <= most


def test_memory_that_runs_out_in_a_later_part_leaves_nothing_of_the_earlier(aligned, encoder):
    whole = Computed(aligned, encoder, Gradients(CPU, Processes()))
    calls = []

    def second_fails(video, behavior):
        calls.append(len(video))
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return encoder.predict_rates(video, behavior)

    gradients = Gradients(CPU, Processes())
    gradients.most = 4
    with pytest.warns(UserWarning, match="with 4 stretches"):
        Computed(aligned, encoder, gradients, second_fails).assert_close(whole)
    assert calls == [4, 1, 2, 2, 1]


def test_memory_that_does_not_hold_a_single_stretch_ends_training(aligned, encoder):
    predict = no_room_for(encoder.predict_rates, 0, [])
    with (
        pytest.warns(UserWarning, match="Memory ran out"),
        pytest.raises(EncoderError, match=r"with a single stretch of video\. Shorten training\.window_seconds"),
    ):
        Computed(aligned, encoder, Gradients(CPU, Processes()), predict)


def test_other_errors_come_through(aligned, encoder):
    def broken(video, behavior):
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        Computed(aligned, encoder, Gradients(CPU, Processes()), broken)


def test_who_predicts_as_the_teacher_does_has_nothing_to_learn_from_it(aligned, encoder):
    set_dropout(encoder, 0.0)
    encoder.eval()
    by_weight = {
        weight: Computed(aligned, encoder, Gradients(CPU, Processes(), teacher=encoder, teacher_weight=weight))
        for weight in (0.0, 0.5, 1.0)
    }
    plain = Computed(aligned, encoder, Gradients(CPU, Processes()))
    size = {weight: found.gradient["readout.linear"].norm() for weight, found in by_weight.items()}
    by_weight[0.0].assert_close(plain)
    assert size[1.0] < 1e-3 * size[0.0]
    torch.testing.assert_close(
        by_weight[0.5].gradient["readout.linear"], plain.gradient["readout.linear"] / 2, rtol=1e-2, atol=1e-5
    )


@pytest.fixture
def _own_kernels(tmp_path, monkeypatch):
    """Nothing is compiled that was compiled before, and nothing stays behind."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.compiler.reset()


has_compiler = bool(shutil.which("g++")) and (Path(sysconfig.get_paths()["include"]) / "Python.h").exists()


@pytest.mark.slow
@pytest.mark.skipif(not has_compiler, reason="needs g++ and the headers of Python")
@pytest.mark.usefixtures("_own_kernels")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_encoder_gives_the_same_gradient(aligned, encoder):
    plain = Computed(aligned, encoder, Gradients(CPU, Processes()))
    batches = Batches(aligned, SETTINGS, encoder.warm_up)
    forward = Forward(encoder.predict_rates, CPU, SETTINGS.model_copy(update={"compile": True}))
    torch.manual_seed(0)
    batch = batches.load(batches.draw(np.random.default_rng(4)))
    loss = Gradients(CPU, Processes()).compute(forward, encoder.parameters(), batch, batches.likelihoods)
    assert forward.compiled
    assert float(loss) == pytest.approx(plain.loss, rel=1e-5)
    for name, value in encoder.named_parameters():
        torch.testing.assert_close(value.grad, plain.gradient[name], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("_own_kernels")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:dynamo_pgo force disabled")
def test_an_encoder_that_cannot_be_compiled_is_trained_as_it_is(aligned, encoder):
    import torch._inductor.config

    plain = Computed(aligned, encoder, Gradients(CPU, Processes()))
    batches = Batches(aligned, SETTINGS, encoder.warm_up)
    forward = Forward(encoder.predict_rates, CPU, SETTINGS.model_copy(update={"compile": True}))
    torch.manual_seed(0)
    batch = batches.load(batches.draw(np.random.default_rng(4)))
    with (
        torch._inductor.config.patch({"cpp.cxx": ("/there/is/no/compiler",), "force_disable_caches": True}),
        pytest.warns(UserWarning, match="could not be compiled and is trained as it is: .*"),
    ):
        loss = Gradients(CPU, Processes()).compute(forward, encoder.parameters(), batch, batches.likelihoods)
    assert not forward.compiled
    assert float(loss) == plain.loss
    for name, value in encoder.named_parameters():
        assert torch.equal(value.grad, plain.gradient[name]), name
