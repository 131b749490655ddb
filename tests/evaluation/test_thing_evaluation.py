import json

import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, Instances
from pycocotools import mask as coco_mask

from detr_d2.data.panoptic_map import read_panoptic_png
from detr_d2.evaluation.thing_evaluation import ThingEvaluator, things_ground_truth


def test_ground_truth_has_the_things_and_nothing_else(shapes):
    ground_truth = things_ground_truth("shapes_panoptic_val")
    content = json.loads((shapes / "panoptic_val.json").read_text())
    expected = [
        (a["image_id"], s["category_id"], s["area"], s["bbox"])
        for a in content["annotations"]
        for s in a["segments_info"]
        if s["category_id"] < 10
    ]
    annotations = ground_truth["annotations"]
    found = [(a["image_id"], a["category_id"], a["area"], a["bbox"]) for a in annotations]
    assert found == expected
    assert [c["name"] for c in ground_truth["categories"]] == [
        *("circle", "square", "triangle", "star")
    ]


def perfect_instances(dataset_dict) -> Instances:
    """The ground truth, stuff included, as a model would give it."""
    ids = torch.from_numpy(read_panoptic_png(dataset_dict["pan_seg_file_name"]).astype("int64"))
    infos = dataset_dict["segments_info"]
    instances = Instances(tuple(ids.shape))
    instances.pred_masks = torch.stack([ids == i["id"] for i in infos])
    boxes = torch.tensor([i["bbox"] for i in infos], dtype=torch.float32)
    boxes[:, 2:] += boxes[:, :2]
    instances.pred_boxes = Boxes(boxes)
    instances.scores = torch.ones(len(infos))
    instances.pred_classes = torch.tensor([i["category_id"] for i in infos])
    return instances


@pytest.mark.parametrize("found, expected", [(True, 100), (False, 0)])
def test_perfect_predictions_score_100_and_shifted_ones_0(shapes, tmp_path, found, expected):
    evaluator = ThingEvaluator("shapes_panoptic_val", ("bbox", "segm"), str(tmp_path))
    evaluator.reset()
    for dataset_dict in DatasetCatalog.get("shapes_panoptic_val"):
        instances = perfect_instances(dataset_dict)
        if not found:
            instances.pred_boxes.tensor += 1000
            instances.pred_masks = torch.zeros_like(instances.pred_masks)
            instances.pred_masks[:, 0, 0] = True
        evaluator.process([{"image_id": dataset_dict["image_id"]}], [{"instances": instances}])
    results = evaluator.evaluate()
    assert results["bbox"]["AP"] == pytest.approx(expected)
    assert results["segm"]["AP50"] == pytest.approx(expected, abs=2)


def test_masks_of_the_ground_truth_are_those_of_the_png(shapes):
    ground_truth = things_ground_truth("shapes_panoptic_val")
    first = DatasetCatalog.get("shapes_panoptic_val")[0]
    ids = read_panoptic_png(first["pan_seg_file_name"])
    things = [s["id"] for s in first["segments_info"] if s["isthing"]]
    annotations = [a for a in ground_truth["annotations"] if a["image_id"] == first["image_id"]]
    for id_, annotation in zip(things, annotations, strict=True):
        assert (coco_mask.decode(annotation["segmentation"]) == (ids == id_)).all()
