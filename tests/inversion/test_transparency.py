from pathlib import Path

import numpy as np
import pytest
import torch
from pixels import PixelEncoder, make_session
from scipy.ndimage import gaussian_filter

from nwbrecon.config import TransparencySettings
from nwbrecon.encoding.dwiseneuro import DwiseNeuroEncoder
from nwbrecon.errors import InversionError
from nwbrecon.inversion.channels import ChannelInput, window_targets
from nwbrecon.inversion.transparency import _gradient, _smooth, train_transparency

DATA = Path(__file__).parents[1] / "data" / "dwiseneuro"
SIZE = (12, 14)
LEFT = tuple(index.ravel() for index in np.indices((12, 6)))
SETTINGS = {"first_frame": 10, "blur": 1.0, "iterations": 150}


def test_it_is_opaque_where_cells_look():
    encoder = PixelEncoder(*LEFT)
    aligned = make_session(encoder)
    settings = TransparencySettings(area_factor=False, **SETTINGS)
    mask = train_transparency(encoder, aligned, aligned.trials_in("train"), settings)
    assert mask.shape == SIZE
    assert mask[:, :5].min() > 0.9
    # what no cell reads stays as it was, and blurs into the rest
    assert 0 < mask[:, 7:].min() < mask[:, 7:].max() < 0.05


def test_the_area_factor_makes_it_smaller():
    encoder = PixelEncoder(*LEFT)
    aligned = make_session(encoder)
    trials = aligned.trials_in("train")
    paper, released = (
        train_transparency(encoder, aligned, trials, TransparencySettings(area_factor=factor, **SETTINGS)).clip(0, 1)
        for factor in (True, False)
    )
    assert paper.mean() < 0.8 * released.mean()
    assert (paper[:, 9:] == 0).all()
    assert paper[:, :6].mean() > 0.2


@pytest.mark.parametrize("area_factor", [True, False])
def test_its_gradient_is_that_of_the_papers_loss(area_factor):
    encoder = PixelEncoder(*LEFT, warm_up=3)
    aligned = make_session(encoder)
    mask = torch.rand(8, *SIZE, generator=torch.Generator().manual_seed(0)) * 1.2 - 0.1
    span = slice(10, 18)
    found = _gradient(ChannelInput(encoder, SIZE), mask, aligned, (0, span), (1, span), area_factor=area_factor).numpy()

    # by hand, for rates 0.1 + 4 / 255 pixel
    front, back = (aligned.trial(trial).video[span] for trial in (0, 1))
    opaque = mask.clamp(0, 1).numpy()
    blended = front * opaque + back * (1 - opaque)
    rates = 0.1 + 4 / 255 * blended[:, LEFT[0], LEFT[1]]
    factor = 1 - opaque.mean() if area_factor else 1
    error = factor * rates - window_targets(aligned, 0)[span]
    error[:3] = 0
    count = 5 * len(LEFT[0])
    of_blended = np.zeros_like(blended)
    of_blended[:, LEFT[0], LEFT[1]] = 2 * error * factor * 4 / 255 / count
    of_opaque = of_blended * (front - back)
    if area_factor:
        of_opaque -= (2 * error * rates).sum() / count / opaque.size
    of_mask = of_opaque * ((mask.numpy() >= 0) & (mask.numpy() <= 1))
    of_front = of_blended * opaque
    expected = of_mask / np.sqrt((of_mask**2).sum() + (of_front**2).sum())
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


def test_smoothing_is_gaussian_and_mirrors_at_the_edges():
    image = torch.rand(36, 64, generator=torch.Generator().manual_seed(0))
    expected = gaussian_filter(image.numpy(), 5, mode="mirror", radius=7)
    np.testing.assert_allclose(_smooth(image, 5.0), expected, rtol=1e-4)
    assert torch.equal(_smooth(image, 0.0), image)


def test_the_seed_decides():
    encoder = PixelEncoder(*LEFT)
    aligned = make_session(encoder)
    first, again, other = (
        train_transparency(
            encoder,
            aligned,
            aligned.trials_in("train"),
            TransparencySettings(**{**SETTINGS, "iterations": 5}, seed=seed),
        )
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0


def test_it_covers_the_canvas_of_dwiseneuro():
    aligned = make_session(PixelEncoder(*(index[:11] for index in LEFT)), size=(36, 64))
    encoder = DwiseNeuroEncoder.load(DATA / "small.pth", behavior_names=())
    before = torch.get_rng_state()
    mask = train_transparency(encoder, aligned, [0, 1], TransparencySettings(iterations=2))
    assert mask.shape == (64, 64)
    assert np.isfinite(mask).all()
    assert mask[14:50].std() > mask[:5].std()
    assert torch.equal(torch.get_rng_state(), before)


def test_too_few_or_too_short_trials_are_refused():
    encoder = PixelEncoder(*LEFT)
    with pytest.raises(InversionError, match="1 of 1 trials have 32 frames"):
        train_transparency(encoder, make_session(encoder), [0])
    with pytest.raises(InversionError, match="0 of 5 trials have 32 frames"):
        train_transparency(encoder, make_session(encoder, n_frames=20), range(5))
