"""What is exported resizes as Pillow does, to the pixel."""

import numpy as np
import pytest
import torch
from PIL import Image

from detr_d2.data.augmentation import official_size as wanted_size
from detr_d2.export import Resize
from detr_d2.export.geometry import Geometry
from detr_d2.export.resizing import official_size, resize
from detr_d2.modeling.upsampling import resize_nearest

SIZES = [(37, 53), (53, 37), (41, 41), (1, 9), (480, 640), (97, 400)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("length", [20, 64, 111])
def test_pixels_are_those_of_pillow(size, length):
    image = np.random.randint(256, size=(*size, 3), dtype=np.uint8)
    geometry = Geometry.of(torch.tensor(size), Resize(length, 150), fixed=True)
    height, width = geometry.network_size
    wanted = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    found = resize(torch.from_numpy(image).permute(2, 0, 1).int(), *geometry.taps)
    np.testing.assert_array_equal(found.permute(1, 2, 0).numpy(), wanted)


@pytest.mark.parametrize("max_size", [90, 1333])
def test_sizes_are_the_official_ones(max_size):
    for size in np.random.randint(1, 1500, (300, 2)).tolist():
        found = tuple(official_size(torch.tensor(size), 60, max_size).tolist())
        assert found == wanted_size(*size, 60, max_size), size


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_nearest_rows_and_columns(size):
    geometry = Geometry.of(torch.tensor(size), Resize(64, 150), fixed=True)
    rows, columns = geometry.nearest
    picture = torch.randn(geometry.network_size)
    assert torch.equal(picture[rows][:, columns], resize_nearest(picture, size))
