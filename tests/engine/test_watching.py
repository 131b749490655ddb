import json
from types import SimpleNamespace

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import nn

from detr_d2.engine.adamw import ClippedAdamW
from detr_d2.engine.watching import PERIOD, WatchTraining
from tests.engine.test_resume import train


def watched(optimizer, steps, seconds=0.5, waiting=0.1, gradients=None):
    """What is written after each period."""
    hook = WatchTraining(optimizer, images_per_step=8)
    written = []
    with EventStorage() as storage:
        hook.trainer = SimpleNamespace(storage=storage, start_iter=0)
        for hook.trainer.iter in range(steps):
            if gradients is not None:
                (parameter,) = (p for group in optimizer.param_groups for p in group["params"])
                parameter.grad = torch.tensor([gradients[hook.trainer.iter]])
                optimizer.step()
            storage.put_scalars(time=seconds, data_time=waiting)
            hook.after_step()
            if (hook.trainer.iter + 1) % PERIOD == 0:
                written.append({name: value for name, (value, _) in storage.latest().items()})
            storage.step()
    return written


def test_norms_rates_and_speed_are_those_of_the_last_steps():
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = ClippedAdamW([parameter], max_norm=1.0, lr=0.25)
    gradients = [0.5] * 20 + [0.5] * 15 + [3.0] * 5
    first, second = watched(optimizer, 40, gradients=gradients)
    assert first["gradient_norm"] == pytest.approx(0.5) and first["clipped"] == 0
    assert second["gradient_norm"] == pytest.approx((15 * 0.5 + 5 * 3.0) / 20)
    assert second["clipped"] == 0.25
    assert second["lr_group_0"] == 0.25
    assert second["images_per_second"] == pytest.approx(16)
    assert 50 < second["memory_mb"] < 1e5


def test_another_optimiser_has_no_norm():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    (written,) = watched(optimizer, 20)
    assert "gradient_norm" not in written and written["lr_group_0"] == 0.5


@pytest.mark.parametrize("waiting, said", [(0.2, 0), (0.3, 1)])
def test_a_training_that_waits_for_images_says_so_once(waiting, said, caplog):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    watched(optimizer, 100, waiting=waiting)
    assert len(caplog.messages) == said
    assert all("60 % of the time" in message for message in caplog.messages)


def test_metrics_json_has_them(shapes, tmp_path):
    overrides = ("DATALOADER.NUM_WORKERS", "0", "SEED", "5", "SOLVER.MAX_ITER", "21")
    train(tmp_path, *overrides, "SOLVER.CHECKPOINT_PERIOD", "100")
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    line = next(line for line in lines if line["iteration"] == 19)
    assert {"gradient_norm", "clipped", "lr_group_0", "lr_group_1", "memory_mb"} <= line.keys()
    assert line["images_per_second"] == pytest.approx(4 / line["time"], rel=0.5)
