import numpy as np
import pytest
from scipy import ndimage

from nwbrecon.inversion.smoothing import smoothed


@pytest.mark.parametrize("mode", ["reflect", "nearest"])
@pytest.mark.parametrize("widths", [(6.0, 2.0, 2.0), (0, 3.0, 1.0), (20.0, 0, 0)])
@pytest.mark.parametrize("shape", [(40, 9, 16), (2, 3, 600, 4, 5), (1, 1, 1), (0, 3, 4, 5)])
def test_it_is_the_gaussian_filter_of_scipy(shape, widths, mode):
    video = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    still = (0,) * (len(shape) - 3)
    for truncate in (3.0, 4.0):
        expected = ndimage.gaussian_filter(video, (*still, *widths), mode=mode, truncate=truncate)
        found = smoothed(video, widths, mode, truncate)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-3)
