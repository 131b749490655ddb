"""The ResNet of DETR; of any backbone, names of levels, and padding masks of feature maps."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone, ResNet
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, BottleneckBlock
from torch import Tensor, nn

from ..errors import UserError

# Of a backbone, as the paper names them: H/4 to H/32.
LEVELS = ("res2", "res3", "res4", "res5")

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

    It differs from Detectron2's `build_resnet_backbone` in two points:

    - `MODEL.RESNETS.RES5_DILATION: 2` (DC5) gives dilations 1, 2, 2 in Res5, as torchvision's
      `replace_stride_with_dilation`, where Detectron2 has 2, 2, 2. It works for all depths.
    - R18 and R34 may be narrow: `MODEL.RESNETS.RES2_OUT_CHANNELS` is free.
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
    stem = BasicStem(input_shape.channels, in_channels, norm=resnets.NORM)

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
    return ResNet(
        stem, stages, out_features=resnets.OUT_FEATURES, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT
    )


@BACKBONE_REGISTRY.register()
def build_detr_resnet_fpn_backbone(cfg, input_shape: ShapeSpec) -> FPN:
    """Build Detectron2's feature pyramid over DETR's ResNet, for Panoptic FPN."""
    if cfg.MODEL.RESNETS.RES5_DILATION != 1:
        raise UserError(
            "A feature pyramid halves its maps from level to level: set "
            f"MODEL.RESNETS.RES5_DILATION, which is {cfg.MODEL.RESNETS.RES5_DILATION}, to 1."
        )
    return _pyramid_over(build_detr_resnet_backbone(cfg, input_shape), cfg)


@BACKBONE_REGISTRY.register()
def build_fpn_backbone(cfg, input_shape: ShapeSpec) -> FPN:
    """Build Detectron2's feature pyramid over the backbone `MODEL.FPN.BOTTOM_UP`, p2 to p6.

    `MODEL.FPN.IN_FEATURES` are its levels, [] those of strides 4 to 32. Images are padded as it
    and the pyramid want.
    """
    name = cfg.MODEL.FPN.BOTTOM_UP
    if name not in BACKBONE_REGISTRY:
        raise UserError(
            f"MODEL.FPN.BOTTOM_UP is {name or 'not set'}: name a backbone of Detectron2's registry."
        )
    return _pyramid_over(BACKBONE_REGISTRY.get(name)(cfg, input_shape), cfg)


def _pyramid_over(bottom_up: Backbone, cfg) -> FPN:
    shapes = bottom_up.output_shape()
    levels = list(levels_of(cfg.MODEL.FPN.IN_FEATURES, shapes).values())
    strides = [shapes[level].stride for level in levels]
    if any(2 * finer != coarser for finer, coarser in pairwise(strides)):
        raise UserError(
            f"A feature pyramid doubles strides from level to level, and those of "
            f"{', '.join(levels)} are {strides}: take another backbone, or correct "
            "MODEL.FPN.IN_FEATURES."
        )
    pyramid = FPN(
        bottom_up=bottom_up,
        in_features=levels,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
        square_pad=bottom_up.padding_constraints.get("square_size", 0),
    )
    # Which FPN knows of its own levels alone.
    pyramid._size_divisibility = math.lcm(strides[-1], bottom_up.size_divisibility or 1)
    return pyramid


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


class PartlyFrozen(Backbone):
    """A backbone whose first parts stay as they are: untrained, and in eval mode, as dropout would
    change what they give."""

    _frozen: tuple[nn.Module, ...] = ()

    def freeze(self, modules: Sequence[nn.Module]) -> None:
        """Freeze these, for good."""
        self._frozen = tuple(module.requires_grad_(False).eval() for module in modules)

    def train(self, mode: bool = True):
        """All but what is frozen follows."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self


def levels_of(in_features: Sequence[str], shapes: Mapping[str, ShapeSpec]) -> dict[str, str]:
    """Which level of a backbone DETR's parts know as "res2", which as "res3", "res4" and "res5".

    Args:
        in_features: names in `shapes`, the coarsest last: up to four, of which the last becomes
            "res5", the one before "res4" and so on. A level of a ResNet that the backbone does not
            give (`MODEL.RESNETS.OUT_FEATURES`) is left out, but for the last one. Empty: by
            strides, see `_by_stride`.
        shapes: channels and strides (pixels) of the backbone's levels, the coarsest last.

    Returns:
        The backbone's names of those that there are, by DETR's, of which "res5" is always one.

    Raises:
        UserError: where the backbone does not give a level, or they are not in this order.
    """
    if not in_features:
        return _by_stride(shapes)
    if len(in_features) > len(LEVELS):
        raise UserError(
            f"MODEL.DETR.IN_FEATURES is {list(in_features)}: name one to four levels of the "
            "backbone, the coarsest last."
        )
    last = in_features[-1]
    missing = [n for n in in_features if n not in shapes and (n == last or n not in LEVELS)]
    if missing:
        raise UserError(
            f"The backbone gives {', '.join(shapes)}, and not {', '.join(missing)}: set "
            "MODEL.DETR.IN_FEATURES to its levels, the coarsest last, or to [] for those of "
            "strides 4 to 32."
        )
    levels = {name: own for name, own in zip(LEVELS[-len(in_features) :], in_features)}
    levels = {name: own for name, own in levels.items() if own in shapes}
    strides = [shapes[own].stride for own in levels.values()]
    if strides != sorted(strides):
        raise UserError(
            f"MODEL.DETR.IN_FEATURES is {list(in_features)}, of strides {strides}: name the "
            "coarsest level last."
        )
    return levels


def level_shapes(in_features: Sequence[str], backbone: Backbone) -> dict[str, ShapeSpec]:
    """Channels and strides of a backbone's levels, by DETR's names; see `levels_of`."""
    shapes = backbone.output_shape()
    return {name: shapes[own] for name, own in levels_of(in_features, shapes).items()}


def _by_stride(shapes: Mapping[str, ShapeSpec]) -> dict[str, str]:
    """Levels of stride 4, 8 and 16 as "res2", "res3" and "res4", of several the last one, as a stem
    is no level; and the coarsest up to stride 32 as "res5", whose stride is 16 in a DC5."""
    finest_first = sorted(shapes, key=lambda own: shapes[own].stride)
    *others, last = [own for own in finest_first if shapes[own].stride <= 32] or finest_first
    names = {4: "res2", 8: "res3", 16: "res4"}
    levels = {names[s]: own for own in others if (s := shapes[own].stride) in names}
    return {**levels, "res5": last}


def require_levels(shapes: Mapping[str, ShapeSpec], names: Sequence[str], key: str) -> None:
    """A `UserError` where a part that `key` of the configuration names lacks some of its levels."""
    missing = [name for name in names if name not in shapes]
    if missing:
        raise UserError(
            f"{key} reads {', '.join(names)}, levels of strides 4 to 16, and of the backbone there "
            f"is no {', '.join(missing)}: take a backbone that gives them, all of its levels in "
            "MODEL.DETR.IN_FEATURES, or MODEL.META_ARCHITECTURE DETR with MODEL.DETR.TRANSFORMER "
            "Transformer, which needs the coarsest alone."
        )


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
