import itertools

import pytest
import torch

from nwbrecon.inversion.optimizers import LBFGS, OPTIMIZERS, Adam, Evaluation


def rosenbrock(point):
    x = point.detach().requires_grad_()
    value = (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()
    value.backward()
    return Evaluation(value.item(), x.grad)


def test_it_finds_the_minimum_of_a_curved_valley():
    optimizer = LBFGS(rosenbrock, torch.tensor([-1.2, 1.0, -0.5, 2.0], dtype=torch.float64))
    values = [optimizer.evaluation.value]
    for _ in range(120):
        if not optimizer.step():
            break
        values.append(optimizer.evaluation.value)
    torch.testing.assert_close(optimizer.point, torch.ones(4, dtype=torch.float64), atol=1e-5, rtol=0)
    assert all(after < before for before, after in itertools.pairwise(values))


def test_a_quadratic_is_solved_in_about_as_many_steps_as_it_has_curvatures():
    scale = torch.tensor([1.0, 10.0, 100.0, 1000.0], dtype=torch.float64)
    target = torch.tensor([3.0, -2.0, 1.0, 0.5], dtype=torch.float64)

    def objective(point):
        return Evaluation(float((scale * (point - target) ** 2).sum() / 2), scale * (point - target))

    optimizer = LBFGS(objective, torch.zeros(4, dtype=torch.float64))
    for _ in range(20):
        if not optimizer.step():
            break
    torch.testing.assert_close(optimizer.point, target, atol=1e-6, rtol=0)


def test_points_without_a_value_are_stepped_back_from():
    def objective(point):
        # a wall at 1, beyond which the logarithm has no value
        x = point.detach().requires_grad_()
        value = (x - torch.log(1 - x)).sum() + (x**2).sum()
        value.backward()
        return Evaluation(value.item(), x.grad)

    optimizer = LBFGS(objective, torch.tensor([0.9], dtype=torch.float64))
    while optimizer.step() and optimizer.iteration < 50:
        assert optimizer.point < 1
    assert optimizer.evaluation.gradient.abs() < 1e-4


def test_at_the_minimum_it_says_so_and_stays():
    optimizer = LBFGS(lambda x: Evaluation(float((x**2).sum()), 2 * x), torch.zeros(3))
    assert not optimizer.step()
    assert optimizer.iteration == 0


SCALE = torch.tensor([1.0, 3.0, 10.0, 30.0], dtype=torch.float64)
TARGET = torch.tensor([3.0, -2.0, 1.0, 0.5], dtype=torch.float64)


def quadratic(point):
    return Evaluation(float((SCALE * (point - TARGET) ** 2).sum() / 2), SCALE * (point - TARGET))


@pytest.mark.parametrize(("name", "iterations"), [("lbfgs", 20), ("gradient", 150), ("adam", 600)])
def test_each_optimizer_finds_the_minimum_of_a_quadratic(name, iterations):
    optimizer = OPTIMIZERS[name](quadratic, torch.zeros(4, dtype=torch.float64))
    values = [optimizer.evaluation.value]
    while optimizer.iteration < iterations and optimizer.step():
        values.append(optimizer.evaluation.value)
    torch.testing.assert_close(optimizer.point, TARGET, atol=1e-3, rtol=0)
    # the best point so far: never worse than the one before
    assert all(after <= before for before, after in itertools.pairwise(values))


@pytest.mark.parametrize("name", ["gradient", "adam"])
def test_the_others_go_down_a_curved_valley_more_slowly(name):
    start = torch.tensor([-1.2, 1.0], dtype=torch.float64)
    quick, slow = LBFGS(rosenbrock, start), OPTIMIZERS[name](rosenbrock, start)
    for optimizer in (quick, slow):
        while optimizer.iteration < 40 and optimizer.step():
            pass
    assert slow.evaluation.value < rosenbrock(start).value / 3
    assert quick.evaluation.value < slow.evaluation.value


def test_without_memory_with_the_right_metric_one_step_is_enough():
    steepest = OPTIMIZERS["gradient"](quadratic, torch.zeros(4, dtype=torch.float64), metric=lambda x: x / SCALE)
    assert steepest.step()
    torch.testing.assert_close(steepest.point, TARGET, atol=1e-6, rtol=0)
    assert len(steepest.steps) == 0


def test_the_point_of_adam_is_the_best_that_it_came_by():
    seen = []

    def watched(point):
        seen.append(quadratic(point))
        return seen[-1]

    optimizer = Adam(watched, torch.zeros(4, dtype=torch.float64), rate=2.0)
    for _ in range(30):
        optimizer.step()
    values = [one.value for one in seen]
    # with steps this long it goes uphill at times
    assert any(after > before for before, after in itertools.pairwise(values))
    assert optimizer.evaluation.value == min(values)
    assert quadratic(optimizer.point).value == min(values)
    assert optimizer.n_evaluations == len(seen)
    resting = Adam(quadratic, TARGET)
    assert not resting.step()


def test_adam_goes_back_where_there_is_no_value():
    def walled(point):
        value = float(point.sum()) if float(point.min()) > -1 else float("nan")
        return Evaluation(value, torch.ones_like(point))

    optimizer = Adam(walled, torch.zeros(3, dtype=torch.float64), rate=0.4)
    for _ in range(40):
        assert optimizer.step()
        assert (optimizer.point > -1).all()
        assert torch.isfinite(optimizer.point).all()
    assert optimizer.rate < 0.4
    # close to the wall, and never beyond it
    assert optimizer.evaluation.value < -2.8


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_what_was_kept_goes_on_to_the_last_bit(name):
    start = torch.tensor([-1.2, 1.0, -0.5, 2.0], dtype=torch.float64)
    through, first = (OPTIMIZERS[name](rosenbrock, start) for _ in range(2))
    for _ in range(20):
        through.step()
    for _ in range(13):
        first.step()
    kept = first.state()

    def once_more(point):
        assert not torch.equal(point, start)
        return rosenbrock(point)

    # it does not begin anew
    on = OPTIMIZERS[name](once_more, torch.zeros(4, dtype=torch.float64), state=kept)
    assert (on.iteration, on.n_evaluations) == (13, first.n_evaluations)
    for _ in range(7):
        on.step()
    torch.testing.assert_close(on.point, through.point, rtol=0, atol=0)
    assert on.evaluation.value == through.evaluation.value
    assert (on.iteration, on.n_evaluations) == (20, through.n_evaluations)
