"""The functions of `criterion.py`, each by itself."""

import math

import pytest
import torch
from detectron2.utils import comm
from torch.autograd import gradcheck

from detr_d2.modeling.criterion import number_of_targets, target_masks
from detr_d2.modeling.losses import box_giou_loss, box_l1_loss, dice_loss, focal_loss
from detr_d2.modeling.matcher import Matches, Targets

# (cx, cy, w, h). Corners: the right half, the upper left quarter.
BOXES = torch.tensor([[0.75, 0.5, 0.5, 1.0], [0.25, 0.25, 0.5, 0.5]])
# Corners: the upper left quarter, everything.
TARGET_BOXES = torch.tensor([[0.25, 0.25, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]])


def draw_boxes(count):
    return torch.cat((torch.rand(count, 2), 0.1 + 0.4 * torch.rand(count, 2)), dim=1).double()


def draw_masks(count, h=3, w=4):
    logits = 2 * torch.randn(count, h, w).double()
    return logits, torch.randint(2, (count, h, w)).double()


def exact(tensor, wanted):
    assert tensor.item() == pytest.approx(wanted, rel=1e-12)


def test_l1_by_hand():
    # .5 + .25 + 0 + .5 and .25 + .25 + .5 + .5
    assert box_l1_loss(BOXES, TARGET_BOXES).item() == 2.75


def test_giou_by_hand():
    # Pair 0: no overlap, union 1/2 + 1/4, hull 1: GIoU 0 - 1/4. Pair 1: GIoU 1/4 - 0.
    assert box_giou_loss(BOXES, TARGET_BOXES).item() == 1.25 + 0.75


def test_giou_of_equal_boxes_is_one():
    assert box_giou_loss(BOXES, BOXES).item() == 0.0


def test_dice_by_hand():
    # Probabilities 3/4 and 1/4, the first pixel is the mask's: 1 - (2 * 3/4 + 1) / (1 + 1 + 1).
    logits = torch.tensor([[[math.log(3), -math.log(3)]]], dtype=torch.float64)
    masks = torch.tensor([[[1.0, 0.0]]], dtype=torch.float64)
    exact(dice_loss(logits, masks), 1 / 6)
    # Two masks are summed. The other way round: 1 - (2 * 1/4 + 1) / 3.
    exact(dice_loss(torch.cat((logits, -logits)), torch.cat((masks, masks))), 1 / 6 + 1 / 2)


def test_focal_by_hand():
    # On the mask p_t = 3/4: 1/4 * (1/4)^2 * -ln(3/4). Off it p_t = 1/2: 3/4 * (1/2)^2 * ln 2.
    logits = torch.tensor([[[math.log(3), 0.0]]], dtype=torch.float64)
    masks = torch.tensor([[[1.0, 0.0]]], dtype=torch.float64)
    mean = (-math.log(0.75) / 64 + 3 / 16 * math.log(2)) / 2
    exact(focal_loss(logits, masks, alpha=0.25, gamma=2.0), mean)
    # Means over pixels are summed over masks.
    two = focal_loss(logits.repeat(2, 1, 1), masks.repeat(2, 1, 1), alpha=0.25, gamma=2.0)
    exact(two, 2 * mean)


def test_giou_equals_a_plain_loop():
    boxes, targets = draw_boxes(20), draw_boxes(20)
    total = 0.0
    for (ax, ay, aw, ah), (bx, by, bw, bh) in zip(boxes.tolist(), targets.tolist()):

        def extents(a, a_size, b, b_size):
            """Length of the overlap and of the hull along one axis."""
            starts, ends = (a - a_size / 2, b - b_size / 2), (a + a_size / 2, b + b_size / 2)
            return max(min(ends) - max(starts), 0), max(ends) - min(starts)

        (overlap_x, hull_x), (overlap_y, hull_y) = extents(ax, aw, bx, bw), extents(ay, ah, by, bh)
        overlap, hull = overlap_x * overlap_y, hull_x * hull_y
        union = aw * ah + bw * bh - overlap
        total += 1 - (overlap / union - (hull - union) / hull)
    exact(box_giou_loss(boxes, targets), total)


def test_l1_equals_a_plain_loop():
    boxes, targets = draw_boxes(20), draw_boxes(20)
    pairs = zip(boxes.flatten().tolist(), targets.flatten().tolist())
    exact(box_l1_loss(boxes, targets), sum(abs(a - b) for a, b in pairs))


def test_dice_equals_a_plain_loop():
    logits, masks = draw_masks(5)
    total = 0.0
    for mask_logits, mask in zip(logits.flatten(1).tolist(), masks.flatten(1).tolist()):
        p = [1 / (1 + math.exp(-x)) for x in mask_logits]
        both = sum(a * m for a, m in zip(p, mask))
        total += 1 - (2 * both + 1) / (sum(p) + sum(mask) + 1)
    exact(dice_loss(logits, masks), total)


@pytest.mark.parametrize("alpha, gamma", [(0.25, 2.0), (0.6, 1.5), (0.5, 0.0)])
def test_focal_equals_a_plain_loop(alpha, gamma):
    logits, masks = draw_masks(5)
    total = 0.0
    for mask_logits, mask in zip(logits.flatten(1).tolist(), masks.flatten(1).tolist()):
        for x, m in zip(mask_logits, mask):
            p = 1 / (1 + math.exp(-x))
            p_t, alpha_t = (p, alpha) if m else (1 - p, 1 - alpha)
            total -= alpha_t * (1 - p_t) ** gamma * math.log(p_t) / len(mask)
    exact(focal_loss(logits, masks, alpha, gamma), total)


def test_gradients_are_the_derivatives():
    logits, masks = draw_masks(2)
    logits.requires_grad_()
    assert gradcheck(lambda x: dice_loss(x, masks), logits)
    assert gradcheck(lambda x: focal_loss(x, masks, 0.25, 2.0), logits)
    assert gradcheck(box_giou_loss, (draw_boxes(4).requires_grad_(), draw_boxes(4)))


def test_nothing_to_compare_costs_nothing():
    boxes = torch.zeros(0, 4, requires_grad=True)
    logits = torch.zeros(0, 3, 4, requires_grad=True)
    loss = (
        box_l1_loss(boxes, torch.zeros(0, 4))
        + box_giou_loss(boxes, torch.zeros(0, 4))
        + dice_loss(logits, torch.zeros(0, 3, 4))
        + focal_loss(logits, torch.zeros(0, 3, 4), 0.25, 2.0)
    )
    assert loss.item() == 0.0
    loss.backward()
    assert boxes.grad.shape == boxes.shape
    assert logits.grad.shape == logits.shape


@pytest.mark.parametrize(
    "box, target, loss",
    [
        # Points in one place, and apart: no union, and no hull or one of 0.25.
        ([0.5, 0.5, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], 1.0),
        ([0.25, 0.25, 0.0, 0.0], [0.75, 0.75, 0.0, 0.0], 2.0),
        # A line inside a box of area 1/4: GIoU 0 - 0.
        ([0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.0, 0.5], 1.0),
    ],
)
def test_boxes_without_area_have_a_finite_giou_and_gradient(box, target, loss):
    box = torch.tensor([box], requires_grad=True)
    giou = box_giou_loss(box, torch.tensor([target]))
    assert giou.item() == loss
    giou.backward()
    assert box.grad.isfinite().all()


def test_extreme_logits_have_finite_losses_and_gradients():
    logits = torch.tensor([[[200.0, -200.0, 200.0, -200.0]]], requires_grad=True)
    masks = torch.tensor([[[1.0, 1.0, 0.0, 0.0]]])
    loss = dice_loss(logits, masks) + focal_loss(logits, masks, 0.25, 2.0)
    loss.backward()
    # Dice 1 - (2 + 1) / (2 + 2 + 1); focal 200 times 1/4 on and 3/4 off the mask, over 4 pixels.
    assert loss.item() == pytest.approx(0.4 + 50.0, rel=1e-6)
    assert logits.grad.isfinite().all()


def test_target_masks_by_hand():
    targets = [
        Targets(torch.zeros(2), torch.zeros(2, 4), torch.tensor([[1, 2, 2], [0, 2, 1]])),
        Targets(torch.zeros(0), torch.zeros(0, 4), torch.tensor([[0, 0], [0, 0]])),
        Targets(torch.zeros(3), torch.zeros(3, 4), torch.tensor([[3], [0], [1]])),
    ]
    # Segments 1 and 0 of image 0, 2 (number 4 of the batch) and 1 (not in sight) of image 2.
    # The first layer's pairs do not matter.
    matches = Matches(
        images=torch.tensor([0, 0, 2, 2]),
        queries=torch.zeros(2, 4, dtype=torch.int64),
        targets=torch.tensor([[0, 1, 2, 3], [1, 0, 4, 3]]),
        boxed=torch.arange(4),
        counts=[2, 0, 2],
        cost=0.0,
    )
    masks = torch.stack(list(target_masks(targets, matches, (3, 4))))
    assert masks.dtype == torch.bool
    assert masks.int().tolist() == [
        [[0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]],
        [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]],
        [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
        [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
    ]


def targets_of(*sizes):
    return [Targets(torch.zeros(size), torch.zeros(size, 4)) for size in sizes]


@pytest.mark.parametrize("sizes, number", [((2, 3), 5.0), ((0, 1), 1.0), ((0, 0), 1.0)])
def test_number_of_targets_is_at_least_one(sizes, number):
    assert number_of_targets(targets_of(*sizes), torch.device("cpu")) == number


def test_number_of_targets_is_the_mean_of_all_processes(monkeypatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    # The other process has 6.
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: tensor.add_(6))
    assert number_of_targets(targets_of(2, 3), torch.device("cpu")) == 5.5
