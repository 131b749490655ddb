"""The official augmentation, out of Detectron2's transforms."""

import numpy as np
from detectron2.data import transforms as T

from ..errors import UserError
from .named_augmentations import AUGMENTATION_REGISTRY, build_named


@AUGMENTATION_REGISTRY.register()
class OfficialResize(T.Augmentation):
    """Resize the shorter side to one of several lengths, with the official arithmetic.

    The longer side is rounded down; Detectron2's `ResizeShortestEdge` rounds to the nearest, so
    that about half of all sizes differ by a pixel.
    """

    def __init__(self, lengths: tuple[int, ...], max_size: int | None = None):
        """
        Args:
            lengths: of the shorter side, pixels; one is drawn. A single 0 leaves images as is.
            max_size: the most pixels of the longer side.
        """
        super().__init__()
        self.lengths = lengths
        self.max_size = max_size

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """For an image (H, W, 3): a length is drawn."""
        length = int(np.random.choice(self.lengths))
        if length == 0:
            return T.NoOpTransform()
        h, w = image.shape[:2]
        new_h, new_w = official_size(h, w, length, self.max_size)
        return T.ResizeTransform(h, w, new_h, new_w)


def official_size(h: int, w: int, length: int, max_size: int | None) -> tuple[int, int]:
    """(height, width) with the shorter side `length`, or less where `max_size` asks for it."""
    shorter, longer = min(h, w), max(h, w)
    if max_size is not None and longer / shorter * length > max_size:
        length = round(max_size * shorter / longer)
    longer = int(length * longer / shorter)
    return (length, longer) if h <= w else (longer, length)


_FLIPS = {
    "none": (),
    "horizontal": ("horizontal",),
    "vertical": ("vertical",),
    "both": ("horizontal", "vertical"),  # each by itself
}


def _flips(which: str) -> list[T.Augmentation]:
    if which not in _FLIPS:
        raise UserError(f"INPUT.RANDOM_FLIP is {which}: set one of {', '.join(_FLIPS)}.")
    return [
        T.RandomFlip(horizontal=axis == "horizontal", vertical=axis == "vertical")
        for axis in _FLIPS[which]
    ]


def build_augmentations(cfg, is_train: bool) -> list[T.Augmentation]:
    """`INPUT.AUGMENTATIONS`, or else flip, perhaps resize and crop, resize. [DETR A.4]"""
    if not is_train:
        return [OfficialResize((cfg.INPUT.MIN_SIZE_TEST,), cfg.INPUT.MAX_SIZE_TEST)]
    if cfg.INPUT.AUGMENTATIONS:
        return build_named(cfg.INPUT.AUGMENTATIONS)
    augmentations = _flips(cfg.INPUT.RANDOM_FLIP)
    crop = cfg.INPUT.DETR_CROP
    if crop.PROBABILITY > 0:
        resize_and_crop = T.AugmentationList(
            [OfficialResize(crop.RESIZE_BEFORE), T.RandomCrop("absolute_range", crop.RANGE)]
        )
        augmentations.append(T.RandomApply(resize_and_crop, crop.PROBABILITY))
    if cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING != "choice":
        raise UserError(
            "INPUT.MIN_SIZE_TRAIN_SAMPLING must be 'choice': DETR draws one of MIN_SIZE_TRAIN."
        )
    augmentations.append(OfficialResize(cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN))
    return augmentations
