from itertools import pairwise

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Boxes, Instances
from torch import nn

from detr_d2 import add_detr_config


@pytest.fixture
def randomise():
    """A function that redraws biases and norms: zeros and ones would hide mistakes."""

    def redraw(module: nn.Module) -> nn.Module:
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.dim() == 1:
                    parameter.uniform_(-1, 1)
        return module

    return redraw


@pytest.fixture
def build_model():
    """A function that builds a small model by way of the configuration and the registry."""

    def build(meta_architecture: str = "PanopticDETR", *overrides) -> nn.Module:
        cfg = get_cfg()
        add_detr_config(cfg)
        cfg.merge_from_list(
            [
                *("MODEL.META_ARCHITECTURE", meta_architecture),
                *("MODEL.DEVICE", "cpu"),
                *("MODEL.PIXEL_MEAN", [123.675, 116.28, 103.53]),
                *("MODEL.PIXEL_STD", [58.395, 57.12, 57.375]),
                *("MODEL.BACKBONE.NAME", "build_detr_resnet_backbone"),
                *("MODEL.BACKBONE.FREEZE_AT", 0),
                *("MODEL.RESNETS.DEPTH", 18),
                *("MODEL.RESNETS.NORM", "BN"),
                *("MODEL.RESNETS.STEM_OUT_CHANNELS", 16),
                *("MODEL.RESNETS.RES2_OUT_CHANNELS", 16),
                *("MODEL.RESNETS.OUT_FEATURES", ["res2", "res3", "res4", "res5"]),
                *("MODEL.DETR.NUM_CLASSES", 8),
                *("MODEL.DETR.NUM_OBJECT_QUERIES", 5),
                *("MODEL.DETR.HIDDEN_DIM", 128),
                *("MODEL.DETR.ENC_LAYERS", 1),
                *("MODEL.DETR.DEC_LAYERS", 2),
                *("MODEL.DETR.DIM_FEEDFORWARD", 32),
                *("DATASETS.TRAIN", ("shapes_panoptic_train",)),
                *overrides,
            ]
        )
        return META_ARCH_REGISTRY.get(meta_architecture)(cfg)

    return build


@pytest.fixture
def draw_input():
    """A function that draws an image of noise with vertical stripes for segments."""

    def draw(height: int, width: int, segments: int = 3) -> dict:
        columns = torch.arange(width) * (segments + 1) // width  # the first stripe is VOID
        starts = [columns.tolist().index(s) for s in range(1, segments + 1)] + [width]
        instances = Instances((height, width))
        instances.gt_boxes = Boxes(
            torch.tensor([[a, 0, b, height] for a, b in pairwise(starts)]).view(-1, 4)
        )
        instances.gt_classes = torch.arange(segments) * 2 % 8
        return {
            "image": torch.randint(256, (3, height, width), dtype=torch.uint8),
            "instances": instances,
            "segment_map": columns.expand(height, width),
        }

    return draw
