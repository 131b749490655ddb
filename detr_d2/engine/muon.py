"""Muon: each step of a weight matrix is made orthogonal, so that all of its directions are learned.

A gradient of a weight matrix is nearly of low rank: a few directions are learned with every step,
the others hardly. Muon (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon) replaces
the singular values of the momentum by ones. PyTorch's own (`torch.optim.Muon`, since 2.9) takes
matrices alone and one at a time; here are convolutions as well, and all of one shape together.
"""

from collections import defaultdict

import torch
from torch import Tensor, nn

from .adamw import ClippedAdamW, loss_of

# The coefficients of 3.4445 x - 4.7750 x^3 + 2.0315 x^5, which brings any x in (0, 1] near 1 in
# five steps (Jordan et al.).
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
# After how many steps the matrix itself is multiplied. All five at once are wrong by 3e-4 in
# float32; in bfloat16 rounding would grow too far.
_STEPS = (5,)
_STEPS_IN_BFLOAT16 = (3, 2)
_MOMENTUM = 0.95
# An update's root mean square is that of AdamW's, so that one rate is right for both
# (Liu et al., arXiv:2502.16982, section 2.2).
_ROOT_MEAN_SQUARE = 0.2
# A matrix with a side below this is an output of few numbers, which AdamW learns as well.
_LEAST_SIDE = 16


def matrices_apart(groups: list[dict], model: nn.Module) -> list[dict]:
    """Groups of parameters, split into those that Muon is for, `"matrices": True`, and the others.

    Muon is for the weights of convolutions and linear layers that have to be learned; what tables
    hold (`nn.Embedding`) is no matrix, since of each row no other row says anything.
    """
    tables = {m.weight for m in model.modules() if isinstance(m, nn.Embedding)}
    kinds = defaultdict(list)
    for number, group in enumerate(groups):
        for parameter in group["params"]:
            sides = parameter.flatten(1).shape if parameter.ndim > 1 else (1,)
            kinds[number, min(sides) >= _LEAST_SIDE and parameter not in tables].append(parameter)
    return [
        {**groups[number], "params": parameters, "matrices": matrices}
        for (number, matrices), parameters in kinds.items()
    ]


def orthogonalised(matrices: Tensor) -> Tensor:
    """(K, m, n), each U S V^T -> (K, m, n), about U V^T: singular values of 0.7 to 1.2.

    Newton and Schulz's iteration X' = a X + b (X X^T) X + c (X X^T)^2 X multiplies X by polynomials
    of the Gram matrix X X^T alone. They are multiplied first, in the shorter side m, which takes
    less than half of the time.
    """
    if matrices.shape[-2] > matrices.shape[-1]:
        return orthogonalised(matrices.mT).mT
    x = matrices / matrices.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-12)
    for steps in _STEPS_IN_BFLOAT16 if x.dtype == torch.bfloat16 else _STEPS:
        gram = x @ x.mT
        product = factor = _polynomial(gram)
        for _ in range(steps - 1):
            gram = factor @ gram @ factor
            factor = _polynomial(gram)
            product = factor @ product
        x = product @ x
    return x


def _polynomial(gram: Tensor) -> Tensor:
    """(K, m, m) X X^T -> what X is multiplied by."""
    a, b, c = _COEFFICIENTS
    factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal(dim1=-2, dim2=-1).add_(a)
    return factor


def _in_low_precision(matrices: Tensor) -> Tensor:
    """float32 in bfloat16, which is enough, where products are faster in it."""
    fast = matrices.device.type != "cpu" or torch.cpu._is_amx_tile_supported()
    return matrices.bfloat16() if fast and matrices.dtype == torch.float32 else matrices


class ClippedMuon(ClippedAdamW):
    """Muon for the groups of parameters that say `"matrices": True`, AdamW for the others."""

    @torch.no_grad()
    def step(self, closure=None):
        """Clip all gradients together, then step: matrices by Muon, the others by AdamW."""
        loss = loss_of(closure)
        self.clip()
        everything = self.param_groups
        for group in everything:
            if group["matrices"]:
                self._step_matrices(group)
        try:
            self.param_groups = [group for group in everything if not group["matrices"]]
            torch.optim.AdamW.step(self)
        finally:
            self.param_groups = everything
        return loss

    def _step_matrices(self, group: dict) -> None:
        shapes = defaultdict(list)
        for parameter in group["params"]:
            if parameter.grad is not None:
                shapes[parameter.flatten(1).shape].append(parameter)
        for shape, same in shapes.items():
            directions = torch.stack([u.flatten(1) for u in self._directions(same)])
            updates = orthogonalised(_in_low_precision(directions))
            torch._foreach_mul_(same, 1 - group["lr"] * group["weight_decay"])
            length = _ROOT_MEAN_SQUARE * max(shape) ** 0.5
            steps = [u.view_as(p) for u, p in zip(updates, same)]
            torch._foreach_add_(same, steps, alpha=-group["lr"] * length)

    def _directions(self, parameters: list[Tensor]) -> tuple[Tensor, ...]:
        """Nesterov's: the momentum after the next step."""
        for parameter in parameters:
            if not self.state[parameter]:
                # AdamW looks for a number of steps in every state that it loads.
                self.state[parameter]["step"] = torch.zeros(())
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        momenta = [self.state[p]["momentum"] for p in parameters]
        gradients = [p.grad for p in parameters if p.grad is not None]  # all of them have one
        torch._foreach_lerp_(momenta, gradients, 1 - _MOMENTUM)
        return torch._foreach_lerp(gradients, momenta, _MOMENTUM)
