"""ResNets of DETR, as large as published or small."""

import torch
from detectron2.config import get_cfg
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import ResNet, build_backbone
from torch import nn

STAGES = ("res2", "res3", "res4", "res5")


def build_resnet(depth=50, dilation=1, freeze_at=2, **resnets) -> ResNet:
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_detr_resnet_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = freeze_at
    cfg.MODEL.RESNETS.DEPTH = depth
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
    cfg.MODEL.RESNETS.OUT_FEATURES = list(STAGES)
    cfg.MODEL.RESNETS.RES5_DILATION = dilation
    if depth in (18, 34):
        cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    for key, value in resnets.items():
        cfg.MODEL.RESNETS[key] = value
    return build_backbone(cfg)


def small_resnet(norm, depth=18, **resnets) -> ResNet:
    """In eval mode and float64, with statistics and weights of norms that are not trivial."""
    small = {"RES2_OUT_CHANNELS": 8, "STEM_OUT_CHANNELS": 8, "WIDTH_PER_GROUP": 4, **resnets}
    backbone = build_resnet(depth=depth, NORM=norm, dilation=2, freeze_at=0, **small)
    for module in backbone.modules():
        if isinstance(module, (FrozenBatchNorm2d, nn.BatchNorm2d)):
            with torch.no_grad():
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
                module.weight.uniform_(0.2, 1.5)
                module.bias.normal_()
    return backbone.double().eval()
