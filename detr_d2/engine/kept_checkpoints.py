"""Which checkpoints of a training stay: `SOLVER.CHECKPOINT_KEEP`."""

import logging
import math
from pathlib import Path

from detectron2.engine import HookBase

from ..checkpoint.checkpointer import BEST, Checkpointer
from ..checkpoint.on_disk import remove_older
from ..checkpoint.pickles import load_torch
from ..errors import UserError

# What the best is chosen by: the first of them that the evaluation has.
_METRICS = ("panoptic_seg/PQ", "bbox/AP")

logger = logging.getLogger(__name__)


class KeepCheckpoints(HookBase):
    """Of the numbered checkpoints the last K, and one of the iteration that was evaluated best.

    It comes after the hooks that write and evaluate.
    """

    def __init__(self, checkpointer: Checkpointer, keep: int, period: int):
        """
        Args:
            keep: K; 0 keeps all, beside the best.
            period: SOLVER.CHECKPOINT_PERIOD.
        """
        self._checkpointer, self._keep, self._period = checkpointer, keep, period
        self._best, self._last_evaluated = -math.inf, -1

    def before_train(self):
        """Learn from the file what the best was, where a training goes on."""
        file = Path(self._checkpointer.save_dir, f"{BEST}.pth")
        if self.trainer.start_iter > 0 and file.is_file():
            try:
                self._best = load_torch(str(file), mmap=True).get("best", -math.inf)
            except UserError as error:  # the training itself does not need it
                logger.warning("%s The next evaluation is the best until now.", error)
        self._keep_best()  # of the evaluation that a training may begin with

    def after_step(self):
        """Behind an evaluation keep the best, behind a checkpoint remove older ones."""
        self._keep_best()
        if self._keep and (self.trainer.iter + 1) % self._period == 0:
            remove_older(Path(self._checkpointer.save_dir), self._keep)

    def after_train(self):
        """Keep the best once more."""
        self._keep_best()  # the last evaluation is then

    def _keep_best(self) -> None:
        latest = self.trainer.storage.latest()
        name = next((n for m in _METRICS for n in latest if n.endswith(m)), None)
        if name is None or latest[name][1] == self._last_evaluated:
            return
        value, self._last_evaluated = latest[name]
        if not value > self._best:  # NaN, of an evaluation that found nothing to compare, is not
            return
        iteration = min(self.trainer.iter, self.trainer.max_iter - 1)
        if self._checkpointer.save(BEST, iteration=iteration, best=value):
            self._best = value
            logger.info("%s.pth is the best until now, of %s %.2f.", BEST, name, value)
