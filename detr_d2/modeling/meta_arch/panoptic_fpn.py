"""Panoptic FPN (Kirillov et al., arXiv:1901.02446), on the same datasets as DETR."""

from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, PanopticFPN
from torch import Tensor

from ...classes import classes_of_metadata, panoptic_classes
from ...errors import UserError
from ...model_kind import ModelKind
from ..backbone import check_image_size
from ..computing import infer_by_size


@META_ARCH_REGISTRY.register()
class UnifiedPanopticFPN(ModelKind, PanopticFPN):
    """Detectron2's `PanopticFPN`, with things and stuff in one range of classes at its output.

    The parts, the losses and the merging are Detectron2's, and so are the names of the weights:
    those of its model zoo load.
    """

    gives_panoptic = True
    dataset_mapper = "PanopticFPNDatasetMapper"

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
        """As `PanopticFPN`, and the classes of DATASETS."""
        classes = panoptic_classes(cfg)
        arguments = super().from_config(cfg)
        arguments.update(thing_classes=classes.things, stuff_classes=classes.stuff)
        return arguments

    @classmethod
    def gives_instance_masks(cls, cfg) -> bool:
        """Always."""
        return True

    @classmethod
    def check_classes(cls, cfg, dataset_name: str) -> None:
        """See `ModelKind.check_classes`; there has to be a thing."""
        classes = classes_of_metadata(dataset_name)
        if classes is None or not classes.things:
            raise UserError(
                f"Dataset {dataset_name} has no things, which Panoptic FPN cannot be built "
                "without: use MODEL.META_ARCHITECTURE PanopticDETR, or a panoptic dataset that "
                "has some."
            )
        wanted = {"ROI_HEADS": len(classes.things), "SEM_SEG_HEAD": len(classes.stuff) + 1}
        for head, number in wanted.items():
            if number != cfg.MODEL[head].NUM_CLASSES:
                raise UserError(
                    f"Dataset {dataset_name} has {len(classes.things)} things and "
                    f"{len(classes.stuff)} stuff classes, but MODEL.{head}.NUM_CLASSES is "
                    f"{cfg.MODEL[head].NUM_CLASSES}: set MODEL.{head}.NUM_CLASSES {number}."
                )

    def preprocess_image(self, batched_inputs: list[dict]):
        """As `PanopticFPN`.

        Raises:
            UserError: where an image does not fit into the square of a backbone.
        """
        for x in batched_inputs:  # one that is too large would be cut
            check_image_size(self.backbone, tuple(x["image"].shape[-2:]))
        return super().preprocess_image(batched_inputs)

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
