import copy

import numpy as np
import pytest
import torch
from linear import SHAPE, LinearEncoder, design, responses_to, sample_video
from small import FRAME_SIZE

from nwbrecon.encoding.likelihoods import Poisson
from nwbrecon.errors import InversionError
from nwbrecon.inversion.information import fisher_information, information_coverage


def estimated(evidence, video, n_probes):
    video = torch.as_tensor(video)[None].double()
    return fisher_information(evidence, video, n_probes=n_probes, generator=torch.Generator().manual_seed(0))


def test_it_is_the_diagonal_of_the_precision_that_the_responses_give():
    known = torch.ones(1, SHAPE[0] // 2, 6, dtype=torch.float64)
    known[0, 1, 2:] = 0
    witnesses = [
        responses_to(
            LinearEncoder.random(6, seed=seed), sample_video(), weights=torch.logspace(-1, 0.5, 6), known=known
        )
        for seed in range(2)
    ]
    expected = 0
    for witness in witnesses:
        matrix, _, precision = design(witness)
        expected = expected + np.diag(matrix.T @ np.diag(precision) @ matrix).reshape(SHAPE)
    found = estimated(witnesses, sample_video(), 1500)
    np.testing.assert_allclose(found, expected, rtol=0.2, atol=0.02 * expected.max())
    assert found.sum() == pytest.approx(expected.sum(), rel=0.02)


def test_a_single_response_needs_a_single_probe():
    known = torch.zeros(1, SHAPE[0] // 2, 6, dtype=torch.float64)
    known[0, 1, 4] = 1
    evidence = responses_to(LinearEncoder.random(6), sample_video(), known=known)
    ((row,), _, _) = design(evidence)
    found = estimated([evidence], sample_video(), 1)
    np.testing.assert_allclose(found, row.reshape(SHAPE) ** 2, rtol=1e-6, atol=1e-15)


def test_of_counts_that_are_expected_to_be_high_a_change_says_less():
    known = torch.zeros(1, SHAPE[0] // 2, 6, dtype=torch.float64)
    known[0, 1, 4] = 1
    video = torch.full(SHAPE, 100.0)
    evidence = responses_to(LinearEncoder.random(6), video, known=known)
    evidence.encoder.now, evidence.encoder.before = evidence.encoder.now.abs(), evidence.encoder.before.abs()
    evidence.likelihoods = [Poisson(), Poisson()]
    once, twice = estimated([evidence], video, 1), estimated([evidence], 2 * video, 1)
    np.testing.assert_allclose(once, 2 * twice, rtol=1e-3)


def test_the_mask_lies_where_receptive_fields_are(small_mouse, small_encoder):
    aligned = small_mouse.aligned
    coverage, mask = information_coverage(small_encoder, aligned, aligned.trials_in("train")[:2], threshold=0.2)
    assert coverage.shape == mask.shape == FRAME_SIZE
    assert coverage.max() == 1
    assert coverage.min() >= 0
    np.testing.assert_array_equal(mask, coverage >= 0.2)
    assert 0.02 < mask.mean() < 0.9
    # more where cells look, as the truth knows
    cells = small_mouse.cells()
    rows, columns = np.indices(FRAME_SIZE)
    density = sum(
        np.exp(-0.5 * ((rows - cell.row) ** 2 + (columns - cell.column) ** 2) / 2.0**2)
        for cell in cells[cells["type"] != "blind"].itertuples()
    )
    assert density[mask].mean() > 1.3 * density[~mask].mean()
    wider = information_coverage(small_encoder, aligned, aligned.trials_in("train")[:2], threshold=0.05)[1]
    assert (wider | ~mask).all()
    assert wider.sum() > mask.sum()


def test_the_mask_is_the_same_every_time(small_mouse, small_encoder):
    trials = small_mouse.aligned.trials_in("train")[:1]
    one, again = (information_coverage(small_encoder, small_mouse.aligned, trials, threshold=0.3) for _ in range(2))
    np.testing.assert_array_equal(one[0], again[0])


def test_an_encoder_that_does_not_look_is_refused(small_mouse, small_encoder):
    blind = copy.deepcopy(small_encoder)
    for member in blind.members:
        for weights in (member.readout.linear, member.readout.energy, member.readout.own_energy):
            weights.zero_()
    with pytest.raises(InversionError, match="do not depend on the video"):
        information_coverage(blind, small_mouse.aligned, small_mouse.aligned.trials_in("train")[:1], threshold=0.2)
