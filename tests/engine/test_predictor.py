"""A model is used with the classes that its weights have recorded."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model

from detr_d2.checkpoint import Checkpointer
from detr_d2.engine import Predictor, setup_cfg
from detr_d2.errors import UserError

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "Shapes-PanopticSegmentation"
DETR = "panoptic_detr_R_18_narrow_dc5"
SMALL = [
    *("MODEL.DEVICE", "cpu", "MODEL.DETR.NUM_CLASSES", 3, "INPUT.MIN_SIZE_TEST", 64),
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", 16, "MODEL.RESNETS.RES2_OUT_CHANNELS", 16),
    *("MODEL.DETR.ENC_LAYERS", 1, "MODEL.DETR.DEC_LAYERS", 1),
    *("MODEL.ROI_HEADS.NUM_CLASSES", 1, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 3),
    *("MODEL.DETR.PANOPTIC.SCORE_THRESHOLD", 0.0),
]
CLASSES = [
    {"id": 1, "name": "car", "isthing": 1},
    {"id": 2, "name": "road", "isthing": 0},
    {"id": 3, "name": "sky", "isthing": 0},
]
OTHER_NUMBERS = [{**category, "id": 9 - category["id"]} for category in CLASSES]
OTHER_NAMES = [*CLASSES[:2], {**CLASSES[2], "name": "sea"}]


@pytest.fixture
def configure(tmp_path):
    """A function that gives a configuration of a small model on a dataset of such categories."""
    names = []

    def configure(name: str, categories: list[dict], *overrides, config=DETR):
        names.append(name)
        content = {"images": [], "annotations": [], "categories": categories}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
        dataset = (f"DATASETS.REGISTER.{name}", ["images", "panoptic", f"{name}.json"])
        used = ("DATASETS.ROOT", str(tmp_path), "DATASETS.TRAIN", (name,), "DATASETS.TEST", ())
        return setup_cfg(
            str(CONFIGS / f"{config}.yaml"),
            [*SMALL, *dataset, *used, "MODEL.WEIGHTS", "", *overrides],
        )

    yield configure
    for name in {*names} & {*DatasetCatalog.list()}:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture
def weights(configure, tmp_path):
    """A function that writes random weights for `CLASSES`, whose path it gives."""

    def weights(**options) -> str:
        cfg = configure("classes_of_weights", CLASSES, **options)
        Checkpointer.from_config(cfg, build_model(cfg), str(tmp_path)).save("model")
        return str(tmp_path / "model.pth")

    return weights


@pytest.mark.parametrize("config", [DETR, "panoptic_fpn_R_18_narrow"])
def test_a_dataset_of_other_numbers_is_numbered_as_the_weights_are(configure, weights, config):
    given = ("MODEL.WEIGHTS", weights(config=config))
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    expected, found = (
        Predictor(configure(name, categories, *given, config=config))(image)["panoptic_seg"]
        for name, categories in (("as_weights", CLASSES), ("other_numbers", OTHER_NUMBERS))
    )
    assert MetadataCatalog.get("other_numbers").thing_classes == ["car", "road", "sky"]
    assert torch.equal(expected[0], found[0]) and expected[1] == found[1]


def test_classes_that_weights_lack_are_refused(configure, weights):
    cfg = configure("other_classes", OTHER_NAMES, "MODEL.WEIGHTS", weights())
    with pytest.raises(UserError, match=r"does not have sea of other_classes \(and has sky, which"):
        Predictor(cfg)
