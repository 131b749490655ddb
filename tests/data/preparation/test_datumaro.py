"""Formats of others, by way of datumaro's COCO files: the table of docs/known_datasets.md.

datumaro cannot be beside this project's Detectron2, and its command is looked for: on the PATH, or
where the environment variable DATUM says.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import foreign_sources as sources
import numpy as np
import pytest
from foreign_sources import HEIGHT, IMAGES, THINGS, WIDTH, class_segments, numbers, segments
from panoptic_files import read_written, save_ids, save_noise

DATUM = os.environ.get("DATUM") or shutil.which("datum")
CROWD = ("--ignore-iscrowd",)


@dataclass(frozen=True)
class Case:
    """A format, and what is said to datumaro and to our tool."""

    format: str
    write: Callable
    expected: Callable = segments
    kind: str = "instances"
    export: tuple = ()
    options: tuple = CROWD
    stuff: tuple = ("road",)


def with_rest(name: str, known: Callable = segments) -> Callable:
    """What no object has is a segment too, of class `name`."""

    def expected(things) -> set[tuple]:
        rest = np.argwhere(numbers(things) == 0).tolist()
        return known(things) | {(name, frozenset(map(tuple, rest)))}

    return expected


def with_border(things) -> set[tuple]:
    return segments(things) | {("void", block(0, 0, WIDTH, 1))}


def only(*names: str) -> Callable:
    return lambda things: {x for x in class_segments(things) if x[0] in names}


def of_open_images(things) -> set[tuple]:
    """Classes have the names that the CSV files know them by."""
    return {(f"/m/0{sources.NAMES.index(name)}", pixels) for name, pixels in segments(things)}


CASES = {
    "cvat_polygons": Case("cvat", sources.cvat_polygons, options=()),
    "cvat_z_order": Case(
        "cvat",
        sources.cvat_z_order,
        lambda things: segments(sources.person_behind(things)),
        export=("--segmentation-mode", "mask", "--crop-covered"),
    ),
    "cvat_masks": Case("cvat", sources.cvat_masks),
    "voc": Case("voc_instance_segmentation", sources.voc),
    "voc_border": Case("voc_instance_segmentation", sources.voc_with_border, with_border),
    "voc_classes": Case(
        "voc_segmentation", sources.voc_of_classes, with_rest("background", class_segments)
    ),
    "label_me": Case("label_me", sources.label_me, options=()),
    "ade20k2017": Case("ade20k2017", sources.ade20k2017),
    "ade20k2020": Case("ade20k2020", sources.ade20k2020),
    "mapillary": Case(
        "mapillary_vistas_instances", sources.mapillary, with_rest("void--unlabeled")
    ),
    "mapillary_panoptic": Case(
        "mapillary_vistas_panoptic",
        sources.mapillary_panoptic,
        kind="panoptic",
        options=("--things", "car", "person"),
    ),
    "open_images": Case("open_images", sources.open_images, of_open_images, stuff=("/m/00",)),
    "kitti": Case(
        "kitti_segmentation",
        sources.kitti,
        with_rest("unlabeled"),
        export=("--segmentation-mode", "mask"),
    ),
    "camvid": Case("camvid", sources.camvid, with_rest("Void", class_segments)),
    # These lose what the page says they do.
    "cityscapes": Case("cityscapes", sources.cityscapes, only("road")),
    "cityscapes_train_ids": Case("cityscapes", sources.cityscapes_train_ids, only("car", "person")),
}
STOPS = {
    "Failed to find dataset 'yolo'": Case("yolo", sources.yolo),
    "index 0 is out of bounds": Case("ade20k2017", sources.ade20k2017_covered),
    "Undeclared color": Case("voc_instance_segmentation", partial(sources.voc, border=True)),
}


def block(left: int, top: int, right: int, bottom: int) -> frozenset:
    return frozenset((y, x) for y in range(top, bottom) for x in range(left, right))


def inputs(kind: str, path: Path) -> list:
    if kind == "instances":
        return ["instances", "--instances-json", path]
    return ["panoptic", "--panoptic-json", path, "--panoptic-root", path.with_suffix("")]


def read_segments(folder: Path, stuff: tuple = ("road",)) -> dict[str, set]:
    """(class, pixels) of each image's segments, none of which is crowd."""
    categories = json.loads((folder / "panoptic_train.json").read_text())["categories"]
    names = {category["id"]: category["name"] for category in categories}
    assert {c["name"] for c in categories if not c["isthing"]} == set(stuff)
    found = {}
    for file_name, written in read_written(folder).items():
        assert [iscrowd for _, iscrowd, _ in written] == [0] * len(written)
        of_image = {(names[category], pixels) for category, _, pixels in written}
        assert len(of_image) == len(written)
        found[Path(file_name).stem[0]] = of_image
    return found


@pytest.fixture
def prepare(tmp_path, run_tool):
    """A function that converts `converted/`; gives (class, pixels) of each image's segments."""

    def prepare(kind: str, *options: str, stuff: tuple = ("road",)) -> dict[str, set]:
        (path,) = (tmp_path / "converted/annotations").glob("*.json")
        arguments = [*inputs(kind, path), "--image-root", tmp_path / "converted/images"]
        output = ["--output", tmp_path / "done", "--workers", 1, "--stuff", *stuff]
        code, _ = run_tool("prepare_dataset", *arguments, *output, *options)
        assert code is None
        return read_segments(tmp_path / "done", stuff)

    return prepare


def run_datum(case: Case, folder: Path) -> tuple[int, str]:
    """The exit code of a conversion in `folder`, and what is printed."""
    case.write(folder / "source")
    command = [DATUM, "convert", "-i", "source", "-if", case.format, "-f", f"coco_{case.kind}"]
    command += ["-o", "converted", "--", "--save-media", *case.export]
    end = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    return end.returncode, end.stdout + end.stderr


needs_datum = pytest.mark.skipif(
    not DATUM, reason="datumaro's command is neither on the PATH nor in DATUM."
)


@needs_datum
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_datumaro_has_read_becomes_the_same_segments(case, tmp_path, prepare):
    code, printed = run_datum(case, tmp_path)
    assert code == 0, printed
    found = prepare(case.kind, *case.options, stuff=case.stuff)
    assert found == {name: case.expected(things) for name, things in IMAGES.items()}


@needs_datum
@pytest.mark.parametrize(("message", "case"), STOPS.items())
def test_what_the_page_calls_unreadable_stops(message, case, tmp_path):
    code, printed = run_datum(case, tmp_path)
    assert code == 1
    assert message in printed


# What follows is what datumaro 1.13.12 writes of image `a`, shortened; it needs no datumaro.


def annotation(number: int, category: int, segmentation, iscrowd: int, **others) -> dict:
    ids = {"id": number, "image_id": 1, "category_id": category}
    return {**ids, "segmentation": segmentation, "iscrowd": iscrowd, **others}


@pytest.fixture
def write_converted(tmp_path):
    """A function that writes such files; images lie in a folder that `file_name` does not say."""

    def write_converted(names: list[str], annotations: list[dict], kind: str = "instances"):
        save_noise(tmp_path / "converted/images/train/a.jpg", HEIGHT, WIDTH)
        size = {"width": WIDTH, "height": HEIGHT}
        panoptic = {"isthing": 0} if kind == "panoptic" else {}
        content = {
            "licenses": [{"name": "", "id": 0, "url": ""}],
            "info": {"contributor": "", "date_created": "", "year": ""},
            "categories": [
                {"id": number, "name": name, "supercategory": "", **panoptic}
                for number, name in enumerate(names, 1)
            ],
            "images": [{"id": 1, **size, "file_name": "a.jpg", "license": 0, "coco_url": ""}],
            "annotations": annotations,
        }
        sources.write(tmp_path / f"converted/annotations/{kind}_train.json", json.dumps(content))

    return write_converted


def test_polygons_of_several_parts_are_one_object(write_converted, prepare):
    seen = {"attributes": {"occluded": False}}
    parts = [
        [9.0, 3.0, 11.0, 3.0, 11.0, 7.0, 9.0, 7.0],
        [12.0, 3.0, 15.0, 3.0, 15.0, 7.0, 12.0, 7.0],
    ]
    corner = [1.0, 4.0, 5.0, 4.0, 5.0, 6.0, 8.0, 6.0, 8.0, 9.0, 1.0, 9.0]
    annotations = [
        annotation(1, 1, [[0.0, 8.0, 16.0, 8.0, 16.0, 12.0, 0.0, 12.0]], 0, area=64.0, **seen),
        annotation(2, 2, [corner], 0, area=29.0, **seen),
        annotation(3, 3, [[3.0, 2.0, 5.0, 2.0, 5.0, 5.0, 3.0, 5.0]], 0, area=6.0, **seen),
        annotation(4, 2, parts, 0, area=20.0, **seen),
    ]
    write_converted(["road", "car", "person"], annotations)
    assert prepare("instances") == {"a": segments(THINGS)}


ROAD = [8, 4, *[9, 3] * 7, *[8, 4] * 8]
MASKS = [
    (1, ROAD),
    (2, [16, 5, 7, 5, 8, 4, 8, 4, 9, 3, 9, 3, 9, 3, 99]),
    (2, [111, 4, 8, 4, 20, 4, 8, 4, 8, 4, 17]),
    (3, [38, 3, 9, 3, 139]),
]


def run_lengths(number: int, category: int, counts: list[int]) -> dict:
    """Every mask is crowd in datumaro's files, whatever it was."""
    return annotation(number, category, {"counts": counts, "size": [HEIGHT, WIDTH]}, 1)


def test_run_lengths_are_objects(write_converted, prepare):
    annotations = [run_lengths(number, *mask) for number, mask in enumerate(MASKS, 1)]
    write_converted(["road", "car", "person"], annotations)
    assert prepare("instances", *CROWD) == {"a": segments(THINGS)}


def test_the_background_of_indexed_pngs_is_no_class(write_converted, prepare, tmp_path):
    annotations = [run_lengths(n, label + 1, counts) for n, (label, counts) in enumerate(MASKS, 1)]
    write_converted(["background", "road", "car", "person"], annotations)
    assert prepare("instances", *CROWD) == {"a": segments(THINGS)}
    content = json.loads((tmp_path / "done/panoptic_train.json").read_text())
    assert [category["name"] for category in content["categories"]] == ["road", "car", "person"]


def test_things_of_panoptic_pngs_are_named(write_converted, prepare, tmp_path):
    infos = [
        {"id": thing.number, "category_id": thing.label + 1, "area": 1.0, "iscrowd": 0}
        for thing in THINGS
    ]
    annotations = [{"image_id": 1, "file_name": "a.png", "segments_info": infos}]
    write_converted(["road", "car", "person"], annotations, "panoptic")
    save_ids(tmp_path / "converted/annotations/panoptic_train/a.png", numbers(THINGS))
    assert prepare("panoptic", "--things", "car", "person") == {"a": segments(THINGS)}


def test_pascal_voc_needs_no_datumaro(tmp_path, run_tool):
    sources.voc(tmp_path, border=True)
    folders = zip(
        ["--image-root", "--label-root", "--instance-root", "--labelmap"],
        ["JPEGImages", "SegmentationClass", "SegmentationObject", "labelmap.txt"],
    )
    inputs = [argument for name, file in folders for argument in (name, tmp_path / file)]
    output = ["--output", tmp_path / "done", "--workers", 1, "--stuff", "road"]
    code, printed = run_tool("prepare_dataset", "labels", *inputs, *output)
    assert code is None
    assert "2 images have the colour 224, 224, 192, of no category: VOID." in printed
    assert read_segments(tmp_path / "done") == {
        name: segments(things) for name, things in IMAGES.items()
    }
