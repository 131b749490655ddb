"""From a dataset dict to what the model is trained on."""

import copy
import math

import numpy as np
import torch
from detectron2.config import configurable
from detectron2.data import transforms as T
from detectron2.structures import Boxes, Instances

from ..errors import UserError
from .augmentation import build_augmentations
from .checks import check_listed_size
from .depth import ALL_GREY_LEVELS, GreyLevels
from .images import check_same_size, read_image, tensor_of
from .panoptic_map import boxes_of_segments, is_of_model, number_segments, read_panoptic_png
from .segmented_image import SegmentedImage


class PanopticDatasetMapper:
    """Read a COCO panoptic dict for training: image, instances of things and stuff, segment map.

    Boxes are taken from the augmented panoptic map, so they are tight also after a crop; crowd
    segments are kept, as in the official panoptic data.
    """

    @configurable
    def __init__(
        self,
        *,
        augmentations: list[T.Augmentation],
        image_format: str,
        levels: GreyLevels = ALL_GREY_LEVELS,
        model_label_weight: float = 1.0,
    ):
        """
        Args:
            augmentations: applied to image and panoptic map alike.
            image_format: channels of the image, "RGB" or "BGR".
            levels: see `read_image`.
            model_label_weight: of segments that a model made; a person's have 1.
        """
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format, self.levels = image_format, levels
        if not 0 <= model_label_weight < math.inf:
            raise UserError(
                f"INPUT.MODEL_LABEL_WEIGHT is {model_label_weight:g}: set a number that is not "
                "negative, 1 for as much as a person's labels."
            )
        self.model_label_weight = model_label_weight

    @classmethod
    def from_config(cls, cfg):
        """By INPUT, augmentations of training."""
        return {
            "augmentations": build_augmentations(cfg, is_train=True),
            "image_format": cfg.INPUT.FORMAT,
            "levels": GreyLevels.from_config(cfg),
            "model_label_weight": cfg.INPUT.MODEL_LABEL_WEIGHT,
        }

    def __call__(self, dataset_dict: dict) -> dict:
        """
        Args:
            dataset_dict: `file_name`, `image_id`, `pan_seg_file_name` and `segments_info` with
                the `id` and the contiguous `category_id` of each segment.

        Returns:
            The dict with `height`, `width` of the original, and

            * image: (3, h, w) uint8.
            * instances: T Instances with `gt_boxes` (pixels), `gt_classes` and `gt_is_crowd`, of
              the segments that the augmentation has left pixels of; and, where
              `model_label_weight` is not 1, `gt_weights`, float32.
            * segment_map: (h, w) int32, t + 1 at instance t, 0 at VOID.

        Raises:
            UserError: where the files contradict each other.
        """
        dataset_dict = copy.deepcopy(dataset_dict)
        segments_info = dataset_dict.pop("segments_info")
        path = dataset_dict.pop("pan_seg_file_name")
        where = f"{path} (image {dataset_dict['image_id']})"
        image = _read_checked(dataset_dict, self.image_format, self.levels)
        ids = read_panoptic_png(path, f"(image {dataset_dict['image_id']})")
        check_same_size(where, ids.shape, dataset_dict["file_name"], image.shape[:2])
        numbers = number_segments(ids, [info["id"] for info in segments_info], where)

        augmented = SegmentedImage(image, numbers, [info["category_id"] for info in segments_info])
        self.augmentations(augmented)
        segment_map = augmented.segment_map
        present, boxes = boxes_of_segments(segment_map, len(segments_info))

        instances = Instances(segment_map.shape)
        instances.gt_boxes = Boxes(torch.from_numpy(boxes))
        classes = [segments_info[segment]["category_id"] for segment in present]
        instances.gt_classes = torch.tensor(classes, dtype=torch.int64)
        crowds = [bool(segments_info[segment].get("iscrowd", 0)) for segment in present]
        instances.gt_is_crowd = torch.tensor(crowds, dtype=torch.bool)
        if self.model_label_weight != 1:
            of_model = [is_of_model(segments_info[segment]) for segment in present]
            weights = [self.model_label_weight if made else 1.0 for made in of_model]
            instances.gt_weights = torch.tensor(weights, dtype=torch.float32)
        if len(present) < len(segments_info):  # what is gone leaves no gap in the numbers
            renumber = np.zeros(len(segments_info) + 1, dtype=segment_map.dtype)
            renumber[present + 1] = np.arange(1, len(present) + 1)
            segment_map = renumber[segment_map]

        dataset_dict["image"] = tensor_of(augmented.image)
        dataset_dict["instances"] = instances
        dataset_dict["segment_map"] = torch.from_numpy(segment_map.astype(np.int32))
        return dataset_dict


class InferenceDatasetMapper:
    """Read an image for inference; of its annotation, only the place is passed on."""

    @configurable
    def __init__(
        self,
        *,
        augmentations: list[T.Augmentation],
        image_format: str,
        levels: GreyLevels = ALL_GREY_LEVELS,
    ):
        """As `PanopticDatasetMapper`."""
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format, self.levels = image_format, levels

    @classmethod
    def from_config(cls, cfg):
        """By INPUT, resizing alone."""
        return {
            "augmentations": build_augmentations(cfg, is_train=False),
            "image_format": cfg.INPUT.FORMAT,
            "levels": GreyLevels.from_config(cfg),
        }

    def __call__(self, dataset_dict: dict) -> dict:
        """
        Returns:
            `file_name`, `image_id`, `height` and `width` of the original, image: (3, h, w)
            uint8, and, where they are known, `pan_seg_file_name` and `segments_info` for those who
            draw the ground truth.
        """
        dataset_dict = {k: dataset_dict[k] for k in _PASSED_ON if k in dataset_dict}
        augmented = T.AugInput(_read_checked(dataset_dict, self.image_format, self.levels))
        self.augmentations(augmented)
        dataset_dict["image"] = tensor_of(augmented.image)
        return dataset_dict


_PASSED_ON = ("file_name", "image_id", "height", "width", "pan_seg_file_name", "segments_info")


def _read_checked(dataset_dict: dict, image_format: str, levels: GreyLevels) -> np.ndarray:
    """Read the image; `height` and `width`, if there are any, must be its own."""
    where = f"(image {dataset_dict['image_id']})"
    image = read_image(dataset_dict["file_name"], image_format, where, levels)
    check_listed_size(dataset_dict, image.shape[:2])
    dataset_dict["height"], dataset_dict["width"] = image.shape[:2]
    return image
