import math

import pytest
import torch

from detr_d2.modeling.dense_head import Cells, DenseHead
from detr_d2.modeling.dense_targets import assign, dense_losses
from detr_d2.modeling.matcher import Targets
from detr_d2.modeling.pyramid import Levels

IS_THING = torch.tensor([True, False, True, False, True])
NUMBER_OF_THING = IS_THING.cumsum(0) - 1
STRIDES = (16, 8, 4)
SIZES = torch.tensor([[96.0, 64.0], [75.0, 50.0], [41.0, 63.0]]).double()  # padded to 96 x 64
WHOLE = torch.tensor([[96.0, 64.0], [80.0, 48.0], [48.0, 64.0]]).double()  # cells of every level
CLASS_WEIGHT = GIOU_WEIGHT = 2


def draw_levels(batch=3, channels=16):
    maps = [torch.randn(batch, channels, 64 // s, 96 // s).double() for s in STRIDES]
    return Levels(tuple(maps), STRIDES, torch.zeros(batch, 3, 64, 96).double())


def draw_targets(*labels, least=0.02, most=0.6):
    """Segments of these classes in each image, all inside of it, small ones more often."""
    targets = []
    for classes in labels:
        number = len(classes)
        sides = least * (most / least) ** torch.rand(number, 2).double()
        centres = sides / 2 + (1 - sides) * torch.rand(number, 2).double()
        targets.append(
            Targets(
                torch.tensor(classes, dtype=torch.int64),
                torch.cat((centres, sides), 1),
            )
        )
    return targets


def claims(centres, strides, box):
    """The cells that a thing (cx, cy, w, h), pixels, would have if it were alone."""
    cx, cy, w, h = box
    size = math.sqrt(w * h)
    finest, coarsest = min(STRIDES), max(STRIDES)
    cells, distance = set(), {}
    for cell, ((x, y), stride) in enumerate(zip(centres, strides)):
        too_small = size < 2 * stride and stride != finest
        if too_small or (size >= 8 * stride and stride != coarsest):
            continue
        dx, dy = abs(x - cx), abs(y - cy)
        distance[cell] = dx**2 + dy**2
        if max(dx, dy) < 1.5 * stride and dx <= w / 2 and dy <= h / 2:
            cells.add(cell)
    return cells | {min(distance, key=distance.get)}


def assigned_by_loop(levels, targets, sizes):
    """{(image, cell): segment}, counted through the whole batch."""
    centres, strides = levels.centres.tolist(), levels.stride_of_cell.tolist()
    owner, start = {}, 0
    for image, (target, (width, height)) in enumerate(zip(targets, sizes.tolist())):
        smallest = {}
        for number, (label, box) in enumerate(zip(target.labels.tolist(), target.boxes.tolist())):
            if not IS_THING[label]:
                continue
            cx, cy, w, h = (a * b for a, b in zip(box, (width, height) * 2))
            for cell in claims(centres, strides, (cx, cy, w, h)):
                if w * h < smallest.get(cell, math.inf):
                    smallest[cell] = w * h
                    owner[image, cell] = start + number
        start += len(target.labels)
    return owner


def as_dict(assignment):
    triples = list(zip(*(x.tolist() for x in (assignment.images, assignment.cells))))
    assert triples == list(dict.fromkeys(triples))  # no cell twice
    return dict(zip(triples, assignment.targets.tolist()))


MANY = [0, 1, 2, 2, 4, 0, 3, 4, 0, 2, 4, 4]


@pytest.mark.parametrize(
    "labels",
    [
        (MANY, MANY, MANY),
        ([0], [2, 2], [4, 0, 2]),
        ([1, 0], [], [3, 1, 4]),  # an image without segments
        ([1, 0, 3], [3, 1, 3], [2]),  # one of stuff alone
        (MANY * 4, MANY * 4, [0]),  # much that overlaps
        ([], [], []),
        ([1, 3], [3], []),
    ],
)
@pytest.mark.parametrize("least, most", [(0.02, 0.6), (0.001, 0.05), (0.3, 0.9)])
def test_assignment_is_that_of_a_plain_loop(labels, least, most):
    levels = draw_levels()
    targets = draw_targets(*labels, least=least, most=most)
    assignment = assign(levels, targets, IS_THING, WHOLE)
    for column in (assignment.images, assignment.cells, assignment.targets):
        assert column.dtype == torch.int64
    assert assignment.images.tolist() == sorted(assignment.images.tolist())
    assert as_dict(assignment) == assigned_by_loop(levels, targets, WHOLE)
    things = sum(bool(IS_THING[label]) for image in labels for label in image)
    assert bool(len(assignment.cells)) == bool(things)


def test_assignment_by_hand():
    """One thing of 16 x 8 pixels, its centre at (40, 32): 11 pixels are for strides 4 alone."""
    levels = draw_levels(1)
    targets = [Targets(torch.tensor([1, 2]), torch.tensor([[0.5] * 4, [40, 32, 16, 8]]).double())]
    targets[0].boxes[1] /= SIZES[0].repeat(2)
    assignment = assign(levels, targets, IS_THING, SIZES[:1])
    # Centres 2, 6, 10, ... Those within 6 pixels of 40 and 32, and inside: 4 by 2, less those at
    # a distance of 6 exactly, which is not within.
    first = 4 * 6 + 8 * 12
    wanted = [(x, y) for y in (30, 34) for x in (38, 42)]
    assert assignment.cells.tolist() == [first + y // 4 * 24 + x // 4 for x, y in wanted]
    assert assignment.targets.tolist() == [1] * 4
    assert assignment.images.tolist() == [0] * 4


@pytest.mark.parametrize("sides", [(0.0, 0.0), (0.0, 0.2), (0.5, 0.0), (1e-4, 1e-4)])
def test_a_thing_without_area_has_one_cell(sides):
    """The nearest of the finest level, also inside of a larger thing."""
    levels = draw_levels(1)
    boxes = torch.tensor([[0.5, 0.5, 0.4, 0.5], [0.47, 0.55, *sides]]).double()
    targets = [Targets(torch.tensor([0, 2]), boxes)]
    found = as_dict(assign(levels, targets, IS_THING, SIZES[:1]))
    assert found == assigned_by_loop(levels, targets, SIZES[:1])
    (cell,) = (cell for (_, cell), target in found.items() if target == 1)
    # (45.12, 35.2) is in column 11 and row 8.
    assert cell == 4 * 6 + 8 * 12 + 8 * 24 + 11


def test_the_smallest_of_several_things_has_a_cell():
    levels = draw_levels(1)
    boxes = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.5, 0.5, 0.3, 0.3], [0.5, 0.5, 0.35, 0.35]])
    targets = [Targets(torch.tensor([0, 2, 4]), boxes.double())]
    found = as_dict(assign(levels, targets, IS_THING, SIZES[:1]))
    assert found == assigned_by_loop(levels, targets, SIZES[:1])
    for order in ([1, 2, 0], [2, 1, 0]):
        other = [Targets(targets[0].labels[order], targets[0].boxes[order])]
        again = as_dict(assign(levels, other, IS_THING, SIZES[:1]))
        assert {cell: order[target] for cell, target in again.items()} == found


@pytest.mark.parametrize("size", range(3))
def test_every_thing_alone_has_a_cell(size):
    """At any place in the image and of any size."""
    levels = draw_levels(1)
    for least, most in ((0.001, 0.05), (0.02, 0.6), (0.5, 1.0)):
        (targets,) = draw_targets([0] * 50, least=least, most=most)
        for label, box in zip(targets.labels.split(1), targets.boxes.split(1)):
            assignment = assign(levels, [Targets(label, box)], IS_THING, SIZES[size, None])
            assert len(assignment.cells)


@pytest.mark.parametrize("size", range(3))
def test_every_thing_has_a_cell_inside_of_its_image(size):
    """Of those in the padding, the class is not trained: a thing at the border needs another."""
    levels = draw_levels(1)
    sizes = SIZES[size, None]
    inside = (levels.centres < sizes).all(-1)
    width, height = sizes[0].tolist()
    # 1 x 1 pixels in the corners and the middles of the right and the lower border.
    for cx, cy in ((width - 0.5, 0.5), (width - 0.5, height / 2), (0.5, height - 0.5)):
        box = torch.tensor([[cx / width, cy / height, 1 / width, 1 / height]]).double()
        assignment = assign(levels, [Targets(torch.tensor([0]), box)], IS_THING, sizes)
        assert inside[assignment.cells].any(), (cx, cy)


# Losses


def giou(a, b):
    def extents(k):
        overlap = max(min(a[k + 2], b[k + 2]) - max(a[k], b[k]), 0)
        return overlap, max(a[k + 2], b[k + 2]) - min(a[k], b[k])

    (w, hull_w), (h, hull_h) = extents(0), extents(1)
    area_a, area_b = ((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b))
    union = area_a + area_b - w * h
    hull = hull_w * hull_h
    return w * h / union - (hull - union) / hull


def losses_by_loop(cells, owner, targets, sizes):
    labels = [label for t in targets for label in t.labels.tolist()]
    boxes = [box for t in targets for box in t.boxes.tolist()]
    focal = boxes_loss = 0.0
    for image in range(len(targets)):
        width, height = sizes[image].tolist()
        for cell in range(cells.logits.shape[1]):
            segment = owner.get((image, cell))
            label = None if segment is None else int(NUMBER_OF_THING[labels[segment]])
            for number, logit in enumerate(cells.logits[image, cell].tolist()):
                p = 1 / (1 + math.exp(-logit))
                if cells.inside[image, cell]:
                    if number == label:
                        focal -= 0.25 * (1 - p) ** 2 * math.log(p)
                    else:
                        focal -= 0.75 * p**2 * math.log(1 - p)
            if segment is not None:
                cx, cy, w, h = boxes[segment]
                true = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
                true = [a * b for a, b in zip(true, (width, height) * 2)]
                boxes_loss += 1 - giou(cells.boxes[image, cell].tolist(), true)
    positives = max(1, len(owner))
    return {
        "loss_dense_class": CLASS_WEIGHT * focal / positives,
        "loss_dense_giou": GIOU_WEIGHT * boxes_loss / positives,
    }


@pytest.fixture
def head(randomise):
    return randomise(DenseHead(channels=16, num_things=3)).double()


@pytest.mark.parametrize(
    "labels",
    [
        ([0, 1, 2, 4], [3, 0], [4, 4, 2]),
        ([0], [], [1, 3]),
        ([], [], []),
        ([1], [3], [3, 3]),
    ],
)
def test_losses_are_those_of_a_plain_loop(head, labels):
    cells = head(draw_levels(), SIZES)
    assert not cells.inside.all()
    targets = draw_targets(*labels)
    assignment = assign(cells.levels, targets, IS_THING, SIZES)
    losses = dense_losses(cells, assignment, targets, NUMBER_OF_THING, SIZES)
    wanted = losses_by_loop(cells, as_dict(assignment), targets, SIZES)
    assert {k: v.item() for k, v in losses.items()} == pytest.approx(wanted, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("labels", [([0, 1], [2], []), ([], [], []), ([1], [3], [3, 3])])
def test_every_parameter_has_a_finite_gradient(head, labels):
    """Also where there is no thing."""
    targets = draw_targets(*labels)
    cells = head(draw_levels(), SIZES)
    assignment = assign(cells.levels, targets, IS_THING, SIZES)
    losses = dense_losses(cells, assignment, targets, NUMBER_OF_THING, SIZES)
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert head.class_logits.weight.grad.any()


@pytest.mark.parametrize("logit", [60.0, -60.0])
@pytest.mark.parametrize("number", [0, 2])
def test_extreme_answers_have_finite_losses_and_gradients(logit, number):
    """And things without area."""
    levels = draw_levels(1)
    total = len(levels.centres)
    logits = torch.full((1, total, 3), logit).double().requires_grad_()
    boxes = torch.zeros(1, total, 4).double().requires_grad_()
    inside = torch.ones(1, total, dtype=torch.bool)
    cells = Cells(torch.zeros(1, total, 1), logits, boxes, inside, levels)
    nothing = torch.tensor([[0.0] * 4] * number).view(-1, 4).double()
    targets = [Targets(torch.zeros(number, dtype=torch.int64), nothing)]
    assignment = assign(levels, targets, IS_THING, SIZES[:1])
    losses = dense_losses(cells, assignment, targets, NUMBER_OF_THING, SIZES[:1])
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert logits.grad.isfinite().all()
    assert boxes.grad.isfinite().all()
