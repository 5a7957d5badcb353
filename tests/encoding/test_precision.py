import pytest
import torch

from nwbrecon.config import EncoderSettings, TrainingSettings
from nwbrecon.encoding import VideoEncoder
from nwbrecon.encoding.precision import Forward


@pytest.fixture
def encoder():
    encoder = VideoEncoder(
        EncoderSettings(channels=8, kernel_size=5),
        n_rois=6,
        frame_size=(18, 32),
        frame_rate=30.0,
        behavior_names=("running_speed", "gaze_x", "gaze_y"),
    )
    with torch.no_grad():
        for index, parameter in enumerate([encoder.readout.linear, encoder.readout.energy, encoder.readout.position]):
            parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(index))
    return encoder.eval()


def inputs(device="cpu"):
    random = torch.Generator().manual_seed(5)
    video = 255 * torch.rand(2, 1, 40, 18, 32, generator=random)
    return video.to(device), torch.randn(2, 40, 3, generator=random).to(device)


def rates(encoder, precision, device="cpu"):
    settings = TrainingSettings(precision=precision)
    return Forward(encoder.predict_rates, torch.device(device), settings)(*inputs(device))


def test_on_a_cpu_single_precision_is_chosen(encoder):
    expected = encoder.predict_rates(*inputs())
    for precision in ("auto", "fp32"):
        assert torch.equal(rates(encoder, precision), expected)


def test_bfloat16_is_close_and_what_comes_out_is_in_single_precision(encoder):
    exact, found = rates(encoder, "fp32"), rates(encoder, "bf16")
    assert found.dtype == torch.float32
    assert not torch.equal(found, exact)
    torch.testing.assert_close(found, exact, rtol=0.05, atol=0.02)
    # the readout is not rounded: rates take more values than bfloat16 has between them
    assert not torch.equal(found, found.bfloat16().float())


def test_gradients_of_bfloat16_reach_every_parameter_in_single_precision(encoder):
    gradients = {}
    for precision in ("fp32", "bf16"):
        encoder.zero_grad()
        torch.manual_seed(0)
        rates(encoder.train(), precision).square().mean().backward()
        gradients[precision] = {name: value.grad.clone() for name, value in encoder.named_parameters()}
    for name, value in gradients["bf16"].items():
        exact = gradients["fp32"][name]
        assert value.dtype == torch.float32
        assert (value - exact).norm() <= 0.05 * exact.norm() + 1e-6, name


@pytest.mark.gpu
def test_on_a_gpu_bfloat16_is_chosen_where_it_computes_in_it(encoder, gpu):
    exact = rates(encoder, "fp32")
    found = rates(encoder.to(gpu), "auto", gpu).cpu()
    assert torch.equal(found, rates(encoder, "fp32", gpu).cpu()) != torch.cuda.is_bf16_supported(
        including_emulation=False
    )
    torch.testing.assert_close(found, exact, rtol=0.05, atol=0.02)
