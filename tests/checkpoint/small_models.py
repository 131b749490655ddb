"""Small models with every part of the large ones, and random numbers in all of their tensors."""

from pathlib import Path

import torch
from detectron2.modeling import build_model

from detr_d2.engine import setup_cfg

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
BOXES = "COCO-Detection/detr_R_50.yaml"
PANOPTIC = "COCO-PanopticSegmentation/panoptic_detr_R_50_joint.yaml"

# About the least that DETR allows: the mask head wants d divisible by 128.
SMALL = {
    "MODEL.DEVICE": "cpu",
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 8,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 32,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
    "MODEL.DETR.HIDDEN_DIM": 128,
    "MODEL.DETR.DIM_FEEDFORWARD": 64,
    "MODEL.DETR.ENC_LAYERS": 2,
    "MODEL.DETR.DEC_LAYERS": 2,
    "MODEL.DETR.NUM_OBJECT_QUERIES": 7,
}
# What timm has, which is ResNets of the standard widths.
STANDARD_WIDTHS = {
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 64,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 256,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 64,
}


def small_model(config_file: str = PANOPTIC, changes: dict | None = None):
    """A model in eval mode, and its configuration. `changes`: of keys of the configuration."""
    keys = SMALL | (changes or {})
    cfg = setup_cfg(str(CONFIGS / config_file), [x for item in keys.items() for x in item])
    return randomise(build_model(cfg).eval()), cfg


@torch.no_grad()
def randomise(module: torch.nn.Module) -> torch.nn.Module:
    """Fill everything that is saved, statistics too, so that no two tensors are alike.

    Weights keep the variance of what passes through, in the residual branches half of it.
    """
    for name, tensor in module.state_dict().items():
        if not tensor.is_floating_point():
            continue
        if name.endswith("running_var") or (tensor.dim() == 1 and name.endswith("weight")):
            tensor.uniform_(0.4, 0.9)
        elif tensor.dim() == 1:
            tensor.normal_(std=0.1)
        else:
            tensor.normal_(std=tensor[0].numel() ** -0.5)
    return module


def of_dataset(name: str, num_classes: int) -> dict:
    """The changes to a configuration that train it on another dataset."""
    names = f"('{name}',)"
    return {
        "DATASETS.TRAIN": names,
        "DATASETS.TEST": names,
        "MODEL.DETR.NUM_CLASSES": num_classes,
    }


def same_weights(a: dict, b: dict) -> bool:
    """Whether two state dicts have the same names, and the same bits under each."""
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a
    )
