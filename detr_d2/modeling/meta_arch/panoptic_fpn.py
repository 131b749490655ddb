"""Panoptic FPN (Kirillov et al., arXiv:1901.02446), on the same datasets as DETR."""

from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, PanopticFPN
from torch import Tensor

from ...classes import panoptic_classes
from ..batching import infer_by_size


@META_ARCH_REGISTRY.register()
class UnifiedPanopticFPN(PanopticFPN):
    """Detectron2's `PanopticFPN`, with things and stuff in one range of classes at its output.

    The parts, the losses and the merging are Detectron2's, and so are the names of the weights:
    those of its model zoo load.
    """

    @configurable
    def __init__(self, *, thing_classes: list[int], stuff_classes: list[int], **panoptic_fpn):
        """
        Args:
            thing_classes: contiguous class of the box head's class k.
            stuff_classes: contiguous class of the semantic head's class k + 1; 0 is "a thing".
            **panoptic_fpn: the arguments of `PanopticFPN`.
        """
        super().__init__(**panoptic_fpn)
        self.thing_classes = thing_classes
        self.stuff_classes = stuff_classes

    @classmethod
    def from_config(cls, cfg):
        classes = panoptic_classes(cfg)
        arguments = super().from_config(cfg)
        arguments.update(thing_classes=classes.things, stuff_classes=classes.stuff)
        return arguments

    def inference(self, batched_inputs: list[dict]) -> list[dict]:
        """
        Args:
            batched_inputs: of each image `image`, (3, h, w), 0..255, and optionally `height` and
                `width` of the original.

        Returns:
            Of each image what `PanopticDETR` gives, with contiguous classes: "instances" with
            `pred_boxes`, `scores`, `pred_classes` and `pred_masks`, and "panoptic_seg".
        """
        results = infer_by_size(super().inference, batched_inputs)
        return [self._in_one_range(result) for result in results]

    def _in_one_range(self, result: dict) -> dict:
        instances = result["instances"]
        numbers: Tensor = instances.pred_classes
        instances.pred_classes = numbers.new_tensor(self.thing_classes)[numbers]
        panoptic_seg, segments_info = result["panoptic_seg"]
        segments_info = [
            {**info, "category_id": self._class_of(info["category_id"], info["isthing"])}
            for info in segments_info
        ]
        return {"instances": instances, "panoptic_seg": (panoptic_seg, segments_info)}

    def _class_of(self, number: int, isthing: bool) -> int:
        return self.thing_classes[number] if isthing else self.stuff_classes[number - 1]
