import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from detectron2.utils.events import EventStorage

from detr_d2.modeling.criterion import number_of_targets
from detr_d2.modeling.mask_head import MaskHeadSmallConv
from detr_d2.modeling.matcher import Targets
from detr_d2.modeling.pyramid import Levels
from detr_d2.modeling.semantic import (
    SemanticHead,
    classes_of,
    cross_entropy_of_shares,
    dice_of_shares,
    log_odds,
    pad_segment_maps,
    shares_of_classes,
)
from detr_d2.modeling.windows import WindowHead, hat, nearest, paste, sample, windows_of

STUFF = range(4, 8)  # of the shapes, each with a query of its own; things are 0 to 3
ENLARGED = 1.2  # times the box: the window
NOT_HERE = 8.0  # how far below 0 logits are outside of it
SMALL = (
    *("MODEL.DETR.TRANSFORMER", "ProposalTransformer"),
    *("MODEL.DETR.MASK_HEAD", "RefinedMaskHead"),
    *("MODEL.DETR.PROPOSALS.FURTHER_QUERIES", 6),
    *("MODEL.DETR.PYRAMID_CHANNELS", 16),
    *("MODEL.DETR.REGION_RESOLUTION", 3),
    *("MODEL.DETR.WINDOW_RESOLUTION", 4),
    *("MODEL.DETR.DROPOUT", 0.0),
    *("MODEL.DETR.PANOPTIC.SCORE_THRESHOLD", 0.0),
)


def doubles(rows):
    return torch.tensor(rows, dtype=torch.float64)


# Windows


def test_windows_by_hand():
    # 1.2 times 10 x 10 around (20, 30), and beyond the image.
    boxes = doubles([[0.2, 0.6, 0.1, 0.2], [1.0, 0.5, 1.0, 1.0]])
    sizes = doubles([[100.0, 50.0], [10.0, 20.0]])
    wanted = doubles([[14.0, 24.0, 26.0, 36.0], [4.0, -2.0, 16.0, 22.0]])
    torch.testing.assert_close(windows_of(boxes, sizes), wanted)
    assert windows_of(boxes[:0], sizes[:0]).shape == (0, 4)


def test_hats_by_hand():
    found = hat(doubles([[-5.0, 0.0, 0.25], [1.5, 2.0, 9.0]]), 3)
    wanted = [[[1, 0, 0], [1, 0, 0], [0.75, 0.25, 0]], [[0, 0.5, 0.5], [0, 0, 1], [0, 0, 1]]]
    assert found.tolist() == wanted
    assert hat(doubles([-1.0, 0.3]), 1).tolist() == [[1], [1]]


def test_hats_interpolate_as_a_plain_loop():
    places, values = 12 * torch.rand(50).double() - 3, torch.randn(7).double()
    assert (places < 0).any()
    assert (places > 6).any()
    for place, found in zip(places.tolist(), (hat(places, 7) @ values).tolist()):
        place = min(max(place, 0), 6)
        low = min(math.floor(place), 5)
        wanted = values[low] + (place - low) * (values[low + 1] - values[low])
        assert found == pytest.approx(wanted.item(), rel=1e-12)


WINDOWS = {
    "inside": [[3.1, 4.2, 17.3, 15.4], [9.7, 1.2, 12.1, 16.6]],
    "at the border": [[0.0, 0.0, 11.0, 7.0], [5.0, 6.0, 26.0, 17.0]],
    "beyond the border": [[-9.3, -40.7, 12.9, 60.1], [-300.0, -200.0, 400.0, 500.0]],
    "far away": [[-90.3, 40.7, -50.9, 60.1], [300.0, -200.0, 400.0, -100.0]],
    "tiny": [[5.3, 6.7, 5.301, 6.702], [8.4, 9.4, 8.6, 9.6]],
    "long": [[5.3, 6.7, 25.0, 6.702], [8.4, -3.0, 8.401, 30.0]],
}


def sampled_by_grid_sample(maps, windows, resolution, size):
    """One window at a time, at the middles of R x R equal parts."""
    (height, width), along = size, (torch.arange(resolution).double() + 0.5) / resolution
    sampled = []
    for values, (x0, y0, x1, y1) in zip(maps, windows.tolist()):
        x, y = x0 + along * (x1 - x0), y0 + along * (y1 - y0)
        points = torch.stack((x.expand(resolution, -1), y[:, None].expand(-1, resolution)), -1)
        grid = 2 * points / doubles([width, height]) - 1
        (found,) = F.grid_sample(
            values[None, None], grid[None], padding_mode="border", align_corners=False
        )
        sampled.append(found[0])
    return torch.stack(sampled)


@pytest.mark.parametrize("windows", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("resolution", [1, 2, 5])
@pytest.mark.parametrize("h, w", [(5, 7), (17, 26), (1, 3), (1, 1)])
def test_samples_are_those_of_grid_sample(windows, resolution, h, w):
    """With their gradients."""
    windows, size = doubles(windows), (17, 26)
    maps = torch.randn(len(windows), h, w).double().requires_grad_()
    found = sample(maps, windows, resolution, size)
    wanted = sampled_by_grid_sample(maps, windows, resolution, size)
    assert found.shape == (len(windows), resolution, resolution)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-11)
    direction = torch.randn_like(found)
    (gradient,) = torch.autograd.grad(found, maps, direction)
    (plain,) = torch.autograd.grad(wanted, maps, direction)
    torch.testing.assert_close(gradient, plain, rtol=0, atol=1e-11)


def bilinear(values, row, column):
    """(h, w) at a place in cells, from the middle of the first; beyond the ends, the last one."""
    last_row, last_column = len(values) - 1, len(values[0]) - 1
    row, column = min(max(row, 0), last_row), min(max(column, 0), last_column)
    y, x = math.floor(row), math.floor(column)
    below, right = min(y + 1, last_row), min(x + 1, last_column)
    down, along = row - y, column - x
    upper = (1 - along) * values[y][x] + along * values[y][right]
    lower = (1 - along) * values[below][x] + along * values[below][right]
    return (1 - down) * upper + down * lower


def pasted_by_loop(values, window, x, y):
    """{(row, column): value} of the pixels inside of the window."""
    (x0, y0, x1, y1), n = window, len(values)
    pixels = itertools.product(enumerate(y), enumerate(x))
    return {
        (i, j): bilinear(values, (q - y0) / (y1 - y0) * n - 0.5, (p - x0) / (x1 - x0) * n - 0.5)
        for (i, q), (j, p) in pixels
        if x0 <= p < x1 and y0 <= q < y1
    }


@pytest.mark.parametrize("windows", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("resolution", [1, 4])
@pytest.mark.parametrize("stride", [1, 2])
def test_pasted_windows_are_those_of_a_plain_loop(windows, resolution, stride):
    windows = doubles(windows)
    values = torch.randn(len(windows), resolution, resolution).double()
    x, y = ((torch.arange(n // stride).double() + 0.5) * stride for n in (26, 18))
    found, inside = paste(values, windows, x, y)
    assert found.shape == inside.shape == (len(windows), len(y), len(x))
    assert inside.dtype == torch.bool
    for t, window in enumerate(windows.tolist()):
        wanted = pasted_by_loop(values[t].tolist(), window, x.tolist(), y.tolist())
        assert set(map(tuple, inside[t].nonzero().tolist())) == set(wanted)
        for (i, j), value in wanted.items():
            assert found[t, i, j].item() == pytest.approx(value, rel=1e-9, abs=1e-9)
    assert found.isfinite().all()


def test_what_is_pasted_is_found_again():
    """Windows of as many pixels as values, at whole pixels."""
    values = torch.randn(2, 4, 4).double()
    windows = doubles([[2.0, 3.0, 6.0, 7.0], [0.0, 0.0, 4.0, 4.0]])
    x, y = torch.arange(10).double() + 0.5, torch.arange(8).double() + 0.5
    pasted, inside = paste(values, windows, x, y)
    torch.testing.assert_close(pasted[0, 3:7, 2:6], values[0])
    torch.testing.assert_close(pasted[1, :4, :4], values[1])
    assert inside.sum((1, 2)).tolist() == [16, 16]
    torch.testing.assert_close(sample(pasted, windows, 4, (8, 10)), values)


def test_no_window():
    nothing, none = torch.zeros(0, 4, 4), torch.zeros(0, 4)
    pasted, inside = paste(nothing, none, torch.arange(3.0), torch.arange(2.0))
    assert pasted.shape == inside.shape == (0, 2, 3)
    assert sample(torch.zeros(0, 5, 6), none, 4, (20, 24)).shape == (0, 4, 4)


def test_nearest_is_that_of_a_plain_loop():
    maps = torch.randint(1, 9, (3, 5, 7))
    images = torch.tensor([2, 0, 2, 1])
    points = 12 * torch.rand(4, 200, 2).double() - 2.5
    points[:, 0] = doubles([7.0, 4.0])
    points[:, 1] = doubles([0.0, 0.0])
    points[:, 2] = doubles([6.999, 4.999])
    points[:, 3] = doubles([-0.001, 2.0])
    found = nearest(maps, images, points)
    for t, p in itertools.product(range(4), range(200)):
        x, y = (math.floor(v) for v in points[t, p].tolist())
        inside = 0 <= x < 7 and 0 <= y < 5
        assert found[t, p] == (maps[images[t], y, x] if inside else 0)
    assert nearest(maps, images[:0], points[:0]).shape == (0, 200)


def draw_levels():
    """Two images of 22 x 27 pixels, which the finest map has 6 x 7 cells of."""
    maps = (torch.randn(2, 16, 3, 4).double(), torch.randn(2, 16, 6, 7).double())
    return Levels(maps, (8, 4), torch.randn(2, 3, 22, 27).double())


@torch.no_grad()
def test_window_logits_are_the_formula(randomise):
    """A feature and four pixels a point; each logit is at the place of its pixel."""
    resolution, levels = 3, draw_levels()
    head = randomise(WindowHead(d_model=12, channels=16, resolution=resolution)).double()
    windows = doubles([[3.0, 4.0, 20.0, 19.0], [-5.0, 4.0, 31.0, 8.0], [7.0, 2.0, 9.0, 24.0]])
    images, embeddings = torch.tensor([0, 1, 1]), torch.randn(3, 12).double()
    found = head(levels, windows, images, embeddings)
    for t, (x0, y0, x1, y1) in enumerate(windows.tolist()):
        features = torch.zeros(16, resolution, resolution).double()
        pixels = torch.zeros(3, 2 * resolution, 2 * resolution).double()
        for maps, stride, values in ((levels.maps[-1], 4, features), (levels.image, 1, pixels)):
            side = values.shape[-1]
            for row, column in itertools.product(range(side), range(side)):
                x = x0 + (column + 0.5) / side * (x1 - x0)
                y = y0 + (row + 0.5) / side * (y1 - y0)
                for value, of_channel in zip(values, maps[images[t]]):
                    value[row, column] = bilinear(of_channel, y / stride - 0.5, x / stride - 0.5)
        four = F.pixel_unshuffle(pixels[None], 2)
        convolution, norm = head.of_pixels
        seen = norm(torch.einsum("oc,bcrs->bors", convolution.weight[:, :, 0, 0], four))
        seen = seen + features + head.of_query(embeddings[t])[:, None, None]
        wanted = F.pixel_shuffle(head.out(head.convs(seen)), 2)[0, 0]
        torch.testing.assert_close(found[t], wanted, rtol=0, atol=1e-12)


def test_a_new_window_head_corrects_nothing_and_learns():
    head = WindowHead(d_model=12, channels=16, resolution=3).double()
    windows = doubles([[3.0, 4.0, 20.0, 30.0], [-5.0, 4.0, 60.0, 8.0]])
    found = head(draw_levels(), windows, torch.tensor([0, 0]), torch.randn(2, 12).double())
    assert found.shape == (2, 6, 6)
    assert not found.any()
    (found * torch.randn_like(found)).sum().backward()
    assert head.out.weight.grad.any()


def test_a_window_head_without_windows_has_a_gradient():
    head = WindowHead(d_model=12, channels=16, resolution=3).double()
    found = head(
        draw_levels(), doubles([]).view(0, 4), torch.tensor([]).long(), torch.zeros(0, 12).double()
    )
    assert found.shape == (0, 6, 6)
    found.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in head.parameters())


# The semantic map


def test_log_odds_are_the_formula_and_bounded():
    semantic = 3 * torch.randn(2, 3, 4, 5).double()
    semantic[0, :, 0, 0] = doubles([1e4, 0.0, -1e4])
    found = log_odds(semantic)
    assert found.shape == semantic.shape
    for b, y, x in itertools.product(range(2), range(4), range(5)):
        best = semantic[b, :, y, x].max()
        exponentials = [math.exp(v - best) for v in semantic[b, :, y, x].tolist()]
        for c, e in enumerate(exponentials):
            p = e / sum(exponentials)
            wanted = math.log(p + 1e-4) - math.log(1 - p + 1e-4)
            assert found[b, c, y, x].item() == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    assert found.abs().max() < 9.211
    assert found[0, :, 0, 0].tolist() == pytest.approx([9.2104, -9.2104, -9.2104], abs=1e-4)


def draw_segments(*sizes, numbers=(3, 0, 5), dtype=torch.int32):
    return [
        Targets(
            torch.randint(4, (number,)),
            torch.zeros(number, 4),
            torch.randint(number + 1, size).to(dtype),
        )
        for size, number in zip(sizes, numbers)
    ]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_segment_maps_and_classes_are_those_of_plain_loops(dtype):
    targets = draw_segments((5, 7), (4, 9), (6, 3), dtype=dtype)
    maps = pad_segment_maps(targets, (6, 9))
    assert maps.dtype == torch.int64
    assert maps.shape == (3, 6, 9)
    classes = classes_of(maps, targets)
    for b, y, x in itertools.product(range(3), range(6), range(9)):
        h, w = targets[b].segment_map.shape
        number = int(targets[b].segment_map[y, x]) if y < h and x < w else 0
        assert maps[b, y, x] == number
        assert classes[b, y, x] == (targets[b].labels[number - 1] if number else -1)


CELLS = {
    "a quarter": ((8, 12), (2, 3)),
    "odd": ((41, 31), (11, 8)),
    "odd height": ((13, 12), (4, 3)),
    "one pixel more": ((9, 5), (3, 2)),
    "a cell a pixel": ((3, 4), (3, 4)),
    "one cell": ((5, 3), (1, 1)),
}


def cell_of(pixel, pixels, cells):
    """The cell that the middle of a pixel is in: floor((pixel + 1/2) cells / pixels), exactly."""
    return (2 * pixel + 1) * cells // (2 * pixels)


def shares_by_loop(classes, number, cells):
    (batch, height, width), (h, w) = classes.shape, cells
    shares = torch.zeros(batch, h, w, number)
    for b, y, x in itertools.product(range(batch), range(height), range(width)):
        if classes[b, y, x] >= 0:
            shares[b, cell_of(y, height, h), cell_of(x, width, w), classes[b, y, x]] += 1
    return shares


@pytest.mark.parametrize("size, cells", CELLS.values(), ids=CELLS)
def test_shares_are_those_of_a_plain_loop(size, cells):
    classes = torch.randint(-1, 4, (2, *size))
    found = shares_of_classes(classes, torch.zeros(2, 4, *cells))
    assert torch.equal(found, shares_by_loop(classes, 4, cells))


def test_shares_of_void_are_none():
    classes = torch.full((2, 9, 5), -1)
    assert not shares_of_classes(classes, torch.zeros(2, 4, 3, 2)).any()
    classes[1, 0, 0] = 3
    found = shares_of_classes(classes, torch.zeros(2, 4, 3, 2))
    assert found.nonzero().tolist() == [[1, 0, 0, 3]]


@pytest.mark.parametrize("size, cells", CELLS.values(), ids=CELLS)
def test_every_labelled_pixel_is_counted_once(size, cells):
    classes = torch.randint(-1, 4, (2, *size))
    found = shares_of_classes(classes, torch.zeros(2, 4, *cells))
    for b, c in itertools.product(range(2), range(4)):
        assert found[b, ..., c].sum() == (classes[b] == c).sum()


def semantic_loss_by_loop(logits, classes):
    """The mean over the pixels that have a class; each has the logits of its cell."""
    (batch, _, h, w), (height, width) = logits.shape, classes.shape[1:]
    log_p, total, number = logits.log_softmax(1), 0.0, 0
    for b, y, x in itertools.product(range(batch), range(height), range(width)):
        c = int(classes[b, y, x])
        if c >= 0:
            total -= log_p[b, c, cell_of(y, height, h), cell_of(x, width, w)].item()
            number += 1
    return total / max(number, 1)


def semantic_dice_by_loop(logits, classes):
    """The mean over the classes that an image has, of all images."""
    (batch, number, h, w), (height, width) = logits.shape, classes.shape[1:]
    probability, losses = logits.softmax(1), []
    for b, c in itertools.product(range(batch), range(number)):
        both = of_map = of_truth = 0.0
        for y, x in itertools.product(range(height), range(width)):
            p = probability[b, c, cell_of(y, height, h), cell_of(x, width, w)].item()
            both += p * (classes[b, y, x] == c).item()
            of_map += p * (classes[b, y, x] >= 0).item()
            of_truth += (classes[b, y, x] == c).item()
        if of_truth:
            losses.append(1 - (2 * both + 1) / (of_map + of_truth + 1))
    return sum(losses) / max(len(losses), 1)


@pytest.mark.parametrize("first_class", [-1, 2])
def test_semantic_losses_are_means_over_pixels_and_over_classes(first_class):
    logits = torch.randn(2, 4, 3, 4).double()
    classes = torch.randint(-1, 4, (2, 12, 16))
    classes[1, 2:] = first_class  # few or many
    classes[1][classes[1] == 1] = -1  # not in the second image
    shares = shares_by_loop(classes, 4, (3, 4)).double()
    log_probability = logits.permute(0, 2, 3, 1).log_softmax(-1)
    found = cross_entropy_of_shares(log_probability, shares).item()
    assert found == pytest.approx(semantic_loss_by_loop(logits, classes), rel=1e-12)
    found = dice_of_shares(log_probability, shares).item()
    assert found == pytest.approx(semantic_dice_by_loop(logits, classes), rel=1e-12)


def test_semantic_losses_of_void_are_zero():
    logits = torch.randn(2, 4, 3, 5).double().requires_grad_()
    log_probability = logits.permute(0, 2, 3, 1).log_softmax(-1)
    nothing = torch.zeros(2, 3, 5, 4).double()
    losses = [f(log_probability, nothing) for f in (cross_entropy_of_shares, dice_of_shares)]
    assert losses == [0, 0]
    sum(losses).backward()
    assert not logits.grad.any()


# The head


@pytest.fixture
def build_lively_model(build_model, randomise):
    """A function that builds a model in eval mode and float64 whose masks differ."""

    def build(*overrides):
        model = build_model("PanopticDETR", *SMALL, *overrides)
        with torch.no_grad():
            randomise(model.transformer)
            model.transformer.dense_head.class_logits.weight.normal_()
            model.transformer.dense_head.sides.weight.normal_(std=0.3)
            for layer in model.bbox_embed.layers:
                layer.weight.normal_(std=0.1)
            head = randomise(model.mask_head)
            head.semantic.classes.weight.normal_()
            head.window.out.weight.normal_(std=0.5)
            head.semantic_gain.copy_(torch.tensor([0.7, 1.3]))
            model.class_embed.bias[8] = -9.0  # no-object
        return model.double().eval()

    return build


def resized(x, size):
    """(h, w) -> size, bilinear."""
    return F.interpolate(x[None, None], size, mode="bilinear", align_corners=False)[0, 0]


@pytest.mark.parametrize("sizes", [[(4, 6)], [(1, 2), (2, 3), (3, 5)]])
@pytest.mark.parametrize("stride", [4, 2, 1])
def test_semantic_logits_are_corrected_from_the_top_down(randomise, sizes, stride):
    head = randomise(SemanticHead(8, 5, len(sizes), stride)).double()
    maps = [torch.randn(2, 8, *size).double() for size in sizes]
    x = torch.zeros(2, 8, 1, 1).double()
    for (conv, norm, _), level in zip(head.convs, maps):
        (h, w), (ch, cw) = level.shape[-2:], x.shape[-2:]
        rows, columns = torch.arange(h) * ch // h, torch.arange(w) * cw // w
        x = x[:, :, rows][..., columns]
        plain = F.conv2d(F.pad(level + x, (1, 1, 1, 1)), conv.weight)
        x = x + F.group_norm(plain, 8, norm.weight, norm.bias).clamp(min=0)
    found, n = head(maps), 4 // stride
    assert found.shape == (2, 5, n * x.shape[-2], n * x.shape[-1])
    for c, i, j in itertools.product(range(5), range(n), range(n)):
        row = (c * n + i) * n + j
        weight, bias = head.classes.weight[row, :, 0, 0], head.classes.bias[row]
        wanted = torch.einsum("k,bkhw->bhw", weight, x) + bias
        torch.testing.assert_close(found[:, c, i::n, j::n], wanted)


class Retelling:
    """The masks of a batch, one query at a time."""

    def __init__(self, model, batch, predictions, queries):
        self.head = model.mask_head
        self.arguments = model._mask_arguments(predictions, queries)
        self.projected, self.maps, _, self.features, _ = self.arguments
        self.levels = predictions.decoded.levels
        self.semantic = self.head.semantic(self.levels.maps)
        pairs = [(b, int(q)) for b, rows in enumerate(queries) for q in rows]
        self.images = [b for b, _ in pairs]
        self.sizes = [tuple(batch[b]["image"].shape[:0:-1]) for b in self.images]
        self.embeddings = [predictions.hs[-1, b, q] for b, q in pairs]
        self.boxes = [predictions.boxes[-1, b, q].tolist() for b, q in pairs]
        logits = [predictions.logits[-1, b, q, :-1] for b, q in pairs]
        self.probabilities = [x.softmax(0).detach() for x in logits]
        self.is_thing = [p[: STUFF[0]].sum().item() > 0.5 for p in self.probabilities]

    def coarse(self, k):
        """DETR's mask, and how likely each pixel is of the query's class; of a thing that is in its
        window alone, the latter."""
        b = self.images[k]
        p = self.semantic[b].softmax(0)
        gain = self.head.semantic_gain[int(self.is_thing[k])]
        mask = 0.0
        for class_, weight in enumerate(self.probabilities[k]):
            odds = torch.log((p[class_] + 1e-4) / (1 - p[class_] + 1e-4))
            mask = mask + gain * weight * odds
        if self.is_thing[k] and self.head.things_in_windows:
            return mask
        features = {name: x[b : b + 1] for name, x in self.features.items()}
        (convolved,) = MaskHeadSmallConv.forward(
            self.head, self.projected[b : b + 1], self.maps[k : k + 1], [1], features
        )
        return mask + resized(convolved, mask.shape)

    def window(self, k):
        """(x0, y0, x1, y1), pixels, and the logits in it."""
        (cx, cy, w, h), (width, height) = self.boxes[k], self.sizes[k]
        w, h = ENLARGED * w, ENLARGED * h
        window = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
        window = [a * b for a, b in zip(window, (width, height) * 2)]
        image = torch.tensor([self.images[k]])
        (logits,) = self.head.window(
            self.levels, doubles([window]), image, self.embeddings[k][None]
        )
        return window, logits

    def mask(self, k, size, padded_size, ends):
        """(H', W') at inference, and which signs there are outside of the window."""
        mask, signs = resized(self.coarse(k), size), set()
        if self.is_thing[k]:
            window, logits = self.window(k)
            y, x = ([(i + 0.5) * m / n for i in range(n)] for n, m in zip(size, padded_size))
            inside = pasted_by_loop(logits.tolist(), window, x, y)
            for pixel in itertools.product(*map(range, size)):
                if pixel in inside:
                    mask[pixel] += inside[pixel]
                elif ends:
                    signs.add(bool(mask[pixel] > 0))
                    mask[pixel] = min(mask[pixel], 0) - NOT_HERE
        return mask, signs


def draw_labelled(draw_input, *labelled):
    batch = []
    for size, classes in labelled:
        x = draw_input(*size, segments=len(classes))
        x["instances"].gt_classes = torch.tensor(classes, dtype=torch.int64)
        batch.append(x)
    return batch


BATCHES = {
    "even": [((24, 32), [0, 5, 2]), ((32, 20), [4, 1])],
    "odd": [((21, 30), [0, 5, 2]), ((27, 18), [4, 1])],
}


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("stride, semantic", [(1, 4), (1, 2), (2, 4), (2, 1), (4, 4)])
@pytest.mark.parametrize("ends", [True, False])
@torch.no_grad()
def test_masks_are_those_of_a_plain_retelling(
    build_lively_model, draw_input, batch, stride, semantic, ends
):
    model = build_lively_model(
        *("MODEL.DETR.MASK_STRIDE", stride),
        *("MODEL.DETR.SEMANTIC_STRIDE", semantic),
        *("MODEL.DETR.THINGS_IN_WINDOWS", ends),
    )
    batch = draw_labelled(draw_input, *batch)
    predictions = model.predict(model.preprocess(batch), all_layers=False)
    queries = [torch.tensor([1, 5, 8, 4]), torch.tensor([7, 3])]
    padded_size = predictions.padded_size
    size = tuple(-(-side // stride) for side in padded_size)
    outside = set()
    for gain in (1.3, -1.3):  # a thing's logits are mostly below 0, and mostly above
        model.mask_head.semantic_gain[1] = gain
        retelling = Retelling(model, batch, predictions, queries)
        assert retelling.is_thing == [False, True, True, True, True, False]
        masks = model.masks(predictions, queries)
        assert masks.shape == (6, *size)
        for k, mask in enumerate(masks):
            wanted, signs = retelling.mask(k, size, padded_size, ends)
            torch.testing.assert_close(mask, wanted, rtol=0, atol=1e-9)
            outside |= signs
    assert outside == ({True, False} if ends else set())


@pytest.mark.parametrize("stride", [1, 2, 4])
@torch.no_grad()
def test_masks_of_a_query_do_not_depend_on_the_others(build_lively_model, draw_input, stride):
    model = build_lively_model("MODEL.DETR.MASK_STRIDE", stride)
    batch = [draw_input(24, 32), draw_input(30, 21), draw_input(16, 16)]
    predictions = model.predict(model.preprocess(batch), all_layers=False)
    everything = model.masks(predictions, [torch.arange(9)] * 3).unflatten(0, (3, 9))
    for rows in ([[3, 8], [], [4]], [[], [6, 0, 5], []], [[], [], [1, 2]]):
        rows = [torch.tensor(r, dtype=torch.int64) for r in rows]
        masks = model.masks(predictions, rows)
        wanted = torch.cat([x[r] for x, r in zip(everything, rows)])
        torch.testing.assert_close(masks, wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("stride", [1, 2, 4])
@torch.no_grad()
def test_no_query_has_no_mask(build_lively_model, draw_input, stride):
    model = build_lively_model("MODEL.DETR.MASK_STRIDE", stride)
    batch = [draw_input(21, 30)] * 2
    predictions = model.predict(model.preprocess(batch), all_layers=False)
    nothing = torch.zeros(0, dtype=torch.int64)
    masks = model.masks(predictions, [nothing, nothing])
    assert masks.shape == (0, -(-21 // stride), -(-30 // stride))


@torch.no_grad()
def test_stuff_alone_has_masks(build_lively_model, draw_input):
    """As where no thing is found."""
    model = build_lively_model()
    batch = [draw_input(21, 30)]
    predictions = model.predict(model.preprocess(batch), all_layers=False)
    queries = [torch.tensor([2, 0])]
    retelling = Retelling(model, batch, predictions, queries)
    masks = model.masks(predictions, queries)
    for k in range(2):
        torch.testing.assert_close(masks[k], resized(retelling.coarse(k), (6, 8)))


@pytest.mark.parametrize("masks_on", [True, False])
@pytest.mark.parametrize("found", ["things", "stuff", "nothing"])
@pytest.mark.parametrize("stride", [1, 4])
@torch.no_grad()
def test_results_have_the_documented_form(build_lively_model, draw_input, stride, found, masks_on):
    model = build_lively_model(
        *("MODEL.DETR.MASK_STRIDE", stride), *("MODEL.DETR.INSTANCES.MASKS_ON", masks_on)
    )
    if found != "things":
        model.class_embed.bias[: STUFF[0]] = -1000.0
        model.instance_score_threshold = 0.5
    if found != "stuff":
        model.class_embed.bias[STUFF[0] : 8] = -1000.0
    batch = [{**draw_input(21, 30), "height": 40, "width": 50}, draw_input(27, 18)]
    for result, size in zip(model(batch), [(40, 50), (27, 18)], strict=True):
        panoptic_seg, info = result["panoptic_seg"]
        assert panoptic_seg.shape == size
        assert {x["isthing"] for x in info} == {"things": {True}, "stuff": {False}}.get(
            found, set()
        )
        instances = result["instances"]
        assert bool(len(instances)) == (found == "things")
        if masks_on:
            assert instances.pred_masks.shape == (len(instances), *size)


# Its losses


def prepared(model, batch):
    """The arguments of `losses`, and what masks are retold from."""
    targets, images = model.targets(batch), model.preprocess(batch)
    predictions = model.predict(images, True, targets)
    with EventStorage():
        matches = model.match(predictions, targets)
    matches = predictions.decoded.with_further(matches)
    retelling = Retelling(model, batch, predictions, matches.queries[-1].split(matches.counts))
    arguments = (
        *(retelling.arguments, targets, matches),
        *(model.criterion, predictions.padded_size),
    )
    return arguments, retelling


def mask_losses_by_loop(retelling, targets, matches, criterion, padded_size):
    """One mask at a time: a thing in its window, stuff at H/4."""
    starts = [sum(len(t.labels) for t in targets[:b]) for b in range(len(targets))]
    total = {"loss_mask": 0.0, "loss_dice": 0.0}
    for k, (b, segment) in enumerate(zip(matches.images.tolist(), matches.targets[-1].tolist())):
        segment_map = targets[b].segment_map

        def is_mine(x, y, segment_map=segment_map, number=segment - starts[b] + 1):
            x, y = math.floor(x), math.floor(y)
            inside = 0 <= x < segment_map.shape[1] and 0 <= y < segment_map.shape[0]
            return float(inside and int(segment_map[y, x]) == number)

        logits = retelling.coarse(k)
        if retelling.is_thing[k]:
            window, corrections = retelling.window(k)
            n = len(corrections)
            logits = corrections + sampled_by_grid_sample(
                logits[None], doubles([window]), n, padded_size
            )
            x0, y0, x1, y1 = window
            x = [x0 + (i + 0.5) / n * (x1 - x0) for i in range(n)]
            y = [y0 + (i + 0.5) / n * (y1 - y0) for i in range(n)]
            (logits,) = logits
        else:
            y, x = (
                [(i + 0.5) * side / n for i in range(n)]
                for n, side in zip(logits.shape, padded_size)
            )
        wanted = doubles([[[is_mine(p, q) for p in x] for q in y]])
        in_window = retelling.is_thing[k]
        losses_at = criterion.window_mask_losses if in_window else criterion.small_mask_losses
        of_one = losses_at(logits[None], wanted)
        for name in total:
            total[name] = total[name] + of_one[name]
    number = number_of_targets(targets, logits.device)
    return {name: loss / number for name, loss in total.items()}


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("semantic", [4, 2])
def test_mask_losses_are_those_of_a_plain_retelling(
    build_lively_model, draw_input, batch, semantic
):
    """With their gradients."""
    model = build_lively_model("MODEL.DETR.SEMANTIC_STRIDE", semantic)
    batch = draw_labelled(draw_input, *batch)
    arguments, retelling = prepared(model, batch)
    _, targets, matches, criterion, padded_size = arguments
    # The matched, and two further queries of each image.
    assert len(retelling.images) > sum(len(t.labels) for t in targets)
    assert set(retelling.is_thing) == {True, False}
    losses = model.mask_head.losses(*arguments)
    wanted = mask_losses_by_loop(retelling, targets, matches, criterion, padded_size)
    parameters = [p for n, p in model.mask_head.named_parameters() if "lay" in n or "window" in n]
    for name, loss in wanted.items():
        torch.testing.assert_close(losses[name], loss, rtol=1e-9, atol=0)
        gradients = torch.autograd.grad(losses[name], parameters, retain_graph=True)
        plain = torch.autograd.grad(loss, parameters, retain_graph=True)
        torch.testing.assert_close(gradients, plain, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
def test_semantic_losses_are_those_of_a_plain_loop(build_lively_model, draw_input, batch):
    """VOID and the padding of a smaller image do not count."""
    model = build_lively_model(
        *("MODEL.DETR.SEMANTIC_WEIGHT", 0.3, "MODEL.DETR.SEMANTIC_DICE_WEIGHT", 0.7),
        *("MODEL.DETR.SEMANTIC_STRIDE", 2),
    )
    batch = draw_labelled(draw_input, *batch)
    arguments, retelling = prepared(model, batch)
    _, targets, _, _, padded_size = arguments
    classes = torch.full((len(batch), *padded_size), -1)
    for b, target in enumerate(targets):
        h, w = target.segment_map.shape
        for y, x in itertools.product(range(h), range(w)):
            number = int(target.segment_map[y, x])
            if number:
                classes[b, y, x] = target.labels[number - 1]
    found = model.mask_head.losses(*arguments)
    wanted = 0.3 * semantic_loss_by_loop(retelling.semantic, classes)
    assert found["loss_semantic"].item() == pytest.approx(wanted, rel=1e-9)
    wanted = 0.7 * semantic_dice_by_loop(retelling.semantic, classes)
    assert found["loss_semantic_dice"].item() == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(
    "labelled",
    [
        [((24, 32), []), ((20, 20), [])],
        [((24, 32), [4, 7])],
        [((24, 32), [0, 1])],
        [((24, 32), []), ((20, 20), [5, 2])],
    ],
    ids=["nothing", "stuff", "things", "an image without segments"],
)
def test_every_parameter_has_a_finite_gradient(build_lively_model, draw_input, labelled):
    model = build_lively_model()
    arguments, _ = prepared(model, draw_labelled(draw_input, *labelled))
    losses = model.mask_head.losses(*arguments)
    assert set(losses) == {"loss_mask", "loss_dice", "loss_semantic"}
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    for name, parameter in model.mask_head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    if not any(labels for _, labels in labelled):
        assert all(loss == 0 for loss in losses.values())


def test_an_image_of_void_alone_is_trained_on(build_lively_model, draw_input):
    """Its segments are nowhere to be seen."""
    model = build_lively_model()
    (x,) = draw_labelled(draw_input, ((24, 32), [0, 5]))
    x["segment_map"] = torch.zeros(24, 32, dtype=torch.int64)
    arguments, _ = prepared(model, [x])
    losses = model.mask_head.losses(*arguments)
    assert losses["loss_semantic"] == 0
    assert losses["loss_mask"] > 0
    assert all(loss.isfinite() for loss in losses.values())


def test_no_gradient_goes_through_boxes_and_classes(build_lively_model, draw_input):
    """Masks train what they are made of, not where and what a query says that it is."""
    model = build_lively_model()
    arguments, _ = prepared(model, draw_labelled(draw_input, *BATCHES["even"]))
    sum(model.mask_head.losses(*arguments).values()).backward()
    assert all(p.grad is None for p in model.class_embed.parameters())
    assert all(p.grad is None for p in model.bbox_embed.parameters())
    assert all(p.grad is None for p in model.transformer.dense_head.class_logits.parameters())
    assert model.transformer.pyramid.top.weight.grad.any()
