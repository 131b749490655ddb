"""A training that is killed and resumed ends with the weights of one that never was."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng

from detr_d2.engine import Trainer, setup_cfg
from detr_d2.errors import UserError
from tests.two_processes import on_two_processes

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = "configs/Shapes-PanopticSegmentation/panoptic_detr_fast.yaml"
ITERATIONS = 7
# Everything that draws: crops and flips, dropout, further queries; and a second size of images.
OVERRIDES = [
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", "16", "MODEL.RESNETS.RES2_OUT_CHANNELS", "16"),
    *("MODEL.DETR.ENC_LAYERS", "1", "MODEL.DETR.DEC_LAYERS", "2", "MODEL.DETR.DROPOUT", "0.1"),
    *("SOLVER.IMS_PER_BATCH", "4", "SOLVER.WARMUP_ITERS", "2", "SOLVER.OPTIMIZER", "Muon"),
    *("SOLVER.MAX_ITER", str(ITERATIONS), "SOLVER.CHECKPOINT_PERIOD", "2"),
    *("INPUT.MIN_SIZE_TRAIN", "(64, 80)", "INPUT.DETR_CROP.PROBABILITY", "0.5"),
    *("INPUT.DETR_CROP.RESIZE_BEFORE", "(80,)", "INPUT.DETR_CROP.RANGE", "(40, 60)"),
    *("TEST.EVAL_PERIOD", "0", "SEED", "-1", "SOLVER.AVERAGE_DECAY", "0.5"),
]


class Killed(Exception):
    pass


def train(output, *overrides, resume=False, killed_at=None) -> dict[str, torch.Tensor]:
    """The weights at the end, and their averages."""
    # A training without a SEED that is resumed goes on with the one that it drew.
    cfg = setup_cfg(str(REPOSITORY / CONFIG), [*OVERRIDES, *overrides, "OUTPUT_DIR", str(output)])
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED)  # as tools/train_net.py does
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    if killed_at is not None:
        plain = trainer.before_step

        def before_step():
            if trainer.iter == killed_at:
                raise Killed
            plain()

        trainer.before_step = before_step
    trainer.train()
    model = getattr(trainer.model, "module", trainer.model)
    averaged = trainer.checkpointer.saved_model.state_dict()
    assert averaged.keys() == model.state_dict().keys()
    averaged = {f"averaged {name}": x.clone() for name, x in averaged.items()}
    return averaged | {name: x.clone() for name, x in model.state_dict().items()}


def same(first, second) -> bool:
    return first.keys() == second.keys() and all(x.equal(second[n]) for n, x in first.items())


def interrupted(output, points, *overrides) -> dict[str, torch.Tensor]:
    for killed_at in points:
        with pytest.raises(Killed):
            train(output, *overrides, resume=True, killed_at=killed_at)
    return train(output, *overrides, resume=True)


def test_the_weights_are_those_of_an_undisturbed_training(shapes, tmp_path):
    overrides = ("DATALOADER.NUM_WORKERS", "0", "SEED", "5")
    whole = train(tmp_path / "whole", *overrides)
    points = sorted(random.choices(range(1, ITERATIONS), k=5))
    assert same(interrupted(tmp_path / "killed", points, *overrides), whole), points
    with_workers = ("DATALOADER.NUM_WORKERS", "2", "SEED", "5")
    assert same(interrupted(tmp_path / "with_workers", [3], *with_workers), whole)
    assert not same(train(tmp_path / "other", *overrides, "SEED", "6"), whole)


def of_two(rank, output):
    overrides = ("DATALOADER.NUM_WORKERS", "0", "SEED", "5")
    comm.create_local_process_group(2)
    torch.set_num_threads(1)
    whole = train(output / "whole", *overrides)
    resumed = interrupted(output / "killed", [3, 5], *overrides)
    # A checkpoint has the statistics of batch norm that the first process has seen.
    names = [name for name in whole if rank == 0 or "running_" not in name]
    return same({n: whole[n] for n in names}, {n: resumed[n] for n in names})


def test_so_are_those_of_two_processes(shapes, tmp_path):
    assert on_two_processes(of_two, tmp_path) == [True, True]


def test_without_a_seed_the_one_that_was_drawn_is_kept(shapes, tmp_path):
    overrides = ("DATALOADER.NUM_WORKERS", "0")
    with pytest.raises(Killed):
        train(tmp_path / "a", *overrides, killed_at=3)
    for name in ("b", "c"):
        copied = tmp_path / name
        copied.mkdir()
        for file in (tmp_path / "a").glob("*model_*"):
            (copied / file.name).write_bytes(file.read_bytes())
        (copied / "last_checkpoint").write_text("model_0000001.pth")
    first = train(tmp_path / "b", *overrides, resume=True)
    assert same(train(tmp_path / "c", *overrides, resume=True), first)


def test_with_other_batches_it_goes_on_behind_the_images_that_were_seen(shapes, tmp_path, caplog):
    overrides = ("DATALOADER.NUM_WORKERS", "0", "SEED", "5")
    with pytest.raises(Killed):
        train(tmp_path, *overrides, killed_at=4)
    with pytest.raises(UserError, match=r"another SOLVER\.OPTIMIZER than AdamW"):
        train(tmp_path, *overrides, "SOLVER.OPTIMIZER", "AdamW", resume=True)
    caplog.set_level("INFO", "detr_d2")
    train(tmp_path, *overrides, "SOLVER.IMS_PER_BATCH", "2", resume=True)
    assert "without the 16 images that were seen" in caplog.text


def test_killed_by_the_system_it_loses_nothing(shapes, tmp_path):
    def command(output):
        overrides = [*OVERRIDES, "SEED", "5", "SOLVER.CHECKPOINT_PERIOD", "1"]
        tool = [sys.executable, "-W", "ignore", "tools/train_net.py", "--resume"]
        return [*tool, "--config-file", CONFIG, "OUTPUT_DIR", str(output), *overrides]

    output = tmp_path / "killed"
    for point in (1, 4):
        process = subprocess.Popen(
            command(output), cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for(output / f"model_{point:07d}.pth", process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    for folder in ("killed", "whole"):
        subprocess.run(
            command(tmp_path / folder), cwd=REPOSITORY, env=os.environ, check=True, timeout=300
        )
    weights = [
        torch.load(tmp_path / folder / "model_final.pth", weights_only=True)["model"]
        for folder in ("killed", "whole")
    ]
    assert same(*weights)


def wait_for(file, process) -> None:
    until = time.monotonic() + 240
    while not file.exists():
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < until, f"{file} was not written"
        time.sleep(0.02)
