"""Segments that count more or less than others in the losses."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from detectron2.utils.events import EventStorage
from parts import LOSS_WEIGHTS, PARTS
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from detr_d2.modeling.criterion import SetCriterion, number_of_targets, target_masks
from detr_d2.modeling.dense_head import Cells
from detr_d2.modeling.dense_targets import Assignment, dense_losses
from detr_d2.modeling.losses import box_giou_loss, box_l1_loss, dice_loss, focal_loss
from detr_d2.modeling.matcher import HungarianMatcher, Targets, weights_of
from detr_d2.modeling.semantic import (
    classes_of,
    cross_entropy_of_shares,
    dice_of_shares,
    pad_segment_maps,
    shares_of_classes,
    weights_of_pixels,
)

CLASSES = 5
LABELS = {
    "some": [[0, 1, 2, 3], [1, 0, 4], [2]],
    "more than queries": [[0, 2, 2, 0, 2, 0, 0], [3, 1, 4]],
    "an image without": [[1, 2], []],
    "none": [[], []],
}


def draw_boxes(*shape):
    return torch.cat((torch.rand(*shape, 2), 0.1 + 0.4 * torch.rand(*shape, 2)), dim=-1).double()


def draw_targets(*labels, height=6, width=8):
    """Weights of 0, 1/4, 1 and 2; VOID and all segments in each image, whose heights differ."""
    targets = []
    for image, classes in enumerate(labels):
        segment_map = torch.arange((height - image) * width) % (len(classes) + 1)
        targets.append(
            Targets(
                torch.tensor(classes, dtype=torch.int64),
                draw_boxes(len(classes)),
                segment_map.view(height - image, width),
                torch.tensor([0, 0.25, 1, 2])[torch.randint(4, (len(classes),))],
            )
        )
    return targets


def without(targets):
    return [replace(target, weights=None) for target in targets]


def build_criterion(fixed=()):
    matcher = HungarianMatcher(cost_class=1.0, cost_l1=5.0, cost_giou=2.0, fixed_classes=fixed)
    return SetCriterion(matcher=matcher, num_classes=CLASSES, **LOSS_WEIGHTS).double()


def draw_predictions(layers, batch, queries=5):
    logits = torch.randn(layers, batch, queries, CLASSES + 1).double()
    return logits.requires_grad_(), draw_boxes(layers, batch, queries).requires_grad_()


def plain_set_losses(logits, boxes, targets, matches, layer, fixed):
    """Of one layer, query by query."""
    labels = torch.cat([t.labels for t in targets]).tolist()
    weights = torch.cat([t.weights for t in targets]).tolist()
    true_boxes = torch.cat([t.boxes for t in targets])
    pairs = zip(matches.images.tolist(), matches.queries[layer].tolist())
    segment_of = dict(zip(pairs, matches.targets[layer].tolist()))
    sums = {"loss_ce": [0.0, 0.0], "loss_ce_fixed": [0.0, 0.0]}
    l1 = giou = 0.0
    for image, query in itertools.product(range(logits.shape[1]), range(logits.shape[2])):
        segment = segment_of.get((image, query))
        class_ = CLASSES if segment is None else labels[segment]
        weight = 1.0 if segment is None else weights[segment]
        if segment is None and query >= len(fixed):
            weight = LOSS_WEIGHTS["no_object_weight"]
        log_probability = logits[layer, image, query].log_softmax(0)[class_]
        total = sums["loss_ce_fixed" if query < len(fixed) else "loss_ce"]
        total[0] = total[0] - weight * log_probability
        total[1] += weight
        if segment is not None and query >= len(fixed):
            pair = boxes[layer, image, query, None], true_boxes[segment, None]
            l1, giou = l1 + weight * box_l1_loss(*pair), giou + weight * box_giou_loss(*pair)
    number = max(1, sum(w for w, label in zip(weights, labels) if label not in fixed))
    losses = {name: 1.5 * total / max(1, among) for name, (total, among) in sums.items()}
    if not fixed:
        del losses["loss_ce_fixed"]
    return {**losses, "loss_bbox": 5.0 * l1 / number, "loss_giou": 2.0 * giou / number}


def assert_same(found, wanted, leaves):
    """Losses and their gradients."""
    assert found.keys() == wanted.keys()
    for name, loss in found.items():
        plain = wanted[name]
        if not torch.is_tensor(plain):  # a sum over nothing
            assert loss.item() == plain, name
            continue
        torch.testing.assert_close(loss, plain, rtol=1e-12, atol=1e-14, msg=name)
        gradients = torch.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True)
        plain = torch.autograd.grad(plain, leaves, retain_graph=True, allow_unused=True)
        for gradient, by_loop in zip(gradients, plain):
            both = [torch.zeros(1) if g is None else g for g in (gradient, by_loop)]
            assert (both[0] - both[1]).abs().max() < 1e-12, name


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("fixed", [(), (3, 1, 4)])
def test_set_losses_are_those_of_a_plain_loop(labels, fixed):
    criterion, targets = build_criterion(fixed), draw_targets(*labels)
    logits, boxes = draw_predictions(3, len(labels), 5 + len(fixed))
    matches = criterion.matcher(logits, boxes, targets)
    losses = criterion.set_losses(logits, boxes, targets, matches)
    for layer, suffix in enumerate(("_0", "_1", "")):
        wanted = plain_set_losses(logits, boxes, targets, matches, layer, fixed)
        found = {name: losses[name + suffix] for name in wanted}
        assert_same(found, wanted, (logits, boxes))
    assert len(losses) == 3 * len(wanted)


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("chunk", [1, 3])
def test_mask_losses_are_those_of_a_plain_loop(labels, chunk):
    criterion, targets = build_criterion(), draw_targets(*labels)
    criterion.masks_per_chunk = chunk
    matches = criterion.matcher(*draw_predictions(1, len(labels)), targets)
    logits = torch.randn(len(matches.images), 3, 4).double().requires_grad_()
    weights = torch.cat([t.weights for t in targets])
    number = max(1, weights.sum().item())
    focal = dice = 0.0
    masks = target_masks(targets, matches, (6, 8))
    for logit, mask, segment in zip(logits, masks, matches.targets[-1].tolist()):
        mask = mask[None].double()
        upsampled = F.interpolate(logit[None, None], size=(6, 8), mode="bilinear")[0]
        focal = focal + weights[segment].item() * focal_loss(upsampled, mask, 0.25, 2.0)
        dice = dice + weights[segment].item() * dice_loss(upsampled, mask)
    wanted = {"loss_mask": 0.7 * focal / number, "loss_dice": 0.3 * dice / number}
    losses = criterion.mask_losses(logits, targets, matches, (6, 8))
    assert_same(losses, wanted, (logits,))


@pytest.mark.parametrize("number", [0, 1, 6])
def test_losses_of_further_pairs_and_windows_are_those_of_a_plain_loop(number):
    criterion = build_criterion()
    logits, boxes = draw_predictions(2, 1, number)
    logits, boxes = logits[:, 0], boxes[:, 0]
    labels, true_boxes = torch.randint(CLASSES, (number,)), draw_boxes(number)
    weights = torch.tensor([0.25, 2, 0, 1, 0.25, 0.25])[:number].double()
    losses = criterion.pair_losses(logits, boxes, labels, true_boxes, weights)
    names = ("loss_ce_further", "loss_bbox_further", "loss_giou_further")
    wanted = dict.fromkeys(names, 0.0)
    for layer, pair in itertools.product(range(2), range(number)):
        weight = weights[pair].item() / max(1, weights.sum().item())
        compared = boxes[layer, pair, None], true_boxes[pair, None]
        log_probability = logits[layer, pair].log_softmax(0)[labels[pair]]
        wanted["loss_ce_further"] -= 1.5 * weight * log_probability
        wanted["loss_bbox_further"] += 5.0 * weight * box_l1_loss(*compared)
        wanted["loss_giou_further"] += 2.0 * weight * box_giou_loss(*compared)
    assert_same(losses, wanted, (logits, boxes))

    mask_logits = torch.randn(number, 4, 5).double().requires_grad_()
    masks = torch.randint(2, (number, 4, 5)).double()
    for losses_at in (criterion.small_mask_losses, criterion.window_mask_losses):
        wanted = {"loss_mask": 0.0, "loss_dice": 0.0}
        for k, name in itertools.product(range(number), wanted):
            alone = losses_at(mask_logits[k, None], masks[k, None])
            wanted[name] = wanted[name] + weights[k].item() * alone[name]
        assert_same(losses_at(mask_logits, masks, weights), wanted, (mask_logits,))


@pytest.mark.parametrize("number", [0, 4])
def test_dense_losses_are_those_of_a_plain_loop(number):
    """Cells of a thing have its weight, all others 1."""
    logits = torch.randn(2, 6, 3).double().requires_grad_()
    corners = 20 * torch.rand(2, 6, 2).double()
    boxes = torch.cat((corners, corners + 30), -1).requires_grad_()
    inside = torch.ones(2, 6, dtype=torch.bool)
    inside[1, 3:] = False
    cells = Cells(torch.zeros(2, 6, 1), logits, boxes, inside, None)
    weights = torch.tensor([0.25, 0.0, 2.0])
    targets = [
        Targets(torch.tensor([0, 4]), draw_boxes(2), weights=weights[:2]),
        Targets(torch.tensor([2]), draw_boxes(1), weights=weights[2:]),
    ]
    pairs = [(0, 1, 0), (0, 2, 1), (0, 4, 0), (1, 0, 2)][:number]  # image, cell, segment
    columns = torch.tensor(pairs, dtype=torch.int64).view(-1, 3).unbind(1)
    number_of_thing, sizes = torch.tensor([0, -1, 1, -1, 2]), torch.full((2, 2), 50.0).double()
    losses = dense_losses(cells, Assignment(*columns), targets, number_of_thing, sizes)

    labels, true_boxes = [0, 4, 2], torch.cat([t.boxes for t in targets])
    owner = {(image, cell): segment for image, cell, segment in pairs}
    among = max(1, sum(weights[segment].item() for segment in owner.values()))
    of_class = of_box = 0.0
    for image, cell in itertools.product(range(2), range(6)):
        segment = owner.get((image, cell))
        wanted = torch.zeros(3).double()
        weight = 1.0
        if segment is not None:
            weight = weights[segment].item()
            wanted[number_of_thing[labels[segment]]] = 1
            cx, cy, w, h = (50 * true_boxes[segment]).tolist()
            corners = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
            true = torch.tensor(corners, dtype=torch.float64)
            of_box = of_box + weight * generalized_box_iou_loss(boxes[image, cell], true)
        if inside[image, cell]:
            focal = sigmoid_focal_loss(logits[image, cell], wanted, alpha=0.25, gamma=2.0)
            of_class = of_class + weight * focal.sum()
    wanted = {"loss_dense_class": 2 * of_class / among, "loss_dense_giou": 2 * of_box / among}
    assert_same(losses, wanted, (logits, boxes))


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_semantic_losses_are_those_of_a_plain_loop(labels):
    """A pixel of weight w is w pixels; a class of an image weighs as its pixels on average."""
    targets = draw_targets(*labels, height=9, width=12)
    logits = torch.randn(len(labels), CLASSES, 3, 4).double().requires_grad_()
    log_probability = logits.permute(0, 2, 3, 1).log_softmax(-1)
    maps = pad_segment_maps(targets, (9, 12))
    classes, weights = classes_of(maps, targets), weights_of_pixels(maps, targets)
    shares, counted = (shares_of_classes(classes, logits, w) for w in (weights, None))
    found = {
        "cross-entropy": cross_entropy_of_shares(log_probability, shares),
        "dice": dice_of_shares(log_probability, shares, counted),
    }
    entropy = dice = 0.0
    pixels = classes_counted = 0.0
    for image, target in enumerate(targets):
        of_class = {}  # weight, place and class of the pixels
        for y, x in itertools.product(range(target.segment_map.shape[0]), range(12)):
            segment = int(target.segment_map[y, x]) - 1
            if segment >= 0:
                weight, class_ = target.weights[segment].item(), int(target.labels[segment])
                place = image, y // 3, x // 3
                entropy = entropy - weight * log_probability[place][class_]
                pixels += weight
                of_class.setdefault(class_, []).append((weight, place))
        everything = [row for rows in of_class.values() for row in rows]
        for class_, rows in of_class.items():
            both = sum(w * log_probability[place][class_].exp() for w, place in rows)
            of_map = sum(w * log_probability[place][class_].exp() for w, place in everything)
            of_truth = math.fsum(w for w, _ in rows)
            mean = of_truth / len(rows)
            dice = dice + mean * (1 - (2 * both + 1) / (of_map + of_truth + 1))
            classes_counted += mean
    wanted = {"cross-entropy": entropy / max(1, pixels), "dice": dice / max(1, classes_counted)}
    assert_same(found, wanted, (logits,))


def test_weights_are_of_all_images_or_of_none():
    targets = draw_targets([0, 1], [2])
    assert weights_of(without(targets)) is None
    assert weights_of(targets).tolist() == [*targets[0].weights, *targets[1].weights]
    assert weights_of(targets, torch.tensor([2, 0])).tolist() == [
        targets[1].weights[0],
        targets[0].weights[0],
    ]
    number = number_of_targets(targets, torch.device("cpu"), but_not=(1,))
    assert number == max(1, targets[0].weights[0] + targets[1].weights[0])


EXACT = ("MODEL.RESNETS.NORM", "FrozenBN", "MODEL.DETR.DROPOUT", 0.0)
MODELS = {**PARTS, "dice": (*PARTS["proposals"], "MODEL.DETR.SEMANTIC_DICE_WEIGHT", 2.0)}


def losses_and_gradients(model, batch):
    torch.manual_seed(1)  # of further queries
    model.zero_grad()
    with EventStorage():
        losses = model(batch)
    sum(losses.values()).backward()
    return losses, {name: p.grad for name, p in model.named_parameters()}


def weighed(batch, *weights):
    for x, of_image in zip(batch, weights):
        x["instances"].gt_weights = torch.tensor(of_image, dtype=torch.float32)
    return batch


@pytest.mark.parametrize("name", MODELS)
def test_a_model_with_weights_of_one_is_that_without(build_model, draw_input, name):
    model = build_model("PanopticDETR", *EXACT, *MODELS[name]).double().train()
    batch = [draw_input(64, 48, segments=5), draw_input(48, 64, segments=0)]
    losses, gradients = losses_and_gradients(model, batch)
    weights_of_one = weighed(batch, [1.0] * 5, [])
    again, other_gradients = losses_and_gradients(model, weights_of_one)
    assert losses.keys() == again.keys()
    for loss in losses:
        torch.testing.assert_close(again[loss], losses[loss], rtol=1e-12, atol=1e-13, msg=loss)
    for parameter, gradient in gradients.items():
        torch.testing.assert_close(
            other_gradients[parameter], gradient, rtol=1e-6, atol=1e-9, msg=parameter
        )


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("weight", [0.0, 0.25])
def test_what_weighs_less_teaches_less(build_model, draw_input, name, weight):
    """Nothing at 0, where all losses that are of segments alone vanish and no gradient is NaN."""
    model = build_model("PanopticDETR", *EXACT, *MODELS[name]).double().train()
    batch = [draw_input(64, 48, segments=5), draw_input(48, 64, segments=2)]
    full, _ = losses_and_gradients(model, weighed(batch, [1.0, 0, 0, 0, 0], [0.0, 0.0]))
    # The weights of the segments have a sum of at most 1, by which the losses are divided then; of
    # further queries, several have the same segment.
    less, gradients = losses_and_gradients(model, weighed(batch, [weight, 0, 0, 0, 0], [0.0, 0.0]))
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients.values())
    names = ("loss_mask", "loss_dice", "loss_bbox")
    of_pairs = [n for n in full if n.startswith(names) and not n.endswith("further")]
    assert len(of_pairs) >= 3
    for loss in of_pairs:
        torch.testing.assert_close(less[loss], weight * full[loss], rtol=1e-9, atol=0, msg=loss)
