"""AdamW that clips the gradient of the whole model."""

import torch
from torch import nn


class ClippedAdamW(torch.optim.AdamW):
    """AdamW whose step scales the gradient of all parameters together to a greatest norm.

    Clipping belongs to the step: under mixed precision, that is when gradients are unscaled.

    Attributes:
        gradient_norm: scalar tensor, of the last step, before it was clipped.
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
        """Clip all gradients together, then step."""
        loss = loss_of(closure)
        self.clip()
        super().step()
        return loss

    def clip(self) -> None:
        """Scales all gradients."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.max_norm, self.norm_type)
        self.gradient_norm = norm.detach()


def loss_of(closure):
    """What `closure` of a step gives, which makes the gradients; None without one."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()
