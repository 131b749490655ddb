"""What a training writes about itself beside its losses, to TensorBoard and metrics.json."""

import logging
import resource
import sys
from collections.abc import Callable
from typing import Any

import torch
from detectron2.engine import HookBase
from detectron2.utils.events import EventWriter
from torch import Tensor

PERIOD = 20  # iterations between two lines of Detectron2's writers
_WAITS = 0.5  # of an iteration's time, for images
_FIRST = 2 * PERIOD  # iterations in which everything starts

logger = logging.getLogger(__name__)


class WatchTraining(HookBase):
    """Writes, over the last `PERIOD` iterations,

    * gradient_norm: the mean norm, before it is clipped.
    * clipped: the share of steps whose gradient was clipped.
    * images_per_second: of all processes, evaluations not counted.
    * memory_mb: the most that was in use until now, of the GPU, or else of this process.
    * lr_group_N: the rate of each group of the optimiser; `lr` is that of most parameters.

    A training that mostly waits for images says so once. It comes before the hooks that write.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, images_per_step: int):
        """
        Args:
            optimizer: with a `gradient_norm` after each step and a `max_norm`, or without.
        """
        self._optimizer: Any = optimizer  # one that clips has more than PyTorch's
        self._images_per_step = images_per_step
        self._norms: list[Tensor] = []  # on their device, which is waited for once a period
        self._said = False

    def after_step(self):
        """Collect, and once a period write."""
        norm = getattr(self._optimizer, "gradient_norm", None)
        if norm is not None:
            self._norms.append(norm)
        if (self.trainer.iter + 1) % PERIOD:
            return
        values = {"memory_mb": _memory_in_use()}
        if self._norms:
            norms = torch.stack(self._norms)
            limits = torch.full_like(norms, self._optimizer.max_norm)
            values["gradient_norm"] = norms.mean().item()
            values["clipped"] = (norms > limits).float().mean().item()
            self._norms.clear()
        for number, group in enumerate(self._optimizer.param_groups):
            values[f"lr_group_{number}"] = group["lr"]
        values |= self._speed()
        self.trainer.storage.put_scalars(**values, smoothing_hint=False)

    def _speed(self) -> dict[str, float]:
        histories = self.trainer.storage.histories()
        if "time" not in histories:
            return {}
        seconds = histories["time"].avg(PERIOD)
        waited = histories["data_time"].avg(PERIOD) if "data_time" in histories else 0.0
        if self.trainer.iter >= self.trainer.start_iter + _FIRST and waited > _WAITS * seconds:
            self._say_that_it_waits(waited / seconds)
        return {"images_per_second": self._images_per_step / seconds}

    def _say_that_it_waits(self, share: float) -> None:
        if not self._said:
            logger.warning(
                "%.0f %% of the time is spent waiting for images: raise DATALOADER.NUM_WORKERS, or "
                "make the pictures smaller on the disk.",
                100 * share,
            )
        self._said = True


class PatientWriter(EventWriter):
    """Another writer, whose disk may be full for a while: some of what it has then is lost."""

    def __init__(self, writer: EventWriter):
        self._writer, self._said = writer, False

    def write(self):
        """Write, or say once why not."""
        self._try(self._writer.write)

    def close(self):
        """Close, or say once why not."""
        self._try(self._writer.close)

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
            self._said = False
        except OSError as error:
            if not self._said:
                logger.error(
                    "%s cannot write what is measured (%s): make room for it.",
                    *(type(self._writer).__name__, error),
                )
            self._said = True
            # Detectron2's for TensorBoard has a thread here that such an error has ended, and makes
            # another, with another file, where there is none.
            vars(self._writer).pop("_writer", None)


def _memory_in_use() -> float:
    """In MiB, at most until now."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)
