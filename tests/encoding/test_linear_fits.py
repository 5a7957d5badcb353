import numpy as np
import pytest
import torch

from nwbrecon.encoding import linear_fits
from nwbrecon.encoding.linear_fits import LinearFit

N_POSITIONS, N_STEPS, N_FEATURES, N_ROIS, N_CLIPS = 3, 60, 5, 7, 6


def some_clips():
    """Features and activity of clips, of which ROIs follow the features at the second position."""
    rng = np.random.default_rng(0)
    drive = rng.standard_normal((N_FEATURES, N_ROIS))
    for _ in range(N_CLIPS):
        local = 1 + rng.standard_normal((N_POSITIONS, N_STEPS, N_FEATURES))
        measured = 2 + local[1] @ drive + 3 * rng.standard_normal((N_STEPS, N_ROIS))
        yield local, measured


def fitted(folds, clips):
    fit = LinearFit()
    for fold, (local, measured) in zip(folds, clips, strict=True):
        fit.add(
            torch.from_numpy(local).float(),
            torch.eye(N_STEPS),
            torch.from_numpy(measured).float(),
            torch.ones(N_STEPS, N_ROIS),
            fold=fold,
        )
    return fit


def ridge(x, y, share):
    """Weights and means, in closed form."""
    x, y = x.reshape(-1, N_FEATURES), y.reshape(-1, N_ROIS)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return np.linalg.solve(x.T @ x + share * len(x) * np.eye(N_FEATURES), x.T @ y)


def test_every_fold_is_judged_by_a_fit_to_the_others(monkeypatch):
    # ROIs in parts
    monkeypatch.setattr(linear_fits, "_ROIS_AT_ONCE", 3)
    clips, folds = list(some_clips()), [0, 1, 2, 0, 1, 2]
    score = fitted(folds, clips).score(0.1).numpy()
    for position in range(N_POSITIONS):
        products = np.zeros((3, N_ROIS))
        for fold in range(3):
            x, y = (
                [np.stack([of_clip[which] for f, of_clip in zip(folds, clips, strict=True) if (f == fold) == held])
                 for held in (False, True)]
                for which in (0, 1)
            )  # fmt: skip
            weights = ridge(x[0][:, position], y[0], 0.1)
            predicted = x[1][:, position].reshape(-1, N_FEATURES) @ weights
            measured = y[1].reshape(-1, N_ROIS)
            predicted, measured = predicted - predicted.mean(axis=0), measured - measured.mean(axis=0)
            products += [
                (a * b).sum(axis=0) for a, b in ((predicted, measured), (predicted, predicted), (measured,) * 2)
            ]
        np.testing.assert_allclose(score[position], products[0] / np.sqrt(products[1] * products[2]), atol=1e-4)
    assert (score[1] > score[[0, 2]].max(axis=0)).all()


def test_weights_are_of_a_fit_to_all_clips():
    clips = list(some_clips())
    positions = torch.tensor([0, 1, 2, 1, 1, 0, 2])
    weights = fitted([0, 1, 2, 3, 0, 1], clips).weights(positions)
    for roi, position in enumerate(positions):
        x, y = np.stack([local[position] for local, _ in clips]), np.stack([measured for _, measured in clips])
        np.testing.assert_allclose(weights[roi], ridge(x, y, linear_fits._RIDGE)[:, roi], atol=1e-4)


def test_a_single_fold_is_judged_by_itself():
    clips = list(some_clips())
    assert (fitted([0] * N_CLIPS, clips).score() > fitted(range(N_CLIPS), clips).score()).all()


@pytest.mark.parametrize("missing", [0, 3])
def test_a_fold_in_which_nothing_was_measured_is_left_out(missing):
    clips = list(some_clips())
    fit = fitted(range(N_CLIPS), clips)
    local, _ = clips[missing]
    nothing = torch.zeros(N_STEPS, N_ROIS)
    before = fit.score()
    fit.add(torch.from_numpy(local).float(), torch.eye(N_STEPS), nothing, nothing, fold=N_CLIPS)
    torch.testing.assert_close(fit.score(), before, rtol=0, atol=0)
