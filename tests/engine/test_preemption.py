"""A training that is asked to end writes a checkpoint and goes on from there."""

import multiprocessing
import os
import signal
import subprocess

import pytest

from detr_d2.data.training_loader import PREEMPTION
from detr_d2.engine.preemption import RESUME_ME
from detr_d2.engine.trainer import Trainer
from tests.engine.test_resume import same, train

OVERRIDES = ("DATALOADER.NUM_WORKERS", "0", "SEED", "5", "SOLVER.CHECKPOINT_PERIOD", "100")


def test_a_signal_ends_it_with_a_checkpoint(shapes, tmp_path, monkeypatch):
    plain = Trainer.run_step
    handlers = [signal.getsignal(number) for number in PREEMPTION]

    def run_step(self):
        if self.iter in signals:
            number = signals.pop(self.iter)
            # A scheduler sends it to all processes.
            all_of_them = [x.pid for x in multiprocessing.active_children()] + [os.getpid()]
            subprocess.run(["kill", f"-{int(number)}", *map(str, all_of_them)], check=True)
        plain(self)

    monkeypatch.setattr(Trainer, "run_step", run_step)
    signals = {}
    whole = train(tmp_path / "whole", *OVERRIDES)
    signals = {2: signal.SIGTERM, 4: signal.SIGUSR1}
    for iteration in (2, 4):
        with pytest.raises(SystemExit) as ended:
            train(tmp_path / "ended", *OVERRIDES, "DATALOADER.NUM_WORKERS", "1", resume=True)
        assert ended.value.code == RESUME_ME
        assert (tmp_path / "ended" / f"model_{iteration:07d}.pth").is_file()
        assert [signal.getsignal(number) for number in PREEMPTION] == handlers
    assert same(train(tmp_path / "ended", *OVERRIDES, resume=True), whole)
