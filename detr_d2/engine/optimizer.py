"""AdamW with a rate of its own for the backbone, and the gradient of the whole model clipped."""

import torch
from detectron2 import solver as detectron2_solver
from detectron2.config import CfgNode
from detectron2.solver import get_default_optimizer_params
from torch import nn

from ..errors import UserError


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """AdamW from `SOLVER`, whose weight decay applies to all parameters, or SGD. [DETR A.4]"""
    solver = cfg.SOLVER
    if solver.OPTIMIZER == "SGD":
        return detectron2_solver.build_optimizer(cfg, model)
    if solver.OPTIMIZER != "AdamW":
        raise UserError(f"SOLVER.OPTIMIZER is {solver.OPTIMIZER}: set AdamW or SGD.")
    parameters = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay=solver.WEIGHT_DECAY,
        lr_factor_func=lambda name: (
            solver.BACKBONE_MULTIPLIER if name.startswith("backbone.") else 1.0
        ),
    )
    clip = solver.CLIP_GRADIENTS
    if not clip.ENABLED:
        return torch.optim.AdamW(parameters, fused=True)
    if clip.CLIP_TYPE != "full_model":
        raise UserError(
            f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE is {clip.CLIP_TYPE}: set full_model, which DETR was "
            "trained with."
        )
    return ClippedAdamW(parameters, max_norm=clip.CLIP_VALUE, norm_type=clip.NORM_TYPE)


class ClippedAdamW(torch.optim.AdamW):
    """AdamW whose step scales the gradient of all parameters together to a greatest norm.

    Clipping belongs to the step: under mixed precision, that is when gradients are unscaled.
    """

    def __init__(self, params, *, max_norm: float, norm_type: float = 2.0, **adamw):
        """
        Args:
            max_norm: the greatest norm of the gradient.
            norm_type: p of the p-norm.
            **adamw: arguments of AdamW.
        """
        # Fused: one kernel for all parameters, where a loop over them takes a tenth of a step.
        super().__init__(params, fused=True, **adamw)
        # A fused step would undo the loss scale of mixed precision itself, after the clipping.
        self._step_supports_amp_scaling = False
        self.max_norm = max_norm
        self.norm_type = norm_type

    def step(self, closure=None):
        parameters = [p for group in self.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, self.max_norm, self.norm_type)
        return super().step(closure)
