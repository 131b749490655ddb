"""`torchrun` starts the processes, and starts them again when one dies."""

import errno
import os
import signal
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from detectron2.utils import comm

from detr_d2.cli import train
from detr_d2.engine.processes import run_on_processes
from detr_d2.errors import UserError
from tests.engine.test_resume import CONFIG, OVERRIDES, REPOSITORY, same, wait_for


def torchrun(output, *overrides) -> subprocess.Popen:
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, "-W", "ignore", *start, "--max-restarts", "1"]
    command += ["tools/train_net.py", "--resume", "--config-file", CONFIG]
    overrides = [*OVERRIDES, "DATALOADER.NUM_WORKERS", "0", "SEED", "5", *overrides]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with open(f"{output}.log", "w") as log:
        return subprocess.Popen(
            [*command, "OUTPUT_DIR", str(output), *overrides],
            **{"cwd": REPOSITORY, "env": environment, "stdout": log, "stderr": log},
        )


def children(pid: int) -> list[int]:
    return [int(x) for x in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are read from /proc")
def test_a_process_that_dies_loses_nothing(shapes, tmp_path):
    killed = torchrun(tmp_path / "killed")
    wait_for(tmp_path / "killed" / "model_0000003.pth", killed)
    os.kill(children(killed.pid)[1], signal.SIGKILL)
    assert killed.wait(300) == 0, (tmp_path / "killed.log").read_text()
    assert "Starting training from iteration" in (tmp_path / "killed.log").read_text()
    assert torchrun(tmp_path / "whole").wait(300) == 0, (tmp_path / "whole.log").read_text()
    weights = [
        torch.load(tmp_path / folder / "model_final.pth", weights_only=True)["model"]
        for folder in ("killed", "whole")
    ]
    assert same(*weights)


def test_an_error_on_one_is_a_sentence_and_ends_all(shapes, tmp_path):
    missing = str(tmp_path / "missing.pth")
    process = torchrun(tmp_path / "bad", "MODEL.WEIGHTS", missing)
    assert process.wait(200) != 0
    log = (tmp_path / "bad.log").read_text()
    sentences = [line for line in log.splitlines() if line.startswith("error: ")]
    assert len(sentences) == 2  # it was started twice
    assert all(missing in sentence for sentence in sentences)
    ours, _, of_torchrun = log.rpartition("Traceback")
    assert "Traceback" not in ours and "torch/distributed/run.py" in of_torchrun


@pytest.mark.parametrize("rank, waited", [("0", 0), ("1", 2)])
def test_torchrun_alone_says_how_many(monkeypatch, rank, waited):
    seconds = []
    monkeypatch.setattr("time.sleep", seconds.append)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(sys, "argv", ["train_net.py", "--num-gpus", "99"])
    with pytest.raises(UserError, match="--nproc-per-node"):
        train.main()
    assert seconds == [waited]  # the first process says it, and torchrun ends the others


def fail(args):
    comm.synchronize()
    if comm.get_rank() in args.failing:
        raise UserError("a.png is broken.")
    comm.synchronize()


@pytest.mark.parametrize("failing", [(0,), (1,), (0, 1)])
def test_an_error_on_one_of_detectron2s_processes_ends_all(capfd, failing):
    args = Namespace(num_machines=1, machine_rank=0, dist_url="auto", failing=failing)
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        run_on_processes(fail, args, 2)
    assert signal.getsignal(signal.SIGTERM) == handler
    assert ended.value.code == 1
    said = capfd.readouterr().err
    assert said.count("error: a.png is broken.") == 1
    assert "Traceback" not in said


def fail_among_those_that_ignore_signals(args):
    """As in a training, which takes SIGTERM for the wish to end behind the next step."""
    signal.signal(signal.SIGTERM, lambda *_: None)
    comm.synchronize()
    if comm.get_rank() == 0:
        raise args.error
    comm.synchronize()


@pytest.mark.parametrize("error", [UserError("a.png is broken."), KeyError("a mistake")])
def test_processes_that_wait_for_one_that_is_gone_say_nothing(capfd, error):
    args = Namespace(num_machines=1, machine_rank=0, dist_url="auto", error=error)
    with pytest.raises(SystemExit) as ended:
        run_on_processes(fail_among_those_that_ignore_signals, args, 2)
    assert ended.value.code == 1
    said = capfd.readouterr().err
    assert said.count(str(error)) == 1
    assert said.count("Traceback") == isinstance(error, KeyError)
    assert "peer" not in said


def wait_for_the_others(args):
    comm.synchronize()
    if comm.get_rank() in args.failing:
        # While the other one waits.
        raise OSError(errno.ENOSPC, "No space left on device", "a.png")
    torch.distributed.all_reduce(torch.zeros(1))


def test_a_full_disk_is_a_sentence_also_where_others_wait(capfd):
    args = Namespace(num_machines=1, machine_rank=0, dist_url="auto", failing=(1,))
    with pytest.raises(SystemExit):
        run_on_processes(wait_for_the_others, args, 2)
    said = capfd.readouterr().err
    assert said.count("error: The disk is full") == 1
    assert "Traceback" not in said


def test_an_error_of_the_only_process_is_left_to_the_tool():
    args = Namespace(num_machines=1, machine_rank=0, dist_url="auto", failing=(0,))
    with pytest.raises(UserError, match="broken"):
        run_on_processes(fail, args, 1)
