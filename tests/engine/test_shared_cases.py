"""Files as annotation tools write them, where they are at hand (../shared/cases)."""

import runpy
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
CASES = REPOSITORY.parent / "shared" / "cases"
INSTANCES = "instances --image-root images --background bg --instances-json"
CVAT = (
    "labels --image-root JPEGImages --label-root SegmentationClass --labelmap labelmap.txt "
    "--instance-root SegmentationObject"
)
# Of each: the arguments of prepare_dataset.py, and a part of what it says.
CONVERTED = {
    "cvat_segmentation_mask_1_1": (CVAT, "Wrote 6 images, 4 classes"),
    "json_with_bom": (f"{INSTANCES} instances.json", "Wrote 6 images, 5 classes"),
    "label_studio_brush_png": (
        "masks --image-root images --mask-root masks",
        "They are taken in order, task 1 for 000000.jpg to task 3 for 000002.jpg",
    ),
    "label_studio_media_path": (
        f"{INSTANCES} result.json",
        "6 of 6 images are found under other names, such as 000000.jpg for ../../label-studio",
    ),
    "label_studio_windows": (
        "instances --image-root . --background bg --instances-json result.json",
        r"such as images/000000.jpg for images\000000.jpg",
    ),
    "labelme_raw": ("labelme --image-root images --background bg", "Wrote 6 images, 5 classes"),
    "mac_zip_leftovers": (
        "labels --image-root images --label-root labels --categories categories.json "
        "--connected-things 5",
        "Wrote 3 images",
    ),
    "pandas_float_ids": (f"{INSTANCES} instances.json", "Wrote 6 images, 5 classes"),
    "via3_flat_polygon": (f"{INSTANCES} coco.json", "Wrote 6 images, 5 classes"),
    "roboflow_root_category": (
        "instances --image-root train --instances-json train/_annotations.coco.json",
        "left out.",
    ),
    "cvat_mixed_rectangles": (
        "instances --image-root images/default --skip-bad "
        "--instances-json annotations/instances_default.json",
        "4 annotations without a mask: left out.",
    ),
    "cvat_brush_iscrowd": (
        "instances --image-root images/default --instances-json annotations/instances_default.json",
        "warning: All objects are crowd",
    ),
    "datumaro_panoptic_all_stuff": (
        "panoptic --image-root images/default --panoptic-root annotations/panoptic_default "
        "--panoptic-json annotations/panoptic_default.json",
        "3 times a class of stuff has several segments in an image: united.\nwarning: No class",
    ),
    "file_name_case": (
        "panoptic --image-root images --panoptic-root panoptic --panoptic-json panoptic.json",
        "found under other names, such as 000000.JPG for 000000.jpg",
    ),
    "polygons_with_stuff_classes": (
        f"{INSTANCES} instances.json",
        "  11  stripes   stuff",
    ),
    "roboflow_root_same_name": (
        "instances --image-root train --instances-json train/_annotations.coco.json",
        "No object is a circle (id 0): left out.",
    ),
    "train_12bit_in_16bit_png": (
        "panoptic --image-root images --panoptic-root panoptic --panoptic-json panoptic.json",
        "Wrote 6 images, 8 classes",
    ),
}
REFUSED = {
    "cvat_mixed_rectangles": (
        "instances --image-root images/default --instances-json annotations/instances_default.json",
        "4 without a mask: these annotations cannot be converted. --skip-bad leaves them out.",
    ),
    "boxes_only_no_key": (
        f"{INSTANCES} instances.json",
        "not one of its 13 annotations has a segmentation, and a box says nothing of its pixels",
    ),
    "label_studio_rectangles": (
        "instances --image-root . --instances-json result.json --skip-bad",
        "export polygons or masks",
    ),
    "segmentation_null_lbl": (f"{INSTANCES} instances.json", "export polygons or masks"),
    "panoptic_grey16_png": (
        "panoptic --image-root images --panoptic-root panoptic --panoptic-json panoptic.json",
        "--ids value",
    ),
    "polygons_of_resized_images": (f"{INSTANCES} instances.json", "and its annotations are for"),
    "panoptic_grey_png": (
        "panoptic --image-root images --panoptic-root panoptic --panoptic-json panoptic.json",
        "--ids value",
    ),
}


@pytest.fixture
def prepare(monkeypatch, capsys, tmp_path):
    def prepare(case: str, arguments: str) -> tuple[str | int | None, str]:
        if not CASES.is_dir():
            pytest.skip("the cases are not here (../shared/cases)")
        monkeypatch.chdir(CASES / case)
        options = ["--workers", "1", "--output", str(tmp_path / "out")]
        monkeypatch.setattr(sys, "argv", ["prepare_dataset.py", *arguments.split(), *options])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(REPOSITORY / "tools/prepare_dataset.py"), run_name="__main__")
        return end.value.code, capsys.readouterr().out

    return prepare


@pytest.mark.parametrize("case", CONVERTED)
def test_it_is_converted(prepare, case):
    arguments, said = CONVERTED[case]
    code, text = prepare(case, arguments)
    assert code is None
    assert said in text


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_in_words_that_help(prepare, tmp_path, case):
    arguments, said = REFUSED[case]
    code, _ = prepare(case, arguments)
    assert str(code).startswith("error: ") and said in code
    assert not list(tmp_path.glob("out/*"))
