"""Detectron2's Swin and ViTDet, which it builds from its Python configurations alone.

The names of the weights are Detectron2's, so that its files, and those of the authors, load.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, SimpleFeaturePyramid, SwinTransformer, ViT
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import nn

from ..errors import UserError
from ..requirements import require
from .backbone import PartlyFrozen


class Swin(PartlyFrozen, SwinTransformer):
    """Swin (Liu et al., arXiv:2103.14030), levels "p0" (H/4) to "p3" (H/32)."""

    @property
    def size_divisibility(self) -> int:
        """Pixels that sides of images are padded to a multiple of."""
        # Detectron2's asks for what its constructor has under another spelling.
        return 32


@BACKBONE_REGISTRY.register()
def build_swin_backbone(cfg, input_shape: ShapeSpec) -> Swin:
    """Build Swin from `MODEL.SWIN`; `MODEL.BACKBONE.FREEZE_AT` counts patches and stages."""
    swin = cfg.MODEL.SWIN
    levels = _numbers_of("MODEL.SWIN.OUT_FEATURES", swin.OUT_FEATURES, range(4))
    if not len(swin.DEPTHS) == len(swin.NUM_HEADS) == 4:
        raise UserError(
            f"MODEL.SWIN.DEPTHS is {list(swin.DEPTHS)} and NUM_HEADS {list(swin.NUM_HEADS)}: name "
            "four numbers each, of the stages."
        )
    if swin.DROP_PATH_RATE:
        require("timm", "MODEL.SWIN.DROP_PATH_RATE above 0")
    with _without_warnings():
        backbone = Swin(
            in_chans=input_shape.channels,
            embed_dim=swin.EMBED_DIM,
            depths=swin.DEPTHS,
            num_heads=swin.NUM_HEADS,
            window_size=swin.WINDOW_SIZE,
            drop_path_rate=swin.DROP_PATH_RATE,
            out_indices=levels,
        )
    frozen = [backbone.patch_embed, *backbone.layers]
    backbone.freeze(frozen[: cfg.MODEL.BACKBONE.FREEZE_AT])
    return backbone


class ViTPyramid(PartlyFrozen, SimpleFeaturePyramid):
    """ViTDet's pyramid (Li et al., arXiv:2203.16527), of the last map of a ViT: "p2" (H/4) to "p5"
    (H/32), and "p6", which Panoptic FPN needs."""

    @property
    def size_divisibility(self) -> int:
        """Pixels that sides of images are padded to a multiple of."""
        return 32

    @property
    def padding_constraints(self) -> dict[str, int]:
        """The side of the square that images are padded to, pixels."""
        # Detectron2's names the divisibility by a key of another spelling, which nothing reads.
        return {"square_size": self._square_pad}


@BACKBONE_REGISTRY.register()
def build_vit_pyramid_backbone(cfg, input_shape: ShapeSpec) -> ViTPyramid:
    """Build ViTDet's from `MODEL.VIT`; `MODEL.BACKBONE.FREEZE_AT` counts patches and blocks."""
    require("timm", "MODEL.BACKBONE.NAME build_vit_pyramid_backbone")
    vit = cfg.MODEL.VIT
    levels = _numbers_of("MODEL.VIT.OUT_FEATURES", vit.OUT_FEATURES, range(2, 6))
    if vit.PATCH_SIZE != 16 or vit.IMG_SIZE % 32:
        raise UserError(
            f"MODEL.VIT.PATCH_SIZE is {vit.PATCH_SIZE} and IMG_SIZE {vit.IMG_SIZE}: set 16, from "
            "which the pyramid makes strides 4 to 32, and a multiple of 32."
        )
    with _without_warnings():
        net = ViT(
            img_size=vit.IMG_SIZE,
            patch_size=vit.PATCH_SIZE,
            in_chans=input_shape.channels,
            embed_dim=vit.EMBED_DIM,
            depth=vit.DEPTH,
            num_heads=vit.NUM_HEADS,
            drop_path_rate=vit.DROP_PATH_RATE,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=vit.WINDOW_SIZE,
            window_block_indexes=[b for b in range(vit.DEPTH) if b not in vit.GLOBAL_BLOCKS],
            out_feature="last",
        )
    backbone = ViTPyramid(
        net=net,
        in_feature="last",
        out_channels=vit.OUT_CHANNELS,
        scale_factors=[2.0 ** (4 - level) for level in levels],
        top_block=LastLevelMaxPool(),
        norm="LN",
        square_pad=vit.IMG_SIZE if vit.SQUARE else 0,
    )
    frozen = [net.patch_embed, *net.blocks]
    backbone.freeze(frozen[: cfg.MODEL.BACKBONE.FREEZE_AT])
    net.pos_embed.requires_grad_(cfg.MODEL.BACKBONE.FREEZE_AT == 0)
    return backbone


def _numbers_of(key: str, names: list[str], numbers: range) -> list[int]:
    """Of levels "p0", "p1" and so on: without gaps, up to the coarsest."""
    wanted = [f"p{number}" for number in numbers]
    if not names or list(names) != wanted[-len(names) :]:
        raise UserError(f"{key} is {list(names)}: name the last ones of {', '.join(wanted)}.")
    return list(numbers)[-len(names) :]


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Detectron2 imports from where timm had its layers before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield
