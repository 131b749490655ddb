"""Segments that no person has seen are left out of an evaluation, where that is asked."""

import json

import numpy as np
import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog

from detr_d2 import add_detr_config
from detr_d2.data import register_panoptic_dataset
from detr_d2.evaluation.build import build_evaluator
from detr_d2.evaluation.panoptic_files import PanopticGroundTruth
from detr_d2.evaluation.thing_evaluation import things_ground_truth

CAR = {"id": 1, "category_id": 3}
ROAD = {"id": 2, "category_id": 9}


@pytest.mark.parametrize("found", [3, 1])  # pixels of the model's car that the prediction finds
def test_a_models_segment_is_neither_missed_nor_found_nor_wrong(half_seen, found):
    found_map = np.zeros((4, 6), dtype=np.int32)
    found_map[2:] = 2
    found_map[2, 1:3] = 0
    found_map[[1, 1, 2], [1, 2, 1]] = 1
    if found == 1:
        found_map[1, 1:3] = 0
    paths = str(half_seen / "panoptic.json"), str(half_seen / "panoptic")
    counts = {}
    for ignore in (False, True):
        truth = PanopticGroundTruth(*paths, ignore_model_labels=ignore)
        match = truth.match(5, found_map, [CAR, ROAD]).match
        assert not match.remarks
        hits = int(match.hits.sum())
        counts[ignore] = (hits, int(match.missed.sum()), int(match.false.sum()))
    assert counts[False] == ((2, 0, 0) if found == 3 else (1, 1, 1))
    assert counts[True] == (1, 0, 0)


def test_the_key_reaches_both_evaluators(half_seen, tmp_path):
    paths = (half_seen / "images", half_seen / "panoptic", half_seen / "panoptic.json")
    register_panoptic_dataset("half_seen", *map(str, paths))
    try:
        (thing,) = things_ground_truth("half_seen")["annotations"]
        assert thing["iscrowd"] == 0
        cfg = get_cfg()
        add_detr_config(cfg)
        cfg.merge_from_list(["OUTPUT_DIR", str(tmp_path), "TEST.IGNORE_MODEL_LABELS", True])
        cfg.MODEL.META_ARCHITECTURE = "PanopticDETR"
        evaluators = build_evaluator(cfg, "half_seen")
        (panoptic, _) = evaluators._evaluators
        assert panoptic._truth.ignore_model_labels
        written = tmp_path / "inference/half_seen/things_ground_truth.json"
        (thing,) = json.loads(written.read_text())["annotations"]
        assert (thing["iscrowd"], thing["area"]) == (1, 4)
    finally:
        DatasetCatalog.remove("half_seen")
        MetadataCatalog.remove("half_seen")
