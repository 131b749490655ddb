"""Maps of segments through Detectron2's augmentations: as each mask by itself."""

import numpy as np
import pytest
from detectron2.data import transforms as T
from fvcore.transforms.transform import PadTransform
from PIL import Image

from detr_d2.data.named_augmentations import build_named
from detr_d2.data.segmented_image import SegmentedImage
from detr_d2.errors import UserError

NAMED = [
    ["RandomFlip", {"horizontal": True}],
    ["RandomFlip", {"horizontal": False, "vertical": True}],
    ["Resize", {"shape": [37, 90]}],
    ["ResizeShortestEdge", {"short_edge_length": [23, 71], "sample_style": "choice"}],
    ["ResizeScale", {"min_scale": 0.3, "max_scale": 2, "target_height": 50, "target_width": 70}],
    ["FixedSizeCrop", {"crop_size": [70, 40]}],
    ["FixedSizeCrop", {"crop_size": [30, 90], "seg_pad_value": 7}],
    ["RandomCrop", {"crop_type": "relative_range", "crop_size": [0.3, 0.4]}],
    [
        "RandomCrop_CategoryAreaConstraint",
        {
            "crop_type": "absolute",
            "crop_size": [20, 30],
            "single_category_max_area": 0.6,
            "ignored_category": -1,
        },
    ],
    ["RandomExtent", {"scale_range": [0.5, 1.6], "shift_range": [0.3, 0.3]}],
    ["RandomRotation", {"angle": [-70, 70]}],
    ["RandomRotation", {"angle": [90, 180], "sample_style": "choice", "expand": False}],
    ["RandomApply", {"tfm_or_aug": ["RandomFlip", {"prob": 1.0}], "prob": 0.5}],
    ["RandomBrightness", {"intensity_min": 0.5, "intensity_max": 1.5}],
    ["RandomContrast", {"intensity_min": 0.5, "intensity_max": 1.5}],
    ["RandomSaturation", {"intensity_min": 0.5, "intensity_max": 1.5}],
    ["RandomLighting", {"scale": 20}],
]


def draw(number: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """An image, and blocks of more segments than a byte can number."""
    blocks = np.random.randint(0, number + 1, (7, 9), dtype=np.uint16)
    segments = blocks.repeat(8, 0).repeat(8, 1)[:51, :67]
    return np.random.randint(0, 256, (51, 67, 3), dtype=np.uint8), segments


def by_itself(transform: T.Transform, mask: np.ndarray) -> np.ndarray:
    """One mask, by nearest neighbour, with nothing where it comes from beyond the border."""
    if isinstance(transform, T.TransformList):
        for one in transform.transforms:
            mask = by_itself(one, mask)
        return mask
    if isinstance(transform, T.ExtentTransform):
        # Detectron2 asks for the nearest pixel, and gets a mixture.
        (h, w), how = transform.output_size, (Image.Transform.EXTENT, transform.src_rect)
        return np.asarray(Image.fromarray(mask).transform((w, h), *how, Image.Resampling.NEAREST))
    if isinstance(transform, PadTransform):
        left, top = transform.x0, transform.y0
        return np.pad(mask, ((top, transform.y1), (left, transform.x1)))
    return transform.apply_segmentation(mask)


@pytest.mark.parametrize("entry", NAMED, ids=lambda entry: entry[0])
def test_the_map_goes_as_each_mask_by_itself(entry):
    (augmentation,) = build_named([entry])
    for seed in range(6):
        np.random.seed(seed)
        image, segments = draw()
        augmented = SegmentedImage(image, segments, [n % 5 for n in range(300)])
        transform = augmentation(augmented)
        assert augmented.segment_map.shape == augmented.image.shape[:2]
        wanted = np.zeros_like(augmented.segment_map)
        for number in np.unique(segments).tolist():
            if number:
                wanted[by_itself(transform, (segments == number).astype(np.uint8)) == 1] = number
        assert np.array_equal(augmented.segment_map, wanted)
        assert wanted.any()


def test_classes_are_those_of_the_segments():
    image, segments = draw(3)
    seen = SegmentedImage(image, segments, [4, 0, 2]).sem_seg
    for number, class_ in enumerate([-1, 4, 0, 2]):
        assert (seen[segments == number] == class_).all()


@pytest.mark.parametrize(
    "entry", ["Resize", ["Resize"], ["Resize", [1]], ["ImageList", {}], ["np", {}], 3]
)
def test_what_is_no_augmentation_is_refused_in_a_sentence(entry):
    with pytest.raises(UserError, match=r"INPUT\.AUGMENTATIONS") as caught:
        build_named([entry])
    assert "\n" not in str(caught.value)
