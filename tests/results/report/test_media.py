import base64
import io

import numpy as np
from PIL import Image

from nwbrecon.results import figures
from nwbrecon.results.report.media import mask_shade, picture, sheet, still


def opened(uri):
    kind, _, data = uri.partition(";base64,")
    assert kind.startswith("data:image/")
    return base64.b64decode(data)


def pixels(uri):
    return np.asarray(Image.open(io.BytesIO(opened(uri))))


def test_every_frame_is_in_its_place_to_the_last_bit():
    movie = np.random.default_rng(0).integers(0, 256, (150, 5, 64)).astype(np.float32)
    made = sheet(movie)
    image = pixels(made.uri)[..., 0]
    assert image.shape[1] <= 4096
    for frame in (0, 63, 64, 149):
        row, column = divmod(frame, made.columns)
        shown = image[5 * row : 5 * row + 5, 64 * column : 64 * column + 64]
        np.testing.assert_array_equal(shown, movie[frame])


def test_uncertainty_grows_brighter_up_to_its_top():
    movie = np.linspace(0, 40, 12).reshape(12, 1, 1) * np.ones((1, 4, 4))
    made = sheet(movie, top=40.0)
    brightness = pixels(made.uri).astype(float).sum(axis=-1)[0, ::4]
    assert (np.diff(brightness) > 0).all()


def test_the_shade_and_the_still_darken_what_is_not_scored():
    mask = np.zeros((4, 6), bool)
    mask[1:3, 2:4] = True
    np.testing.assert_array_equal(pixels(mask_shade(mask))[..., 3] > 0, ~mask)
    shown = pixels(still(np.full((4, 6), 200.0), mask))[..., 0]
    assert set(shown[mask]) == {200}
    assert shown[~mask].max() < 100


def test_the_dark_picture_differs_in_its_colors_only(scores):
    made = picture(figures.lag_figure(scores), "a curve")
    light, dark = opened(made.light).decode(), opened(made.dark).decode()
    assert figures.LIGHT.ink in light
    assert figures.LIGHT.ink not in dark
    assert figures.DARK.methods[0] in dark
    assert len(light) == len(dark)
