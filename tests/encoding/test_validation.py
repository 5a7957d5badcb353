import pytest
import torch
from torch import nn

from nwbrecon.encoding import validate_encoder
from nwbrecon.encoding.validation import validate_once
from nwbrecon.errors import EncoderError

KNOWN = {"n_rois": 3, "frame_size": (4, 5), "n_variables": 2}


class Sound(nn.Module):
    """An encoder without fault: each ROI adds up the screen, and behavior."""

    warm_up = 1

    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.linspace(0.1, 1, 3)[:, None], requires_grad=False)

    def predict_rates(self, video, behavior):
        drive = video.mean(dim=(1, 3, 4))[:, None] / 255 + behavior.nan_to_num().sum(dim=2)[:, None]
        return nn.functional.softplus(self.weights * drive)


class NoMethod:
    warm_up = 0


class NoWarmUp(Sound):
    warm_up = None


class HalfAFrame(Sound):
    warm_up = 0.5


class Before(Sound):
    warm_up = -1


class Thawed(Sound):
    def __init__(self):
        super().__init__()
        self.weights.requires_grad_()


class ArrayOf(Sound):
    def predict_rates(self, video, behavior):
        return super().predict_rates(video, behavior).detach().numpy()


class TimeFirst(Sound):
    # with as many frames as ROIs it would not show
    warm_up = 2

    def predict_rates(self, video, behavior):
        return super().predict_rates(video, behavior).transpose(1, 2)


class Shorter(Sound):
    def predict_rates(self, video, behavior):
        return super().predict_rates(video, behavior)[..., 1:]


class Double(Sound):
    def predict_rates(self, video, behavior):
        return super().predict_rates(video, behavior).double()


class Elsewhere(Sound):
    def predict_rates(self, video, behavior):
        return super().predict_rates(video, behavior).to("meta")


class NotFinite(Sound):
    def predict_rates(self, video, behavior):
        return super().predict_rates(video, behavior) / 0


class Negative(Sound):
    def predict_rates(self, video, behavior):
        return super().predict_rates(video, behavior) - 5


class Detached(Sound):
    def predict_rates(self, video, behavior):
        return super().predict_rates(video.detach(), behavior)


class OfBehaviorAlone(Sound):
    def predict_rates(self, video, behavior):
        return super().predict_rates(video.detach(), behavior.requires_grad_())


class Cliff(Sound):
    def predict_rates(self, video, behavior):
        rates = super().predict_rates(video, behavior)
        return rates + torch.sqrt(video.mean(dim=(1, 3, 4))[:, None] * 0)


class Random(Sound):
    def predict_rates(self, video, behavior):
        return super().predict_rates(video, behavior) * (1 + torch.rand(1))


class NeedsBehavior(Sound):
    def predict_rates(self, video, behavior):
        return super().predict_rates(video, behavior) + behavior.sum(dim=2)[:, None] ** 2


@pytest.mark.parametrize(
    ("faulty", "said"),
    [
        (NoMethod, "NoMethod has no method predict_rates"),
        (NoWarmUp, "warm_up is None"),
        (HalfAFrame, r"warm_up is 0\.5"),
        (Before, "warm_up is -1"),
        (Thawed, "weights are not frozen"),
        (ArrayOf, "predict_rates gives a ndarray"),
        (TimeFirst, r"have the shape \(1, 4, 3\)\. \(1, 3, 4\) was expected"),
        (Shorter, r"For 3 frames the encoder's rates have the shape \(1, 3, 2\)\. \(1, 3, 3\) was expected"),
        (Double, r"have the dtype torch\.float64"),
        (Elsewhere, "have the device meta"),
        (NotFinite, "rates are not finite"),
        (Negative, r"negative rates \(down to -"),
        (Detached, "No gradient of the rates reaches the video"),
        (OfBehaviorAlone, "No gradient of the rates reaches the video"),
        (Cliff, "gradient of the rates with respect to the video is not finite"),
        (Random, "other rates when it is shown the same again"),
        (NeedsBehavior, "not finite where behavior is missing"),
    ],
)
def test_each_fault_is_told(faulty, said):
    with pytest.raises(EncoderError, match=said):
        validate_encoder(faulty(), **KNOWN)


def test_what_is_sound_passes(small_encoder, small_mouse):
    validate_encoder(Sound(), **KNOWN)
    validate_encoder(Sound().double(), **KNOWN, dtype=torch.float64)
    # what may be negative may be
    validate_encoder(Negative(), **KNOWN, signed=True)
    aligned = small_mouse.aligned
    before = torch.get_rng_state()
    validate_encoder(small_encoder, n_rois=aligned.n_rois, frame_size=aligned.frame_size, n_variables=1)
    # nothing is drawn from the common generator
    assert torch.equal(torch.get_rng_state(), before)


def test_another_number_of_rois_is_told():
    with pytest.raises(EncoderError, match=r"\(1, 3, 3\)\. \(1, 4, 3\) was expected: \(batch, roi, time\)"):
        validate_encoder(Sound(), **KNOWN | {"n_rois": 4})


def test_a_sound_encoder_is_asked_once():
    class Counting(Sound):
        asked = 0

        def predict_rates(self, video, behavior):
            Counting.asked += 1
            return super().predict_rates(video, behavior)

    encoder = Counting()
    validate_once(encoder, **KNOWN)
    first = Counting.asked
    validate_once(encoder, **KNOWN)
    assert Counting.asked == first > 1
    faulty = Negative()
    for _ in range(2):
        with pytest.raises(EncoderError, match="negative"):
            validate_once(faulty, **KNOWN)
