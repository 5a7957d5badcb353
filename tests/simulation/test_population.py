import numpy as np
import pytest
from scipy import ndimage

from nwbrecon.simulation.population import MAX_RATE, make_population, population_rates, shift_frames

RATE = 30.0
SIZE = (20, 32)


@pytest.fixture(scope="module")
def population():
    """Cells of each type, with receptive fields that lie inside the picture."""
    made = make_population(48, SIZE, RATE, np.random.default_rng(1))
    made.cells["type"] = np.repeat(["simple", "complex", "direction", "blind"], 12)
    return made


def rates_of(population, video, *, noise=0.0, seed=0, gain=None):
    gain = np.ones((len(video), len(population.cells))) if gain is None else gain
    return population_rates(population, video, RATE, gain, drive_noise=noise, rng=np.random.default_rng(seed))


def of_type(population, kind):
    return np.flatnonzero(population.cells["type"] == kind)


def responses_to_gratings(population, index, gratings, n_frames=45):
    """Mean rate of a cell to gratings of its orientation and spatial frequency, one a (phase, drift in Hz)."""
    cell = population.cells.loc[index]
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    x, y = columns - cell["column"], rows - cell["row"]
    along = x * np.cos(cell["orientation"]) + y * np.sin(cell["orientation"])
    time = np.arange(n_frames)[:, None, None] / RATE
    gray = np.full((20, *SIZE), 128.0)
    shown = []
    for phase, drift in gratings:
        shown += [128 + 100 * np.cos(2 * np.pi * (along / cell["wavelength"] - drift * time) + phase), gray]
    rates, _ = rates_of(population, np.concatenate(shown))
    return rates[:, index].reshape(len(gratings), -1).mean(axis=1)


def test_filters_are_of_unit_norm_and_causal(population):
    np.testing.assert_allclose(np.linalg.norm(population.spatial, axis=(2, 3)), 1)
    np.testing.assert_allclose(np.linalg.norm(population.temporal, axis=2), 1)
    # nothing happens before the latency
    lag = np.arange(population.temporal.shape[2]) / RATE
    early = lag[None] <= population.cells["latency"].to_numpy()[:, None]
    assert not population.temporal[:, early].any()


def test_reverse_correlation_with_noise_recovers_the_receptive_fields_of_simple_cells(population):
    rng = np.random.default_rng(0)
    video = 128 + 50 * rng.standard_normal((9000, *SIZE))
    _, clean = rates_of(population, video)
    flat = (video - video.mean()).reshape(len(video), -1)
    for index in of_type(population, "simple"):
        kernel = population.temporal[0, index]
        # what the filter saw: the movie, filtered by the cell's temporal kernel
        seen = ndimage.convolve1d(flat, kernel, axis=0, origin=-(len(kernel) // 2), mode="constant")
        average = (clean[:, index] - clean[:, index].mean()) @ seen
        field = population.spatial[0, index].ravel()
        assert np.corrcoef(average, field)[0, 1] > 0.8
        # and the latency: the response lags the movie as the temporal kernel says
        drive = flat @ field
        lags = np.arange(len(kernel))
        sta = [(clean[lag:, index] - clean[:, index].mean()) @ drive[: len(drive) - lag] for lag in lags]
        assert np.corrcoef(sta, kernel)[0, 1] > 0.9


def test_complex_cells_do_not_mind_the_phase_and_simple_cells_do(population):
    def variation(index):
        responses = responses_to_gratings(population, index, [(phase, 0.0) for phase in np.arange(8) * np.pi / 4])
        return responses.std() / responses.mean()

    by_type = {
        kind: np.array([variation(index) for index in of_type(population, kind)]) for kind in ("simple", "complex")
    }
    assert np.median(by_type["complex"]) < 0.2
    assert np.median(by_type["simple"]) > 0.6


def test_direction_selective_cells_prefer_one_direction_and_complex_cells_none(population):
    def selectivity(index):
        forth, back = responses_to_gratings(population, index, [(0.0, 2.0), (0.0, -2.0)])
        return abs(forth - back) / (forth + back)

    by_type = {
        kind: np.array([selectivity(index) for index in of_type(population, kind)]) for kind in ("direction", "complex")
    }
    assert by_type["direction"].min() > 0.6
    assert np.median(by_type["complex"]) < 0.1


def test_blind_cells_ignore_the_movie_and_the_others_do_not(population):
    one, other = (np.random.default_rng(seed).uniform(0, 255, (300, *SIZE)) for seed in (1, 2))
    (rates_one, clean), (rates_other, _) = rates_of(population, one), rates_of(population, other)
    blind = of_type(population, "blind")
    np.testing.assert_array_equal(rates_one[:, blind], rates_other[:, blind])
    assert (clean[:, blind] == clean[0, blind]).all()
    assert rates_one[:, blind].std(axis=0).min() > 0.1
    seeing = np.setdiff1d(np.arange(48), blind)
    assert (np.abs(rates_one - rates_other)[:, seeing].mean(axis=0) > 0.2).all()


def test_rates_have_the_mean_of_each_cell_and_saturate(population):
    video = np.random.default_rng(0).uniform(0, 255, (600, *SIZE))
    rates, clean = rates_of(population, video)
    np.testing.assert_allclose(clean.mean(axis=0), population.cells["mean_rate"], rtol=1e-4)
    assert clean.min() >= 0
    # without gain and noise a trial is the clean rate, but for saturation
    seeing = population.cells["type"] != "blind"
    np.testing.assert_allclose(rates[:, seeing], MAX_RATE * np.tanh(clean[:, seeing] / MAX_RATE), rtol=1e-4)
    loud, _ = rates_of(population, video, gain=np.full(rates.shape, 1000.0))
    assert loud.max() <= MAX_RATE


def test_gain_multiplies_rates(population):
    video = np.random.default_rng(0).uniform(0, 255, (600, *SIZE))
    gain = np.linspace(0.5, 1, 600)[:, None] * np.ones(48)
    plain, raised = rates_of(population, video)[0], rates_of(population, video, gain=gain)[0]
    # undo the saturation
    np.testing.assert_allclose(np.arctanh(raised / MAX_RATE), gain * np.arctanh(plain / MAX_RATE), rtol=1e-3, atol=1e-6)


def test_noise_is_shared_by_cells_that_look_at_the_same_place_in_the_same_way():
    rng = np.random.default_rng(0)
    population = make_population(24, SIZE, RATE, rng)
    population.cells["type"] = "simple"
    # two cells with the filters of two others
    population.spatial[:, :2], population.temporal[:, :2] = population.spatial[:, 2:4], population.temporal[:, 2:4]
    video = rng.uniform(0, 255, (2000, *SIZE))
    rates, clean = rates_of(population, video, noise=0.5)
    deviation = rates - clean
    alike = [np.corrcoef(deviation[:, cell], deviation[:, cell + 2])[0, 1] for cell in range(2)]
    others = np.corrcoef(deviation.T)[np.triu_indices(24, 4)]
    assert min(alike) > 0.6
    assert abs(np.median(others)) < 0.2


def test_a_cell_that_nothing_drives_stays_silent():
    population = make_population(4, SIZE, RATE, np.random.default_rng(0))
    population.cells["type"] = "simple"
    # a cell that likes light, and looks at a corner that is always dark
    population.spatial[:, 0] = 0
    population.spatial[:, 0, 0, 0] = 1
    population.temporal[:, 0] = np.abs(population.temporal[:, 0])
    video = np.random.default_rng(0).uniform(0, 255, (200, *SIZE))
    video[:, 0, 0] = 0
    rates, clean = rates_of(population, video)
    assert not rates[:, 0].any()
    assert not clean[:, 0].any()
    assert (clean[:, 1:].mean(axis=0) > 0.1).all()


def test_a_cell_alone_responds():
    population = make_population(1, SIZE, RATE, np.random.default_rng(0))
    population.cells["type"] = "complex"
    rates, _ = rates_of(population, np.random.default_rng(0).uniform(0, 255, (200, *SIZE)))
    assert np.isfinite(rates).all()
    assert rates.std() > 0


def test_populations_are_the_same_for_the_same_seed():
    one, again = (make_population(5, SIZE, RATE, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one.spatial, again.spatial)
    assert one.cells.equals(again.cells)


@pytest.mark.parametrize(("down", "right"), [(2, 0), (0, -3), (0.5, 1.25), (-1.75, 0.25), (0, 0)])
def test_frames_are_shifted_by_the_amount_asked_for(down, right):
    rows, columns = np.mgrid[:16, :24].astype(float)

    def picture(row_shift=0.0, column_shift=0.0):
        # linear in small stretches: bilinear interpolation of a plane is exact
        return 3 * (rows - row_shift) + 2 * (columns - column_shift) + 100

    shifted = shift_frames(np.stack([picture(), picture()]), np.array([[down, right], [0, 0]]))
    np.testing.assert_allclose(shifted[0, 4:-4, 4:-4], picture(down, right)[4:-4, 4:-4], atol=1e-4)
    np.testing.assert_array_equal(shifted[1], picture())


def test_edges_are_repeated_where_nothing_is_known():
    frame = np.arange(12.0).reshape(1, 3, 4)
    np.testing.assert_array_equal(shift_frames(frame, np.array([[1, 0]]))[0], frame[0][[0, 0, 1]])
    np.testing.assert_array_equal(shift_frames(frame, np.array([[0, -9]]))[0], frame[0][:, [3, 3, 3, 3]])


def test_sub_pixel_shifts_are_those_of_bilinear_interpolation():
    rng = np.random.default_rng(0)
    video = rng.integers(0, 255, (6, 9, 11)).astype(np.uint8)
    shift = rng.uniform(-3, 3, (6, 2))
    expected = [
        ndimage.shift(frame.astype(float), amount, order=1, mode="nearest")
        for frame, amount in zip(video, shift, strict=True)
    ]
    np.testing.assert_allclose(shift_frames(video, shift), expected, atol=1e-3)
