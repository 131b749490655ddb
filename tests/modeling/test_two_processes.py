"""What depends on the number of processes, on two of them."""

from contextlib import contextmanager

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch.nn.parallel import DistributedDataParallel
from two_processes import on_two_processes

from detr_d2.engine.training_step import TrainingStep
from detr_d2.modeling.counts import are_shared
from detr_d2.modeling.criterion import number_of_targets
from detr_d2.modeling.matcher import Targets

# Targets of each process; their mean, of at least 1.
CASES = [([3, 6], 4.5), ([0, 1], 0.5), ([0, 0], 0.5)]


def count(rank: int) -> list[float]:
    counts = [sizes[rank] for sizes, _ in CASES]
    targets = [Targets(torch.zeros(n), torch.zeros(n, 4)) for n in counts]
    return [number_of_targets([of_image], torch.device("cpu")).item() for of_image in targets]


def test_the_number_of_targets_is_the_mean_over_processes_of_at_least_one():
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


PARTS = (
    *("MODEL.DETR.TRANSFORMER", "ProposalTransformer", "MODEL.DETR.MASK_HEAD", "RefinedMaskHead"),
    *("MODEL.DETR.SEMANTIC_DICE_WEIGHT", 2.0),
)


@contextmanager
def without_chance():
    """Whatever is drawn is the same: each process draws for its own images."""
    before = torch.rand, torch.rand_like, torch.randperm
    torch.rand = lambda *size, device=None: torch.full(size, 0.6, device=device)
    torch.rand_like = lambda x: torch.full_like(x, 0.6)
    torch.randperm = torch.arange
    try:
        yield
    finally:
        torch.rand, torch.rand_like, torch.randperm = before


def all_gradients(model, batch) -> dict[str, torch.Tensor]:
    with without_chance(), EventStorage():
        losses = model(batch)
    sum(losses.values()).backward()
    found = {n.removeprefix("module."): p.grad for n, p in model.named_parameters()}
    return {"losses": torch.stack([losses[name].detach() for name in sorted(losses)]), **found}


def gradients_of_half(rank: int, models, images, folder) -> None:
    """Write those of each model, where this process has the first or the last images; losses are
    means."""
    half = len(images) // 2
    mine = images[:half] if rank == 0 else images[half:]
    found = []
    for model in models:
        of_model = all_gradients(DistributedDataParallel(model, broadcast_buffers=False), mine)
        torch.distributed.all_reduce(of_model["losses"])
        of_model["losses"] /= 2
        found.append(of_model)
    torch.save(found, folder / f"{rank}.pth")


CASES_OF_BATCHES = [  # segments of the four images, and whether they weigh more and less
    *(((3, 0, 1, 5), False), ((0, 0, 2, 1), False), ((0, 0, 0, 1), False), ((0, 0, 0, 0), False)),
    *(((3, 0, 1, 5), True), ((0, 0, 2, 1), True)),
]


@pytest.mark.parametrize("segments, weighed", CASES_OF_BATCHES)
def test_two_processes_are_one(build_model, draw_input, tmp_path, segments, weighed):
    """Of the same images: their losses and gradients, also where one has nothing to find."""
    exact = ("MODEL.RESNETS.NORM", "FrozenBN", "MODEL.DETR.DROPOUT", 0.0)
    models = [
        build_model("PanopticDETR", *exact).double().train(),
        build_model("DETR", *exact).double().train(),
        build_model("PanopticDETR", *exact, *PARTS).double().train(),
    ]
    images = [draw_input(64, 48, segments=n) for n in segments]
    if weighed:
        for x in images:
            x["instances"].gt_weights = torch.tensor([0.25, 0.0, 2.0, 1.0, 0.5])[
                : len(x["instances"])
            ]
    on_two_processes(gradients_of_half, models, images, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pth") for rank in range(2))
    for model, of_first, of_second in zip(models, first, second):
        wanted = all_gradients(model, images)
        assert of_first.keys() == of_second.keys() == wanted.keys()
        for name, gradient in wanted.items():
            for found in (of_first[name], of_second[name]):
                torch.testing.assert_close(found, gradient, rtol=1e-6, atol=1e-9, msg=name)


def gradients_of_parts(model, batch, parts: int, folder) -> dict[str, torch.Tensor]:
    """As `all_gradients`, of a step that takes the images in parts."""
    losses = []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    step = TrainingStep(model, [batch], optimizer, output_dir=str(folder), parts=parts)
    step._write_metrics = lambda found, _: losses.append(found)
    with without_chance(), EventStorage():
        step.iter = 0
        step.run_step()
    found = {n.removeprefix("module."): p.grad.clone() for n, p in model.named_parameters()}
    (of_step,) = losses
    return {"losses": torch.stack([of_step[name].detach() for name in sorted(of_step)]), **found}


def parts_of_half(rank: int, model, images, folder) -> None:
    half = len(images) // 2
    mine = images[:half] if rank == 0 else images[half:]
    model = DistributedDataParallel(model, broadcast_buffers=False)
    found = gradients_of_parts(model, mine, 2, folder)
    torch.distributed.all_reduce(found["losses"])
    found["losses"] /= 2
    torch.save(found, folder / f"{rank}.pth")


@pytest.mark.parametrize("parts", [(), PARTS])
def test_parts_of_a_step_are_one(build_model, draw_input, tmp_path, parts):
    """On one process, and on two, whose images go through the model one by one."""
    exact = ("MODEL.RESNETS.NORM", "FrozenBN", "MODEL.DETR.DROPOUT", 0.0)
    model = build_model("PanopticDETR", *exact, *parts).double().train()
    images = [draw_input(64, 48, segments=n) for n in (3, 0, 1, 5)]
    wanted = gradients_of_parts(model, images, 1, tmp_path)
    on_two_processes(parts_of_half, model, images, tmp_path)
    found = [torch.load(tmp_path / f"{rank}.pth") for rank in range(2)]
    found += [gradients_of_parts(model, images, count, tmp_path) for count in (2, 4)]
    for gradients in found:
        assert gradients.keys() == wanted.keys()
        for name, gradient in wanted.items():
            torch.testing.assert_close(gradients[name], gradient, rtol=1e-6, atol=1e-9, msg=name)
    assert not are_shared()
