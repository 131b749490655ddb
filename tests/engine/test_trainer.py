from pathlib import Path

import pytest

from detr_d2.engine import Trainer, setup_cfg, trainer

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.mark.parametrize(("start_iter", "checks"), [(0, 1), (7, 0)])
def test_the_data_is_checked_once_even_if_training_resumes(shapes, monkeypatch, start_iter, checks):
    done = []
    monkeypatch.setattr(trainer, "check_dataset", lambda *_: done.append("files"))
    monkeypatch.setattr(trainer, "warn_of_too_few_queries", lambda *_: done.append("queries"))
    file = CONFIGS / "Shapes-PanopticSegmentation/panoptic_detr_R_18_narrow_dc5.yaml"
    Trainer.build_train_loader(setup_cfg(str(file), ["DATALOADER.NUM_WORKERS", "0"]), start_iter)
    assert done == ["files", "queries"] * checks
