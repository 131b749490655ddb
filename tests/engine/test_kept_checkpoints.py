"""The last checkpoints and the best stay."""

from types import SimpleNamespace

import pytest
import torch
from detectron2.utils.events import EventStorage

from detr_d2.engine.kept_checkpoints import KeepCheckpoints
from detr_d2.engine.trainer import Trainer
from tests.engine.test_resume import train


class Saved:
    """A checkpointer that writes what it is told."""

    def __init__(self, folder):
        self.save_dir, self.full = str(folder), False

    def save(self, name, **content):
        if not self.full:
            torch.save({"model": {"a": torch.ones(1)}, **content}, f"{self.save_dir}/{name}.pth")
        return not self.full


def evaluated(saved, values, start=0, full=()):
    """The iteration of the best, after a training whose evaluations give `values`."""
    hook = KeepCheckpoints(saved, 0, 100)
    with EventStorage(start) as storage:
        hook.trainer = SimpleNamespace(storage=storage, start_iter=start, max_iter=99, iter=start)
        hook.before_train()
        for value in values:
            saved.full = hook.trainer.iter in full
            storage.put_scalar("loss", 1.0)
            if value is not None:
                storage.put_scalars(**{"bbox/AP": -value, "panoptic_seg/PQ": value})
            hook.after_step()
            storage.step()
            hook.trainer.iter += 1
    return torch.load(f"{saved.save_dir}/model_best.pth")["iteration"]


def test_the_best_is_of_the_highest_pq(tmp_path):
    nan = float("nan")
    assert evaluated(Saved(tmp_path), [nan, 3.0, None, 5.0, 4.0, nan, 5.0]) == 3
    assert evaluated(Saved(tmp_path), [4.5, 4.0], start=7) == 3  # resumed, it is known
    assert evaluated(Saved(tmp_path), [4.5, 5.5], start=7) == 8
    assert evaluated(Saved(tmp_path), [1.0]) == 0  # another training has another best


def test_a_damaged_one_is_forgotten(tmp_path, caplog):
    evaluated(Saved(tmp_path), [5.0])
    file = tmp_path / "model_best.pth"
    file.write_bytes(file.read_bytes()[:100])
    assert evaluated(Saved(tmp_path), [4.0], start=7) == 7
    assert f"{file}" in caplog.text and "best until now" in caplog.text


def test_one_that_could_not_be_written_is_none(tmp_path):
    assert evaluated(Saved(tmp_path), [3.0, 5.0, 4.0], full=[1]) == 2


def test_the_last_of_a_training_stay(shapes, tmp_path, monkeypatch):
    quality = iter((2.0, 3.0, 1.0))
    monkeypatch.setattr(Trainer, "test", lambda *_: {"panoptic_seg": {"PQ": next(quality)}})
    overrides = ("SOLVER.CHECKPOINT_KEEP", "2", "TEST.EVAL_PERIOD", "3", "SEED", "5")
    train(tmp_path, *overrides, "DATALOADER.NUM_WORKERS", "0")
    files = sorted(file.name for file in tmp_path.glob("model_*"))
    kept = ["model_0000003.pth", "model_0000005.pth", "model_best.pth", "model_final.pth"]
    assert files == kept
    assert torch.load(tmp_path / "model_best.pth")["iteration"] == 5
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"


@pytest.mark.parametrize("metric", ["segm/AP", "sem_seg/mIoU"])
def test_without_its_metric_there_is_no_best(tmp_path, metric):
    hook = KeepCheckpoints(Saved(tmp_path), 0, 1)
    with EventStorage() as storage:
        hook.trainer = SimpleNamespace(storage=storage, start_iter=0, max_iter=9, iter=0)
        storage.put_scalar(metric, 1.0)
        hook.after_step()
    assert not list(tmp_path.iterdir())
