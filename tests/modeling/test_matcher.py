import itertools

import pytest
import torch

from detr_d2.errors import UserError
from detr_d2.modeling.matcher import HungarianMatcher, Targets, matching_cost

COSTS = {"cost_class": 1.0, "cost_l1": 5.0, "cost_giou": 2.0}
NUM_CLASSES = 3


def draw_boxes(*shape):
    return torch.cat((torch.rand(*shape, 2), 0.1 + 0.4 * torch.rand(*shape, 2)), dim=-1).double()


def draw_predictions(layers, batch, queries):
    logits = torch.randn(layers, batch, queries, NUM_CLASSES + 1).double()
    return logits, draw_boxes(layers, batch, queries)


def draw_targets(*sizes):
    return [Targets(torch.randint(NUM_CLASSES, (size,)), draw_boxes(size)) for size in sizes]


@pytest.fixture
def by_hand():
    """Two queries of two classes and no-object, two segments."""
    # Corners: the upper left quarter, the right half.
    boxes = torch.tensor([[0.25, 0.25, 0.5, 0.5], [0.75, 0.5, 0.5, 1.0]])
    probabilities = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]])
    # Corners: the upper left quarter, everything.
    target_boxes = torch.tensor([[0.25, 0.25, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]])
    return probabilities.log(), boxes, torch.tensor([1, 0]), target_boxes


#                 p(label)     L1                         GIoU
# query 0, seg. 0    0.3    0                          1
# query 0, seg. 1    0.5    .25+.25+.5+.5 = 1.5        1/4 / 1 - 0 = 0.25
# query 1, seg. 0    0.6    .5+.25+0+.5 = 1.25         0 - (1 - 3/4) / 1 = -0.25
# query 1, seg. 1    0.1    .25+0+.5+0 = 0.75          1/2 / 1 - 0 = 0.5
@pytest.mark.parametrize(
    "weights, wanted",
    [
        ((1.0, 0.0, 0.0), [[-0.3, -0.5], [-0.6, -0.1]]),
        ((0.0, 1.0, 0.0), [[0.0, 1.5], [1.25, 0.75]]),
        ((0.0, 0.0, 1.0), [[-1.0, -0.25], [0.25, -0.5]]),
        # 5 L1 - p - 2 GIoU
        ((1.0, 5.0, 2.0), [[-2.3, 6.5], [6.15, 2.65]]),
    ],
)
def test_cost_by_hand(by_hand, weights, wanted):
    cost = matching_cost(*by_hand, **dict(zip(COSTS, weights)))
    torch.testing.assert_close(cost, torch.tensor(wanted), rtol=0, atol=1e-6)


def test_match_by_hand(by_hand):
    logits, boxes, labels, target_boxes = by_hand
    # Segment 1 first, so that queries and segments are not in the same order.
    targets = [Targets(labels.flip(0), target_boxes.flip(0))]
    matches = HungarianMatcher(**COSTS)(logits[None, None], boxes[None, None], targets)
    assert matches.images.tolist() == [0, 0]
    assert matches.queries.tolist() == [[0, 1]]
    assert matches.targets.tolist() == [[1, 0]]
    assert matches.counts == [2]
    # -2.3 + 2.65 for two pairs; the other way round they cost 12.65.
    assert matches.cost == pytest.approx(0.175, abs=1e-6)


def cheapest_pairs(cost):
    """(N, T) -> the set of (query, segment) of least total cost, of all that there are."""
    rows, columns = cost.shape
    if rows >= columns:
        choices = [
            list(zip(p, range(columns))) for p in itertools.permutations(range(rows), columns)
        ]
    else:
        choices = [list(zip(range(rows), p)) for p in itertools.permutations(range(columns), rows)]
    return set(min(choices, key=lambda pairs: sum(float(cost[pair]) for pair in pairs)))


@pytest.mark.parametrize(
    "queries, sizes",
    [
        (4, [3]),
        (5, [2, 4, 1]),
        (4, [0, 3]),
        (4, [2, 0, 1]),
        (2, [4, 1]),  # more segments than queries
        (3, [5, 0, 3]),
    ],
)
def test_matching_is_the_cheapest_of_all(queries, sizes):
    layers = 3
    logits, boxes = draw_predictions(layers, len(sizes), queries)
    targets = draw_targets(*sizes)
    matches = HungarianMatcher(**COSTS)(logits, boxes, targets)

    assert matches.counts == [min(queries, size) for size in sizes]
    images = [image for image, count in enumerate(matches.counts) for _ in range(count)]
    assert matches.images.tolist() == images
    for tensor in (matches.images, matches.queries, matches.targets):
        assert tensor.dtype == torch.int64
    assert matches.queries.shape == matches.targets.shape == (layers, len(images))

    cost_of_last = []
    for layer in range(layers):
        start = 0
        pairs = list(zip(images, matches.queries[layer].tolist(), matches.targets[layer].tolist()))
        for image, target in enumerate(targets):
            cost = matching_cost(
                logits[layer, image], boxes[layer, image], target.labels, target.boxes, **COSTS
            )
            found = {(query, segment - start) for i, query, segment in pairs if i == image}
            assert found == cheapest_pairs(cost)
            if layer == layers - 1:
                cost_of_last.extend(float(cost[pair]) for pair in found)
            start += len(target.labels)
    assert matches.cost == pytest.approx(sum(cost_of_last) / len(cost_of_last), rel=1e-12)


@pytest.mark.parametrize("sizes", [[0], [0, 0]])
def test_no_segment_at_all(sizes):
    matches = HungarianMatcher(**COSTS)(*draw_predictions(2, len(sizes), 3), draw_targets(*sizes))
    assert matches.images.shape == (0,)
    assert matches.queries.shape == matches.targets.shape == (2, 0)
    assert matches.queries.dtype == matches.targets.dtype == torch.int64
    assert matches.counts == sizes
    assert matches.cost == 0.0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["logits", "boxes", "target boxes"])
def test_what_is_not_finite_has_pairs_as_well(part, value):
    logits, boxes = draw_predictions(2, 2, 3)
    targets = draw_targets(1, 2)
    {"logits": logits[0, 1], "boxes": boxes[1, 0], "target boxes": targets[1].boxes}[part][0] = (
        value
    )
    matches = HungarianMatcher(**COSTS)(logits, boxes, targets)
    assert matches.counts == [1, 2]
    for layer in range(2):
        assert sorted(matches.targets[layer].tolist()) == [0, 1, 2]


def test_boxes_without_area_are_matched():
    point = torch.tensor([0.5, 0.5, 0.0, 0.0]).double()
    logits, boxes = draw_predictions(1, 1, 3)
    boxes[0, 0, 1] = point
    matches = HungarianMatcher(cost_class=0.0, cost_l1=1.0, cost_giou=1.0)(
        logits, boxes, [Targets(torch.tensor([0]), point[None])]
    )
    assert matches.queries.tolist() == [[1]]
    assert matches.cost == 0.0


def test_predictions_that_need_gradients_are_matched_as_others():
    logits, boxes = draw_predictions(1, 1, 3)
    targets = draw_targets(2)
    matches = HungarianMatcher(**COSTS)(logits, boxes, targets)
    same = HungarianMatcher(**COSTS)(logits.requires_grad_(), boxes.requires_grad_(), targets)
    assert torch.equal(same.queries, matches.queries)
    assert same.cost == matches.cost


def test_costs_of_zero_are_refused():
    with pytest.raises(UserError, match="COST_"):
        HungarianMatcher(cost_class=0.0, cost_l1=0.0, cost_giou=0.0)
