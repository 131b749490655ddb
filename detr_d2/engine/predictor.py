"""Images in, Detectron2's output dicts out."""

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.modeling import build_model

from ..acceleration import accelerate
from ..checkpoint import Checkpointer
from ..data.augmentation import build_augmentations
from ..data.images import tensor_of
from ..errors import UserError
from .defaults import check_device, number_classes_like_weights


class Predictor:
    """A model with the weights of `MODEL.WEIGHTS`, for images as arrays.

    Datasets that number the same classes differently than the weights are registered anew, in their
    order: ask `MetadataCatalog` for the names of classes afterwards. A `UserError` says where the
    weights lack classes of the first dataset.

    Example:
        predictor = Predictor(setup_cfg("configs/...yaml", ["MODEL.WEIGHTS", "model.pth"]))
        panoptic_seg, segments_info = predictor(cv2.imread("street.jpg"))["panoptic_seg"]
    """

    def __init__(self, cfg: CfgNode):
        check_device(cfg)
        number_classes_like_weights(cfg)
        self.model = accelerate(build_model(cfg).eval())
        checkpointer = Checkpointer.from_config(cfg, self.model)
        checkpointer.load(cfg.MODEL.WEIGHTS)
        checkpointer.require_classes()
        self.augmentations = T.AugmentationList(build_augmentations(cfg, is_train=False))
        self.input_format = cfg.INPUT.FORMAT

    @torch.no_grad()
    def __call__(self, images: np.ndarray | list[np.ndarray]) -> dict | list[dict]:
        """
        Args:
            images: one image, or several to be run as a batch: (height, width, 3) uint8, BGR.

        Returns:
            What the model gives for each, at the size of the image: one dict for one image, a
            list for a list.
        """
        if isinstance(images, np.ndarray):
            return self.model([self.prepare(images)])[0]
        return self.model([self.prepare(image) for image in images]) if images else []

    def prepare(self, image: np.ndarray) -> dict:
        """The input of the model for one image, (height, width, 3) uint8, BGR."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise UserError(
                f"An image is {image.dtype} {image.shape}: give (height, width, 3) uint8, BGR."
            )
        height, width = image.shape[:2]
        if self.input_format == "RGB":
            image = image[:, :, ::-1]
        augmented = T.AugInput(np.ascontiguousarray(image))
        self.augmentations(augmented)
        return {"image": tensor_of(augmented.image), "height": height, "width": width}
