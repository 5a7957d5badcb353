import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from nwbrecon.alignment import responses_on_frames
from nwbrecon.results.report.rasters import order_together, response_rasters


def pixels(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))[..., 0]


def test_rois_that_respond_together_stand_together():
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat([0, 1, 2], 20))
    signals = rng.standard_normal((500, 3))
    responses = signals[:, groups] + 0.3 * rng.standard_normal((500, 60))
    ordered = groups[order_together(responses)]
    # a circle of three blocks, cut anywhere
    assert (np.diff(ordered) != 0).sum() <= 3


@pytest.mark.parametrize("shape", [(2, 50), (50, 1), (50, 3)])
def test_too_little_to_order_is_left_as_it_is(shape):
    np.testing.assert_array_equal(order_together(np.ones(shape)), np.arange(shape[1]))


def test_a_raster_shows_the_responses_of_its_frames(reconstructions, aligned):
    images = response_rasters(reconstructions[:2], aligned)
    shown = pixels(images[1])
    responses = np.nan_to_num(responses_on_frames(aligned, 1))
    both = np.concatenate([np.nan_to_num(responses_on_frames(aligned, 0)), responses])
    assert shown.shape == responses.T.shape
    brightest = shown.argmax(axis=1)
    wanted = responses[:, order_together(both)].argmax(axis=0)
    # rows that are clipped at their top are bright in several frames
    agree = [
        shown[row, frame] == shown[row, best] for row, (frame, best) in enumerate(zip(wanted, brightest, strict=True))
    ]
    assert all(agree)


def test_a_part_of_a_trial_and_many_rois(reconstructions, aligned):
    group = aligned.groups[0]
    many = replace(
        group,
        activity=np.tile(group.activity, 20),
        scale=np.tile(group.scale, 20),
        rois=group.rois.sample(800, replace=True),
    )
    item = reconstructions[0]
    part = replace(item, video=item.video[20:50], onset=item.times[20])
    (image,) = response_rasters([part], replace(aligned, groups=[many]))
    assert pixels(image).shape == (300, 30)
