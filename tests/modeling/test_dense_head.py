import math

import pytest
import torch

from detr_d2.modeling.dense_head import Cells, DenseHead, propose
from detr_d2.modeling.pyramid import Levels

P, THINGS = 16, 3
SIZES, STRIDES = [(2, 3), (4, 5), (7, 9)], (16, 8, 4)
NO_IMAGE = torch.zeros(0)  # which the dense head does not look at


@pytest.fixture
def head(randomise):
    return randomise(DenseHead(channels=P, num_things=THINGS)).double()


def draw_levels(batch):
    maps = tuple(torch.randn(batch, P, *size).double() for size in SIZES)
    return Levels(maps, STRIDES, NO_IMAGE)


@torch.no_grad()
def test_classes_and_boxes_of_each_cell_by_the_formula(head):
    levels = draw_levels(2)
    head.sides.weight.normal_(std=3)  # so that some sides are as long as can be
    sizes = torch.tensor([[36.0, 28.0], [17.0, 22.0]]).double()
    cells = head(levels, sizes)
    assert cells.levels is levels
    places = [
        ((x + 0.5) * stride, (y + 0.5) * stride, stride)
        for (h, w), stride in zip(SIZES, STRIDES)
        for y in range(h)
        for x in range(w)
    ]
    assert cells.features.shape == (2, len(places), P)
    assert cells.logits.shape == (2, len(places), THINGS)
    longest = 0
    for b, (width, height) in enumerate(sizes.tolist()):
        for a, (x, y, stride) in enumerate(places):
            feature = cells.features[b, a]
            logits = head.class_logits.weight @ feature + head.class_logits.bias
            torch.testing.assert_close(cells.logits[b, a], logits, rtol=0, atol=1e-12)
            outputs = (head.sides.weight @ feature + head.sides.bias).tolist()
            longest += sum(v > 5 for v in outputs)
            left, above, right, below = (stride * math.exp(min(v, 5)) for v in outputs)
            wanted = torch.tensor([x - left, y - above, x + right, y + below]).double()
            torch.testing.assert_close(cells.boxes[b, a], wanted, rtol=1e-6, atol=0)
            assert cells.inside[b, a] == (x < width and y < height)
    assert 0 < longest < 8 * len(places)


@torch.no_grad()
def test_levels_and_images_do_not_see_each_other(head):
    levels = draw_levels(2)
    sizes = torch.tensor([[36.0, 28.0]] * 2).double()
    together = head(levels, sizes)
    start = 0
    for level, stride in zip(levels.maps, STRIDES):
        for b in range(2):
            alone = head(Levels((level[b : b + 1],), (stride,), NO_IMAGE), sizes[:1])
            rows = slice(start, start + alone.logits.shape[1])
            for name in ("features", "logits", "boxes", "inside"):
                found = getattr(together, name)[b, rows]
                torch.testing.assert_close(found, getattr(alone, name)[0], rtol=1e-12, atol=1e-12)
        start = rows.stop
    assert start == together.logits.shape[1]


@torch.no_grad()
def test_a_new_head_says_its_prior_everywhere():
    cells = DenseHead(channels=P, num_things=THINGS, prior=0.1)(
        Levels(tuple(m.float() for m in draw_levels(1).maps), STRIDES, NO_IMAGE),
        torch.tensor([[36.0, 28.0]]),
    )
    assert cells.logits.sigmoid().mean().item() == pytest.approx(0.1, rel=0.1)
    sides = (cells.boxes[..., 2:] - cells.boxes[..., :2]) / cells.levels.stride_of_cell[:, None]
    assert sides.mean().item() == pytest.approx(2 * math.e, rel=0.1)


# Proposals


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    overlap = max(width, 0) * max(height, 0)
    area_a, area_b = ((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b))
    return overlap / (area_a + area_b - overlap)


def proposed_by_loop(scores, boxes, inside, threshold):
    """Of one image, all cells inside of it: from the best on, those that no better one that was
    taken overlaps; then the others, from the best on."""
    taken, others = [], []
    for cell in sorted(range(len(scores)), key=lambda cell: -scores[cell]):
        if inside[cell]:
            near = any(iou(boxes[cell], boxes[better]) > threshold for better in taken)
            (others if near else taken).append(cell)
    return taken, others


def draw_cells(batch, sides=(4.0, 40.0), stride=4, size=(9, 11)):
    """Boxes around the centres of the cells of one level, many of which reach over the border."""
    level = torch.zeros(batch, 1, *size).double()
    levels = Levels((level,), (stride,), NO_IMAGE)
    number = size[0] * size[1]
    low, high = sides
    extents = low + (high - low) * torch.rand(batch, number, 4).double()
    boxes = torch.cat((levels.centres - extents[..., :2], levels.centres + extents[..., 2:]), -1)
    logits = torch.randn(batch, number, THINGS).double()
    inside = torch.ones(batch, number, dtype=torch.bool)
    return Cells(torch.zeros(batch, number, 1), logits, boxes, inside, levels)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("number", [1, 5, 60, 99, 1000])
@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_proposals_are_those_of_a_plain_loop(batch, number, threshold):
    cells = draw_cells(batch)
    proposed = propose(cells, number, threshold)
    assert proposed.dtype == torch.int64
    assert proposed.shape == (batch, min(number, 99))
    scores = cells.logits.max(-1).values.tolist()
    for b in range(batch):
        taken, others = proposed_by_loop(
            scores[b], cells.boxes[b].tolist(), cells.inside[b], threshold
        )
        assert 5 < len(taken) < 95
        assert proposed[b].tolist() == (taken + others)[:number]


@pytest.mark.parametrize("number", [5, 60, 1000])
@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_cells_of_the_padding_come_last(number, threshold):
    """After all others, and none of them twice. They have the best scores."""
    cells = draw_cells(3)
    for b, (width, height) in enumerate([(44, 36), (30, 36), (17, 22)]):
        cells.inside[b] = (cells.levels.centres < torch.tensor([width, height])).all(-1)
        cells.logits[b][~cells.inside[b]] += 10
    proposed = propose(cells, number, threshold)
    scores = cells.logits.max(-1).values.tolist()
    for b in range(3):
        inside, rows = int(cells.inside[b].sum()), proposed[b].tolist()
        taken, others = proposed_by_loop(
            scores[b], cells.boxes[b].tolist(), cells.inside[b], threshold
        )
        wanted = taken + others
        assert rows[:inside] == wanted[:number]
        assert not cells.inside[b, rows[inside:]].any()
        assert len(set(rows)) == len(rows) == min(number, 99)


def test_a_thing_of_two_classes_is_one_thing():
    """The best class counts, and near duplicates are looked for among all classes."""
    cells = draw_cells(1, size=(1, 3))
    cells.boxes[0] = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 11], [30, 0, 40, 10]])
    cells.logits[0] = torch.tensor([[3.0, 0, 0], [0, 4.0, 0], [1.0, 1.0, 1.0]])
    assert propose(cells, 3, 0.7).tolist() == [[1, 2, 0]]


def test_images_do_not_take_each_others_boxes():
    """Also where a box lies almost wholly beyond the upper left border."""
    cells = draw_cells(2, size=(1, 2))
    # The second image's first box is nearly the first image's second, moved by (1001, 1001).
    cells.boxes[0] = torch.tensor([[0, 0, 10, 10], [901, 901, 1000, 1000]])
    cells.boxes[1] = torch.tensor([[-100, -100, 2, 2], [20, 20, 30, 30]])
    cells.logits[0] = torch.tensor([[1.0], [4.0]])
    cells.logits[1] = torch.tensor([[3.0], [2.0]])
    assert propose(cells, 2, 0.7).tolist() == [[1, 0], [0, 1]]


def test_of_many_cells_the_best_are_proposed():
    """No box overlaps another."""
    cells = draw_cells(2, sides=(0.1, 1.9), size=(20, 30))
    proposed = propose(cells, 250, 0.7)
    assert torch.equal(proposed, cells.logits.max(-1).values.topk(250).indices)
    assert torch.equal(propose(cells, 10, 0.7), proposed[:, :10])
