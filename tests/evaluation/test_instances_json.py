"""AP is the same from the panoptic dataset alone and from an instances JSON of equal content."""

import json

import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from test_thing_evaluation import perfect_instances

from detr_d2.evaluation.thing_evaluation import ThingEvaluator, things_ground_truth

DATASET = "shapes_panoptic_val"


def draw_predictions():
    """(input, output) of each image: some right, some displaced, some missing."""
    predictions = []
    for dataset_dict in DatasetCatalog.get(DATASET):
        instances = perfect_instances(dataset_dict)
        instances.scores = torch.rand(len(instances))
        displaced = torch.rand(len(instances)) < 0.4
        instances.pred_boxes.tensor[displaced] += 4
        instances.pred_masks[displaced] = instances.pred_masks[displaced].roll(4, dims=-1)
        instances = instances[torch.rand(len(instances)) < 0.9]
        predictions.append(({"image_id": dataset_dict["image_id"]}, {"instances": instances}))
    return predictions


def evaluate(predictions, folder):
    evaluator = ThingEvaluator(DATASET, ("bbox", "segm"), str(folder))
    evaluator.reset()
    for input_, output in predictions:
        evaluator.process([input_], [output])
    return {task: results["AP"] for task, results in evaluator.evaluate().items()}


def test_both_ground_truths_give_the_same_ap(shapes, tmp_path, monkeypatch):
    predictions = draw_predictions()
    alone = evaluate(predictions, tmp_path / "alone")
    assert 5 < alone["bbox"] < 95 and 5 < alone["segm"] < 95

    content = things_ground_truth(DATASET)
    content["annotations"].reverse()
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(content))
    monkeypatch.setattr(MetadataCatalog.get(DATASET), "json_file", str(file), raising=False)
    assert evaluate(predictions, tmp_path / "from_json") == alone
    assert not (tmp_path / "from_json" / "things_ground_truth.json").exists()

    # The JSON is what is read: where its classes are others, little is right.
    classes = [category["id"] for category in content["categories"]]
    other = dict(zip(classes, classes[1:] + classes[:1]))
    for annotation in content["annotations"]:
        annotation["category_id"] = other[annotation["category_id"]]
    file.write_text(json.dumps(content))
    assert evaluate(predictions, tmp_path / "other")["bbox"] < alone["bbox"] / 2
