import numpy as np
import pytest
from detectron2.config import get_cfg
from detectron2.data import transforms as T

from detr_d2 import add_detr_config
from detr_d2.data.augmentation import OfficialResize, build_augmentations, official_size
from detr_d2.errors import UserError


@pytest.mark.parametrize(
    "h, w, length, max_size, expected",
    [
        (480, 640, 800, 1333, (800, 1066)),  # 1066.67 is rounded down
        (640, 480, 800, 1333, (1066, 800)),
        (427, 640, 800, 1333, (800, 1199)),  # 1199.06
        (300, 1000, 800, 1333, (400, 1333)),  # 1333 * 300 / 1000 = 399.9, rounded to 400
        (500, 500, 800, 1333, (800, 800)),
        (427, 640, 500, None, (500, 749)),
    ],
)
def test_size_by_hand(h, w, length, max_size, expected):
    assert official_size(h, w, length, max_size) == expected


def test_size_zero_leaves_the_image_as_it_is():
    image = np.zeros((5, 7, 3), np.uint8)
    assert isinstance(OfficialResize((0,)).get_transform(image), T.NoOpTransform)


def augmentations(*overrides, is_train=True):
    cfg = get_cfg()
    add_detr_config(cfg)
    cfg.merge_from_list(list(overrides))
    return T.AugmentationList(build_augmentations(cfg, is_train))


def sizes_of(augmentation, count=100):
    sizes = set()
    for _ in range(count):
        augmented = T.AugInput(np.zeros((90, 120, 3), np.uint8))
        augmentation(augmented)
        sizes.add(augmented.image.shape[:2])
    return sizes


def test_without_crop_sizes_are_those_of_the_resize():
    augmentation = augmentations(
        "INPUT.DETR_CROP.PROBABILITY", 0.0, "INPUT.MIN_SIZE_TRAIN", (30, 60)
    )
    assert sizes_of(augmentation) == {(30, 40), (60, 80)}


def test_crops_change_the_aspect_ratio_about_half_the_time():
    augmentation = augmentations(
        *("INPUT.DETR_CROP.RESIZE_BEFORE", (40,), "INPUT.DETR_CROP.RANGE", (20, 30)),
        *("INPUT.MIN_SIZE_TRAIN", (60,), "INPUT.RANDOM_FLIP", "none"),
    )
    uncropped = 0
    for _ in range(400):
        transforms = augmentation(T.AugInput(np.zeros((90, 120, 3), np.uint8)))
        kinds = [type(t).__name__ for t in transforms.transforms]
        uncropped += "CropTransform" not in str(transforms)
        assert kinds[-1] == "ResizeTransform"
    assert 150 < uncropped < 250


def test_inference_only_resizes():
    assert sizes_of(augmentations(is_train=False)) == {(800, 1066)}


@pytest.mark.parametrize(
    "which, axes",
    [("none", set()), ("horizontal", {1}), ("vertical", {0}), ("both", {0, 1})],
)
def test_flips_are_those_asked_for(which, axes):
    """ "both" draws for each axis by itself."""
    augmentation = augmentations(
        *("INPUT.RANDOM_FLIP", which, "INPUT.DETR_CROP.PROBABILITY", 0.0),
        *("INPUT.MIN_SIZE_TRAIN", (2,)),
    )
    image = np.arange(4, dtype=np.uint8).reshape(2, 2, 1).repeat(3, 2)
    seen = set()
    for _ in range(60):
        augmented = T.AugInput(image.copy())
        augmentation(augmented)
        seen.add(augmented.image[..., 0].tobytes())
    chosen = [(), *[(axis,) for axis in axes], *([(0, 1)] if len(axes) == 2 else [])]
    assert seen == {np.flip(image[..., 0], axis).tobytes() for axis in chosen}


def test_an_unknown_flip_is_refused():
    with pytest.raises(UserError, match="horizontal, vertical, both"):
        augmentations("INPUT.RANDOM_FLIP", "up")
