"""The command lines that bring a dataset: prepare it, validate it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detr_d2.engine import setup_cfg

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def labelled(tmp_path) -> Path:
    """Ten images with label maps."""
    random = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for number in range(10):
        pixels = random.integers(0, 256, (6, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"images/{number}.bmp")
        labels = random.integers(0, 3, (6, 9), dtype=np.uint8)
        Image.fromarray(labels).save(tmp_path / f"labels/{number}.png")
    categories = [{"id": 1, "name": "road", "isthing": 0}, {"id": 2, "name": "car", "isthing": 1}]
    (tmp_path / "categories.json").write_text(json.dumps(categories))
    return tmp_path


def prepare(run_tool, folder, *arguments):
    return run_tool(
        *("prepare_dataset", "labels", "--image-root", folder / "images"),
        *("--label-root", folder / "labels", "--categories", folder / "categories.json"),
        *("--connected-things", 1, "--output", folder / "out", "--workers", 1, *arguments),
    )


def paths_of(folder, split):
    out = folder / "out"
    return (
        *("--image-root", folder / "images", "--panoptic-root", out / f"panoptic_{split}"),
        *("--panoptic-json", out / f"panoptic_{split}.json", "--workers", 1),
    )


def test_from_label_maps_to_a_configuration(run_tool, labelled):
    code, text = prepare(run_tool, labelled, "--val-share", 0.3)
    assert code is None
    assert "7 images have the label 0, of no category: VOID." in text
    assert "Wrote 3 images, 2 classes" in text

    against = ("--against", labelled / "images", labelled / "out/panoptic_train.json")
    code, text = run_tool("validate_dataset", *paths_of(labelled, "val"), *against)
    assert code == 0 and "Nothing is wrong." in text

    # The printed lines are a configuration.
    yaml = text.split("In a configuration:\n")[1].split("\nOr on the command line")[0]
    base = REPOSITORY / "configs/Shapes-PanopticSegmentation/panoptic_detr_R_18_narrow_dc5.yaml"
    (labelled / "own.yaml").write_text(f'_BASE_: "{base}"\n{yaml}  TEST: ()\n')
    cfg = setup_cfg(str(labelled / "own.yaml"))
    assert (cfg.MODEL.DETR.NUM_CLASSES, cfg.DATASETS.TRAIN) == (2, ("out_val",))


def test_wrong_data_exits_with_1_until_it_is_fixed(run_tool, labelled):
    prepare(run_tool, labelled)
    json_file = labelled / "out/panoptic_train.json"
    content = json.loads(json_file.read_text())
    content["annotations"][0]["segments_info"][0]["area"] += 1
    json_file.write_text(json.dumps(content))
    code, text = run_tool("validate_dataset", *paths_of(labelled, "train"))
    assert code == 1 and "Areas and boxes: 1; --fix puts 1 right" in text
    code, text = run_tool("validate_dataset", *paths_of(labelled, "train"), "--fix")
    assert code == 0 and "Fixed 1 problems" in text
    code, text = run_tool("validate_dataset", *paths_of(labelled, "train"))
    assert code == 0 and "Nothing is wrong." in text


def test_other_classes_from_the_command_line(run_tool, labelled):
    prepare(run_tool, labelled)
    (labelled / "list.txt").write_text("3.bmp\n\n8.bmp\n")
    code, text = run_tool(
        *("prepare_dataset", "panoptic", *paths_of(labelled, "train"), "--name", "some"),
        *("--drop", "car", "--rename", "road=street", "--output", labelled / "out"),
        *("--list", labelled / "list.txt"),
    )
    assert code is None and "Wrote 2 images, 1 classes" in text
    content = json.loads((labelled / "out/panoptic_some.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["3.bmp", "8.bmp"]
    assert content["categories"] == [{"id": 1, "name": "street", "isthing": 0}]


def test_what_was_read_is_counted_and_drawn(run_tool, labelled):
    _, text = prepare(run_tool, labelled)
    content = json.loads((labelled / "out/panoptic_train.json").read_text())
    for category in content["categories"]:
        segments = [
            (a["image_id"], s["area"])
            for a in content["annotations"]
            for s in a["segments_info"]
            if s["category_id"] == category["id"]
        ]
        (row,) = (line.split() for line in text.splitlines() if f" {category['name']} " in line)
        assert row[3:5] == [str(len(segments)), str(len({image for image, _ in segments}))]
        pixels = sum(image["height"] * image["width"] for image in content["images"])
        assert row[-1] == f"{sum(area for _, area in segments) / pixels:.2%}"
    sheet = Image.open(labelled / "out/panoptic_train.jpg")
    assert sheet.size[0] == 2 * 2 * 480 and len(sheet.getcolors(2**24)) > 100


def test_the_picture_of_twelve_bits_is_as_bright_as_white_says(run_tool, labelled):
    for file in [*(labelled / "images").iterdir()]:
        Image.fromarray(np.full((6, 9), 4000, np.uint16)).save(file.with_suffix(".png"))
        file.unlink()
    _, text = prepare(run_tool, labelled, "--name", "dark", "--limit", 2)
    assert "--white" not in text
    _, text = prepare(run_tool, labelled, "--name", "bright", "--limit", 2, "--white", 4095)
    assert text.splitlines()[-1].endswith("--white 4095")
    dark, bright = (
        np.asarray(Image.open(labelled / f"out/panoptic_{name}.jpg").convert("L"))
        for name in ("dark", "bright")
    )
    middle = (dark.shape[0] // 2, dark.shape[1] // 8)  # of the first image
    assert dark[middle] < 30 and bright[middle] > 230


def test_images_that_cannot_be_read_are_not_drawn(run_tool, labelled):
    (labelled / "images/0.bmp").unlink()
    Image.fromarray(np.zeros((6, 9), np.float32)).save(labelled / "images/0.tif")
    (labelled / "labels/4.png").unlink()
    code, text = prepare(run_tool, labelled, "--skip-bad")
    assert code is None and "Wrote 9 images" in text
    (left_out,) = (line for line in text.splitlines() if line.startswith("left out: "))
    assert "labels/4.png (image 5, 4.bmp) does not exist" in left_out
    (warning,) = (line for line in text.splitlines() if line.startswith("warning: "))
    assert "images/0.tif (image 1) has 32 bits a channel" in warning
    assert (labelled / "out/panoptic_train.jpg").is_file()
    assert "Now check it:" in text


def test_a_name_that_is_given_twice_is_refused(run_tool, labelled):
    prepare(run_tool, labelled)
    code, _ = run_tool(
        *("prepare_dataset", "panoptic", *paths_of(labelled, "train"), "--name", "some"),
        *("--merge", "x=car", "x=road", "--output", labelled / "out"),
    )
    assert code == "error: x= is given twice: write it once, as in NEW=A,B."


def test_bad_input_is_one_sentence(run_tool, labelled):
    (labelled / "labels/4.png").unlink()
    code, _ = prepare(run_tool, labelled)
    assert code.startswith("error: ") and "labels/4.png (image 5, 4.bmp) does not exist" in code
    assert not list((labelled / "out").iterdir())
