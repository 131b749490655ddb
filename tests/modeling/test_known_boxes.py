"""Masks of things whose boxes are known."""

import itertools

import pytest
import torch
from detectron2.structures import Boxes, Instances
from parts import PARTS

from detr_d2.modeling.boxes import generalized_iou, pixels_xyxy
from detr_d2.modeling.dense_head import Cells, nearest_cells
from detr_d2.modeling.known_boxes import in_boxes, logits_of_known, within_boxes
from detr_d2.modeling.matcher import HungarianMatcher, matching_cost

COSTS = {"cost_class": 1.5, "cost_l1": 5.0, "cost_giou": 2.0}


def draw_boxes(*shape):
    return torch.cat((torch.rand(*shape, 2), 0.1 + 0.4 * torch.rand(*shape, 2)), dim=-1).double()


@pytest.mark.parametrize("number", [0, 1, 3, 4, 7])
def test_the_nearest_queries_cost_least_together(number):
    """All permutations are tried; beyond four boxes the four queries are given again."""
    matcher = HungarianMatcher(**COSTS)
    logits, boxes, known = torch.randn(4, 6).double(), draw_boxes(4), draw_boxes(number)
    labels = torch.randint(-1, 5, (number,))
    cost = matching_cost(logits, boxes, labels.clamp(min=0), known, **COSTS)
    of_boxes = matching_cost(logits, boxes, labels, known, **{**COSTS, "cost_class": 0.0})
    cost = torch.where(labels >= 0, cost, of_boxes)
    found = matcher.nearest(logits, boxes, labels, known)
    assert found.shape == (number,) and found.dtype == torch.int64
    left = list(range(number))
    while left:
        taken = min(len(left), 4)
        choices = [
            list(zip(queries, columns))
            for queries in itertools.permutations(range(4), taken)
            for columns in itertools.combinations(left, taken)
        ]
        best = min(choices, key=lambda pairs: sum(cost[pair].item() for pair in pairs))
        for query, column in best:
            assert found[column] == query
            left.remove(column)


def test_the_nearest_cells_have_the_nearest_boxes():
    sizes = torch.tensor([[60.0, 40.0], [50.0, 30.0]]).double()
    corners = 30 * torch.rand(2, 9, 2).double()
    own = torch.cat((corners, corners + 1 + 20 * torch.rand(2, 9, 2)), -1)
    inside = torch.rand(2, 9) < 0.7
    inside[:, 0] = True
    cells = Cells(torch.zeros(2, 9, 1), torch.zeros(2, 9, 2), own, inside, None)
    known = draw_boxes(2, 5)
    found = nearest_cells(cells, known, sizes)
    assert nearest_cells(cells, known[:, :0], sizes).shape == (2, 0)
    for b, t in itertools.product(range(2), range(5)):
        nearness = []
        for x0, y0, x1, y1 in (own[b] / sizes[b].repeat(2)).tolist():
            box = torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]).double()
            nearness.append(generalized_iou(known[b, t], box).item())
        best = max((cell for cell in range(9) if inside[b, cell]), key=nearness.__getitem__)
        assert found[b, t] == best


def test_logits_of_known_classes_are_certain():
    logits = torch.randn(3, 5)
    found = logits_of_known(logits, torch.tensor([2, -1, 4]))
    probabilities = found.softmax(1)
    assert probabilities[0].tolist() == [0, 0, 1, 0, 0]
    assert probabilities[2].tolist() == [0, 0, 0, 0, 1]
    assert torch.equal(found[1], logits[1])


@pytest.mark.parametrize("padded", [(64, 96), (70, 99)])
def test_attention_ends_with_the_box(padded):
    size = torch.tensor([90.0, 60.0]).double()
    boxes = torch.cat((draw_boxes(6), torch.tensor([[0.5, 0.5, 1e-5, 1e-5]]).double()))
    maps = torch.rand(7, 2, 3, 4).double()
    maps[0] = 0  # it has looked elsewhere alone
    found = within_boxes(maps, boxes, size, padded)
    for t, m, y, x in itertools.product(range(7), range(2), range(3), range(4)):
        x0, y0, x1, y1 = pixels_xyxy(boxes[t], size).tolist()
        cell_h, cell_w = padded[0] / 3, padded[1] / 4
        overlaps = (
            x * cell_w < x1 and (x + 1) * cell_w > x0 and y * cell_h < y1 and (y + 1) * cell_h > y0
        )
        assert (found[t, m, y, x] > 0) == (overlaps and t != 0)
        if overlaps and t != 0:
            ratio = found[t, m, y, x] / maps[t, m, y, x]
            torch.testing.assert_close(ratio, found[t].sum() / maps[t][found[t] > 0].sum())
    assert found[1:].sum((1, 2, 3)).tolist() == pytest.approx([1.0] * 6)
    assert not found[0].any()


def test_pixels_in_boxes():
    boxes = torch.tensor(
        [
            [0.5, 0.5, 0.5, 0.5],  # x from 2 to 6, y from 1.5 to 4.5
            [0.5, 0.5, 1.0, 1.0],
            [0.45, 0.5, 0.01, 1 / 3],  # x from 3.56 to 3.64: no centre of a pixel
        ]
    )
    found = in_boxes(boxes, 6, 8)
    wanted = torch.zeros(3, 6, 8, dtype=torch.bool)
    wanted[0, 1:5, 2:6] = True  # centres on the border are inside
    wanted[1] = True
    wanted[2, 2:4, 3] = True
    assert torch.equal(found, wanted)
    assert in_boxes(boxes[:0], 6, 8).shape == (0, 6, 8)


def known(size, boxes, classes):
    instances = Instances(size)
    instances.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).view(-1, 4))
    instances.gt_classes = torch.tensor(classes, dtype=torch.int64)
    return instances


@pytest.mark.parametrize("name", PARTS)
def test_masks_of_boxes_end_with_them(build_model, draw_input, name):
    model = build_model("PanopticDETR", *PARTS[name]).eval()
    image = {"image": draw_input(57, 70)["image"], "height": 40, "width": 90}
    boxes = [[3, 4, 30, 50], [40, 0, 70, 57], [10, 10, 12, 40], [0, 0, 9, 9], [1, 1, 8, 50]] * 2
    image["instances"] = known((57, 70), boxes, [0, 2, -1, 3, 1] * 2)
    masks = model.masks_of_boxes(image)
    assert masks.shape == (10, 40, 90) and masks.dtype == torch.bool
    scale = torch.tensor([90 / 70, 40 / 57] * 2)
    for mask, box in zip(masks, image["instances"].gt_boxes.tensor * scale):
        y, x = mask.nonzero().unbind(1)
        if len(x):
            assert x.min() + 1 > box[0] and y.min() + 1 > box[1]
            assert x.max() < box[2] and y.max() < box[3]
    # A few masks at a time are all at once, and none is none.
    model.masks_per_chunk = 3
    assert torch.equal(model.masks_of_boxes(image), masks)
    image["instances"] = known((57, 70), [], [])
    assert model.masks_of_boxes(image).shape == (0, 40, 90)


def test_queries_of_given_boxes_are_those_of_training_that_begin_there(build_model, draw_input):
    """They see themselves alone, so they are what they are alone, and no other query changes."""
    model = build_model("PanopticDETR", *PARTS["proposals"]).double().eval()
    images = model.preprocess([draw_input(64, 96)])
    boxes = draw_boxes(1, 4)
    with torch.no_grad():
        plain = model.predict(images, all_layers=True)
        found = model.predict(images, all_layers=True, given=boxes)
        alone = model.predict(images, all_layers=True, given=boxes[:, 2:3])
    number = plain.hs.shape[2]
    torch.testing.assert_close(found.hs[:, :, :number], plain.hs, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        found.hs[:, :, number + 2], alone.hs[:, :, number], rtol=1e-9, atol=1e-9
    )
    first = found.decoded.references[0, :, number:]
    assert torch.equal(first, boxes)
    rows = found.decoded.queries_of_given(model.criterion.matcher, None, None, None, boxes[0])
    assert rows.tolist() == list(range(number, number + 4))
