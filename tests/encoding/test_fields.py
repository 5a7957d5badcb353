import numpy as np
import pandas as pd
import pytest
import torch

from nwbrecon.config import EncoderSettings
from nwbrecon.encoding import EncoderEnsemble, VideoEncoder, receptive_fields
from nwbrecon.session import SignalKind

SIZE = (24, 32)


@pytest.fixture
def member():
    """An encoder whose ROIs read at grid points, without division by contrast."""
    member = VideoEncoder(
        EncoderSettings(core="quadrature", channels=8, kernel_size=7, gain=False, gaze_shift=False),
        n_rois=3,
        frame_size=SIZE,
        frame_rate=30.0,
        seed=1,
    )
    with torch.no_grad():
        member.core.normalization.fill_(-100.0)
        member.readout.linear.normal_(generator=torch.Generator().manual_seed(0))
        member.readout.own_pair.normal_(generator=torch.Generator().manual_seed(1))
        # the map has 12 x 16 points: half steps from its center
        member.readout.position.copy_(torch.tensor([[0.5, -1.5], [-2.5, 3.5], [0.5, 0.5]]))
    return member.eval()


def ensemble(*members):
    n_rois = members[0].n_rois
    return EncoderEnsemble(
        members,
        rois=pd.DataFrame({"group": "plane", "roi_id": range(n_rois)}),
        kinds=[SignalKind.EVENTS],
        dispersion=np.ones(n_rois),
        linear_scores=np.ones(n_rois),
        validation_scores=np.ones(n_rois),
        gate={},
        history=pd.DataFrame(),
        info={},
    )


def test_it_is_the_field_that_the_gradient_shows(member):
    video = torch.zeros(1, 1, 41, *SIZE, requires_grad=True)
    drive = member.readout(*member.core(video))
    found = receptive_fields(ensemble(member))
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    for roi in range(member.n_rois):
        (gradient,) = torch.autograd.grad(drive[0, roi, -1], video, retain_graph=True)
        power = gradient[0, 0].square().sum(dim=0).numpy()
        row, column = (power * y).sum() / power.sum(), (power * x).sum() / power.sum()
        size = np.sqrt((power * ((y - row) ** 2 + (x - column) ** 2)).sum() / power.sum())
        np.testing.assert_allclose(found.iloc[roi], [row, column, size], atol=1e-3)


def test_the_size_of_a_gaussian_is_its_standard_deviation(member):
    y, x = np.mgrid[-3:4, -3:4]
    with torch.no_grad():
        member.core.spatial.zero_()
        member.core.spatial[0, 0] = torch.from_numpy(np.exp(-(y**2 + x**2) / 2))
        member.readout.linear.zero_()
        member.readout.energy[0, 0] = 2.0
        member.readout.linear[1, 0] = -0.3
    found = receptive_fields(ensemble(member))
    np.testing.assert_allclose(found["size"][:2], 1.0, atol=2e-3)
    np.testing.assert_allclose(found.loc[0, ["row", "column"]].tolist(), [12, 12], atol=1e-6)
    # nothing drives the third: where it looks is known, how wide is not
    assert np.isnan(found.loc[2, "size"])
    np.testing.assert_allclose(found.loc[2, ["row", "column"]].tolist(), [12, 16])


def test_of_several_members_the_mean_is_given(member):
    other = VideoEncoder(member.settings, n_rois=3, frame_size=SIZE, frame_rate=30.0, seed=2)
    torch.nn.init.ones_(other.readout.linear)
    one, two, both = (receptive_fields(ensemble(*chosen)) for chosen in ([member], [other], [member, other]))
    pd.testing.assert_frame_equal(both, (one + two) / 2)


def test_fields_of_two_layers_are_those_of_the_gradient():
    settings = EncoderSettings(core="factorized", channels=8, kernel_size=5, gain=False, gaze_shift=False)
    member = VideoEncoder(settings, n_rois=2, frame_size=SIZE, frame_rate=30.0, seed=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in (
            member.readout.linear,
            *(value for name, value in member.core.named_parameters() if "layers" in name),
        ):
            weights.normal_(std=0.3, generator=generator)
        member.readout.position.copy_(torch.tensor([[0.5, -1.5], [-2.5, 3.5]]))
    test_it_is_the_field_that_the_gradient_shows(member.eval())


def test_an_own_pair_counts_as_a_pair_does(member):
    with torch.no_grad():
        member.readout.linear.zero_()
        member.readout.energy[:, 1] = -0.7
    pair = receptive_fields(ensemble(member))
    with torch.no_grad():
        member.readout.energy.zero_()
        member.readout.own_energy.fill_(-0.7)
        member.readout.own_pair.zero_()
        # of a map and the one half of the channels on
        member.readout.own_pair[:, 0, 1] = member.readout.own_pair[:, 1, 5] = 1
    pd.testing.assert_frame_equal(receptive_fields(ensemble(member)), pair)
