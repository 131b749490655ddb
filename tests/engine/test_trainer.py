from pathlib import Path

import pytest

from detr_d2.engine import Trainer, setup_cfg, trainer

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def test_a_dataset_that_is_named_twice_comes_twice(shapes):
    file = CONFIGS / "Shapes-PanopticSegmentation/panoptic_detr_R_18_narrow_dc5.yaml"
    names = ("DATASETS.TRAIN", "('shapes_panoptic_train', 'shapes_panoptic_train')")
    cfg = setup_cfg(str(file), [*names, "DATALOADER.NUM_WORKERS", "0"])
    sampler = Trainer.build_train_loader(cfg).dataset.dataset.sampler
    assert sampler._size == 24  # of 12 images


@pytest.mark.parametrize(("start_iter", "checks"), [(0, 1), (7, 0)])
def test_the_data_is_checked_once_even_if_training_resumes(shapes, monkeypatch, start_iter, checks):
    done = []
    monkeypatch.setattr(trainer, "check_dataset", lambda *_: done.append("files"))
    monkeypatch.setattr(trainer, "warn_of_too_few_queries", lambda *_: done.append("queries"))
    file = CONFIGS / "Shapes-PanopticSegmentation/panoptic_detr_R_18_narrow_dc5.yaml"
    Trainer.build_train_loader(setup_cfg(str(file), ["DATALOADER.NUM_WORKERS", "0"]), start_iter)
    assert done == ["files", "queries"] * checks
