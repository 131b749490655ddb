"""Training in float16 or bfloat16: `SOLVER.AMP`."""

import time

import torch
from detectron2.engine import SimpleTrainer
from torch import nn

from ..errors import UserError

PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class MixedPrecisionTrainer(SimpleTrainer):
    """Detectron2's `AMPTrainer`, which needs a GPU, for bfloat16 on the CPU as well.

    float16 ends at 65504 and 6e-8: the loss is scaled so that gradients do not vanish, and they
    are scaled back before the optimiser's step, which is where they are clipped. bfloat16 has the
    range of float32 and needs none of it.
    """

    def __init__(self, model: nn.Module, data_loader, optimizer, *, device: str, precision: str):
        """
        Args:
            device: of the model, as in MODEL.DEVICE.
            precision: "float16" or "bfloat16".
        """
        if precision not in PRECISIONS:
            raise UserError(
                f"SOLVER.AMP.PRECISION is {precision}: set one of {', '.join(PRECISIONS)}."
            )
        self.device_type = torch.device(device).type
        if precision == "float16" and self.device_type == "cpu":
            raise UserError(
                "SOLVER.AMP.PRECISION float16 needs a GPU: set bfloat16, or SOLVER.AMP.ENABLED "
                "False."
            )
        super().__init__(model, data_loader, optimizer)
        self.precision = PRECISIONS[precision]
        self.grad_scaler = torch.amp.GradScaler(
            self.device_type, enabled=self.precision == torch.float16
        )

    def run_step(self):
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        with torch.autocast(self.device_type, self.precision):
            losses = self.model(batch)
        self.optimizer.zero_grad()
        self.grad_scaler.scale(sum(losses.values())).backward()
        self.after_backward()
        self._write_metrics(losses, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def state_dict(self):
        return {**super().state_dict(), "grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        # A checkpoint of float32 or bfloat16 training has no scale to go on with.
        if state_dict.get("grad_scaler"):
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
