"""The optimiser of `SOLVER`, with a rate of its own for the backbone."""

import math

import torch
from detectron2 import solver as detectron2_solver
from detectron2.config import CfgNode
from detectron2.solver import get_default_optimizer_params
from torch import nn

from ..errors import UserError
from .adamw import ClippedAdamW
from .muon import ClippedMuon, matrices_apart


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """AdamW from `SOLVER`, whose weight decay applies to all parameters [DETR A.4], Muon with AdamW
    for what is no matrix, or SGD."""
    solver = cfg.SOLVER
    if solver.OPTIMIZER == "SGD":
        return detectron2_solver.build_optimizer(cfg, model)
    if solver.OPTIMIZER not in ("AdamW", "Muon"):
        raise UserError(f"SOLVER.OPTIMIZER is {solver.OPTIMIZER}: set AdamW, Muon or SGD.")
    groups = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay=solver.WEIGHT_DECAY,
        lr_factor_func=lambda name: (
            solver.BACKBONE_MULTIPLIER if name.startswith("backbone.") else 1.0
        ),
    )
    clip = solver.CLIP_GRADIENTS
    if clip.ENABLED and clip.CLIP_TYPE != "full_model":
        raise UserError(
            f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE is {clip.CLIP_TYPE}: set full_model, which DETR was "
            "trained with."
        )
    limit = {"max_norm": clip.CLIP_VALUE if clip.ENABLED else math.inf, "norm_type": clip.NORM_TYPE}
    if solver.OPTIMIZER == "Muon":
        return ClippedMuon(matrices_apart(groups, model), **limit)
    return ClippedAdamW(groups, **limit)
