"""Hand-computed PQ of one 4x6 image (see `tiny_dataset`), and of broken predictions."""

import math

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from detr_d2.data import register_panoptic_dataset
from detr_d2.errors import UserError
from detr_d2.evaluation.panoptic_evaluation import PanopticEvaluator


@pytest.fixture
def evaluate(tiny_dataset, tmp_path):
    folder, _ = tiny_dataset
    registered = []

    def evaluate(panoptic_seg, segments_info):
        paths = (folder / "images", folder / "panoptic", folder / "panoptic.json")
        register_panoptic_dataset("judged", *map(str, paths))
        registered.append("judged")
        evaluator = PanopticEvaluator("judged", str(tmp_path / "out"))
        evaluator.reset()
        seg = torch.tensor(panoptic_seg, dtype=torch.int32)
        inputs = [{"image_id": 5, "file_name": "a.png"}]
        evaluator.process(inputs, [{"panoptic_seg": (seg, segments_info)}])
        return evaluator.evaluate()["panoptic_seg"]

    yield evaluate
    for name in registered:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


CAR = {"id": 1, "category_id": 0, "isthing": True, "score": 0.9, "area": 3}
ROAD = {"id": 2, "category_id": 1, "isthing": False, "score": 0.9, "area": 9}
# The car has 4 pixels, the road 10. Found: 3 of the car's; 9 of the road's and 1 on VOID.
PREDICTION = [
    [0, 0, 0, 0, 0, 2],
    [0, 1, 1, 0, 0, 0],
    [2, 1, 0, 2, 2, 2],
    [2, 2, 2, 2, 2, 0],
]


def test_quality_by_hand(evaluate):
    results = evaluate(PREDICTION, [CAR, ROAD])
    # IoU of the car 3 / 4, of the road 9 / 10: pixels on VOID do not count.
    assert results["PQ_th"] == pytest.approx(75)
    assert results["PQ_st"] == pytest.approx(90)
    assert results["PQ"] == pytest.approx(82.5)
    assert (results["RQ"], results["SQ"]) == pytest.approx((100, 82.5))
    assert (results["PQ-car"], results["PQ-road"]) == pytest.approx((75, 90))


def test_the_wrong_class_is_a_miss_and_a_false_alarm(evaluate):
    results = evaluate(PREDICTION, [{**CAR, "category_id": 1, "isthing": False}, ROAD])
    # Car: 1 miss. Road: 1 hit of IoU 0.9 and 1 false alarm: 0.9 / (1 + 1/2) = 0.6.
    assert (results["PQ-car"], results["PQ-road"]) == pytest.approx((0, 60))


def test_no_prediction_in_the_image(evaluate):
    assert evaluate([[0] * 6] * 4, [])["PQ"] == 0


def test_outputs_are_left_as_they_were(evaluate):
    infos = [dict(CAR), dict(ROAD)]
    evaluate(PREDICTION, infos)
    assert infos == [CAR, ROAD]


def test_a_dataset_without_stuff(evaluate, tiny_dataset):
    _, write = tiny_dataset
    content = write()
    categories = [{**c, "isthing": 1} for c in content["categories"]]
    write(categories=categories)
    results = evaluate(PREDICTION, [CAR, {**ROAD, "isthing": True}])
    # All are things now, so contiguous classes are by id: car 3, road 9.
    assert results["PQ"] == results["PQ_th"] == pytest.approx(82.5)
    assert math.isnan(results["PQ_st"])


def test_images_without_prediction_are_named(tiny_dataset, tmp_path):
    folder, _ = tiny_dataset
    paths = (folder / "images", folder / "panoptic", folder / "panoptic.json")
    register_panoptic_dataset("unjudged", *map(str, paths))
    try:
        evaluator = PanopticEvaluator("unjudged", str(tmp_path / "out"))
        evaluator.reset()
        with pytest.raises(UserError, match=r"1 of 1 images .* no prediction, image 5"):
            evaluator.evaluate()
    finally:
        DatasetCatalog.remove("unjudged")
        MetadataCatalog.remove("unjudged")
