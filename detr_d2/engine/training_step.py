"""One step of a training: in float32 or in mixed precision (`SOLVER.AMP`), and no step where a loss
is no number."""

import logging
import time
from contextlib import nullcontext
from functools import partial, reduce
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import SimpleTrainer
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm
from torch import Tensor, nn

from ..checkpoint.on_disk import write_on_disk
from ..errors import UserError
from ..modeling.counts import PartCounts

PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16}

logger = logging.getLogger(__name__)


class TrainingStep(SimpleTrainer):
    """Detectron2's `SimpleTrainer` and `AMPTrainer`, which needs a GPU, for bfloat16 on the CPU as
    well.

    float16 ends at 65504 and 6e-8: the loss is scaled so that gradients do not vanish, and they
    are scaled back before the optimiser's step, which is where they are clipped. bfloat16 has the
    range of float32 and needs none of it.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader,
        optimizer,
        *,
        output_dir: str,
        parts: int = 1,
        not_finite_in_a_row: int = 0,
        device: str = "cpu",
        precision: str | None = None,
    ):
        """
        Args:
            output_dir: where a batch whose loss is no number is kept.
            parts: in which the images of a step go through the model, one after the other.
            not_finite_in_a_row: such batches that are passed over; one more ends the training.
            device: of the model, as in MODEL.DEVICE.
            precision: "float16" or "bfloat16"; None is float32.
        """
        if precision not in (None, *PRECISIONS):
            raise UserError(
                f"SOLVER.AMP.PRECISION is {precision}: set one of {', '.join(PRECISIONS)}."
            )
        device_type = torch.device(device).type
        if precision == "float16" and device_type == "cpu":
            raise UserError(
                "SOLVER.AMP.PRECISION float16 needs a GPU: set bfloat16, or SOLVER.AMP.ENABLED "
                "False."
            )
        super().__init__(model, data_loader, optimizer)
        self.parts = parts
        self.output_dir, self.not_finite_in_a_row = Path(output_dir), not_finite_in_a_row
        self._not_finite = 0  # in a row, until now
        self._precision = (
            torch.autocast(device_type, PRECISIONS[precision]) if precision else nullcontext()
        )
        self.grad_scaler = torch.amp.GradScaler(device_type, enabled=precision == "float16")

    def run_step(self):
        """One step of the optimiser; one whose loss is no number on any process is passed over.

        Raises:
            UserError: after too many of these in a row.
        """
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        if self.parts == 1:
            losses = self._losses(batch)
            self.optimizer.zero_grad()
            self.grad_scaler.scale(_sum(losses)).backward()
        else:
            losses = self._accumulated(batch)
        # Behind the backward pass, which a GPU begins without waiting for the answer.
        if not _finite_on_all(_sum(losses)):
            self._pass_over(batch, losses)
            return
        self._not_finite = 0
        self.after_backward()
        self._write_metrics(losses, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def _losses(self, batch: list[dict]) -> dict[str, Tensor]:
        with self._precision:
            return self.model(batch)

    def _accumulated(self, batch: list[dict]) -> dict[str, Tensor]:
        """Gradients of the losses that all images would have together, part by part.

        Returns:
            The losses, without gradients.
        """
        size = len(batch) // self.parts
        batches = [batch[first : first + size] for first in range(0, len(batch), size)]
        counts = PartCounts(self.parts)
        with torch.no_grad():
            for part in batches:
                with counts.of_a_part(known=False):
                    self._losses(part)
        self.optimizer.zero_grad()
        means: dict[str, Tensor] = {}
        for number, part in enumerate(batches, 1):
            # Gradients travel between processes once, with the last part.
            wait = number < self.parts and comm.get_world_size() > 1
            with self.model.no_sync() if wait else nullcontext(), counts.of_a_part(known=True):
                losses = {name: x / self.parts for name, x in self._losses(part).items()}
                self.grad_scaler.scale(_sum(losses)).backward()
            means = {name: x.detach() + means.get(name, 0) for name, x in losses.items()}
        return means

    def _pass_over(self, batch: list[dict], losses: dict[str, Tensor]) -> None:
        self._not_finite += 1
        file = self.output_dir / f"not_finite_{self.iter:07d}_process_{comm.get_rank()}.pth"
        wrong = [name for name, loss in losses.items() if not loss.isfinite()]
        images = ", ".join(str(image.get("file_name", "?")) for image in batch)
        model: Any = getattr(self.model, "module", self.model)
        kept = {"model": model.state_dict(), "batch": [_plain(x) for x in batch]}
        try:
            write_on_disk(file, partial(torch.save, kept))
            where = f"they and the weights are kept in {file}"
        except (OSError, RuntimeError) as error:
            where = f"{file}, with them and the weights, cannot be written ({error})"
        sentence = (
            f"At iteration {self.iter}, {', '.join(wrong) or 'the loss of another process'} is no "
            f"finite number. The images were {images}; {where}."
        )
        if self._not_finite > self.not_finite_in_a_row:
            raise UserError(
                f"{sentence} Lower SOLVER.BASE_LR, or pass over such batches with "
                "SOLVER.NOT_FINITE_IN_A_ROW."
            )
        logger.warning("%s It is passed over.", sentence)

    def state_dict(self):
        """Of Detectron2's, and the scale of float16."""
        return {**super().state_dict(), "grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict):
        """What `state_dict` gave; a scale only where there is one to set."""
        super().load_state_dict(state_dict)
        # A checkpoint of float32 or bfloat16 training has no scale to go on with.
        if state_dict.get("grad_scaler") and self.grad_scaler.is_enabled():
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])


def _sum(losses: dict[str, Tensor]) -> Tensor:
    return reduce(torch.add, losses.values())


def _finite_on_all(loss: Tensor) -> bool:
    """The same on all processes, for none steps where another does not."""
    finite = loss.detach().isfinite().int()
    if comm.get_world_size() > 1:
        torch.distributed.all_reduce(finite, torch.distributed.ReduceOp.MIN)
    return bool(finite)


def _plain(value):
    """What a mapper gave, of tensors and Python's own kinds alone: `torch.load` reads it safely."""
    if isinstance(value, dict):
        return {name: _plain(x) for name, x in value.items()}
    if isinstance(value, Instances):
        fields = {name: _plain(x) for name, x in value.get_fields().items()}
        return {"image_size": value.image_size, **fields}
    if isinstance(value, Boxes):
        return value.tensor
    return value if isinstance(value, (Tensor, str, int, float, list, tuple)) else str(value)
