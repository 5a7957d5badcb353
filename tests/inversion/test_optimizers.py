import itertools

import torch

from nwbrecon.inversion.optimizers import LBFGS, Evaluation


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
