"""A machine that is taken away: a checkpoint first, then an end that asks to be resumed."""

import logging
import signal
import threading

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm

from ..data.training_loader import PREEMPTION

RESUME_ME = 75  # the exit code: "a temporary failure, try again" (sysexits.h)

logger = logging.getLogger(__name__)


def exchange_handlers(handlers: dict) -> dict:
    """Set what answers to signals, by their number; gives what did before, to be set again."""
    return {number: signal.signal(number, handler) for number, handler in handlers.items()}


class EndWhenAsked(HookBase):
    """After one of `PREEMPTION`, a checkpoint at the end of the iteration, and exit code 75.

    It comes after the hooks whose state a checkpoint has, and before evaluation, which takes long.
    """

    def __init__(self, checkpointer):
        self.checkpointer = checkpointer
        self.asked = False
        self._handlers = {}

    def before_train(self):
        """Listen to the signals."""
        if threading.current_thread() is not threading.main_thread():
            return  # Python leaves signals to the main thread
        self._handlers = exchange_handlers(dict.fromkeys(PREEMPTION, self._ask))

    def after_train(self):
        """Let answer again what did before."""
        exchange_handlers(self._handlers)

    def after_step(self):
        """Write a checkpoint and end, where a process was asked to."""
        iteration = self.trainer.iter
        if iteration + 1 >= self.trainer.max_iter or not self._asked_of_any():
            return
        written = self.checkpointer.save(f"model_{iteration:07d}", iteration=iteration)
        comm.synchronize()  # whoever ends first, the others are ended
        if not written:
            raise SystemExit(1)
        logger.warning("Asked to end after iteration %d: --resume goes on from there.", iteration)
        raise SystemExit(RESUME_ME)

    def _ask(self, number, frame):
        self.asked = True

    def _asked_of_any(self) -> bool:
        """The same on all processes, of which the signal may reach one."""
        if comm.get_world_size() == 1:
            return self.asked
        device = next(self.trainer.model.parameters()).device
        asked = torch.tensor(int(self.asked), device=device)
        torch.distributed.all_reduce(asked)
        return bool(asked)
