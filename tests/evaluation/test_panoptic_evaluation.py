"""Hand-computed PQ of one 4x6 image (see `tiny_dataset`), and of broken predictions."""

import json
import math
import re
from threading import Event, Timer

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from panoptic_maps import CATEGORIES, random_pair, write_files
from two_processes import on_two_processes

from detr_d2.data import register_panoptic_dataset
from detr_d2.data.panoptic_map import read_panoptic_png
from detr_d2.errors import UserError
from detr_d2.evaluation.panoptic_evaluation import PanopticEvaluator
from detr_d2.evaluation.panoptic_files import PanopticGroundTruth, evaluate_files


@pytest.fixture
def evaluator_of(tiny_dataset, tmp_path):
    """Of the dataset as it is when this is called."""
    folder, _ = tiny_dataset
    registered = []

    def evaluator_of():
        paths = (folder / "images", folder / "panoptic", folder / "panoptic.json")
        register_panoptic_dataset("judged", *map(str, paths))
        registered.append("judged")
        return PanopticEvaluator("judged", str(tmp_path / "out"))

    yield evaluator_of
    for name in registered:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


INPUTS = [{"image_id": 5, "file_name": "a.png"}]


@pytest.fixture
def evaluate(evaluator_of):
    def evaluate(panoptic_seg, segments_info):
        evaluator = evaluator_of()
        seg = torch.as_tensor(panoptic_seg)
        evaluator.process(INPUTS, [{"panoptic_seg": (seg, segments_info)}])
        return evaluator.evaluate()["panoptic_seg"]

    return evaluate


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


def hold(evaluator, monkeypatch) -> tuple[Event, Event]:
    """Let comparing wait; gives what says that it has begun, and what lets it go on."""
    begun, go_on, match = Event(), Event(), evaluator._truth.match

    def match_later(*arguments):
        begun.set()
        assert go_on.wait(60)
        return match(*arguments)

    monkeypatch.setattr(evaluator._truth, "match", match_later)
    return begun, go_on


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_a_map_may_change_once_it_was_given(evaluator_of, monkeypatch, dtype):
    evaluator, seg = evaluator_of(), torch.tensor(PREDICTION, dtype=dtype)
    _, changed = hold(evaluator, monkeypatch)
    evaluator.process(INPUTS, [{"panoptic_seg": (seg, [CAR, ROAD])}])
    seg.zero_()
    changed.set()
    assert evaluator.evaluate()["panoptic_seg"]["PQ"] == pytest.approx(82.5)


def test_starting_anew_waits_for_what_has_begun(evaluator_of, monkeypatch, tmp_path):
    evaluator = evaluator_of()
    begun, go_on = hold(evaluator, monkeypatch)
    old = torch.tensor(PREDICTION) * 3
    evaluator.process(INPUTS, [{"panoptic_seg": (old, [{**CAR, "id": 3}, {**ROAD, "id": 6}])}])
    assert begun.wait(60)
    Timer(0.2, go_on.set).start()
    evaluator.reset()
    assert go_on.is_set()
    evaluator.process(INPUTS, [{"panoptic_seg": (torch.tensor(PREDICTION), [CAR, ROAD])}])
    assert evaluator.evaluate()["panoptic_seg"]["PQ"] == pytest.approx(82.5)
    written = read_panoptic_png(str(tmp_path / "out" / "panoptic" / "a.png"))
    assert written.tolist() == PREDICTION


def test_few_maps_wait_to_be_compared(evaluator_of):
    evaluator = evaluator_of()
    for _ in range(30):
        evaluator.process(INPUTS, [{"panoptic_seg": (torch.tensor(PREDICTION), [CAR, ROAD])}])
        assert len(evaluator._pending) <= 8
    with pytest.raises(UserError, match="more than once, image 5"):
        evaluator.evaluate()
    evaluator.reset()
    evaluator.process(INPUTS, [{"panoptic_seg": (torch.tensor(PREDICTION), [CAR, ROAD])}])
    assert evaluator.evaluate()["panoptic_seg"]["PQ"] == pytest.approx(82.5)


def test_what_goes_wrong_in_a_thread_is_said(evaluator_of):
    evaluator = evaluator_of()
    seg = torch.tensor(PREDICTION)[:, :5]
    evaluator.process(INPUTS, [{"panoptic_seg": (seg, [CAR, ROAD])}])
    with pytest.raises(UserError, match="image 5: the prediction is 5 x 4 pixels"):
        evaluator.evaluate()


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


@pytest.mark.parametrize("yes, no", [(np.bool_(True), np.bool_(False)), (1, 0)])
def test_isthing_may_be_a_number(evaluate, yes, no):
    assert evaluate(PREDICTION, [{**CAR, "isthing": yes}, {**ROAD, "isthing": no}])["PQ"] > 80


def test_a_score_may_be_a_tensor(evaluate, tmp_path):
    evaluate(PREDICTION, [{**CAR, "score": torch.tensor(0.5)}, ROAD])
    predictions = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert predictions["annotations"][0]["segments_info"][0]["score"] == 0.5


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_a_map_may_have_any_integer_type(evaluate, dtype):
    assert evaluate(torch.tensor(PREDICTION, dtype=dtype), [CAR, ROAD])["PQ"] == pytest.approx(82.5)


@pytest.mark.parametrize("changed", [torch.tensor(PREDICTION) * 0.5, torch.full((4, 6), 2**24)])
def test_a_map_that_no_png_can_hold_is_refused(evaluate, changed):
    with pytest.raises(UserError, match=r"Image 5: .* integers below 2\^24"):
        evaluate(changed, [CAR, ROAD])


def test_segments_without_pixels_and_pixels_without_a_segment(evaluate, tmp_path):
    results = evaluate(PREDICTION, [CAR, {**ROAD, "id": 6}])
    assert (results["PQ-car"], results["PQ-road"]) == pytest.approx((75, 0))
    out = tmp_path / "out"
    written = json.loads((out / "predictions.json").read_text())["annotations"][0]
    assert [info["id"] for info in written["segments_info"]] == [1]
    assert np.unique(read_panoptic_png(str(out / "panoptic" / "a.png"))).tolist() == [0, 1]
    assert len(json.loads((out / "panoptic_quality.json").read_text())["remarks"]) == 2


def test_ground_truth_without_iscrowd_and_with_wrong_areas(evaluate, tiny_dataset):
    _, write = tiny_dataset
    annotation = write()["annotations"][0]
    for info in annotation["segments_info"]:
        del info["iscrowd"]
        info["area"] /= 10
    write(annotations=[annotation])
    assert evaluate(PREDICTION, [CAR, ROAD])["PQ"] == pytest.approx(82.5)


def test_a_class_that_the_dataset_does_not_have_is_named(evaluate):
    with pytest.raises(UserError, match="image 5: the model found the class 7 as stuff"):
        evaluate(PREDICTION, [CAR, {**ROAD, "category_id": 7}])


def test_the_json_holds_the_table(evaluate, tmp_path):
    results = evaluate(PREDICTION, [CAR, ROAD])
    report = json.loads((tmp_path / "out" / "panoptic_quality.json").read_text())
    assert 100 * report["averages"]["all"]["pq"] == pytest.approx(results["PQ"])
    assert report["averages"]["large"]["pq"] is None and math.isnan(results["PQ_large"])
    assert results["PQ_small"] == pytest.approx(82.5)
    (image,) = report["images"]
    assert (image["image_id"], image["tp"], image["fp"], image["fn"]) == (5, 2, 0, 0)
    road = {c["name"]: c for c in report["classes"]}["road"]
    assert (road["pq"], road["tp"], road["isthing"]) == (pytest.approx(0.9), 1, False)


@pytest.fixture
def street(tmp_path):
    """Four images in sub-folders whose base names are equal, and predictions of them."""
    rng = np.random.default_rng(1)
    pairs = [random_pair(rng, 30, 50) for _ in range(4)]
    paths = write_files(tmp_path / "street", pairs, "{}/same.png")
    return paths, pairs


def process(evaluator: PanopticEvaluator, pairs: list[tuple], image_ids: list[int]) -> None:
    classes = {c["id"]: i for i, c in enumerate(CATEGORIES)}  # things come first there as well
    for i in image_ids:
        infos = [
            {
                "id": info["id"],
                "category_id": classes[info["category_id"]],
                "isthing": info["category_id"] < 9,
            }
            for info in pairs[i][3]
        ]
        output = {"panoptic_seg": (torch.from_numpy(pairs[i][2].astype(np.int32)), infos)}
        evaluator.process([{"image_id": i, "file_name": f"{i}/same.jpg"}], [output])


def evaluate_street(paths, pairs, out: str, image_ids: list[int]):
    if "street" not in DatasetCatalog.list():
        register_panoptic_dataset("street", "images", paths[2], paths[0])
    try:
        evaluator = PanopticEvaluator("street", out)
        process(evaluator, pairs, image_ids)
        return evaluator.evaluate()
    finally:
        DatasetCatalog.remove("street")
        MetadataCatalog.remove("street")


def test_equal_base_names_do_not_overwrite_each_other(street, tmp_path):
    paths, pairs = street
    out = tmp_path / "out"
    results = evaluate_street(paths, pairs, str(out), [0, 1, 2, 3])["panoptic_seg"]
    for i, pair in enumerate(pairs):
        assert (read_panoptic_png(str(out / "panoptic" / str(i) / "same.png")) == pair[2]).all()
    truth = PanopticGroundTruth(paths[0], paths[2])
    written = (str(out / "predictions.json"), str(out / "panoptic"))
    for files in (paths[1::2], written):
        quality, _ = evaluate_files(truth, *files, progress=False)
        assert 100 * quality.per_class().mean().pq == pytest.approx(results["PQ"], abs=1e-9)


@pytest.mark.parametrize(
    "image_ids, sentence",
    [
        ([0, 1, 3], "1 of 4 images of street have no prediction, image 2"),
        ([0, 1, 2, 2, 3], "1 images of street were predicted more than once, image 2"),
    ],
)
def test_incomplete_and_repeated_predictions_are_refused(street, tmp_path, image_ids, sentence):
    with pytest.raises(UserError, match=sentence):
        evaluate_street(*street, str(tmp_path / "out"), image_ids)


@pytest.mark.parametrize(
    "content, sentence",
    [
        ([1], "holds no JSON object"),
        ({"annotations": [1]}, "has no list `annotations`"),
        ({"annotations": [{"image_id": 0, "file_name": "a.png"}]}, "0 has no segments_info"),
        (
            {"annotations": [{"image_id": 0, "file_name": "a.png", "segments_info": [{"id": 1}]}]},
            "image 0: the segment {'id': 1} has no category_id",
        ),
    ],
)
def test_files_that_are_no_predictions_are_named(street, tmp_path, content, sentence):
    paths, _ = street
    (tmp_path / "found.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"found\.json.*" + re.escape(sentence)):
        truth = PanopticGroundTruth(paths[0], paths[2])
        evaluate_files(truth, str(tmp_path / "found.json"), str(tmp_path))
    with pytest.raises(UserError, match=r"found\.json"):
        PanopticGroundTruth(str(tmp_path / "found.json"), str(tmp_path))


def evaluate_half(rank: int, street, out: str):
    return evaluate_street(*street, out, [[0, 2], [1, 3]][rank])


def test_two_processes_score_as_one(street, tmp_path):
    one = evaluate_street(*street, str(tmp_path / "one"), [0, 1, 2, 3])
    two, nothing = on_two_processes(evaluate_half, street, str(tmp_path / "two"))
    assert nothing is None
    assert two["panoptic_seg"] == pytest.approx(one["panoptic_seg"], abs=1e-9, nan_ok=True)
