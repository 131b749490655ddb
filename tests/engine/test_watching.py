import errno
import json
import resource
from types import SimpleNamespace

import pytest
import torch
from detectron2.utils.events import EventStorage, JSONWriter, TensorboardXWriter
from torch import nn

from detr_d2.engine.adamw import ClippedAdamW
from detr_d2.engine.watching import PERIOD, PatientWriter, WatchTraining
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


@pytest.fixture
def limit():
    """A function that sets how long a file of this process may become, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def set_limit(size=before[0]):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield set_limit
    set_limit()


def test_a_full_disk_is_said_once_and_does_not_end_a_training(tmp_path, caplog, limit):
    patient = PatientWriter(JSONWriter(str(tmp_path / "metrics.json")))
    with EventStorage() as storage:
        for size in (resource.RLIM_INFINITY, 20, 20, resource.RLIM_INFINITY):
            storage.put_scalar("loss", storage.iter)
            limit(size)
            patient.write()
            limit()
            storage.step()
    patient.close()
    (said,) = caplog.messages
    assert "JSONWriter" in said and "make room" in said
    lines = (tmp_path / "metrics.json").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == [0, 1, 2, 3]


def test_tensorboard_goes_on_in_another_file(tmp_path, caplog):
    writer = TensorboardXWriter(str(tmp_path))
    patient = PatientWriter(writer)
    with EventStorage() as storage:
        for _ in range(3):
            storage.put_scalar("loss", 1.0)
            patient.write()
            storage.step()
            if storage.iter == 1:  # as the thread that writes leaves it
                thread = writer._writer.file_writer.event_writer._async_writer._worker
                thread.exception = OSError(errno.ENOSPC, "No space left on device")
    patient.close()
    assert len(caplog.messages) == 1 and "TensorboardXWriter" in caplog.text
    assert len(list(tmp_path.glob("events.*"))) == 2
