"""What Panoptic FPN is trained on, from the same panoptic PNG as DETR's input."""

import torch
from detectron2.config import configurable
from detectron2.structures import BitMasks, Instances
from torch import Tensor

from ..classes import PanopticClasses, panoptic_classes
from ..errors import UserError
from .dataset_mapper import PanopticDatasetMapper


class PanopticFPNDatasetMapper(PanopticDatasetMapper):
    """`PanopticDatasetMapper`, split into instances of things and a map of stuff.

    Detectron2's `PanopticFPN` numbers things from 0 and stuff from 1 (0 is "a thing"), and reads
    the map of stuff from PNGs of its own. Here both are cut out of the augmented panoptic map.
    """

    @configurable
    def __init__(self, *, classes: PanopticClasses, ignore_value: int, **mapper):
        """
        Args:
            classes: of the dataset.
            ignore_value: of VOID in the map of stuff.
            **mapper: the arguments of `PanopticDatasetMapper`.
        """
        super().__init__(**mapper)
        if self.model_label_weight != 1:
            raise UserError(
                f"INPUT.MODEL_LABEL_WEIGHT is {self.model_label_weight:g}, which Panoptic FPN's "
                "losses do not know: set it to 1, or train PanopticDETR."
            )
        self.classes = classes
        self.ignore_value = ignore_value

    @classmethod
    def from_config(cls, cfg):
        """By INPUT, the classes of DATASETS and MODEL.SEM_SEG_HEAD.IGNORE_VALUE."""
        return {
            **super().from_config(cfg),
            "classes": panoptic_classes(cfg),
            "ignore_value": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
        }

    def __call__(self, dataset_dict: dict) -> dict:
        """
        Args:
            dataset_dict: as for `PanopticDatasetMapper`.

        Returns:
            The dict with `height`, `width` of the original, and

            * image: (3, h, w) uint8.
            * instances: T Instances of the things that are no crowd, with `gt_boxes` (pixels),
              `gt_classes` (numbered from 0) and `gt_masks` (BitMasks).
            * sem_seg: (h, w) int64, 0 at things, crowds among them, the number of the class (from
              1) at stuff, `ignore_value` at VOID.
        """
        mapped = super().__call__(dataset_dict)
        segments, segment_map = mapped["instances"], mapped.pop("segment_map")
        mapped["instances"] = instances_of_things(segments, segment_map, self.classes.things)
        mapped["sem_seg"] = map_of_stuff(
            segments.gt_classes, segment_map, self.classes.stuff, self.ignore_value
        )
        return mapped


def instances_of_things(segments: Instances, segment_map: Tensor, things: list[int]) -> Instances:
    """
    Args:
        segments: of things and stuff, with `gt_boxes`, `gt_classes` and `gt_is_crowd`.
        segment_map: (h, w) integer, t + 1 at segment t.
        things: the classes that are things; things[k] gets the number k.
    """
    number_of = {class_: number for number, class_ in enumerate(things)}
    numbers = [number_of.get(class_, -1) for class_ in segments.gt_classes.tolist()]
    numbers = torch.tensor(numbers, dtype=torch.int64)
    rows = ((numbers >= 0) & ~segments.gt_is_crowd).nonzero()[:, 0]
    instances = Instances(segments.image_size)
    instances.gt_boxes = segments.gt_boxes[rows]
    instances.gt_classes = numbers[rows]
    instances.gt_masks = BitMasks(segment_map == rows[:, None, None] + 1)
    return instances


def map_of_stuff(
    classes: Tensor, segment_map: Tensor, stuff: list[int], ignore_value: int
) -> Tensor:
    """
    Args:
        classes: (T,) of the segments.
        segment_map: (h, w) integer, t + 1 at segment t, 0 at VOID.
        stuff: the classes that are stuff; stuff[k] gets the number k + 1.
        ignore_value: the number of VOID.

    Returns:
        (h, w) int64, 0 at things.
    """
    number_of = {class_: number for number, class_ in enumerate(stuff, 1)}
    numbers = [ignore_value, *(number_of.get(class_, 0) for class_ in classes.tolist())]
    return torch.tensor(numbers, dtype=torch.int64)[segment_map.long()]
