"""`prepare_dataset.py autolabel`, from a person's things to a panoptic dataset."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from panoptic_png import rgb2id
from PIL import Image
from pycocotools import mask as coco_mask

from detr_d2.data.panoptic_map import read_panoptic_png
from detr_d2.labelling import model_labels

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = REPOSITORY / "configs/Shapes-PanopticSegmentation/panoptic_detr_R_18_narrow_dc5.yaml"
WEIGHTS = CONFIG.parent / "checkpoint/panoptic_detr_R_18_narrow_dc5.pth"
THINGS = 4  # of the shapes' contiguous classes, the first are things


class Stripes:
    """A model that finds a star (score 0.9) on the left half and dots (0.6) on the right."""

    runs: list[int] = []  # images of each run

    def __init__(self, cfg):
        pass

    def __call__(self, images):
        self.runs.append(len(images))
        return [{"panoptic_seg": self.found(image)} for image in images]

    def found(self, image):
        height, width = image.shape[:2]
        found_map = torch.ones(height, width, dtype=torch.int32)
        found_map[:, width // 2 :] = 2
        star = {"id": 1, "category_id": 3, "isthing": True, "score": 0.9, "area": 1}
        return found_map, [star, {"id": 2, "category_id": 6, "isthing": False, "score": 0.6}]


@pytest.fixture
def stripes(monkeypatch):
    """The runs of a `Stripes`, in the place of a trained model."""
    monkeypatch.setattr(Stripes, "runs", [])
    monkeypatch.setattr(model_labels, "Predictor", Stripes)
    return Stripes.runs


@pytest.fixture
def autolabel(run_tool, shapes, tmp_path):
    """A function that runs the tool on shapes whose stuff is withheld."""
    write_things(shapes, tmp_path / "things.json")

    def autolabel(*options, weights=WEIGHTS, annotated=None, config=CONFIG):
        annotated = annotated or ("--instances-json", tmp_path / "things.json")
        return run_tool(
            *("prepare_dataset", "autolabel", "--image-root", shapes / "val", *annotated),
            *("--config-file", config, "--output", tmp_path / "out", "--workers", 1),
            *(*options, "MODEL.WEIGHTS", weights),
        )

    return autolabel


def write_things(shapes, path, **changes) -> None:
    """An instances JSON of the things of all but the last image."""
    content = json.loads((shapes / "panoptic_val.json").read_text())
    annotations = []
    for annotation in content["annotations"][:-1]:
        ids = read_panoptic_png(shapes / "panoptic_val" / annotation["file_name"])
        for info in annotation["segments_info"]:
            if info["category_id"] <= THINGS:
                run = coco_mask.encode(np.asfortranarray(ids == info["id"], dtype=np.uint8))
                segmentation = {"size": run["size"], "counts": run["counts"].decode()}
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": annotation["image_id"],
                        "category_id": info["category_id"],
                        "segmentation": segmentation,
                    }
                )
    categories = [c for c in content["categories"] if c["isthing"]]
    parts = {"images": content["images"], "annotations": annotations, "categories": categories}
    path.write_text(json.dumps({**parts, **changes}))


def read(folder, name="train") -> tuple[dict, list[tuple[np.ndarray, list[dict]]]]:
    """The JSON, and of each image the ids and the segments."""
    content = json.loads((folder / f"panoptic_{name}.json").read_text())
    found = []
    for annotation in content["annotations"]:
        png = folder / f"panoptic_{name}" / annotation["file_name"]
        found.append((rgb2id(np.asarray(Image.open(png))), annotation["segments_info"]))
    return content, found


def is_as_annotated(shapes, found) -> bool:
    """Every thing of the truth is there, to the pixel, as a person's; but not of the last image."""
    _, truth = read(shapes, "val")
    for (true_ids, true_infos), (ids, infos) in zip(truth[:-1], found):
        for info in true_infos:
            if info["category_id"] <= THINGS:
                (there,) = np.unique(ids[true_ids == info["id"]])
                (segment,) = (s for s in infos if s["id"] == there)
                assert (segment["category_id"], segment["source"]) == (info["category_id"], "human")
                assert segment["area"] == (true_ids == info["id"]).sum()
    return True


def test_the_shipped_model_gives_the_stuff_that_was_withheld(autolabel, shapes, tmp_path):
    code, text = autolabel("--take-stuff")
    assert code is None, code
    assert "1 of 6 images have no annotation" in text and "stripes: stripes  # new" in text
    content, found = read(tmp_path / "out")
    names = {c["id"]: c["name"] for c in content["categories"]}
    assert is_as_annotated(shapes, found)
    true_content, truth = read(shapes, "val")
    true_names = {c["id"]: c["name"] for c in true_content["categories"]}
    right = pixels = 0
    for (true_ids, true_infos), (ids, infos) in zip(truth, found):
        for info in true_infos:
            if info["category_id"] > THINGS:
                there = ids[true_ids == info["id"]]
                of_class = [
                    s["id"]
                    for s in infos
                    if names[s["category_id"]] == true_names[info["category_id"]]
                ]
                right += np.isin(there, of_class).sum()
                pixels += there.size
        for info in infos:
            if info["category_id"] > THINGS:
                assert info["source"] == "model" and 0.5 < info["score"] <= 1
    assert right / pixels > 0.9


def test_a_second_run_takes_what_the_model_found_before(autolabel, stripes, tmp_path):
    code, _ = autolabel("--take-stuff", "--batch-size", 4)
    assert code is None and stripes == [4, 2]
    _, before = read(tmp_path / "out")
    kept = sorted((tmp_path / "out/predictions").glob("*.json"))
    kept[2].unlink()  # as if it had been interrupted there
    code, _ = autolabel("--take-stuff", "--name", "again")
    assert code is None and stripes == [4, 2, 1]
    _, after = read(tmp_path / "out", "again")
    for one, other in zip(before, after):
        assert (one[0] == other[0]).all() and one[1] == other[1]
    code, _ = autolabel("--take-stuff", "--name", "dots", "--least-score", 0.7)
    assert code is None and stripes == [4, 2, 1]
    _, found = read(tmp_path / "out", "dots")
    assert all(s["source"] == "human" for _, infos in found for s in infos)


def test_another_model_does_not_go_on(autolabel, stripes, tmp_path):
    autolabel("--take-stuff")
    code, _ = autolabel("--take-stuff", "--name", "b", "INPUT.MIN_SIZE_TEST", 64)
    assert "predictions has what another model, other settings or other images gave" in code
    assert not (tmp_path / "out/panoptic_b.json").exists()


def test_classes_are_proposed_and_mapped(autolabel, stripes, shapes, tmp_path):
    file = tmp_path / "classes.yaml"
    code, text = autolabel("--propose", file)
    assert code is None and file.read_text() in text and stripes == []
    assert "star: star  # yours" in text and "dots: dots  # new" in text
    code, _ = autolabel("--propose", file)
    assert "classes.yaml exists already" in code
    file.write_text("star: {to: background, isthing: 0}\ndots: background\n")
    code, _ = autolabel("--classes", file, "--most-lost", 1)
    assert code is None
    content, found = read(tmp_path / "out")
    (new,) = content["categories"][THINGS:]
    assert (new["name"], new["isthing"]) == ("background", 0)
    assert is_as_annotated(shapes, found)
    for ids, infos in found:
        assert ids.all() and [s["score"] for s in infos if s["category_id"] == new["id"]] == [0.6]


def test_a_panoptic_dataset_is_filled_again(autolabel, stripes, shapes, tmp_path):
    autolabel("--take-stuff")
    out = tmp_path / "out"
    paths = ("--panoptic-json", out / "panoptic_train.json", "--panoptic-root")
    annotated = (*paths, out / "panoptic_train")
    code, _ = autolabel("--take", "star", "--name", "b", annotated=annotated)
    assert code is None
    content, found = read(out, "b")
    star = next(c["id"] for c in content["categories"] if c["name"] == "star")
    assert is_as_annotated(shapes, found)
    assert {s["category_id"] for _, infos in found for s in infos if s["source"] == "model"} <= {
        star
    }
    code, _ = autolabel("--take-things", annotated=paths[:2])
    assert "--panoptic-json needs --panoptic-root" in code


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ((), "Nothing says which classes of the model to take"),
        (("--take", "lorry", "--limit", 1), "There is no class lorry: the classes are circle"),
        (("--take-stuff", "--annotated-as-stored"), "convert the annotations first"),
        (("--take-stuff", "--classes", "none.yaml"), "none.yaml cannot be read as a list of"),
        (("--take-stuff", "--most-lost", 2), "--most-lost 2 is no share"),
        (("--take-stuff", "--workers", 0), "--workers 0 cannot do any work"),
        (("--take-stuff", "MODEL.META_ARCHITECTURE", "DETR"), "DETR gives no segments"),
    ],
)
def test_bad_options_are_one_sentence(autolabel, stripes, tmp_path, options, sentence):
    code, _ = autolabel(*options)
    assert sentence in code and "\n" not in code
    assert stripes == [] and not list((tmp_path / "out").glob("panoptic*"))


def test_a_model_that_does_not_fit(autolabel, stripes, tmp_path):
    code, _ = autolabel("--take-stuff", weights="")
    assert "The model has no weights" in code
    other = ("DATASETS.TRAIN", "()", "DATASETS.TEST", "('coco_2017_val_panoptic',)")
    code, _ = autolabel("--take-stuff", "MODEL.DETR.NUM_CLASSES", 133, *other)
    assert "pth does not know 133 of the 133 classes of dataset coco_2017_val_panoptic" in code
    code, _ = autolabel("--take-stuff", weights=tmp_path / "none.pth")
    assert "none.pth" in code and "\n" not in code
    assert stripes == []


def test_an_image_that_is_not_there(autolabel, stripes, shapes, tmp_path):
    content = json.loads((tmp_path / "things.json").read_text())
    missing = {"id": 99, "file_name": "gone.jpg", "height": 96, "width": 96}
    write_things(shapes, tmp_path / "things.json", images=[missing, *content["images"]])
    code, _ = autolabel("--take-stuff")
    assert "gone.jpg (image 99) does not exist" in code and "\n" not in code
    assert not list((tmp_path / "out").glob("panoptic*"))
    code, text = autolabel("--take-stuff", "--skip-bad")
    assert code is None and "Wrote 6 images" in text and "left out: " in text


class Others(Stripes):
    """A second model: stars everywhere."""

    def found(self, image):
        found_map, found = super().found(image)
        return found_map, [found[0], {**found[1], "category_id": 3}]


def test_where_a_second_model_disagrees_is_kept(autolabel, stripes, monkeypatch, tmp_path):
    monkeypatch.setattr(model_labels, "Predictor", Others)
    code, _ = autolabel("--take-stuff", "--take-things", "--output", tmp_path / "other")
    assert code is None
    monkeypatch.setattr(model_labels, "Predictor", Stripes)
    second = tmp_path / "other/predictions"
    code, _ = autolabel("--take-stuff", "--take-things", "--second", second)
    assert code is None
    content, found = read(tmp_path / "out")
    star = next(c["id"] for c in content["categories"] if c["name"] == "star")
    of_model = [s for _, infos in found for s in infos if s["source"] == "model"]
    assert {s["category_id"] == star for s in of_model} == {True, False}
    for info in of_model:
        assert info["agreement"] == (1.0 if info["category_id"] == star else 0.0)
    code, _ = autolabel("--take", "dots", "--name", "b", "--second", tmp_path)
    assert "model.json" in code and "\n" not in code
    sorted(second.glob("[!m]*.json"))[0].unlink()
    code, _ = autolabel("--take-stuff", "--name", "c", "--second", second)
    assert "predictions has nothing of image" in code and "\n" not in code
    (second / "model.json").write_text("{}")
    code, _ = autolabel("--take-stuff", "--name", "d", "--second", second)
    assert "model.json lists no classes" in code
