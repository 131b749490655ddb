import copy

import pytest
import torch
from torch import nn

from detr_d2.engine.muon import ClippedMuon, matrices_apart, orthogonalised

SHAPES = [(16, 16), (20, 48), (48, 20), (1, 30)]


def slow_orthogonalised(matrix):
    """Newton and Schulz's iteration as it is written, on one matrix of float64."""
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = wide / wide.pow(2).sum().sqrt()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x - 4.7750 * gram @ x + 2.0315 * gram @ gram @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_newton_and_schulz_iteration(shape):
    matrices = torch.randn(3, *shape, dtype=torch.float64)
    expected = torch.stack([slow_orthogonalised(m) for m in matrices])
    torch.testing.assert_close(orthogonalised(matrices), expected)
    torch.testing.assert_close(
        orthogonalised(matrices.float()), expected.float(), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_become_about_one_and_their_vectors_stay(shape):
    matrix = torch.randn(shape, dtype=torch.float64)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    matrix = left * torch.linspace(1, 0.02, len(values)) @ right
    result = left.T @ orthogonalised(matrix[None])[0] @ right.T
    assert ((result.diagonal() > 0.6) & (result.diagonal() < 1.25)).all()
    torch.testing.assert_close(result, result.diagonal().diag(), atol=1e-9, rtol=0)


def test_no_gradient_is_no_step():
    assert orthogonalised(torch.zeros(2, 16, 20)).eq(0).all()


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(40, 20)
        self.conv = nn.Conv2d(16, 24, 3)
        self.linear = nn.Linear(20, 30)
        self.same = nn.Linear(20, 30)
        self.few_outputs = nn.Linear(30, 4)


def names_of(model, groups, matrices):
    names = {p: name for name, p in model.named_parameters()}
    return {names[p] for g in groups if g["matrices"] is matrices for p in g["params"]}


def test_weights_of_convolutions_and_linear_layers_are_matrices():
    model = Model()
    parameters = list(model.parameters())
    groups = [{"params": parameters[:2], "lr": 0.1}, {"params": parameters[2:], "lr": 0.2}]
    split = matrices_apart(groups, model)
    assert names_of(model, split, True) == {"conv.weight", "linear.weight", "same.weight"}
    assert sum(len(g["params"]) for g in split) == len(parameters)
    for group in split:
        of = {id(p) for p in groups[0]["params"]}
        assert all((group["lr"] == 0.1) == (id(p) in of) for p in group["params"])


def train(model, optimizer, gradients):
    for step in gradients:
        for parameter, gradient in zip(model.parameters(), step):
            parameter.grad = None if gradient is None else gradient.clone()
        optimizer.step()


def random_gradients(model, steps):
    return [[torch.randn_like(p) for p in model.parameters()] for _ in range(steps)]


def optimizer_of(model, **arguments):
    groups = [{"params": list(model.parameters()), "lr": 0.1, "weight_decay": 0.2}]
    return ClippedMuon(matrices_apart(groups, model), **{"max_norm": 1e9, **arguments})


def slow_muon(weight, gradients):
    """Jordan's update with Nesterov's momentum, scaled as Liu's equation 4 says."""
    momentum = torch.zeros_like(weight)
    for gradient in gradients:
        momentum = 0.95 * momentum + 0.05 * gradient
        direction = 0.05 * gradient + 0.95 * momentum
        update = slow_orthogonalised(direction.flatten(1))
        weight = weight - 0.1 * 0.2 * weight
        weight = weight - 0.1 * 0.2 * max(update.shape) ** 0.5 * update.view_as(weight)
    return weight


def test_matrices_take_steps_of_muon_and_the_others_of_adamw():
    model = Model().double()
    gradients = random_gradients(model, 3)
    expected = copy.deepcopy(model)
    others = [p for p in expected.parameters() if p.ndim == 1]
    others += [expected.table.weight, expected.few_outputs.weight]
    adamw = torch.optim.AdamW(others, lr=0.1, weight_decay=0.2)
    train(expected, adamw, gradients)
    for name, number in (("conv", 1), ("linear", 3), ("same", 5)):
        weight = getattr(expected, name).weight
        weight.data = slow_muon(weight.data, [step[number] for step in gradients])
    train(model, optimizer_of(model), gradients)
    torch.testing.assert_close(model.state_dict(), expected.state_dict())


def test_a_parameter_without_gradient_stays():
    model = Model()
    before = copy.deepcopy(model.state_dict())
    gradients = random_gradients(model, 2)
    for step in gradients:
        step[3] = step[4] = None  # of linear.weight and linear.bias
    train(model, optimizer_of(model), gradients)
    changed = {name for name, x in model.state_dict().items() if not x.equal(before[name])}
    assert changed == set(before) - {"linear.weight", "linear.bias"}


def test_the_gradient_of_all_parameters_is_clipped():
    model = Model()
    train(model, optimizer_of(model, max_norm=0.5), random_gradients(model, 1))
    norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    assert norm.item() == pytest.approx(0.5, rel=1e-4)


def test_it_goes_on_from_its_state():
    model = Model()
    optimizer = optimizer_of(model)
    gradients = random_gradients(model, 4)
    train(model, optimizer, gradients[:2])
    resumed = copy.deepcopy(model)
    other = optimizer_of(resumed)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(model, optimizer, gradients[2:])
    train(resumed, other, gradients[2:])
    torch.testing.assert_close(resumed.state_dict(), model.state_dict(), atol=0, rtol=0)
