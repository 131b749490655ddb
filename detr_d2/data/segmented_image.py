"""An image and its map of segments on their way through Detectron2's augmentations."""

import copy

import numpy as np
from detectron2.data import transforms as T
from fvcore.transforms.transform import PadTransform
from PIL import Image

_VOID_CLASS = -1


class SegmentedImage(T.AugInput):
    """Detectron2's `AugInput`, with a map of segment numbers beside the image.

    Attributes:
        image: (H, W, 3) uint8.
        segment_map: (H, W) uint16, t + 1 at segment t, 0 at VOID, and where a transform has
            moved something from beyond the border.
    """

    image: np.ndarray

    def __init__(self, image: np.ndarray, segment_map: np.ndarray, classes: list[int]):
        """
        Args:
            classes: of segment t.
        """
        super().__init__(image)
        self.segment_map = segment_map
        self._classes = np.array([_VOID_CLASS, *classes])

    @property
    def sem_seg(self) -> np.ndarray:
        """(H, W) int64, the class of each pixel, -1 at VOID: what some augmentations ask for."""
        return self._classes[self.segment_map]

    @sem_seg.setter
    def sem_seg(self, _: None) -> None:
        """`AugInput` sets it, and there is nothing to be kept."""

    def transform(self, tfm: T.Transform) -> None:
        """Apply a transform to image and map alike."""
        self.image = tfm.apply_image(self.image)
        self.segment_map = transform_segments(tfm, self.segment_map)


def transform_segments(tfm: T.Transform, segment_map: np.ndarray) -> np.ndarray:
    """Apply a transform to (H, W) uint16 numbers of segments, by nearest neighbour.

    The map is two channels of 8 bits meanwhile, since those are what transforms resize by the
    centres of pixels.
    """
    if isinstance(tfm, T.TransformList):
        for one in tfm.transforms:
            segment_map = transform_segments(one, segment_map)
        return segment_map
    pairs = np.ascontiguousarray(segment_map.astype("<u2")).view(np.uint8)
    pairs = _for_segments(tfm).apply_segmentation(pairs.reshape(*segment_map.shape, 2))
    return np.ascontiguousarray(pairs).view("<u2")[..., 0]


def _for_segments(tfm: T.Transform) -> T.Transform:
    """The same transform for a map of segments, where Detectron2's would spoil it."""
    if isinstance(tfm, PadTransform) and tfm.seg_pad_value != 0:
        tfm = copy.copy(tfm)
        tfm.seg_pad_value = 0  # VOID; 255 would be the number 65535
    elif isinstance(tfm, T.ExtentTransform):
        tfm = copy.copy(tfm)
        tfm.interp = Image.Resampling.NEAREST  # apply_segmentation asks for it, and is not heard
        tfm.fill = 0
    return tfm
