"""Less memory for more time: `SOLVER.RECOMPUTE` (Chen et al., arXiv:1604.06174)."""

from collections.abc import Iterator
from functools import partial

import torch
from detectron2.layers import CNNBlockBase
from detectron2.modeling.backbone.swin import SwinTransformerBlock
from detectron2.modeling.backbone.vit import Block as ViTBlock
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..errors import UserError
from ..modeling.timm_backbone import TimmBackbone
from ..modeling.transformer import TransformerEncoderLayer

_PARTS = (CNNBlockBase, SwinTransformerBlock, ViTBlock, TimmBackbone, TransformerEncoderLayer)


def recompute_activations(model: nn.Module) -> None:
    """Let each block of the backbone and each layer of the encoder keep its input alone until the
    backward pass, which computes once more what was in it. timm does so in its models itself.

    Raises:
        UserError: where that would be felt: batch statistics would be counted twice.
    """
    for block in _parts(model):
        if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in block.modules()):
            raise UserError(
                "SOLVER.RECOMPUTE would count the statistics of BatchNorm twice: set "
                "MODEL.RESNETS.NORM FrozenBN, MODEL.TIMM.FREEZE_NORMS True, or SOLVER.RECOMPUTE "
                "False."
            )
        if isinstance(block, TimmBackbone):
            block.net.set_grad_checkpointing()
        else:
            block.forward = partial(_recomputed, block.forward)


def _parts(model: nn.Module) -> Iterator[nn.Module]:
    for module in model.modules():
        if isinstance(module, _PARTS) and any(p.requires_grad for p in module.parameters()):
            yield module


def _recomputed(forward, *arguments):
    if not torch.is_grad_enabled():
        return forward(*arguments)
    return checkpoint(forward, *arguments, use_reentrant=False)
