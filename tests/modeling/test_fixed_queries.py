"""Queries that are for one class each: how they are matched, and what they are trained on."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from detectron2.utils import comm
from parts import LOSS_WEIGHTS

from detr_d2.modeling.criterion import SetCriterion, number_of_targets
from detr_d2.modeling.losses import box_giou_loss, box_l1_loss, dice_loss, focal_loss
from detr_d2.modeling.matcher import HungarianMatcher, Matches, Targets, matching_cost

COSTS = {"cost_class": 1.0, "cost_l1": 5.0, "cost_giou": 2.0}
CLASSES = 5
FIXED = (3, 1, 4)  # of queries 0, 1, 2; the others find the things 0 and 2
THINGS = (0, 2)
CROSS_ENTROPY_IN_A_WINDOW = 0.1  # what it weighs, beside `mask_weight`


@pytest.fixture
def matcher():
    return HungarianMatcher(**COSTS, fixed_classes=FIXED)


@pytest.fixture
def criterion(matcher):
    return SetCriterion(matcher=matcher, num_classes=CLASSES, **LOSS_WEIGHTS).double()


def draw_boxes(*shape):
    return torch.cat((torch.rand(*shape, 2), 0.1 + 0.4 * torch.rand(*shape, 2)), dim=-1).double()


def draw_predictions(layers, batch, queries):
    logits = torch.randn(layers, batch, queries, CLASSES + 1).double()
    return logits.requires_grad_(), draw_boxes(layers, batch, queries).requires_grad_()


def draw_targets(*labels):
    return [
        Targets(torch.tensor(classes, dtype=torch.int64), draw_boxes(len(classes)))
        for classes in labels
    ]


def cheapest_pairs(cost, queries, segments):
    """The pairs (query, segment) of these, as many as there can be, of least total cost."""
    if len(queries) >= len(segments):
        choices = [list(zip(p, segments)) for p in itertools.permutations(queries, len(segments))]
    else:
        choices = [list(zip(queries, p)) for p in itertools.permutations(segments, len(queries))]
    return set(min(choices, key=lambda pairs: sum(float(cost[pair]) for pair in pairs)))


def pairs_by_trying_all(cost, labels):
    """(N, T) -> {(query, segment)}: a fixed query has the segment of its class, the cheapest if
    there are several; the other queries and segments are matched among themselves."""
    pairs = set()
    for query, class_ in enumerate(FIXED):
        segments = [s for s, label in enumerate(labels) if label == class_]
        if segments:
            pairs.add((query, min(segments, key=lambda s: float(cost[query, s]))))
    things = [s for s, label in enumerate(labels) if label in THINGS]
    return pairs | cheapest_pairs(cost, range(len(FIXED), len(cost)), things)


@pytest.mark.parametrize(
    "queries, labels",
    [
        (7, [[0, 1, 2, 3]]),
        (7, [[4, 0, 0, 2], [1, 3, 2], [2, 2, 2, 2, 1, 3, 4]]),
        (5, [[0, 2, 2, 0, 1], [0, 0, 0]]),  # more things than queries for them
        (4, [[0, 3, 2, 0, 2, 1, 4, 0]]),
        (5, [[0, 2], [2, 1]]),  # no stuff
        (5, [[3, 1], [4, 0]]),  # no things
        (5, [[3, 1], [4], [1, 4, 3]]),  # no things at all
        (6, [[], [0, 1], []]),
        (6, [[1, 1, 0], [3, 3, 3, 1, 4, 4]]),  # several segments of one stuff class
        (5, [[1, 1, 1, 1, 1, 1, 0, 0, 2]]),
    ],
)
@pytest.mark.parametrize("layers", [1, 3])
def test_matching_is_the_cheapest_that_fixed_classes_allow(matcher, queries, labels, layers):
    logits, boxes = draw_predictions(layers, len(labels), queries)
    targets = draw_targets(*labels)
    matches = matcher(logits, boxes, targets)

    wanted_counts, cost_of_last = [], []
    for layer in range(layers):
        start, counts = 0, []
        found = list(
            zip(
                matches.images.tolist(),
                matches.queries[layer].tolist(),
                matches.targets[layer].tolist(),
                strict=True,
            )
        )
        for image, target in enumerate(targets):
            cost = matching_cost(
                logits[layer, image], boxes[layer, image], target.labels, target.boxes, **COSTS
            )
            wanted = pairs_by_trying_all(cost, target.labels.tolist())
            of_image = [(query, segment - start) for b, query, segment in found if b == image]
            assert len(of_image) == len(wanted)
            assert set(of_image) == wanted
            counts.append(len(wanted))
            if layer == layers - 1:
                cost_of_last.extend(float(cost[pair]) for pair in wanted)
            start += len(target.labels)
        wanted_counts.append(counts)
    assert matches.counts == wanted_counts[-1]
    assert all(counts == matches.counts for counts in wanted_counts)
    assert matches.images.tolist() == sorted(matches.images.tolist())
    for tensor in (matches.images, matches.queries, matches.targets):
        assert tensor.dtype == torch.int64
    assert matches.cost == pytest.approx(sum(cost_of_last) / len(cost_of_last), rel=1e-12)


@pytest.mark.parametrize("labels", [[[]], [[], []]])
def test_no_segment_at_all(matcher, labels):
    matches = matcher(*draw_predictions(2, len(labels), 5), draw_targets(*labels))
    assert matches.images.shape == (0,)
    assert matches.queries.shape == matches.targets.shape == (2, 0)
    assert matches.counts == [0] * len(labels)
    assert matches.cost == 0.0


def test_a_fixed_query_has_its_class_whatever_it_costs(matcher):
    """Its answer is as wrong as can be, and another query's as right."""
    targets = draw_targets([1])
    logits, boxes = draw_predictions(1, 1, 6)
    with torch.no_grad():
        boxes[0, 0, :] = targets[0].boxes[0]
        boxes[0, 0, 1] = torch.tensor([0.0, 0.0, 1e-3, 1e-3])
        logits[0, 0, :, 1] = 50.0
        logits[0, 0, 1, 1] = -50.0
    matches = matcher(logits, boxes, targets)
    assert matches.queries.tolist() == [[1]]


def test_all_classes_fixed():
    """As many queries as classes, none for things."""
    matcher = HungarianMatcher(**COSTS, fixed_classes=(2, 0, 1))
    matches = matcher(*draw_predictions(2, 2, 3), draw_targets([0, 1], [2, 0]))
    pairs = set(zip(matches.images.tolist(), matches.queries[0].tolist()))
    assert pairs == {(0, 1), (0, 2), (1, 0), (1, 1)}
    assert matches.counts == [2, 2]


@pytest.mark.parametrize("part", ["logits", "boxes", "target boxes"])
@pytest.mark.parametrize("row", [0, 4])
def test_what_is_not_finite_has_pairs_as_well(matcher, part, row):
    """Of a fixed query whose class is not in the image too, and of stuff's boxes."""
    logits, boxes = (x.detach() for x in draw_predictions(2, 2, 5))
    targets = draw_targets([1, 2], [4, 0, 1, 1, 2])
    whole = matcher(logits, boxes, targets)
    {"logits": logits[0, 0], "boxes": boxes[1, 0], "target boxes": targets[1].boxes}[part][row] = (
        float("nan")
    )
    matches = matcher(logits, boxes, targets)
    assert matches.counts == whole.counts
    assert matches.targets.sort(1).values.equal(whole.targets.sort(1).values)


# Losses of the set


def set_losses_by_loop(logits, boxes, targets, matches):
    """Of one layer, `matches` having that alone; boxes of things alone."""
    labels = [label for t in targets for label in t.labels.tolist()]
    target_boxes = torch.cat([t.boxes for t in targets])
    pairs = zip(matches.images.tolist(), matches.queries[0].tolist(), matches.targets[0].tolist())
    segment = {(image, query): target for image, query, target in pairs}
    total = weights = fixed = l1 = giou = 0.0
    for image, query in itertools.product(range(logits.shape[0]), range(logits.shape[1])):
        found = segment.get((image, query))
        class_ = CLASSES if found is None else labels[found]
        wrong = -logits[image, query].log_softmax(0)[class_]
        if query < len(FIXED):
            fixed = fixed + wrong / (len(FIXED) * logits.shape[0])
            continue
        weight = 0.125 if found is None else 1.0
        total, weights = total + weight * wrong, weights + weight
        if found is not None:
            box, wanted = boxes[image, query, None], target_boxes[found, None]
            l1 = l1 + box_l1_loss(box, wanted)
            giou = giou + box_giou_loss(box, wanted)
    things = max(1, sum(label in THINGS for label in labels))
    return {
        "loss_ce": 1.5 * total / weights,
        "loss_ce_fixed": 1.5 * fixed,
        "loss_bbox": 5.0 * l1 / things,
        "loss_giou": 2.0 * giou / things,
    }


LABELS = {
    "both": [[0, 1, 2, 3], [1, 0, 4], [2, 2]],
    "things": [[0, 2], [2], []],
    "stuff": [[1, 4], [], [3]],
    "none": [[], [], []],
    "too many": [[0, 0, 2, 1, 2, 2, 0], [3, 3], [1, 1, 4, 2]],
}


def losses_of(criterion, labels, layers=3):
    targets = draw_targets(*labels)
    logits, boxes = draw_predictions(layers, len(labels), 6)
    matches = criterion.matcher(logits, boxes, targets)
    return logits, boxes, targets, matches, criterion.set_losses(logits, boxes, targets, matches)


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("layers", [1, 3])
def test_class_losses_are_those_of_a_plain_loop(criterion, labels, layers):
    logits, boxes, targets, matches, losses = losses_of(criterion, labels, layers)
    for layer in range(layers):
        suffix = "" if layer == layers - 1 else f"_{layer}"
        of_layer = Matches(
            matches.images,
            matches.queries[layer, None],
            matches.targets[layer, None],
            matches.boxed,
            [],
            0.0,
        )
        wanted = set_losses_by_loop(logits[layer], boxes[layer], targets, of_layer)
        for name in ("loss_ce", "loss_ce_fixed"):
            torch.testing.assert_close(losses[name + suffix], wanted[name], rtol=1e-12, atol=0)


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_box_losses_are_those_of_a_plain_loop(criterion, labels):
    """Over things alone: a query of a class of its own needs no box."""
    logits, boxes, targets, matches, losses = losses_of(criterion, labels)
    for layer, suffix in enumerate(("_0", "_1", "")):
        of_layer = Matches(
            matches.images,
            matches.queries[layer, None],
            matches.targets[layer, None],
            matches.boxed,
            [],
            0.0,
        )
        wanted = set_losses_by_loop(logits[layer], boxes[layer], targets, of_layer)
        for name in ("loss_bbox", "loss_giou"):
            assert losses[name + suffix].item() == pytest.approx(float(wanted[name]), rel=1e-12)


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_losses_and_gradients_are_finite(criterion, labels):
    logits, boxes, *_, losses = losses_of(criterion, labels)
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert logits.grad.isfinite().all()
    assert boxes.grad.isfinite().all()
    # Every query learns a class, also where there is nothing to find.
    assert logits.grad.any(-1).all()


def test_without_fixed_classes_there_is_no_loss_of_theirs(criterion):
    matcher = HungarianMatcher(**COSTS)
    plain = SetCriterion(matcher=matcher, num_classes=CLASSES, **LOSS_WEIGHTS).double()
    names = set(losses_of(plain, LABELS["both"], layers=1)[-1])
    assert names == {"loss_ce", "loss_bbox", "loss_giou"}
    names = set(losses_of(criterion, LABELS["both"], layers=1)[-1])
    assert names == {"loss_ce", "loss_bbox", "loss_giou", "loss_ce_fixed"}


# Losses of further pairs


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("number", [0, 1, 7])
def test_pair_losses_are_those_of_a_plain_loop(criterion, layers, number):
    logits, boxes = (x[:, 0] for x in draw_predictions(layers, 1, number))
    labels, wanted_boxes = torch.randint(CLASSES, (number,)), draw_boxes(number)
    losses = criterion.pair_losses(logits, boxes, labels, wanted_boxes)
    wanted = {"loss_ce_further": 0.0, "loss_bbox_further": 0.0, "loss_giou_further": 0.0}
    for layer, pair in itertools.product(range(layers), range(number)):
        box, true = boxes[layer, pair, None], wanted_boxes[pair, None]
        class_loss = -logits[layer, pair].log_softmax(0)[labels[pair]]
        wanted["loss_ce_further"] += 1.5 * class_loss.item() / number
        wanted["loss_bbox_further"] += 5.0 * box_l1_loss(box, true).item() / number
        wanted["loss_giou_further"] += 2.0 * box_giou_loss(box, true).item() / number
    assert {k: v.item() for k, v in losses.items()} == pytest.approx(wanted, rel=1e-12)
    assert all(loss.requires_grad for loss in losses.values())


# Losses of masks at their own size


@pytest.mark.parametrize("number", [0, 1, 4])
def test_mask_losses_in_a_window_are_cross_entropy_and_dice(criterion, number):
    logits = 2 * torch.randn(number, 5, 5).double()
    masks = torch.randint(2, (number, 5, 5)).double()
    losses = criterion.window_mask_losses(logits, masks)
    wanted = sum(F.softplus(x * (1 - 2 * m)).mean().item() for x, m in zip(logits, masks))
    wanted *= 0.7 * CROSS_ENTROPY_IN_A_WINDOW
    assert losses["loss_mask"].item() == pytest.approx(wanted, rel=1e-12)
    dice = 0.3 * dice_loss(logits, masks).item()
    assert losses["loss_dice"].item() == pytest.approx(dice, rel=1e-12)


@pytest.mark.parametrize("number", [0, 1, 4])
def test_mask_losses_of_the_whole_image_are_focal_and_dice(criterion, number):
    logits = 2 * torch.randn(number, 3, 4).double()
    masks = torch.randint(2, (number, 3, 4)).double()
    losses = criterion.small_mask_losses(logits, masks)
    focal = 0.7 * focal_loss(logits, masks, 0.25, 2.0).item()
    dice = 0.3 * dice_loss(logits, masks).item()
    assert losses["loss_mask"].item() == pytest.approx(focal, rel=1e-12)
    assert losses["loss_dice"].item() == pytest.approx(dice, rel=1e-12)


# What losses are divided by


@pytest.mark.parametrize(
    "labels, but_not, number",
    [
        ([[0, 1, 2], [1]], (), 4.0),
        ([[0, 1, 2], [1]], (1,), 2.0),
        ([[0, 1, 2], [1]], (4, 1, 2), 1.0),
        ([[0, 1, 2], [1]], (3,), 4.0),
        ([[1, 1], [1]], (1,), 1.0),  # at least 1
        ([[], []], (1,), 1.0),
        ([[], []], (), 1.0),
    ],
)
def test_segments_of_some_classes_do_not_count(labels, but_not, number):
    found = number_of_targets(draw_targets(*labels), torch.device("cpu"), but_not=but_not)
    assert found.dtype == torch.float32
    assert found == number


def test_the_number_that_counts_is_the_mean_of_all_processes(monkeypatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    # The other process has 6.
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: tensor.add_(6))
    targets = draw_targets([0, 1, 2], [1, 0])
    assert number_of_targets(targets, torch.device("cpu"), but_not=(1,)) == 4.5
