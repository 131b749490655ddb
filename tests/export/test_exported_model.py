"""An exported file is evaluated as a model is."""

from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from tiny_onnx import CLASSES, METADATA, write_model

from detr_d2.engine import Trainer, setup_cfg
from detr_d2.errors import UserError
from detr_d2.export.exported_model import ExportedModel, is_exported, without_instance_masks

pytest.importorskip("onnx", reason="onnx is not installed (pip install detr_d2[export])")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

CONFIG = "configs/Shapes-PanopticSegmentation/panoptic_detr_R_18_narrow_dc5.yaml"


@pytest.fixture
def cfg(tiny_dataset, tmp_path):
    """Of a dataset of one image, whose road is red."""
    folder, _ = tiny_dataset
    red = np.zeros((4, 6, 3), dtype=np.uint8)
    red[3, :, 0] = red[2, [0, 3, 4, 5], 0] = 200
    Image.fromarray(red).save(folder / "images" / "a.png")
    (tmp_path / "out").mkdir()
    overrides = [
        *("DATASETS.REGISTER.exported", "['images', 'panoptic', 'panoptic.json']"),
        *("DATASETS.ROOT", str(folder), "OUTPUT_DIR", str(tmp_path / "out")),
        *("DATASETS.TRAIN", "('exported',)", "DATASETS.TEST", "('exported',)"),
        *("MODEL.DETR.NUM_CLASSES", "2", "MODEL.WEIGHTS", str(tmp_path / "model.onnx")),
        *("MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0"),
    ]
    yield without_instance_masks(setup_cfg(str(Path(__file__).parents[2] / CONFIG), overrides))
    DatasetCatalog.remove("exported")
    MetadataCatalog.remove("exported")


def test_its_pq_is_that_of_what_it_gives(cfg):
    write_model(Path(cfg.MODEL.WEIGHTS), METADATA)
    assert is_exported(cfg.MODEL.WEIGHTS) and not is_exported("model.pth")
    results = Trainer.test(cfg, ExportedModel(cfg))["panoptic_seg"]
    # All of the road, and no car; the model numbers them otherwise than the dataset.
    assert results["PQ_st"] == 100 and results["PQ_th"] == 0
    assert MetadataCatalog.get("exported").thing_classes == ["car", "road"]


def test_other_classes_are_refused(cfg):
    others = [CLASSES[0], {**CLASSES[1], "name": "sky"}]
    write_model(Path(cfg.MODEL.WEIGHTS), {**METADATA, "classes": others})
    with pytest.raises(UserError, match=r"model\.onnx.*"):
        ExportedModel(cfg)
