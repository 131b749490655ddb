"""Less memory for more time: `SOLVER.RECOMPUTE` (Chen et al., arXiv:1604.06174)."""

from collections.abc import Iterator
from functools import partial

import torch
from detectron2.layers import CNNBlockBase
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..errors import UserError
from ..modeling.transformer import TransformerEncoderLayer


def recompute_activations(model: nn.Module) -> None:
    """Let each residual block of the backbone and each layer of the encoder keep its input alone
    until the backward pass, which computes once more what was in it.

    Raises:
        UserError: where that would be felt: batch statistics would be counted twice.
    """
    for block in _parts(model):
        if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in block.modules()):
            raise UserError(
                "SOLVER.RECOMPUTE would count the statistics of BatchNorm twice: set "
                "MODEL.RESNETS.NORM FrozenBN, or SOLVER.RECOMPUTE False."
            )
        block.forward = partial(_recomputed, block.forward)


def _parts(model: nn.Module) -> Iterator[nn.Module]:
    for module in model.modules():
        is_part = isinstance(module, CNNBlockBase | TransformerEncoderLayer)
        if is_part and any(p.requires_grad for p in module.parameters()):
            yield module


def _recomputed(forward, *arguments, **overwrite):
    """`overwrite`, of the backbone's blocks, may not be: what comes in is needed once more."""
    if not torch.is_grad_enabled():
        return forward(*arguments, **overwrite)
    return checkpoint(forward, *arguments, use_reentrant=False)
