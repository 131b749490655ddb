"""The ResNet of DETR, and the padding masks of its feature maps."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone, ResNet
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import Tensor, nn

from ..errors import UserError
from .resnet_blocks import BasicBlock, BottleneckBlock, Stage, Stem

# Of a backbone, as the paper names them: H/4 to H/32.
LEVELS = ("res2", "res3", "res4", "res5")
Level = TypeVar("Level")

_BLOCKS_PER_STAGE = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


@BACKBONE_REGISTRY.register()
def build_detr_resnet_backbone(cfg, input_shape: ShapeSpec) -> ResNet:
    """Build the torchvision ResNet that DETR uses, out of Detectron2's blocks.

    It differs from Detectron2's `build_resnet_backbone` in three points:

    - `MODEL.RESNETS.RES5_DILATION: 2` (DC5) gives dilations 1, 2, 2 in Res5, as torchvision's
      `replace_stride_with_dilation`, where Detectron2 has 2, 2, 2. It works for all depths.
    - R18 and R34 may be narrow: `MODEL.RESNETS.RES2_OUT_CHANNELS` is free.
    - Where nothing is trained, norms are folded into the convolutions before them, and sums and
      ReLUs into those of a CPU (`resnet_blocks.py`).
    """
    resnets = cfg.MODEL.RESNETS
    if resnets.DEPTH not in _BLOCKS_PER_STAGE:
        raise UserError(
            f"MODEL.RESNETS.DEPTH is {resnets.DEPTH}; set one of {sorted(_BLOCKS_PER_STAGE)}."
        )
    if resnets.RES5_DILATION not in (1, 2):
        raise UserError(
            f"MODEL.RESNETS.RES5_DILATION is {resnets.RES5_DILATION}; set 1, or 2 for DC5."
        )
    in_channels = resnets.STEM_OUT_CHANNELS
    stem = Stem(input_shape.channels, in_channels, norm=resnets.NORM)

    stages = []
    for index, num_blocks in enumerate(_BLOCKS_PER_STAGE[resnets.DEPTH]):
        dilated = index == 3 and resnets.RES5_DILATION == 2
        first_stride = 1 if index == 0 or dilated else 2
        out_channels = resnets.RES2_OUT_CHANNELS * 2**index
        blocks = ResNet.make_stage(
            num_blocks=num_blocks,
            stride_per_block=[first_stride] + [1] * (num_blocks - 1),
            in_channels=in_channels,
            out_channels=out_channels,
            norm=resnets.NORM,
            **_block_arguments(resnets, 2**index),
        )
        if dilated:
            for block in blocks[1:]:
                _dilate(block)
        stages.append(blocks)
        in_channels = out_channels
    backbone = ResNet(
        stem, stages, out_features=resnets.OUT_FEATURES, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT
    )
    for stage in backbone.stages:  # which ResNet has put together
        stage.__class__ = Stage
    return backbone


@BACKBONE_REGISTRY.register()
def build_detr_resnet_fpn_backbone(cfg, input_shape: ShapeSpec) -> FPN:
    """Build Detectron2's feature pyramid over DETR's ResNet, for Panoptic FPN."""
    if cfg.MODEL.RESNETS.RES5_DILATION != 1:
        raise UserError(
            "A feature pyramid halves its maps from level to level: set "
            f"MODEL.RESNETS.RES5_DILATION, which is {cfg.MODEL.RESNETS.RES5_DILATION}, to 1."
        )
    return FPN(
        bottom_up=build_detr_resnet_backbone(cfg, input_shape),
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


def _block_arguments(resnets, width_multiplier: int) -> dict:
    if resnets.DEPTH in (18, 34):
        return {"block_class": BasicBlock}
    return {
        "block_class": BottleneckBlock,
        "bottleneck_channels": resnets.NUM_GROUPS * resnets.WIDTH_PER_GROUP * width_multiplier,
        "num_groups": resnets.NUM_GROUPS,
        "stride_in_1x1": resnets.STRIDE_IN_1X1,
    }


def _dilate(block: nn.Module) -> None:
    """Dilate the 3x3 convolutions of `block` by 2; output sizes stay as they are."""
    for module in block.modules():
        if isinstance(module, Conv2d) and module.kernel_size == (3, 3):
            module.dilation = module.padding = (2, 2)


def name_levels(in_features: Sequence[str], outputs: Mapping[str, Level]) -> dict[str, Level]:
    """What a backbone gives, by the names that DETR's parts have for its levels.

    Args:
        in_features: names in `outputs`, the coarsest last: up to four, of which the last becomes
            "res5", the one before "res4" and so on. A level of a ResNet that the backbone does not
            give (`MODEL.RESNETS.OUT_FEATURES`) is left out, but for the last one.
        outputs: of each level its map, or its channels and stride.

    Raises:
        UserError: where the backbone does not give a level.
    """
    if not 1 <= len(in_features) <= len(LEVELS):
        raise UserError(
            f"MODEL.DETR.IN_FEATURES is {list(in_features)}: name one to four levels of the "
            "backbone, the coarsest last."
        )
    last = in_features[-1]
    missing = [n for n in in_features if n not in outputs and (n == last or n not in LEVELS)]
    if missing:
        raise UserError(
            f"The backbone gives {', '.join(outputs)}, and not {', '.join(missing)}: set "
            "MODEL.DETR.IN_FEATURES to its levels, the coarsest last."
        )
    names = LEVELS[-len(in_features) :]
    return {name: outputs[own] for name, own in zip(names, in_features) if own in outputs}


def check_image_size(backbone: Backbone, size: tuple[int, int]) -> None:
    """A `UserError` where a backbone for square images cannot hold one of (height, width)."""
    square = backbone.padding_constraints.get("square_size", 0)
    if 0 < square < max(size):
        raise UserError(
            f"An image is {size[1]} x {size[0]} pixels after resizing, and the backbone takes "
            f"{square} x {square}: set INPUT.MAX_SIZE_TRAIN and INPUT.MAX_SIZE_TEST {square}."
        )


def padding_mask_of(image_sizes: list[tuple[int, int]], batch_size: tuple[int, int], device):
    """Mark the pixels of a padded batch that belong to no image.

    Args:
        image_sizes: (height, width) of each of the B images, pixels.
        batch_size: (H, W) of the batch, pixels.

    Returns:
        (B, H, W) bool, True at padding; None where no image has any.
    """
    if all(tuple(size) == tuple(batch_size) for size in image_sizes):
        return None
    sizes = torch.tensor(image_sizes, device=device)
    rows = torch.arange(batch_size[0], device=device)
    columns = torch.arange(batch_size[1], device=device)
    below = rows[None, :, None] >= sizes[:, 0, None, None]
    right = columns[None, None, :] >= sizes[:, 1, None, None]
    return below | right


def resize_padding_mask(padding_mask: Tensor | None, size: tuple[int, int]) -> Tensor | None:
    """(B, H, W) -> (B, h, w), by nearest interpolation as the official code does.

    The rounding of `ceil(size / stride)` gives another mask on about a third of all sizes.
    """
    if padding_mask is None:
        return None
    return F.interpolate(padding_mask[:, None].float(), size=size)[:, 0].bool()
