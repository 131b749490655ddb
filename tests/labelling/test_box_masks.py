"""`prepare_dataset.py boxes`, from a person's boxes to masks."""

import json
from pathlib import Path

import numpy as np
import pytest
from panoptic_png import rgb2id
from PIL import Image
from pycocotools import mask as coco_mask

from detr_d2.labelling import box_masks

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = REPOSITORY / "configs/Shapes-PanopticSegmentation/panoptic_detr_R_18_narrow_dc5.yaml"
WEIGHTS = CONFIG.parent / "checkpoint/panoptic_detr_R_18_narrow_dc5.pth"
THINGS = 4  # of the shapes' categories, the first are things


@pytest.fixture
def instances(shapes) -> dict:
    """The things of the shapes, boxes and masks."""
    content = json.loads((shapes / "panoptic_val.json").read_text())
    annotations = []
    for annotation in content["annotations"]:
        ids = rgb2id(np.asarray(Image.open(shapes / "panoptic_val" / annotation["file_name"])))
        for info in annotation["segments_info"]:
            if info["category_id"] <= THINGS:
                run = coco_mask.encode(np.asfortranarray(ids == info["id"], dtype=np.uint8))
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": annotation["image_id"],
                        "category_id": info["category_id"],
                        "bbox": info["bbox"],
                        "segmentation": {**run, "counts": run["counts"].decode()},
                    }
                )
    categories = [c for c in content["categories"] if c["isthing"]]
    return {"images": content["images"], "annotations": annotations, "categories": categories}


@pytest.fixture
def boxes(run_tool, shapes, tmp_path):
    """A function that runs the tool on a JSON."""

    def run(content, *options, weights=WEIGHTS, config=CONFIG):
        (tmp_path / "boxes.json").write_text(json.dumps(content))
        return run_tool(
            *("prepare_dataset", "boxes", "--image-root", shapes / "val"),
            *("--instances-json", tmp_path / "boxes.json", "--config-file", config),
            *(*(options or ("--output", tmp_path / "out")), "MODEL.WEIGHTS", weights),
        )

    return run


def without_masks(content) -> dict:
    annotations = [
        {k: v for k, v in a.items() if k != "segmentation"} for a in content["annotations"]
    ]
    return {**content, "annotations": annotations}


def iou(one: dict, other: dict) -> float:
    return float(coco_mask.iou([one["segmentation"]], [other["segmentation"]], [0])[0, 0])


def test_the_shipped_model_draws_the_masks_that_were_withheld(boxes, instances, tmp_path):
    code, text = boxes(without_masks(instances))
    assert code is None, code
    number = len(instances["annotations"])
    assert f"Drew {number} masks" in text
    drawn = json.loads((tmp_path / "out/instances_train.json").read_text())
    assert drawn["images"] == instances["images"]
    ious = [iou(*pair) for pair in zip(drawn["annotations"], instances["annotations"])]
    assert np.median(ious) > 0.8
    for annotation, true in zip(drawn["annotations"], instances["annotations"]):
        x, y, w, h = annotation["bbox"]
        mask = coco_mask.decode(annotation["segmentation"])
        assert annotation["bbox"] == true["bbox"] and annotation["area"] == mask.sum() > 0
        assert mask[y : y + h, x : x + w].sum() == mask.sum()  # it ends with the box


def test_masks_that_are_there_stay_and_are_compared(boxes, instances, tmp_path):
    """With --compare, nothing is written, and the table has each class, and all."""
    some = {**instances, "annotations": [dict(a) for a in instances["annotations"]]}
    del some["annotations"][0]["segmentation"]
    code, text = boxes(some)
    assert code is None and "Drew 1 masks" in text
    drawn = json.loads((tmp_path / "out/instances_train.json").read_text())["annotations"]
    assert [a["segmentation"] for a in drawn[1:]] == [
        a["segmentation"] for a in some["annotations"][1:]
    ]
    code, text = boxes(some, "--compare")
    assert code is None and len(list(tmp_path.rglob("*.json"))) == 2
    row = next(line.split() for line in text.splitlines() if line.startswith("all"))
    assert int(row[1]) == len(drawn) - 1 and float(row[2]) > 0.6


def test_a_box_in_which_the_model_sees_nothing_is_the_mask(boxes, instances, monkeypatch, tmp_path):
    class Blind(box_masks.BoxMasks):
        def __call__(self, image, given, names):
            return np.zeros((len(given), *image.shape[:2]), dtype=bool)

    monkeypatch.setattr("detr_d2.labelling.BoxMasks", Blind)
    content = without_masks(instances)
    content["annotations"] = content["annotations"][:1]
    content["annotations"][0]["bbox"] = [-2.0, 3.5, 6.2, 4.0]
    code, text = boxes(content)
    assert code is None and "In 1 of the boxes the model sees nothing" in text
    (drawn,) = json.loads((tmp_path / "out/instances_train.json").read_text())["annotations"]
    y, x = coco_mask.decode(drawn["segmentation"]).nonzero()
    assert (x.min(), x.max(), y.min(), y.max()) == (0, 4, 3, 7)
    assert drawn["area"] == len(x) == 25


def test_classes_that_the_model_does_not_know_are_drawn_as_well(boxes, instances, tmp_path):
    content = without_masks(instances)
    content["categories"] = [{**c, "name": f"my {c['name']}"} for c in content["categories"]]
    assert boxes(content)[0] is None
    drawn = json.loads((tmp_path / "out/instances_train.json").read_text())
    ious = [iou(*pair) for pair in zip(drawn["annotations"], instances["annotations"])]
    assert np.median(ious) > 0.7


WRONG = {
    "no box": (("bbox", None), "annotation 1 has the bbox None: give [x, y, width, height]"),
    "no side": (("bbox", [3, 3, 0, 5]), "has the bbox [3, 3, 0, 5]"),
    "text": (("bbox", [3, 3, "9", 5]), "has the bbox [3, 3, '9', 5]"),
    "outside": (("bbox", [500, 3, 9, 5]), "has some of them in its image"),
    "image": (("image_id", 99), "annotation 1 is of image 99, which is not in `images`"),
    "category": (("category_id", 99), "annotation 1 has category 99"),
}


@pytest.mark.parametrize("change, sentence", WRONG.values(), ids=WRONG)
def test_a_wrong_annotation_is_one_sentence(boxes, instances, tmp_path, change, sentence):
    content = without_masks(instances)
    key, value = change
    content["annotations"][0][key] = value
    code, _ = boxes(content)
    assert sentence in code and "\n" not in code
    assert not (tmp_path / "out").exists()


def test_other_bad_input_is_one_sentence(boxes, instances, tmp_path):
    fpn = REPOSITORY / "configs/Shapes-PanopticSegmentation/panoptic_fpn_R_18_narrow.yaml"
    assert "nothing to draw" in boxes(instances)[0]
    assert "has no list annotations" in boxes({"images": [], "categories": []})[0]
    assert "nothing is compared" in boxes(without_masks(instances), "--compare")[0]
    assert "no weights" in boxes(without_masks(instances), weights="")[0]
    assert "draws no masks of given boxes" in boxes(without_masks(instances), config=fpn)[0]
    wrong_size = without_masks(instances)
    wrong_size["images"] = [{**i, "width": i["width"] + 1} for i in wrong_size["images"]]
    assert "but the JSON says" in boxes(wrong_size)[0]
    assert not (tmp_path / "out").exists()
    boxes(without_masks(instances))
    assert "exists already" in boxes(without_masks(instances))[0]
