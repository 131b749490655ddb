"""When a training is evaluated: `TEST.EVAL_PERIOD`."""

import logging
from collections.abc import Callable
from pathlib import Path

from detectron2.engine.hooks import EvalHook
from detectron2.utils import comm

from ..errors import UserError
from .metrics_file import read_curves
from .preemption import EndWhenAsked

logger = logging.getLogger(__name__)


class Evaluate(EvalHook):
    """Detectron2's, which a signal ends at once.

    A training that ended between a checkpoint and the evaluation of the same iteration begins with
    that. It comes before the hooks that keep what is evaluated best, and write.
    """

    def __init__(
        self, period: int, evaluate: Callable[[], dict], ending: EndWhenAsked, output_dir: str
    ):
        """
        Args:
            period: TEST.EVAL_PERIOD.
            output_dir: whose metrics.json says what was evaluated.
        """
        super().__init__(period, evaluate)
        self._ending, self._output_dir = ending, output_dir

    def before_train(self):
        """Evaluate what the training before ended without having evaluated."""
        first, trainer = self.trainer.start_iter, self.trainer
        if self._period <= 0 or first % self._period or not 0 < first < trainer.max_iter:
            return
        if self._was_evaluated(first - 1):
            return
        logger.info("Iteration %d was not evaluated before the training ended.", first - 1)
        # Until the first step, all is as it was behind that iteration.
        trainer.iter = trainer.storage.iter = first - 1
        self._do_eval()

    def _do_eval(self):
        with self._ending.at_once():
            super()._do_eval()

    def _was_evaluated(self, iteration: int) -> bool:
        """The same on all processes, which may see other disks."""
        return comm.all_gather(comm.is_main_process() and self._is_in_metrics(iteration))[0]

    def _is_in_metrics(self, iteration: int) -> bool:
        try:
            curves = read_curves(Path(self._output_dir))
        except UserError:  # there are none yet
            return False
        evaluated = (points for name, points in curves.items() if "/" in name)
        return any(iteration == i for points in evaluated for i, _ in points)
