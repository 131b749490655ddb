"""An exported file in the place of the model that it was made of: what its PQ is."""

import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances
from torch import nn

from ..data.common_classes import Classes, number_like
from ..data.depth import GreyLevels
from ..data.images import read_image
from ..deploy import OnnxPredictor


def is_exported(path: str) -> bool:
    """Whether MODEL.WEIGHTS names an exported file."""
    return path.endswith(".onnx")


def without_instance_masks(cfg: CfgNode) -> CfgNode:
    """The same configuration for an exported file, whose instances have no masks of their own."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DETR.INSTANCES.MASKS_ON = False
    cfg.freeze()
    return cfg


class ExportedModel(nn.Module):
    """What `Trainer.test` takes for a model; it reads the pictures as they are, since their way to
    the network's size is in the file."""

    def __init__(self, cfg: CfgNode):
        super().__init__()
        self.predictor = OnnxPredictor(cfg.MODEL.WEIGHTS, num_threads=torch.get_num_threads())
        self.levels = GreyLevels.from_config(cfg)
        recorded = self.predictor.metadata["classes"]
        classes = Classes((c["name"], bool(c["isthing"])) for c in recorded)
        number_like(classes, f"the file {cfg.MODEL.WEIGHTS}", cfg.DATASETS.TEST)

    def forward(self, batched_inputs: list[dict]) -> list[dict]:
        """
        Args:
            batched_inputs: `file_name` of each image.

        Returns:
            What a model gives, without masks of instances.
        """
        images = [
            read_image(input_["file_name"], "BGR", levels=self.levels) for input_ in batched_inputs
        ]
        return [_as_detectron2(result) for result in self.predictor(images)]


def _as_detectron2(result: dict) -> dict:
    ours = result["instances"]
    instances = Instances(ours.image_size)
    instances.pred_boxes = Boxes(torch.from_numpy(ours.pred_boxes))
    instances.scores = torch.from_numpy(ours.scores)
    instances.pred_classes = torch.from_numpy(ours.pred_classes)
    found = {"instances": instances}
    if "panoptic_seg" in result:
        panoptic_seg, segments_info = result["panoptic_seg"]
        found["panoptic_seg"] = torch.from_numpy(panoptic_seg), segments_info
    return found
