"""A batch whose loss is no number does not become a step."""

from pathlib import Path

import pytest
import torch
from detectron2.utils.events import EventStorage

from detr_d2.engine import setup_cfg
from detr_d2.engine.trainer import Trainer
from detr_d2.engine.training_step import TrainingStep
from detr_d2.errors import UserError
from tests.two_processes import on_two_processes

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
CONFIG = CONFIGS / "Shapes-PanopticSegmentation" / "panoptic_detr_R_18_narrow_dc5.yaml"


@pytest.fixture
def trainer(shapes, tmp_path) -> Trainer:
    small = [
        *("MODEL.RESNETS.STEM_OUT_CHANNELS", 16, "MODEL.RESNETS.RES2_OUT_CHANNELS", 16),
        *("MODEL.DETR.ENC_LAYERS", 1, "MODEL.DETR.DEC_LAYERS", 2, "MODEL.WEIGHTS", ""),
        *("SOLVER.IMS_PER_BATCH", 2, "DATALOADER.NUM_WORKERS", 0, "OUTPUT_DIR", str(tmp_path)),
        *("SOLVER.NOT_FINITE_IN_A_ROW", 2),
    ]
    return Trainer(setup_cfg(str(CONFIG), small))


def weights_after_steps(trainer: Trainer, steps) -> list[torch.Tensor]:
    weights = []
    with EventStorage() as storage:
        for trainer.iter in steps:
            trainer.run_step()
            storage.step()
            weights.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
    return weights


def test_a_few_are_passed_over_and_more_end_the_training(trainer, tmp_path, caplog):
    bad = {1, 3, 4, 6, 7, 8}

    def spoil(module, inputs, losses):
        if trainer.iter in bad:
            return {**losses, "loss_giou": losses["loss_giou"] * torch.inf}

    trainer.model.register_forward_hook(spoil)
    weights = weights_after_steps(trainer, range(8))
    changed = {n + 1 for n in range(7) if not weights[n].equal(weights[n + 1])}
    assert changed == {2, 5}
    assert len(caplog.messages) == 5 and "loss_giou is no finite number" in caplog.messages[0]
    with pytest.raises(UserError, match=r"iteration 8, loss_giou .*NOT_FINITE_IN_A_ROW") as error:
        weights_after_steps(trainer, [8])

    kept = torch.load(tmp_path / "not_finite_0000008_process_0.pth", weights_only=True)
    assert len(kept["batch"]) == 2
    for image in kept["batch"]:
        assert image["file_name"] in str(error.value)
        assert image["image"].dtype == torch.uint8
        assert image["instances"]["gt_boxes"].shape == (len(image["instances"]["gt_classes"]), 4)
    trainer.model.load_state_dict(kept["model"])


@pytest.mark.parametrize("part", ["backbone", "class_embed", "bbox_embed", "boxes"])
def test_whatever_is_no_number_is_found(trainer, part):
    trainer._trainer.not_finite_in_a_row = 0
    if part == "boxes":

        def spoil(module, batches):
            batches[0][0]["instances"].gt_boxes.tensor[0, 2] = torch.inf

        trainer.model.register_forward_pre_hook(spoil)
    else:
        next(getattr(trainer.model, part).parameters()).data[0] = torch.nan
    with pytest.raises(UserError, match=r"iteration 0, loss_.* is no finite number"):
        weights_after_steps(trainer, [0])


def test_the_images_of_a_step_are_divided_by_a_divisor(trainer, tmp_path):
    cfg = trainer.cfg.clone()
    cfg.defrost()
    cfg.SOLVER.PARTS = 2
    weights_after_steps(Trainer(cfg), [0])
    for parts in (0, 3):
        cfg.SOLVER.PARTS = parts
        with pytest.raises(UserError, match="2 images of a step"):
            Trainer(cfg)


class Plain(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, batch):
        return {"loss": self.weight * sum(image["value"] for image in batch)}


def steps_of_one_of_two(rank, folder):
    values = [1.0, 1.0, 1.0] if rank else [1.0, torch.nan, 1.0]
    model = torch.nn.parallel.DistributedDataParallel(Plain())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    batches = [[{"value": value, "file_name": f"{rank}.png"}] for value in values]
    step = TrainingStep(model, batches, optimizer, output_dir=folder, not_finite_in_a_row=1)
    weights = []
    with EventStorage():
        for step.iter in range(3):
            step.run_step()
            weights.append(model.module.weight.item())
    return weights


def test_no_process_steps_where_one_cannot(tmp_path):
    assert on_two_processes(steps_of_one_of_two, str(tmp_path)) == [[0.5, 0.5, 0.0]] * 2
    assert len(list(tmp_path.glob("not_finite_0000001_process_?.pth"))) == 2


def test_a_full_disk_keeps_nothing_of_it_and_is_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(torch, "save", lambda *_: (_ for _ in ()).throw(OSError("No space left")))
    model = Plain()
    batches = [[{"value": torch.nan, "file_name": "a.png"}]]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    step = TrainingStep(model, batches, optimizer, output_dir=str(tmp_path), not_finite_in_a_row=1)
    with EventStorage():
        step.iter = 0
        step.run_step()
    assert "a.png" in caplog.text and "cannot be written (No space left)" in caplog.text
    assert not list(tmp_path.iterdir())
