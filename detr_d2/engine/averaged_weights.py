"""Averaged weights, which are evaluated and released: `SOLVER.AVERAGE_DECAY`."""

import torch
from detectron2.engine import HookBase
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..errors import UserError

_FIRST_STEPS = 10  # of which an average of D steps does not yet have D: its decay grows

Tensors = tuple[Tensor, ...] | list[Tensor]


class AverageWeights(HookBase):
    """After each step n, averaged = decay * averaged + (1 - decay) * trained, where decay is
    min(`decay`, (1 + n) / (10 + n)).

    A checkpoint's model has the averaged weights, and those that are trained are in its state.
    It comes before the hooks that write and evaluate.
    """

    def __init__(self, model: nn.Module, decay: float):
        """
        Args:
            model: that is trained, not wrapped.
            decay: 0 <= decay < 1; about 1 / (1 - decay) steps count.
        """
        if not 0 <= decay < 1:
            raise UserError(
                f"SOLVER.AVERAGE_DECAY is {decay}: set a number below 1, as 0.999, or 0 for none."
            )
        self._trained, self._decay = model, decay
        self._averaged = AveragedModel(model, multi_avg_fn=self._average)

    @property
    def model(self) -> nn.Module:
        """With the averaged weights."""
        return self._averaged.module

    def after_step(self):
        """Take the weights of this step in."""
        self._averaged.update_parameters(self._trained)

    @torch.no_grad()
    def _average(self, averaged: Tensors, trained: Tensors, _) -> None:
        steps = self._averaged.n_averaged.item()  # on the CPU: no device is waited for
        decay = min(self._decay, (1 + steps) / (_FIRST_STEPS + steps))
        torch._foreach_lerp_(averaged, trained, 1 - decay)

    def state_dict(self):
        """The weights that are trained, and the number of steps in the average."""
        steps = self._averaged.n_averaged.item()
        return {"trained": self._trained.state_dict(), "steps": steps}

    def load_state_dict(self, state_dict):
        """What was trained, to go on with, where the checkpoint's model has been loaded."""
        self._averaged.module.load_state_dict(self._trained.state_dict())
        self._averaged.n_averaged.fill_(state_dict["steps"])
        self._trained.load_state_dict(state_dict["trained"])
