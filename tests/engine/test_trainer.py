import json
import logging
import multiprocessing
import subprocess
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from detr_d2.data.training_loader import Order
from detr_d2.engine import Trainer, setup_cfg, trainer
from detr_d2.errors import UserError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def test_a_dataset_that_is_named_twice_comes_twice(shapes):
    file = CONFIGS / "Shapes-PanopticSegmentation/panoptic_detr_R_18_narrow_dc5.yaml"
    names = ("DATASETS.TRAIN", "('shapes_panoptic_train', 'shapes_panoptic_train')")
    cfg = setup_cfg(str(file), [*names, "DATALOADER.NUM_WORKERS", "0"])
    sampler = Trainer.build_train_loader(cfg).batch_sampler.sampler
    assert sampler._size == 24  # of 12 images


@pytest.mark.parametrize(("order", "checks"), [(None, 1), (Order(1, 1, 8), 0)])
def test_the_data_is_checked_once_even_if_training_resumes(shapes, monkeypatch, order, checks):
    done = []
    monkeypatch.setattr(trainer, "check_dataset", lambda *_: done.append("files"))
    monkeypatch.setattr(trainer, "warn_of_too_few_queries", lambda *_: done.append("queries"))
    file = CONFIGS / "Shapes-PanopticSegmentation/panoptic_detr_R_18_narrow_dc5.yaml"
    Trainer.build_train_loader(setup_cfg(str(file), ["DATALOADER.NUM_WORKERS", "0"]), order)
    assert done == ["files", "queries"] * checks


def test_classes_that_are_known_when_a_dataset_is_loaded_are_counted_then(shapes, tmp_path):
    instances = {
        "images": [{"id": 1, "file_name": "000000.jpg", "height": 96, "width": 112}],
        "annotations": [],
        "categories": [{"id": n, "name": f"class {n}"} for n in (1, 2, 3, 4)],
    }
    (tmp_path / "instances.json").write_text(json.dumps(instances))
    register_coco_instances("boxes", {}, str(tmp_path / "instances.json"), str(shapes / "val"))
    file = CONFIGS / "Shapes-PanopticSegmentation/panoptic_detr_R_18_narrow_dc5.yaml"
    overrides = ["MODEL.META_ARCHITECTURE", "DETR", "MODEL.DETR.NUM_CLASSES", "3"]
    overrides += ["DATASETS.TRAIN", "('boxes',)", "DATASETS.TEST", "('boxes',)"]
    try:
        cfg = setup_cfg(str(file), overrides)
        with pytest.raises(
            UserError, match=r"boxes has 4 classes.* set MODEL\.DETR\.NUM_CLASSES 4"
        ):
            Trainer(cfg)
        with pytest.raises(UserError, match="boxes has 4 classes"):
            Trainer.build_test_loader(cfg, "boxes")
    finally:
        DatasetCatalog.remove("boxes")
        MetadataCatalog.remove("boxes")


@pytest.mark.parametrize("error", [UserError("a.png is broken."), KeyError("a mistake")])
def test_what_a_person_can_put_right_is_logged_as_its_sentence(caplog, error):
    log = logging.getLogger("detr_d2.test_log")
    log.addFilter(trainer._without_traceback)
    try:
        raise error
    except (UserError, KeyError):
        log.exception("Exception during training:")
    (record,) = caplog.records
    is_sentence = isinstance(error, UserError)
    assert ("Traceback" in caplog.text) != is_sentence
    assert (record.getMessage() == "The training ends: a.png is broken.") == is_sentence


def test_processes_that_read_for_an_evaluation_outlive_a_signal_to_all(shapes):
    file = CONFIGS / "Shapes-PanopticSegmentation/panoptic_detr_R_18_narrow_dc5.yaml"
    cfg = setup_cfg(str(file), ["DATALOADER.NUM_WORKERS", "1"])
    batches = iter(Trainer.build_test_loader(cfg, "shapes_panoptic_val"))
    next(batches)
    readers = [str(process.pid) for process in multiprocessing.active_children()]
    assert readers
    subprocess.run(["kill", "-TERM", *readers], check=True)
    assert len(list(batches)) == 5


def test_an_output_that_is_no_folder_is_refused():
    file = CONFIGS / "Shapes-PanopticSegmentation/panoptic_detr_R_18_narrow_dc5.yaml"
    with pytest.raises(UserError, match="OUTPUT_DIR is s3://mine/1, but only folders"):
        setup_cfg(str(file), ["OUTPUT_DIR", "s3://mine/1"])


def test_a_training_of_an_earlier_version_is_not_resumed(shapes, tmp_path):
    file = CONFIGS / "Shapes-PanopticSegmentation/panoptic_detr_R_18_narrow_dc5.yaml"
    small = Trainer(
        setup_cfg(str(file), ["OUTPUT_DIR", str(tmp_path), "DATALOADER.NUM_WORKERS", "0"])
    )
    earlier = {**small.state_dict(), "order": {"seed": 1, "processes": 1, "start": 0}}
    with pytest.raises(UserError, match="is of an earlier version"):
        small.load_state_dict(earlier)
