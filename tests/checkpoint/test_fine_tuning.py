"""docs/fine_tuning.md, followed with a small model from a checkpoint in the official format."""

import argparse
import re

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from small_models import CONFIGS, SMALL, same_weights, small_model

from detr_d2.checkpoint import Checkpointer, convert
from detr_d2.checkpoint.classes import HEAD
from detr_d2.checkpoint.names import MASK_BRANCH_PREFIXES
from detr_d2.engine import Trainer, setup_cfg

CONFIG = CONFIGS / "CamVid-PanopticSegmentation/panoptic_detr_R_50_finetune.yaml"
PAGE = CONFIGS.parent / "docs/fine_tuning.md"
COCO = "detr-r50-panoptic-00ce5173.pth"  # its name on the page
# Category ids of the classes of `tiny_dataset` in COCO, and the row of no-object.
ROWS = {"car": 3, "road": 149, "no-object": 250}


@pytest.fixture
def coco_weights(tmp_path, monkeypatch):
    """Random weights in an official file of the working folder, as the official code has them."""
    monkeypatch.chdir(tmp_path)
    model, cfg = small_model()
    Checkpointer.from_config(cfg, model, ".").save("ours")
    convert("ours.pth", "official.pth", "official")
    weights = torch.load("official.pth", weights_only=True)["model"]
    for name in HEAD:  # rows of no category, too, are of random numbers in the real files
        torch.nn.init.normal_(weights[f"detr.{name}"])
    torch.save({"model": weights, "args": argparse.Namespace(nheads=8, dilation=False)}, COCO)
    return weights


@pytest.fixture
def fine_tune(tiny_dataset):
    """A function that trains two steps with the page's configuration and changes to it.

    Gives the state dicts before and after. `tiny_dataset` shares its classes' names with COCO.
    """
    folder, _ = tiny_dataset
    changes = SMALL | {
        "MODEL.DETR.NUM_CLASSES": 2,
        "DATASETS.ROOT": str(folder),
        "DATASETS.REGISTER.own": "['images', 'panoptic', 'panoptic.json']",
        "DATASETS.TRAIN": "('own',)",
        "DATASETS.TEST": "()",
        "INPUT.MIN_SIZE_TRAIN": "(32,)",
        "INPUT.DETR_CROP.PROBABILITY": 0.0,
        "DATALOADER.NUM_WORKERS": 0,
        "SOLVER.IMS_PER_BATCH": 1,
        "SOLVER.MAX_ITER": 2,
        "SOLVER.STEPS": "()",
    }

    def train(**own):
        keys = changes | {key.replace("__", "."): value for key, value in own.items()}
        trainer = Trainer(setup_cfg(str(CONFIG), [x for item in keys.items() for x in item]))
        trainer.resume_or_load(resume=False)
        before = {name: t.clone() for name, t in trainer.model.state_dict().items()}
        trainer.train()
        return before, trainer.model.state_dict()

    yield train
    DatasetCatalog.remove("own")
    MetadataCatalog.remove("own")


def mask_branch(weights):
    return {name: t for name, t in weights.items() if name.startswith(MASK_BRANCH_PREFIXES)}


def test_boxes_and_masks_together(coco_weights, fine_tune, caplog):
    """All of COCO's weights but the rows of other classes are where training starts."""
    caplog.set_level("INFO")
    before, after = fine_tune(MODEL__WEIGHTS=COCO, OUTPUT_DIR="output")
    rows = list(ROWS.values())
    for name in HEAD:
        assert torch.equal(before[name], coco_weights[f"detr.{name}"][rows])
    assert same_weights(mask_branch(before), mask_branch(coco_weights))
    assert "2 of 2 classes taken by name: car (row 0 from 3: car)" in caplog.text
    assert "Checkpoint and model differ" not in caplog.text

    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert {"bbox_attention.q_linear.weight", "mask_head.lay1.weight", *HEAD} <= changed
    assert "backbone.res3.0.conv1.weight" in changed
    assert not any(name.startswith(("backbone.stem.", "backbone.res2.")) for name in changed)


def test_boxes_first_then_masks(coco_weights, fine_tune, caplog):
    boxes = {"MODEL__META_ARCHITECTURE": "DETR", "MODEL__WEIGHTS": COCO}
    _, trunk = fine_tune(**boxes, OUTPUT_DIR="output/boxes")
    assert "unexpected: not used | mask_head.*" in caplog.text
    caplog.clear()

    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    exec(snippet)  # the page's own lines
    before, after = fine_tune(
        MODEL__DETR__FREEZE_DETR=True,
        MODEL__WEIGHTS="output/boxes/with_mask_head.pth",
        OUTPUT_DIR="output/masks",
    )
    assert "Checkpoint and model differ" not in caplog.text
    assert same_weights(mask_branch(before), mask_branch(coco_weights))
    assert same_weights({name: after[name] for name in trunk}, trunk)
    assert not same_weights(mask_branch(after), mask_branch(before))
