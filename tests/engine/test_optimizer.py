import math

import pytest
import torch
from detectron2.config import get_cfg
from torch import nn

from detr_d2 import add_detr_config
from detr_d2.engine.adamw import ClippedAdamW
from detr_d2.engine.muon import ClippedMuon
from detr_d2.engine.optimizer import build_optimizer
from detr_d2.errors import UserError


def small_model():
    return nn.ModuleDict({"backbone": nn.Linear(2, 3), "head": nn.LayerNorm(3)})


def config(*overrides):
    cfg = get_cfg()
    add_detr_config(cfg)
    cfg.merge_from_list(["SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full_model", *overrides])
    return cfg


def test_the_backbone_has_its_own_rate_and_all_parameters_decay():
    model = small_model()
    cfg = config("SOLVER.BASE_LR", 0.01, "SOLVER.WEIGHT_DECAY", 0.5)
    optimizer = build_optimizer(cfg, model)
    rates = {p: g["lr"] for g in optimizer.param_groups for p in g["params"]}
    assert all(rates[p] == pytest.approx(0.001) for p in model["backbone"].parameters())
    assert all(rates[p] == pytest.approx(0.01) for p in model["head"].parameters())
    assert {g["weight_decay"] for g in optimizer.param_groups} == {0.5}


def test_frozen_parameters_are_left_out():
    model = small_model()
    model["backbone"].requires_grad_(False)
    parameters = [p for g in build_optimizer(config(), model).param_groups for p in g["params"]]
    assert {id(p) for p in parameters} == {id(p) for p in model["head"].parameters()}


def test_the_gradient_of_the_whole_model_is_clipped():
    a, b = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))
    optimizer = ClippedAdamW([{"params": [a]}, {"params": [b], "lr": 0.1}], max_norm=1.0, lr=0.1)
    a.grad, b.grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    optimizer.step()
    # The norm of (3, 0, 4) is 5.
    assert a.grad.tolist() == pytest.approx([0.6, 0.0], rel=1e-5)
    assert b.grad.tolist() == pytest.approx([0.8], rel=1e-5)


def test_small_gradients_are_left_alone():
    a = nn.Parameter(torch.zeros(2))
    optimizer = ClippedAdamW([a], max_norm=1.0, lr=0.1)
    a.grad = torch.tensor([0.3, 0.4])
    optimizer.step()
    assert a.grad.tolist() == pytest.approx([0.3, 0.4], rel=1e-6)


def test_steps_are_those_of_adamw_on_clipped_gradients():
    ours, theirs = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    clipped = ClippedAdamW([ours], max_norm=0.5, lr=0.1, weight_decay=0.2)
    plain = torch.optim.AdamW([theirs], lr=0.1, weight_decay=0.2)
    for _ in range(5):
        gradient = torch.randn(3)
        ours.grad = gradient.clone()
        norm = math.sqrt(sum(x * x for x in gradient.tolist()))
        theirs.grad = gradient * min(1.0, 0.5 / (norm + 1e-6))
        clipped.step()
        plain.step()
        torch.testing.assert_close(ours, theirs)


def test_it_is_the_unscaled_gradient_that_is_clipped():
    """Under mixed precision gradients arrive many times too large."""
    steps = []
    for scale in (1.0, 1024.0):
        parameter = nn.Parameter(torch.ones(2))
        optimizer = ClippedAdamW([parameter], max_norm=1.0, lr=0.1, eps=0.5)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        scaler.scale((parameter * torch.tensor([0.3, 0.4])).sum()).backward()
        scaler.step(optimizer)
        steps.append(parameter.detach() - 1)
    torch.testing.assert_close(*steps)


def test_clipping_can_be_switched_off():
    model = small_model()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 1e3)
    build_optimizer(config("SOLVER.CLIP_GRADIENTS.ENABLED", False), model).step()
    assert all(p.grad.eq(1e3).all() for p in model.parameters())


def test_muon_is_for_matrices():
    model = nn.ModuleDict({"backbone": nn.Linear(16, 32), "head": nn.Conv2d(16, 32, 3)})
    optimizer = build_optimizer(config("SOLVER.OPTIMIZER", "Muon", "SOLVER.BASE_LR", 0.01), model)
    assert type(optimizer) is ClippedMuon
    groups = {p: g for g in optimizer.param_groups for p in g["params"]}
    for name, rate in (("backbone", 0.001), ("head", 0.01)):
        for parameter in (model[name].weight, model[name].bias):
            assert groups[parameter]["lr"] == pytest.approx(rate)
            assert groups[parameter]["matrices"] == (parameter.ndim > 1)


def test_other_optimisers_are_refused():
    with pytest.raises(UserError, match="set AdamW, Muon or SGD"):
        build_optimizer(config("SOLVER.OPTIMIZER", "Adam"), small_model())


def test_clipping_of_another_type_is_refused():
    cfg = config("SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "value")
    with pytest.raises(UserError, match="set full_model"):
        build_optimizer(cfg, small_model())


@pytest.mark.parametrize("matrices", [None, True, False])
def test_a_closure_makes_the_gradients_of_its_step(matrices):
    plain, closed = nn.Linear(20, 20), nn.Linear(20, 20)
    closed.load_state_dict(plain.state_dict())
    x = torch.randn(3, 20)

    def optimizer_of(model):
        group = {"params": [model.weight], "lr": 0.1}
        if matrices is None:
            return ClippedAdamW([group], max_norm=0.1)
        return ClippedMuon([{**group, "matrices": matrices}], max_norm=0.1)

    def closure():
        loss = closed(x).square().sum()
        loss.backward()
        return loss

    loss = optimizer_of(closed).step(closure)
    before = plain(x).square().sum()
    before.backward()
    assert optimizer_of(plain).step() is None
    assert torch.equal(plain.weight, closed.weight)
    assert loss.item() == before.item()
