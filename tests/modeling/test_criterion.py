"""Losses of whole batches; the functions that they are made of are in test_losses.py."""

import math

import pytest
import torch
import torch.nn.functional as F
from parts import LOSS_WEIGHTS

from detr_d2.errors import UserError
from detr_d2.modeling.criterion import SetCriterion, target_masks
from detr_d2.modeling.losses import box_giou_loss, box_l1_loss, dice_loss, focal_loss
from detr_d2.modeling.matcher import HungarianMatcher, Matches, Targets

CLASSES = 3
NAMES = ("loss_ce", "loss_bbox", "loss_giou")


@pytest.fixture
def criterion():
    matcher = HungarianMatcher(cost_class=1.0, cost_l1=5.0, cost_giou=2.0)
    return SetCriterion(matcher=matcher, num_classes=CLASSES, **LOSS_WEIGHTS).double()


def draw_boxes(*shape):
    return torch.cat((torch.rand(*shape, 2), 0.1 + 0.4 * torch.rand(*shape, 2)), dim=-1).double()


def draw_predictions(layers, batch, queries):
    logits = torch.randn(layers, batch, queries, CLASSES + 1).double()
    return logits.requires_grad_(), draw_boxes(layers, batch, queries).requires_grad_()


def draw_targets(*sizes, height=6, width=8):
    """Images of different heights, smaller than (height, width); VOID and all segments in each."""
    targets = []
    for image, size in enumerate(sizes):
        segment_map = torch.arange((height - image) * width) % (size + 1)
        targets.append(
            Targets(
                torch.randint(CLASSES, (size,)),
                draw_boxes(size),
                segment_map.view(height - image, width),
            )
        )
    return targets


@pytest.fixture
def by_hand():
    """Two layers, two images, two queries; segments of classes 0 and 2 in image 0, 1 in image 1.

    Query 0 of image 1 has none. Layer 1 matches image 0 the other way round.
    """
    probabilities = torch.tensor(
        [
            [
                [[0.5, 0.2, 0.2, 0.1], [0.1, 0.1, 0.5, 0.3]],
                [[0.2, 0.3, 0.1, 0.4], [0.3, 0.4, 0.1, 0.2]],
            ],
            [
                [[0.1, 0.2, 0.6, 0.1], [0.2, 0.3, 0.4, 0.1]],
                [[0.1, 0.1, 0.1, 0.7], [0.1, 0.7, 0.1, 0.1]],
            ],
        ],
        dtype=torch.float64,
    )
    half, whole = [0.5, 0.5, 0.5, 1.0], [0.5, 0.5, 1.0, 1.0]
    targets = [
        Targets(torch.tensor([0, 2]), torch.tensor([half, whole]).double()),
        Targets(torch.tensor([1]), torch.tensor([half]).double()),
    ]
    matches = Matches(
        images=torch.tensor([0, 0, 1]),
        queries=torch.tensor([[0, 1, 1], [0, 1, 1]]),
        targets=torch.tensor([[0, 1, 2], [1, 0, 2]]),
        boxed=torch.arange(3),
        counts=[2, 1],
        cost=0.25,
    )
    boxes = torch.tensor(whole).double().expand(2, 2, 2, 4)
    return probabilities.log(), boxes, targets, matches


def test_target_classes_by_hand(criterion, by_hand):
    logits, _, targets, matches = by_hand
    classes = criterion.target_classes(logits, targets, matches)
    # 3 is no-object.
    assert classes.tolist() == [[[0, 2], [3, 1]], [[2, 0], [3, 1]]]


def test_set_losses_by_hand(criterion, by_hand):
    losses = criterion.set_losses(*by_hand)
    assert set(losses) == {*NAMES, *(f"{name}_0" for name in NAMES)}
    log = math.log
    # The mean of -log p(class) has weight 1 for the three segments, 1/8 for the no-object.
    wanted = {
        "loss_ce_0": -1.5 * (log(0.5) + log(0.5) + log(0.4) + log(0.4) / 8) / 3.125,
        "loss_ce": -1.5 * (log(0.6) + log(0.2) + log(0.7) + log(0.7) / 8) / 3.125,
    }
    # All boxes are the whole image; two of the three segments are half as wide: L1 0.5, GIoU 0.5.
    for suffix in ("", "_0"):
        wanted["loss_bbox" + suffix] = 5.0 * (0.5 + 0 + 0.5) / 3
        wanted["loss_giou" + suffix] = 2.0 * (0.5 + 0 + 0.5) / 3
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(wanted, rel=1e-12)


def test_diagnostics_by_hand(criterion, by_hand):
    logits, _, targets, matches = by_hand
    # The queries say 2, 2 and no-object, 1. Of the matched, the second is 0: one of three is
    # wrong. In both images, as many say something as there are segments.
    assert criterion.diagnostics(logits[1], targets, matches) == pytest.approx(
        {"class_error": 100 / 3, "cardinality_error": 0.0, "matching_cost": 0.25}
    )
    # The other layer's logits say 0, 2 and no-object, 1, of which only the last is right.
    error = criterion.diagnostics(logits[0], targets, matches)["class_error"]
    assert error == pytest.approx(200 / 3)


def test_too_many_and_too_few_found_do_not_cancel(criterion, by_hand):
    logits, _, targets, matches = by_hand
    logits[1, 0, 0, CLASSES] = 0.0  # one query of image 0 says no-object, for two segments
    assert criterion.diagnostics(logits[1], targets, matches)["cardinality_error"] == 0.5
    logits[1, 1, 0, 1] = 0.0  # and both of image 1 say 1, for one segment
    assert criterion.diagnostics(logits[1], targets, matches)["cardinality_error"] == 1.0


def test_diagnostics_without_segments(criterion):
    targets = draw_targets(0, 0)
    logits, boxes = draw_predictions(1, 2, 4)
    with torch.no_grad():
        logits[0, 0, :2, 1] = 10.0
        logits[0, 0, 2:, CLASSES] = 10.0
        logits[0, 1, :, CLASSES] = 10.0
    matches = criterion.matcher(logits, boxes, targets)
    # Image 0 finds two, image 1 none.
    assert criterion.diagnostics(logits[-1], targets, matches) == {
        "class_error": 0.0,
        "cardinality_error": 1.0,
        "matching_cost": 0.0,
    }


@pytest.mark.parametrize("layers", [1, 3])
def test_names_of_the_layers(criterion, layers):
    targets = draw_targets(2)
    logits, boxes = draw_predictions(layers, 1, 4)
    losses = criterion.set_losses(logits, boxes, targets, criterion.matcher(logits, boxes, targets))
    earlier = {f"{name}_{layer}" for name in NAMES for layer in range(layers - 1)}
    assert set(losses) == {*NAMES, *earlier}


def test_every_layer_has_the_losses_that_it_has_alone(criterion):
    targets = draw_targets(2, 0, 3)
    logits, boxes = draw_predictions(3, 3, 4)
    losses = criterion.set_losses(logits, boxes, targets, criterion.matcher(logits, boxes, targets))
    for layer, suffix in enumerate(("_0", "_1", "")):
        layer_logits, layer_boxes = logits[layer : layer + 1], boxes[layer : layer + 1]
        matches = criterion.matcher(layer_logits, layer_boxes, targets)
        alone = criterion.set_losses(layer_logits, layer_boxes, targets, matches)
        for name in NAMES:
            torch.testing.assert_close(losses[name + suffix], alone[name], rtol=1e-12, atol=0)


def all_losses(criterion, logits, boxes, mask_logits_of, targets, size=(6, 8)):
    """`mask_logits_of` (B, N, h, w)."""
    matches = criterion.matcher(logits, boxes, targets)
    mask_logits = mask_logits_of[matches.images, matches.queries[-1]]
    return {
        **criterion.set_losses(logits, boxes, targets, matches),
        **criterion.mask_losses(mask_logits, targets, matches, size),
    }


@pytest.mark.parametrize("sizes", [(0, 0), (0, 3), (3, 0), (0,), (6, 1)])
def test_any_number_of_segments_gives_finite_losses_and_gradients(criterion, sizes):
    """None in all images, in one, and more segments than queries."""
    logits, boxes = draw_predictions(2, len(sizes), 4)
    mask_logits = torch.randn(len(sizes), 4, 3, 4).double().requires_grad_()
    losses = all_losses(criterion, logits, boxes, mask_logits, draw_targets(*sizes))
    for name, loss in losses.items():
        assert loss.isfinite()
        if sum(sizes) == 0:
            assert (loss.item() == 0) == (not name.startswith("loss_ce"))
    sum(losses.values()).backward()
    for leaf in (logits, boxes, mask_logits):
        assert leaf.grad.isfinite().all()
    assert logits.grad.any(dim=-1).all()  # also where there is nothing to find


def test_losses_do_not_depend_on_the_order_of_segments(criterion):
    logits, boxes = draw_predictions(2, 2, 5)
    mask_logits = torch.randn(2, 5, 3, 4).double()
    targets = draw_targets(4, 3)
    losses = all_losses(criterion, logits, boxes, mask_logits, targets)
    shuffled = []
    for target in targets:
        order = torch.arange(len(target.labels)).roll(1)
        # Segment order[i] becomes segment i; VOID stays.
        numbers = torch.cat((torch.zeros(1, dtype=torch.int64), order.argsort() + 1))
        segment_map = numbers[target.segment_map]
        shuffled.append(Targets(target.labels[order], target.boxes[order], segment_map))
    again = all_losses(criterion, logits, boxes, mask_logits, shuffled)
    for name, loss in losses.items():
        torch.testing.assert_close(again[name], loss, rtol=1e-12, atol=0)


def test_more_segments_than_queries_are_all_counted(criterion):
    """Losses are divided by the 8 segments, not by the 7 pairs; masks at the padded size."""
    targets = draw_targets(3, 5)
    logits, boxes = draw_predictions(1, 2, 4)
    matches = criterion.matcher(logits, boxes, targets)
    assert matches.counts == [3, 4]
    found = boxes[0, matches.images, matches.queries[0]]
    wanted = torch.cat([target.boxes for target in targets])[matches.targets[0]]
    mask_logits = torch.randn(7, 3, 4).double()
    upsampled = F.interpolate(mask_logits[None], size=(6, 8), mode="bilinear")[0]
    masks = torch.stack(list(target_masks(targets, matches, (6, 8)))).double()
    by_name = {
        "loss_bbox": 5.0 * box_l1_loss(found, wanted) / 8,
        "loss_giou": 2.0 * box_giou_loss(found, wanted) / 8,
        "loss_mask": 0.7 * focal_loss(upsampled, masks, 0.25, 2.0) / 8,
        "loss_dice": 0.3 * dice_loss(upsampled, masks) / 8,
    }
    losses = criterion.set_losses(logits, boxes, targets, matches)
    losses.update(criterion.mask_losses(mask_logits, targets, matches, (6, 8)))
    for name, loss in by_name.items():
        torch.testing.assert_close(losses[name], loss, rtol=1e-12, atol=0)


def all_masks_at_once(criterion, mask_logits, masks, num_masks):
    """The plain way: everything upsampled, everything kept."""
    upsampled = F.interpolate(mask_logits[None], size=masks.shape[1:], mode="bilinear")[0]
    masks = masks.to(mask_logits.dtype)
    return {
        "loss_mask": 0.7 * focal_loss(upsampled, masks, 0.25, 2.0) / num_masks,
        "loss_dice": 0.3 * dice_loss(upsampled, masks) / num_masks,
    }


@pytest.mark.parametrize("sizes", [(1,), (3,), (2, 0, 4), (6, 1)])
@pytest.mark.parametrize("size", [(6, 8), (7, 13)])
@pytest.mark.parametrize("chunk", [1, 2, 20])
def test_a_few_masks_at_a_time_are_all_at_once(criterion, sizes, size, chunk):
    """Losses and gradients, at sizes that are no multiple of the logits' 3 x 4."""
    criterion.masks_per_chunk = chunk
    targets = draw_targets(*sizes)
    matches = criterion.matcher(*draw_predictions(1, len(sizes), 4), targets)
    masks = torch.stack(list(target_masks(targets, matches, size)))
    mask_logits = torch.randn(len(masks), 3, 4).double().requires_grad_()
    losses = criterion.mask_losses(mask_logits, targets, matches, size)
    wanted = all_masks_at_once(criterion, mask_logits, masks, sum(sizes))
    for name, loss in wanted.items():
        torch.testing.assert_close(losses[name], loss, rtol=1e-12, atol=0)
        (gradient,) = torch.autograd.grad(losses[name], mask_logits)
        (plain,) = torch.autograd.grad(loss, mask_logits)
        torch.testing.assert_close(gradient, plain, rtol=0, atol=1e-14)


def test_masks_are_kept_small_for_the_backward_pass(criterion):
    """Of each pair the logits as they come, and a bit map: nothing else is of the padded size."""
    targets = draw_targets(3, 2, height=24, width=32)
    matches = criterion.matcher(*draw_predictions(1, 2, 4), targets)
    mask_logits = torch.randn(5, 6, 8).double().requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor.numel() * tensor.element_size()) or tensor, lambda x: x
    ):
        losses = criterion.mask_losses(mask_logits, targets, matches, (24, 32))
    sum(losses.values()).backward()
    assert mask_logits.grad.abs().sum(dim=(1, 2)).all()
    assert sum(kept) < 5 * 24 * 32 * 8  # one float64 map a pair


def test_no_mask_at_a_time_is_refused():
    with pytest.raises(UserError, match="LOSS_MASKS_PER_CHUNK is 0"):
        SetCriterion(matcher=None, num_classes=CLASSES, masks_per_chunk=0, **LOSS_WEIGHTS)
