"""The models: importing this registers their parts and the meta-architectures."""

from . import (
    backbone,
    mask_head,
    position_encoding,
    proposal_transformer,
    refined_mask_head,
    region_transformer,
    timm_backbone,
    transformer,
    transformer_backbones,
)
from .meta_arch import DETR, PanopticDETR, UnifiedPanopticFPN
from .registries import (
    ATTENTION_MAP_REGISTRY,
    CRITERION_REGISTRY,
    MASK_HEAD_REGISTRY,
    POSITION_ENCODING_REGISTRY,
    TRANSFORMER_REGISTRY,
)

__all__ = [
    "ATTENTION_MAP_REGISTRY",
    "CRITERION_REGISTRY",
    "DETR",
    "MASK_HEAD_REGISTRY",
    "POSITION_ENCODING_REGISTRY",
    "TRANSFORMER_REGISTRY",
    "PanopticDETR",
    "UnifiedPanopticFPN",
    "backbone",
    "mask_head",
    "position_encoding",
    "proposal_transformer",
    "refined_mask_head",
    "region_transformer",
    "timm_backbone",
    "transformer",
    "transformer_backbones",
]
