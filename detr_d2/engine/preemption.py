"""A machine that is taken away: a checkpoint first, then an end that asks to be resumed."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm

from ..data.training_loader import PREEMPTION

RESUME_ME = 75  # the exit code: "a temporary failure, try again" (sysexits.h)

logger = logging.getLogger(__name__)


def exchange_handlers(handlers: dict) -> dict:
    """Set what answers to signals, by their number; gives what did before, to be set again."""
    return {number: signal.signal(number, handler) for number, handler in handlers.items()}


class _Asked(BaseException):
    """Raised where the process is when a signal comes; no `Exception`, which others handle."""


class EndWhenAsked(HookBase):
    """After one of `PREEMPTION`, a checkpoint at the end of the iteration, and exit code 75.

    It comes after the hooks whose state a checkpoint has, and before evaluation, which takes long
    and ends where it is.
    """

    def __init__(self, checkpointer):
        self.checkpointer = checkpointer
        self.asked = False
        self._ends_at_once = False

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Inside, the signals are answered."""
        if threading.current_thread() is not threading.main_thread():
            yield  # Python leaves signals to the main thread
            return
        before = exchange_handlers(dict.fromkeys(PREEMPTION, self._ask))
        try:
            yield
        finally:
            exchange_handlers(before)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, which is behind an iteration, a signal ends the process where it is. The others
        are ended by whoever started them, or have had a signal as well."""
        self._ends_at_once = True
        try:
            if self.asked:  # since the iteration's end
                raise _Asked
            yield
        except (_Asked, RuntimeError):  # the second where the others ended, and were waited for
            if not self.asked:
                raise
            self._ends_at_once = False
            self._end(self._is_written() or self._save())
        finally:
            self._ends_at_once = False

    def after_step(self):
        """Write a checkpoint and end, where a process was asked to."""
        if self.trainer.iter + 1 >= self.trainer.max_iter or not self._asked_of_any():
            return
        written = self._save()
        comm.synchronize()  # whoever ends first, the others are ended
        self._end(written)

    def _save(self) -> bool:
        iteration = self.trainer.iter
        return self.checkpointer.save(f"model_{iteration:07d}", iteration=iteration)

    def _is_written(self) -> bool:
        if self.trainer.iter >= self.trainer.max_iter:  # by "model_final"
            return True
        last = os.path.basename(self.checkpointer.get_checkpoint_file())
        return last == f"model_{self.trainer.iter:07d}.pth"

    def _end(self, written: bool) -> None:
        if not written:
            raise SystemExit(1)
        logger.warning(
            "Asked to end after iteration %d: --resume goes on from there.", self.trainer.iter
        )
        raise SystemExit(RESUME_ME)

    def _ask(self, number, frame):
        self.asked = True
        if self._ends_at_once:
            self._ends_at_once = False
            raise _Asked

    def _asked_of_any(self) -> bool:
        """The same on all processes, of which the signal may reach one."""
        if comm.get_world_size() == 1:
            return self.asked
        device = next(self.trainer.model.parameters()).device
        asked = torch.tensor(int(self.asked), device=device)
        torch.distributed.all_reduce(asked)
        return bool(asked)
