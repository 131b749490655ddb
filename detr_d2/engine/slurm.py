"""A training as a job of SLURM, by way of submitit: one process a GPU, requeued when it is asked to
end, and resumed."""

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from ..requirements import require
from .preemption import RESUME_ME

_PATIENCE = 600  # seconds, in which the first process requeues the job, and all are ended


class TrainingJob:
    """What a process of the job runs: a command line, as one of the processes that it describes."""

    def __init__(self, command: str, arguments: list[str]):
        """
        Args:
            command: one of `detr_d2.cli.COMMANDS`.
            arguments: that follow it.
        """
        self.command, self.arguments = command, arguments

    def __call__(self) -> None:
        """Raises `SystemExit` where the command ends with another code than 0."""
        import submitit

        environment = submitit.helpers.TorchDistributedEnvironment()
        environment.export(set_cuda_visible_devices=False, overwrite=True)
        # As `torchrun` has it, see `processes.py`.
        job = submitit.JobEnvironment()
        os.environ.update(TORCHELASTIC_RUN_ID=job.job_id, TORCHELASTIC_RESTART_COUNT="0")
        from ..cli import run

        sys.argv = [self.command, *self.arguments]
        _requeue_when_asked_to_end(lambda: run(self.command), job)

    def checkpoint(self) -> Any:
        """What submitit is to start again: the same, which resumes."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def _requeue_when_asked_to_end(work: Callable[[], None], job) -> None:
    asks = job._usr_sig()  # submitit's own answer to it requeues
    try:
        work()
    except SystemExit as end:
        if end.code == RESUME_ME:
            signal.raise_signal(asks)  # the first process does not come back from here
            time.sleep(_PATIENCE)
        if end.code:
            raise


def executor(folder: str, parameters: dict[str, Any], local: bool):
    """Of submitit.

    Args:
        folder: of its files and the processes' output.
        parameters: of `AutoExecutor.update_parameters`.
        local: on this machine, without SLURM.
    """
    require("submitit", "Submitting a training")
    import submitit

    made = submitit.AutoExecutor(folder, cluster="local" if local else "slurm")
    made.update_parameters(**parameters)
    return made
