"""What depends on the number of processes, on two of them."""

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch.nn.parallel import DistributedDataParallel
from two_processes import on_two_processes

from detr_d2.modeling.criterion import number_of_targets
from detr_d2.modeling.matcher import Targets

CASES = [([3, 6], 4.5), ([0, 1], 1.0)]  # targets of each process; their mean, at least 1


def count(rank: int) -> list[float]:
    counts = [sizes[rank] for sizes, _ in CASES]
    targets = [Targets(torch.zeros(n), torch.zeros(n, 4)) for n in counts]
    return [number_of_targets([of_image], torch.device("cpu")).item() for of_image in targets]


def test_the_number_of_targets_is_the_mean_over_processes_and_at_least_one():
    wanted = [number for _, number in CASES]
    assert on_two_processes(count) == [wanted, wanted]


def gradients(model, batch) -> dict[str, tuple[float, float]]:
    """Of each parameter that is trained, sum and norm of the gradient."""
    with EventStorage():
        losses = model(batch)
    sum(losses.values()).backward()
    return {
        name.removeprefix("module."): (p.grad.sum().item(), p.grad.norm().item())
        for name, p in model.named_parameters()
        if p.requires_grad
    }


def gradients_of_image(rank: int, models, images) -> list[dict]:
    """Of each model, where this process has one of two images."""
    return [
        gradients(DistributedDataParallel(model, broadcast_buffers=False), [images[rank]])
        for model in models
    ]


def test_an_image_without_segments_trains_beside_one_with(build_model, draw_input):
    """Distributed training waits for all gradients; they are those of both images together."""
    joint = build_model().double().train()
    frozen = build_model("PanopticDETR", "MODEL.DETR.FREEZE_DETR", True).double().train()
    parts = ("MODEL.DETR.TRANSFORMER", "ProposalTransformer")
    parts += ("MODEL.DETR.MASK_HEAD", "RefinedMaskHead")
    proposing = build_model("PanopticDETR", *parts).double().train()
    images = [draw_input(64, 48, segments=3), draw_input(64, 48, segments=0)]
    first, second = on_two_processes(gradients_of_image, (joint, frozen, proposing), images)
    assert first == second
    for model, found in ((joint, first[0]), (proposing, first[2])):
        assert found.keys() == {name for name, _ in model.named_parameters()}
    together = gradients(frozen, images)
    assert first[1].keys() == together.keys()
    for name, found in first[1].items():
        assert found == pytest.approx(together[name], rel=1e-6, abs=1e-9), name
