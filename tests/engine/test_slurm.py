"""Trainings that are submitted, through submitit's executor for this machine."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from detr_d2.cli import run, submit
from tests.engine.test_processes import children
from tests.engine.test_resume import CONFIG, OVERRIDES, REPOSITORY, same, wait_for

pytest.importorskip("submitit", reason="submitit is not installed")


def start(output, *command) -> subprocess.Popen:
    overrides = [*OVERRIDES, "DATALOADER.NUM_WORKERS", "1", "SEED", "5", "OUTPUT_DIR", str(output)]
    with open(f"{output}.log", "w") as log:
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", *command, "--config-file", CONFIG, *overrides],
            cwd=REPOSITORY,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=log,
        )


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are read from /proc")
def test_a_job_that_is_asked_to_end_is_queued_again_and_resumed(shapes, tmp_path):
    folder = tmp_path / "jobs"
    local = ("tools/submit.py", "--local", "--gpus", "0", "--folder", str(folder), "--", "train")
    job = start(tmp_path / "asked", *local)
    wait_for(tmp_path / "asked" / "model_0000003.pth", job)
    (controller,) = children(job.pid)
    (trainer,) = children(controller)
    os.kill(trainer, signal.SIGUSR2)
    assert job.wait(300) == 0, (tmp_path / "asked.log").read_text()
    said = "".join(file.read_text() for file in folder.iterdir() if file.suffix in (".out", ".err"))
    assert "Requeued job" in said and "Starting training from iteration" in said

    whole = start(tmp_path / "whole", "tools/train_net.py")
    assert whole.wait(300) == 0, (tmp_path / "whole.log").read_text()
    weights = [
        torch.load(tmp_path / name / "model_final.pth", weights_only=True)["model"]
        for name in ("asked", "whole")
    ]
    assert same(*weights)


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--", "train", "--num-gpus", "2"], "give --gpus and --nodes before the command"),
        (["--local", "--nodes", "2", "--", "train"], "leave --nodes out"),
        (["--time", "an hour", "--", "train"], "neither minutes nor H:MM:SS"),
        (["--", "prepare"], "invalid choice"),
    ],
)
def test_what_cannot_be_submitted_is_said(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["submit", "--folder", str(tmp_path), *arguments])
    with pytest.raises(SystemExit) as ended:
        run("submit")
    assert sentence in f"{ended.value.code}{capsys.readouterr().err}"


def test_what_slurm_is_asked_for(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(submit, "executor", lambda *arguments: asked.append(arguments) or Submits())
    options = ["--partition", "gpu", "--nodes", "2", "--gpus", "8", "--time", "2:30:01"]
    command = ["--", "train", "--config-file", "c.yaml"]
    monkeypatch.setattr(sys, "argv", ["submit", *options, "--folder", str(tmp_path), *command])
    submit.main()
    ((folder, parameters, local),) = asked
    assert folder == str(tmp_path) and not local
    assert parameters["slurm_partition"] == "gpu" and parameters["nodes"] == 2
    assert parameters["tasks_per_node"] == parameters["gpus_per_node"] == 8
    assert parameters["timeout_min"] == 151
    assert Submits.jobs[-1].arguments == ["--resume", "--config-file", "c.yaml"]


class Submits:
    """An executor that runs nothing."""

    jobs = []
    job_id, stdout = "1", "1.out"

    @property
    def paths(self):
        return self

    def submit(self, job):
        self.jobs.append(job)
        return self


def slurm_runs() -> bool:
    if shutil.which("sinfo") is None:
        return False
    return subprocess.run(["sinfo"], capture_output=True, check=False).returncode == 0


def wait_for_line(files, line: str, seconds: int) -> None:
    """In one of the files, which may not be there yet."""
    end = time.monotonic() + seconds
    while not any(line in file.read_text() for file in files()):
        assert time.monotonic() < end, [file.read_text()[-2000:] for file in files()]
        time.sleep(1)


@pytest.mark.skipif(not slurm_runs(), reason="no SLURM runs here")
def test_slurm_queues_a_job_again(shapes, tmp_path):
    """Two processes. SLURM itself waits two minutes before a job that was queued again begins."""
    folder = tmp_path / "jobs"
    resources = ("--gpus", "0", "--processes", "2", "--cpus-per-process", "1", "--time", "20")
    command = ("tools/submit.py", *resources, "--folder", str(folder), "--", "train")
    assert start(tmp_path / "asked", *command).wait(100) == 0

    def logs():
        return list(folder.glob("*_log.*"))

    wait_for_line(logs, "Starting training from iteration 0", 120)
    (job,) = {file.name.split("_")[0] for file in logs()}
    subprocess.run(["scancel", "--signal=USR2", job], check=True)
    wait_for_line(logs, "Requeued job", 60)
    wait_for_line(logs, "Job completed successfully", 300)
    said = "".join(file.read_text() for file in logs())
    assert said.count("Starting training from iteration") == 2
    assert said.count("Starting training from iteration 0") == 1
    assert (tmp_path / "asked" / "model_final.pth").is_file()
