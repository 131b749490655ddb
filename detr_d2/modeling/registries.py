"""The registries of DETR's parts; `MODEL.DETR.*` names one entry of each."""

from detectron2.utils.registry import Registry

POSITION_ENCODING_REGISTRY = Registry("POSITION_ENCODING")
POSITION_ENCODING_REGISTRY.__doc__ = """
Modules `(padding_mask (B, h, w) bool, dtype) -> positions (B, d, h, w)`, built as `entry(cfg)`.
B is 1 where no image of the batch is padded.
"""

TRANSFORMER_REGISTRY = Registry("TRANSFORMER")
TRANSFORMER_REGISTRY.__doc__ = """
Modules with the call of `detr_d2.modeling.transformer.Transformer`, built as `entry(cfg)`.
"""

ATTENTION_MAP_REGISTRY = Registry("ATTENTION_MAP")
ATTENTION_MAP_REGISTRY.__doc__ = """
Modules with the call of `detr_d2.modeling.mask_head.MHAttentionMap`, built as `entry(cfg)`.
"""

MASK_HEAD_REGISTRY = Registry("MASK_HEAD")
MASK_HEAD_REGISTRY.__doc__ = """
Modules with the call of `detr_d2.modeling.mask_head.MaskHeadSmallConv`, built as
`entry(cfg, backbone_shape)`, where `backbone_shape` is the backbone's `output_shape()`.
"""
