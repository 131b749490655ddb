"""Checkpoints that cannot be lost."""

import errno

import pytest
import torch
from detectron2.checkpoint import PeriodicCheckpointer
from small_models import PANOPTIC, small_model
from torch import nn

from detr_d2.checkpoint import Checkpointer, checkpointer
from detr_d2.checkpoint.on_disk import checkpoints_of, remove_unfinished
from detr_d2.errors import UserError


def checkpointer_of(folder, value=0.0) -> Checkpointer:
    model, cfg = small_model(PANOPTIC)
    nn.init.constant_(model.input_proj.bias, value)
    return Checkpointer.from_config(cfg, model, str(folder))


def written(folder, *values) -> None:
    for number, value in enumerate(values):
        checkpointer_of(folder, value).save(f"model_{number:07d}", iteration=number)


def resumed(folder) -> tuple[float, int]:
    """The weight and the iteration of what is resumed."""
    other = checkpointer_of(folder, -1.0)
    rest = other.resume_or_load("", resume=True)
    return other.model.input_proj.bias[0].item(), rest["iteration"]


def test_the_last_one_is_resumed(tmp_path):
    written(tmp_path, 1.0, 2.0)
    assert resumed(tmp_path) == (2.0, 1)
    assert sorted(f.name for f in tmp_path.iterdir()) == [
        *("last_checkpoint", "model_0000000.pth", "model_0000001.pth")
    ]


def truncate(file):
    file.write_bytes(file.read_bytes()[:-200])


def flip_a_bit(file):
    content = bytearray(file.read_bytes())
    content[content.index(torch.tensor([2.0] * 100).numpy().tobytes()) + 2] ^= 4
    file.write_bytes(content)


def empty(file):
    file.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty])
def test_the_one_before_a_damaged_one_is_taken(tmp_path, damage, caplog):
    written(tmp_path, 1.0, 2.0)
    damage(tmp_path / "model_0000001.pth")
    assert resumed(tmp_path) == (1.0, 0)
    (record,) = [r for r in caplog.records if "The checkpoint before it is taken" in r.message]
    assert "model_0000001.pth" in record.message


def test_where_none_is_whole_the_first_is_named(tmp_path):
    written(tmp_path, 1.0, 2.0)
    for file in tmp_path.glob("*.pth"):
        truncate(file)
    with pytest.raises(UserError, match="model_0000000"):
        resumed(tmp_path)


def test_those_behind_the_last_are_left(tmp_path):
    """They are of another training, or were being written when it ended."""
    for name in ("model_0000004.pth", "model_0000009.pth", "model_0000002.pth", "model_final.pth"):
        (tmp_path / name).touch()
    (tmp_path / "model_best.pth").touch()

    def names(last=""):
        return [file.name for file in checkpoints_of(f"{tmp_path}/{last}")]

    assert names("model_0000004.pth") == ["model_0000004.pth", "model_0000002.pth"]
    assert (
        names()
        == names("model_final.pth")
        == [*("model_final.pth", "model_0000009.pth", "model_0000004.pth", "model_0000002.pth")]
    )


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("unexpected pos 64")]
)
def test_a_full_disk_does_not_end_the_training(tmp_path, monkeypatch, caplog, error):
    written(tmp_path, 1.0)

    def full(content, file):
        file.write(b"half of it")
        raise error

    trained = checkpointer_of(tmp_path, 2.0)
    periodic = PeriodicCheckpointer(trained, period=1, max_iter=4)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        periodic.step(1)
        assert "cannot be written" in caplog.text and "model_0000001.pth" in caplog.text
        assert resumed(tmp_path) == (1.0, 0)
        with pytest.raises(UserError, match="cannot be written"):
            trained.save("model_final")
    assert sorted(f.name for f in tmp_path.iterdir()) == ["last_checkpoint", "model_0000000.pth"]
    periodic.step(2)
    assert resumed(tmp_path) == (2.0, 2)


def test_what_was_not_finished_is_removed(tmp_path):
    (tmp_path / "inference").mkdir()
    for name in ("model_final.pth", ".model_0000009.unfinished-7-8.pth", "inference/a.json"):
        (tmp_path / name).touch()
    (tmp_path / "inference" / ".a.unfinished-7-8.json").touch()
    remove_unfinished(tmp_path)
    files = sorted(str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*") if f.is_file())
    assert files == ["inference/a.json", "model_final.pth"]


def test_other_errors_of_a_resumed_training_are_its_end(tmp_path, monkeypatch):
    written(tmp_path, 1.0, 2.0)

    def refuse(*_):
        raise UserError("It is of other classes.")

    monkeypatch.setattr(checkpointer.report, "fit", refuse)
    with pytest.raises(UserError, match="other classes"):
        resumed(tmp_path)
