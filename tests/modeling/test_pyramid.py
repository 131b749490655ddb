import itertools

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec

from detr_d2.modeling.pyramid import FeaturePyramid, Levels, flatten, points_of

D, P = 12, 16
STRIDES = {"res4": 16, "res3": 8, "res2": 4}
CHANNELS = {"res4": 7, "res3": 5, "res2": 3}


# The pyramid


def group_norm(norm, x):
    """Eight groups of channels, one image and one group at a time."""
    out = torch.empty_like(x)
    size = x.shape[1] // 8
    for b, group in itertools.product(range(len(x)), range(8)):
        channels = slice(group * size, (group + 1) * size)
        values = x[b, channels]
        centred = values - values.mean()
        values = centred / (centred.square().mean() + 1e-5).sqrt()
        weight, bias = norm.weight[channels], norm.bias[channels]
        out[b, channels] = values * weight[:, None, None] + bias[:, None, None]
    return out


def nearest(x, size):
    """(B, p, h, w) at another size: each cell has what is at the same place."""
    (h, w), (height, width) = x.shape[-2:], size
    rows = [y * h // height for y in range(height)]
    columns = [x_ * w // width for x_ in range(width)]
    return x[:, :, rows][:, :, :, columns]


def pixels_of_cells(image):
    """(B, 3, H, W) -> (B, 48, H/4, W/4): the 4 x 4 pixels of each cell, 0 beyond the border."""
    batch, _, height, width = image.shape
    cells = torch.zeros(batch, 48, -(-height // 4), -(-width // 4)).double()
    for channel, y, x in itertools.product(range(3), range(height), range(width)):
        number = 16 * channel + 4 * (y % 4) + x % 4
        cells[:, number, y // 4, x // 4] = image[:, channel, y, x]
    return cells


def pyramid_by_step(pyramid, memory, features, image):
    """1x1 convolutions as sums over channels; what is above is repeated, added, and smoothed. The
    finest level knows the pixels, too."""

    def mixed(conv, x):
        return torch.einsum("oi,bihw->bohw", conv.weight[:, :, 0, 0], x)

    above = mixed(pyramid.top, memory) + pyramid.top.bias[:, None, None]
    maps = []
    for name in ("res4", "res3", "res2"):
        conv, norm = pyramid.lateral[name]
        lateral = group_norm(norm, mixed(conv, features[name]))
        if name == "res2":
            conv, norm = pyramid.detail
            lateral = lateral + group_norm(norm, mixed(conv, pixels_of_cells(image)))
        above = lateral + nearest(above, lateral.shape[-2:])
        conv, norm, _ = pyramid.smooth[name]
        maps.append(group_norm(norm, F.conv2d(above, conv.weight, padding=1)).clamp(min=0))
    return maps


def new_pyramid():
    shape = {name: ShapeSpec(channels=CHANNELS[name], stride=STRIDES[name]) for name in STRIDES}
    # The backbone has another map, which is not wanted.
    shape["res5"] = ShapeSpec(channels=9, stride=32)
    return FeaturePyramid(d_model=D, channels=P, backbone_shape=shape).double()


@pytest.fixture
def pyramid(randomise):
    return randomise(new_pyramid())


SIZES = {
    "even": [(2, 3), (4, 6), (8, 12), (16, 24)],
    "odd": [(3, 2), (5, 3), (9, 5), (17, 9)],
    "DC5": [(3, 4), (3, 4), (6, 7), (11, 14)],
    "one cell": [(1, 1), (1, 2), (2, 3), (3, 5)],
}


def draw_maps(sizes, batch):
    features = {
        name: torch.randn(batch, CHANNELS[name], *size).double()
        for name, size in zip(STRIDES, sizes[1:])
    }
    h, w = sizes[-1]
    image = torch.randn(batch, 3, 4 * h - 1, 4 * w - 3).double()  # its last cells are not full
    return torch.randn(batch, D, *sizes[0]).double(), features, image


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("batch", [1, 2])
@torch.no_grad()
def test_pyramid_is_built_step_by_step(pyramid, sizes, batch):
    inputs = draw_maps(sizes, batch)
    levels = pyramid(*inputs)
    assert levels.strides == (16, 8, 4)
    assert levels.image is inputs[-1]
    assert [m.shape for m in levels.maps] == [(batch, P, *size) for size in sizes[1:]]
    for level, wanted in zip(levels.maps, pyramid_by_step(pyramid, *inputs), strict=True):
        torch.testing.assert_close(level, wanted, rtol=0, atol=1e-12)


def test_pixels_are_nothing_to_a_new_pyramid_and_come_in():
    pyramid = new_pyramid()
    memory, features, image = draw_maps(SIZES["odd"], 2)
    (*_, finest), (*_, of_other) = (
        pyramid(memory, features, x).maps for x in (image, torch.randn_like(image))
    )
    assert torch.equal(finest, of_other)
    (finest * torch.randn_like(finest)).sum().backward()
    assert pyramid.detail[1].weight.grad.all()


def test_every_level_learns_from_all_above_it(pyramid):
    memory, features, image = draw_maps(SIZES["odd"], 1)
    leaves = [memory, *features.values()]
    for leaf in leaves:
        leaf.requires_grad_()
    for number, level in enumerate(pyramid(memory, features, image).maps, 2):
        direction = torch.randn_like(level)
        grads = torch.autograd.grad(level, leaves, direction, retain_graph=True, allow_unused=True)
        reached = [grad is not None and bool(grad.any()) for grad in grads]
        assert reached == [True] * number + [False] * (4 - number)


# Cells


@pytest.fixture
def small():
    """Two images; maps of 1 x 2 and 3 x 1 cells, numbered along cells, images and channels."""
    coarse = torch.tensor([[[[0.0, 1.0]]], [[[10.0, 11.0]]]])
    fine = torch.tensor([[[[2.0], [3.0], [4.0]]], [[[12.0], [13.0], [14.0]]]])
    maps = tuple(torch.cat((m, m + 100), 1) for m in (coarse, fine))
    return Levels(maps, (16, 4), torch.zeros(2, 3, 12, 32))


def test_centres_and_strides_by_hand(small):
    assert small.centres.tolist() == [[8, 8], [24, 8], [2, 2], [2, 6], [2, 10]]
    assert small.stride_of_cell.tolist() == [16, 16, 4, 4, 4]


def test_flattened_cells_are_in_the_order_of_their_centres(small):
    assert flatten(small.maps).tolist() == [
        [[0, 100], [1, 101], [2, 102], [3, 103], [4, 104]],
        [[10, 110], [11, 111], [12, 112], [13, 113], [14, 114]],
    ]


def test_some_images_by_hand(small):
    assert flatten(small.of_images(slice(1, 2)).maps)[:, :, 0].tolist() == [[10, 11, 12, 13, 14]]
    assert small.of_images(slice(1, 2)).strides == (16, 4)


def test_points_by_hand():
    # A box of 4 x 8 from (10, 20): 2 x 2 points a quarter from its sides, row by row.
    boxes = torch.tensor([[10.0, 20.0, 14.0, 28.0]])
    assert points_of(boxes, 2).tolist() == [[[11, 22], [13, 22], [11, 26], [13, 26]]]
    assert points_of(boxes[0], 1).tolist() == [[12, 24]]
    # A box of no area, and one further dimension.
    nowhere = torch.tensor([[[-1.0, 5.0, -1.0, 5.0]] * 2] * 3)
    assert points_of(nowhere, 3).shape == (3, 2, 9, 2)
    assert points_of(nowhere, 3).unique(dim=2).tolist() == [[[[-1, 5]]] * 2] * 3


# Regions


def by_grid_sample(maps, stride, boxes, images, resolution):
    """One box at a time from maps whose cells are `stride` pixels large exactly."""
    h, w = maps.shape[-2:]
    extent = torch.tensor([w * stride, h * stride], dtype=boxes.dtype)
    along = (torch.arange(resolution, dtype=boxes.dtype) + 0.5) / resolution
    regions = []
    for box, image in zip(boxes, images.tolist()):
        x = box[0] + along * (box[2] - box[0])
        y = box[1] + along * (box[3] - box[1])
        points = torch.stack((x.expand(resolution, -1), y[:, None].expand(-1, resolution)), -1)
        (seen,) = F.grid_sample(
            maps[image : image + 1],
            (2 * points / extent - 1)[None],
            mode="bilinear",
            padding_mode="border",
            align_corners=False,
        )
        regions.append(seen.permute(1, 2, 0))
    return torch.stack(regions)


def draw_levels(h, w, batch=3, stride=4):
    maps = [torch.randn(batch, 5, size, size).double() for size in (2, 3)]
    finest = torch.randn(batch, 5, h, w).double().requires_grad_()
    image = torch.randn(batch, 3, stride * h - 1, stride * w).double()  # of an odd size
    return Levels((*maps, finest), (4 * stride, 2 * stride, stride), image), finest


BOXES = {
    "inside": [[3.1, 4.2, 17.3, 15.4], [9.7, 1.2, 12.1, 18.6]],
    "at the border": [[0.0, 0.0, 11.0, 7.0], [5.0, 6.0, 28.0, 20.0]],
    "beyond the border": [[-9.3, -40.7, 12.9, 60.1], [-300.0, -200.0, 400.0, 500.0]],
    "far away": [[-90.3, 40.7, -50.9, 60.1], [300.0, -200.0, 400.0, -100.0]],
    "without area": [[5.3, 6.7, 5.3, 6.7], [5.3, 2.2, 5.3, 16.7], [1.3, 6.7, 9.3, 6.7]],
    "zero": [[0.0, 0.0, 0.0, 0.0]],
    "tiny": [[5.3, 6.7, 5.301, 6.702]],
}


@pytest.mark.parametrize("boxes", BOXES.values(), ids=BOXES)
@pytest.mark.parametrize("resolution", [1, 2, 7])
@pytest.mark.parametrize("h, w", [(5, 7), (4, 6), (1, 3), (5, 1), (1, 1)])
@torch.no_grad()
def test_regions_and_pixels_are_those_of_grid_sample(boxes, resolution, h, w):
    levels, finest = draw_levels(h, w)
    # Each box in each image, the last image first.
    images = torch.tensor([2, 1, 0]).repeat_interleave(len(boxes))
    boxes = torch.tensor(boxes * 3, dtype=torch.float64)
    regions = levels.regions(boxes, images, resolution)
    assert regions.shape == (len(boxes), resolution, resolution, 5)
    wanted = by_grid_sample(finest, 4, boxes, images, resolution)
    torch.testing.assert_close(regions, wanted, rtol=0, atol=1e-12)
    pixels = levels.pixels(boxes, images, resolution)
    assert pixels.shape == (len(boxes), resolution, resolution, 3)
    wanted = by_grid_sample(levels.image, 1, boxes, images, resolution)
    torch.testing.assert_close(pixels, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("stride", [4, 8])
def test_gradients_of_regions_are_those_of_grid_sample(stride):
    """Of the map and of the boxes, within and beyond it."""
    levels, finest = draw_levels(5, 7, stride=stride)
    corners = stride * (torch.rand(20, 2).double() * 8 - 1.5)
    boxes = torch.cat((corners, corners + stride * 6 * torch.rand(20, 2).double()), 1)
    boxes.requires_grad_()
    images = torch.randint(3, (20,))
    regions = levels.regions(boxes, images, 3)
    direction = torch.randn_like(regions)
    found = torch.autograd.grad(regions, (finest, boxes), direction)
    plain = by_grid_sample(finest, stride, boxes, images, 3)
    wanted = torch.autograd.grad(plain, (finest, boxes), direction)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-11)
    assert all(grad.any() for grad in found)


def test_no_box_has_no_region_and_a_gradient():
    levels, finest = draw_levels(5, 7)
    regions = levels.regions(torch.zeros(0, 4).double(), torch.zeros(0, dtype=torch.int64), 3)
    assert regions.shape == (0, 3, 3, 5)
    regions.sum().backward()
    assert finest.grad.shape == finest.shape
    assert not finest.grad.any()
