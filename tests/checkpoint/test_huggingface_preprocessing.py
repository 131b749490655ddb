"""Hugging Face's image processor and ours make the same of an image, where theirs is official.

Theirs has two backends. Pillow's resizes as the official code and ours do. torchvision's, the
default, has other arithmetic (a level of 255 apart), so that of it only sizes are compared.
Where the longer side reaches its limit, theirs computes it from the shorter side before rounding.
Officially it comes from the rounded one and may be some pixels off 1333: about two thirds of such
sizes differ. Of those, only images are here whose shorter side needs no rounding.
Seen: absolute errors of at most 5e-7.
"""

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from small_models import BOXES, small_model
from test_huggingface_parity import pixel_mask

from detr_d2.data.augmentation import OfficialResize

transformers = pytest.importorskip(
    "transformers", minversion="5.0", reason="parity is against transformers 5, not installed"
)

# Of two images (height, width) each, which are padded to one size.
PAIRS = {
    "usual": [(480, 640), (640, 427)],
    "odd": [(333, 500), (375, 500)],
    "square": [(500, 500), (801, 801)],
    "small": [(97, 131), (61, 50)],
    "large": [(1201, 1600), (1024, 1023)],
    "one side as it is": [(800, 999), (1111, 800)],
    "limited": [(1000, 2666), (2666, 800)],
}
SIZE = {"shortest_edge": 800, "longest_edge": 1333}
TOLERANCE = 1e-6  # absolute; values are up to 2.6


def draw(sizes):
    return [np.random.randint(256, size=(*size, 3), dtype=np.uint8) for size in sizes]


def ours_of(images):
    model, _ = small_model(BOXES)
    batch = []
    for image in images:
        augmented = T.AugInput(image)
        OfficialResize((800,), 1333)(augmented)
        batch.append({"image": torch.from_numpy(augmented.image.transpose(2, 0, 1).copy())})
    return model.preprocess(batch)


@pytest.mark.parametrize("sizes", PAIRS.values(), ids=PAIRS)
def test_pillow(sizes):
    images = draw(sizes)
    ours = ours_of(images)
    theirs = transformers.DetrImageProcessorPil(size=SIZE)(images, return_tensors="pt")
    assert torch.equal(pixel_mask(ours), theirs["pixel_mask"])
    assert ours.tensor.shape == theirs["pixel_values"].shape
    error = (ours.tensor - theirs["pixel_values"]).abs().max()
    assert error < TOLERANCE


@pytest.mark.parametrize("sizes", PAIRS.values(), ids=PAIRS)
def test_torchvision_sizes(sizes):
    images = draw(sizes)
    ours = ours_of(images)
    theirs = transformers.DetrImageProcessor(size=SIZE)(images, return_tensors="pt")
    assert torch.equal(pixel_mask(ours), theirs["pixel_mask"])
