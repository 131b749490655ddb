"""Datasets without things and datasets without stuff train and are evaluated."""

import json
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from panoptic_png import id2rgb
from PIL import Image

from detr_d2.engine import Predictor, Trainer, setup_cfg

CONFIG = "configs/Shapes-PanopticSegmentation/panoptic_detr_R_18_narrow_dc5.yaml"
REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = [
    *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.DETR.NUM_CLASSES", "2"),
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", "16", "MODEL.RESNETS.RES2_OUT_CHANNELS", "16"),
    *("MODEL.DETR.ENC_LAYERS", "1", "MODEL.DETR.DEC_LAYERS", "1"),
    *("SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "2", "SOLVER.WARMUP_ITERS", "0"),
    *("DATALOADER.NUM_WORKERS", "0", "TEST.EVAL_PERIOD", "0"),
    *("MODEL.DETR.PANOPTIC.SCORE_THRESHOLD", "0.0"),
]


@pytest.fixture
def one_kind(tmp_path):
    """A function that writes two images whose two classes are both things, or both stuff."""

    def write(isthing: int) -> str:
        images, annotations = [], []
        for number in (1, 2):
            ids = np.full((32, 48), 1)
            ids[10 * number :] = 2
            pixels = (ids * 100).astype(np.uint8)
            for folder in ("images", "png"):
                (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / f"images/{number}.tif")
            Image.fromarray(id2rgb(ids)).save(tmp_path / f"png/{number}.png")
            name = {"file_name": f"{number}.tif", "height": 32, "width": 48}
            images.append({"id": number, **name})
            annotations.append(
                {
                    "image_id": number,
                    "file_name": f"{number}.png",
                    "segments_info": [
                        {
                            "id": id_,
                            "category_id": id_ * 10,
                            "iscrowd": 0,
                            "area": int((ids == id_).sum()),
                            "bbox": [0, 0 if id_ == 1 else 10 * number, 48, 10 * number],
                        }
                        for id_ in (1, 2)
                    ],
                }
            )
        categories = [{"id": i, "name": f"class {i}", "isthing": isthing} for i in (10, 20)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (tmp_path / "panoptic.json").write_text(json.dumps(content))
        return f"one_kind_{isthing}"

    yield write
    for name in ("one_kind_0", "one_kind_1"):
        if name in DatasetCatalog.list():
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


@pytest.mark.parametrize("isthing", [0, 1])
def test_trains_evaluates_and_predicts(one_kind, tmp_path, isthing):
    name = one_kind(isthing)
    overrides = [
        *(f"DATASETS.REGISTER.{name}", "['images', 'png', 'panoptic.json']"),
        *("DATASETS.ROOT", str(tmp_path), "OUTPUT_DIR", str(tmp_path / "out")),
        *("DATASETS.TRAIN", f"('{name}',)", "DATASETS.TEST", f"('{name}',)"),
    ]
    (tmp_path / "out").mkdir()
    cfg = setup_cfg(str(REPOSITORY / CONFIG), [*SMALL, *overrides])
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    results = Trainer.test(cfg, trainer.model)
    missing = "PQ_st" if isthing else "PQ_th"
    assert 0 <= results["panoptic_seg"]["PQ"] <= 100
    assert np.isnan(results["panoptic_seg"][missing])

    weights = ["MODEL.WEIGHTS", str(tmp_path / "out/model_final.pth")]
    predictor = Predictor(setup_cfg(str(REPOSITORY / CONFIG), [*SMALL, *overrides, *weights]))
    output = predictor(np.zeros((32, 48, 3), np.uint8))
    _, infos = output["panoptic_seg"]
    assert infos and {info["isthing"] for info in infos} == {bool(isthing)}
    assert len(output["instances"]) == (12 if isthing else 0)
