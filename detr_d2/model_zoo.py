"""Models by the names of their configurations, with weights that others trained.

As `detectron2.model_zoo`; docs/model_zoo.md lists what the weights are.
"""

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from .checkpoint import Checkpointer
from .config_files import PREFIX, get_config_file
from .engine import setup_cfg
from .errors import UserError

__all__ = ["get", "get_checkpoint_url", "get_config", "get_config_file"]

_OFFICIAL = "https://dl.fbaipublicfiles.com/detr/"
_WEIGHTS = {
    "COCO-Detection/detr_R_50": f"{_OFFICIAL}detr-r50-e632da11.pth",
    "COCO-Detection/detr_R_50_DC5": f"{_OFFICIAL}detr-r50-dc5-f0fb7ef5.pth",
    "COCO-Detection/detr_R_101": f"{_OFFICIAL}detr-r101-2c7b67e5.pth",
    "COCO-Detection/detr_R_101_DC5": f"{_OFFICIAL}detr-r101-dc5-a2e86def.pth",
    "COCO-PanopticSegmentation/panoptic_detr_R_50": f"{_OFFICIAL}detr-r50-panoptic-00ce5173.pth",
    "COCO-PanopticSegmentation/panoptic_detr_R_50_DC5": (
        f"{_OFFICIAL}detr-r50-dc5-panoptic-da08f1b1.pth"
    ),
    "COCO-PanopticSegmentation/panoptic_detr_R_101": f"{_OFFICIAL}detr-r101-panoptic-40021d53.pth",
    "Shapes-PanopticSegmentation/panoptic_detr_fast": (
        f"{PREFIX}Shapes-PanopticSegmentation/checkpoint/panoptic_detr_fast.pth"
    ),
    "Shapes-PanopticSegmentation/panoptic_detr_R_18_narrow_dc5": (
        f"{PREFIX}Shapes-PanopticSegmentation/checkpoint/panoptic_detr_R_18_narrow_dc5.pth"
    ),
}


def get_checkpoint_url(name: str) -> str:
    """The address of the weights of a shipped configuration, which `MODEL.WEIGHTS` takes.

    Raises:
        UserError: where nobody published any.
    """
    get_config_file(name)
    weights = _WEIGHTS.get(name.removesuffix(".yaml"))
    if weights is None:
        raise UserError(
            f"There are no published weights for {name}: train it, or name one of "
            f"{', '.join(_WEIGHTS)}."
        )
    return weights


def get_config(name: str, trained: bool = False, overrides: Sequence[str] = ()) -> CfgNode:
    """A shipped configuration, as `setup_cfg` reads it.

    Args:
        name: its path within configs/; ".yaml" may be left out.
        trained: MODEL.WEIGHTS is that of `get_checkpoint_url`.
        overrides: keys and values in turn.
    """
    weights = ("MODEL.WEIGHTS", get_checkpoint_url(name)) if trained else ()
    return setup_cfg(get_config_file(name), [*weights, *overrides])


def get(name: str, trained: bool = False, device: str | None = None) -> nn.Module:
    """Build a model.

    Args:
        name: of its configuration.
        trained: load its weights, from this machine or the network; otherwise they are random.
        device: such as "cpu"; by default a GPU where there is one.

    Returns:
        The model, in training mode as Detectron2's.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    # Not timm's weights either.
    cfg = get_config(name, trained, ["MODEL.DEVICE", device, "MODEL.TIMM.PRETRAINED", "False"])
    model = build_model(cfg)
    if trained:
        Checkpointer.from_config(cfg, model).load(cfg.MODEL.WEIGHTS)
    return model
