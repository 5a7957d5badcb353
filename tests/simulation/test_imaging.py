import itertools

import numpy as np
import pytest

from nwbrecon.simulation.imaging import DECAY_SECONDS, NEUROPIL_SHARE, RISE_SECONDS, calcium, image_planes

BIN_RATE = 60.0


def spikes_of(n_cells=40, seconds=60, seed=0):
    return np.random.default_rng(seed).poisson(1.0 / BIN_RATE, (round(seconds * BIN_RATE), n_cells))


def imaged(spikes, **options):
    settings = {
        "n_rois": spikes.shape[1],
        "n_planes": 3,
        "imaging_rate": 7.0,
        "duplicate_share": 0.2,
        "snr": np.inf,
        "rng": np.random.default_rng(5),
    }
    return image_planes(spikes, BIN_RATE, **settings | options)


def test_a_spike_leaves_a_transient_that_rises_to_one_and_decays():
    spikes = np.zeros((600, 1))
    spikes[30] = 1
    trace = calcium(spikes, BIN_RATE)[:, 0]
    since = (np.arange(600) - 30) / BIN_RATE
    kernel = np.exp(-since.clip(0) / DECAY_SECONDS) - np.exp(-since.clip(0) / RISE_SECONDS)
    np.testing.assert_allclose(trace, kernel / kernel.max(), atol=1e-9)
    assert trace.max() == pytest.approx(1)
    assert not trace[:30].any()
    # long after the peak only the slow exponential is left
    assert trace[300] / trace[300 - round(DECAY_SECONDS * BIN_RATE)] == pytest.approx(np.exp(-1), rel=1e-3)


def test_transients_add():
    spikes = spikes_of(3, 20)
    one_by_one = sum(
        calcium(np.where(np.arange(len(spikes))[:, None] == time, spikes, 0), BIN_RATE)
        for time in np.flatnonzero(spikes.any(axis=1))
    )
    np.testing.assert_allclose(calcium(spikes, BIN_RATE), one_by_one, atol=1e-9)


def test_planes_are_scanned_one_after_the_other():
    planes = imaged(spikes_of(), imaging_rate=6.5)
    assert [len(plane.cells) for plane in planes] == [14, 13, 13]
    for plane in planes:
        np.testing.assert_allclose(np.diff(plane.timestamps), 1 / 6.5)
        assert 0 < plane.timestamps[0] < plane.timestamps[-1] < 60
        assert plane.fluorescence.shape == plane.neuropil.shape == (len(plane.timestamps), len(plane.cells))
    for above, below in itertools.pairwise(planes):
        np.testing.assert_allclose(below.timestamps - above.timestamps, 1 / 6.5 / 3)
        assert below.depth > above.depth


def test_light_is_the_calcium_of_the_cell_at_the_time_of_the_scan():
    # a handful of spikes, each far from the next, in one plane without noise
    spikes = np.zeros((3600, 6))
    times = np.array([300, 900, 1500, 2100, 2700, 3300])
    spikes[times, np.arange(6)] = 1
    (plane,) = imaged(spikes, n_planes=1, imaging_rate=10.0)
    light = plane.fluorescence - NEUROPIL_SHARE * plane.neuropil
    for column, cell in enumerate(plane.cells):
        # a bin's spike is seen from the end of the bin on
        since = plane.timestamps - (times[cell] + 1) / BIN_RATE
        near = (since > -2) & (since < 3)
        kernel = np.exp(-since.clip(0) / DECAY_SECONDS) - np.exp(-since.clip(0) / RISE_SECONDS)
        assert np.corrcoef(light[near, column], kernel[near])[0, 1] > 0.98
        # nothing before the spike but drift
        before = light[(since > -1) & (since < 0), column]
        assert before.std() < 0.05 * np.ptp(light[near, column])


def test_noise_is_as_strong_as_the_signal_to_noise_ratio_says():
    spikes = spikes_of(60)
    ratios = []
    clean, noisy = (imaged(spikes, n_planes=1, duplicate_share=0.0, snr=snr)[0] for snr in (np.inf, 4.0))
    np.testing.assert_array_equal(clean.cells, noisy.cells)
    assert clean.positions.tolist() == noisy.positions.tolist()
    traces = calcium(spikes, BIN_RATE)
    for column, cell in enumerate(noisy.cells):
        # the height of one spike's transient, from the clean trace
        times = (np.arange(len(spikes)) + 1) / BIN_RATE
        trace = np.interp(clean.timestamps, times, traces[:, cell])
        light = clean.fluorescence[:, column] - NEUROPIL_SHARE * clean.neuropil[:, column]
        height = np.polyfit(trace, light, 1)[0]
        noise = np.diff(noisy.fluorescence[:, column] - clean.fluorescence[:, column]).std() / np.sqrt(2)
        ratios.append(height / noise)
    assert np.median(ratios) == pytest.approx(4.0, rel=0.2)


def test_a_share_of_the_cells_of_a_plane_is_seen_again_in_the_next():
    spikes = spikes_of(45)
    planes = imaged(spikes)
    for above, below in itertools.pairwise(planes):
        twice = set(above.cells.tolist()) & set(below.cells.tolist())
        assert len(twice) == round(0.2 * len(below.cells))
        for cell in twice:
            one, other = (
                (plane.fluorescence - NEUROPIL_SHARE * plane.neuropil)[:, plane.cells == cell][:, 0]
                for plane in (above, below)
            )
            moved = np.interp(above.timestamps, below.timestamps, other)
            assert np.corrcoef(np.diff(one), np.diff(moved))[0, 1] > 0.7
    for plane in planes:
        assert len(set(plane.cells.tolist())) == len(plane.cells)
    assert len(set(planes[0].cells.tolist()) & set(planes[2].cells.tolist()) - set(planes[1].cells.tolist())) == 0


def test_neuropil_contaminates_and_is_alike_for_neighbors():
    (plane,) = imaged(spikes_of(60), n_planes=1, duplicate_share=0.0)
    changes = np.diff(plane.neuropil, axis=0)
    together = np.corrcoef(changes.T)
    distance = np.linalg.norm(plane.positions[:, None] - plane.positions[None], axis=2)
    pairs = np.triu_indices(60, 1)
    assert together[pairs].mean() > 0.3
    near = distance[pairs] < 40
    assert together[pairs][near].mean() > together[pairs][~near].mean()
