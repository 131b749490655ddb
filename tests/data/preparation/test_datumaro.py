"""Formats that datumaro reads, from a tiny source of each to panoptic PNGs."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from panoptic_files import read_written, save, save_noise

DATUM = os.getenv("DATUM") or shutil.which("datum")
HEIGHT, WIDTH = 30, 40
CLASSES = ["road", "car", "person"]
# A class and its rectangles, x0, y0, x1, y1; the second car is in two parts.
OBJECTS = [
    ("road", [(0, 20, 40, 30)]),
    ("car", [(4, 12, 14, 18)]),
    ("car", [(20, 10, 24, 16), (28, 10, 32, 16)]),
    ("person", [(34, 4, 38, 14)]),
]
COLOURS = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]], np.uint8)


def pixels_of(parts) -> frozenset:
    return frozenset(
        (y, x) for x0, y0, x1, y1 in parts for y in range(y0, y1) for x in range(x0, x1)
    )


def drawn(numbers) -> np.ndarray:
    """The map of objects, each drawn as its number; 0 elsewhere."""
    canvas = np.zeros((HEIGHT, WIDTH), np.uint8)
    for (_, parts), number in zip(OBJECTS, numbers, strict=True):
        rows, columns = zip(*pixels_of(parts))
        canvas[rows, columns] = number
    return canvas


BY_CLASS = drawn([1 + CLASSES.index(name) for name, _ in OBJECTS])
BY_OBJECT = drawn(range(1, len(OBJECTS) + 1))


def corners(part) -> list[tuple[int, int]]:
    x0, y0, x1, y1 = part
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_cvat(root: Path) -> None:
    """CVAT for images 1.1; polygons of one group_id are one object."""
    save_noise(root / "images" / "a.png", HEIGHT, WIDTH)
    labels = "".join(f"<label><name>{x}</name><attributes/></label>" for x in CLASSES)
    polygons = "".join(
        f'<polygon label="{name}" group_id="{number}" occluded="0" z_order="0" points="'
        + ";".join(f"{x},{y}" for x, y in corners(part))
        + '"></polygon>'
        for number, (name, parts) in enumerate(OBJECTS, 1)
        for part in parts
    )
    task = f"<id>1</id><name>a</name><size>1</size><mode>annotation</mode><labels>{labels}</labels>"
    write(
        root / "annotations.xml",
        f"<annotations><version>1.1</version><meta><task>{task}</task></meta>"
        f'<image id="0" name="a.png" width="{WIDTH}" height="{HEIGHT}">{polygons}</image>'
        "</annotations>",
    )


def write_label_me(root: Path) -> None:
    """LabelMe's XML, the older tool's; each polygon is an object."""
    save_noise(root / "a.jpg", HEIGHT, WIDTH)
    objects = "".join(
        f"<object><name>{name}</name><deleted>0</deleted><verified>0</verified>"
        "<occluded>no</occluded><attributes></attributes>"
        "<parts><hasparts></hasparts><ispartof></ispartof></parts>"
        f"<id>{number}</id><polygon><username>a</username>"
        + "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in corners(part))
        + "</polygon></object>"
        for number, (name, part) in enumerate((x, part) for x, parts in OBJECTS for part in parts)
    )
    size = f"<imagesize><nrows>{HEIGHT}</nrows><ncols>{WIDTH}</ncols></imagesize>"
    write(
        root / "a.xml",
        f"<annotation><filename>a.jpg</filename><folder></folder>{size}{objects}</annotation>",
    )


def write_voc(root: Path) -> None:
    """Pascal VOC: colours of classes and of objects."""
    save_noise(root / "JPEGImages" / "a.jpg", HEIGHT, WIDTH)
    save(root / "SegmentationClass" / "a.png", COLOURS[BY_CLASS])
    save(root / "SegmentationObject" / "a.png", COLOURS[BY_OBJECT])
    write(root / "ImageSets" / "Segmentation" / "train.txt", "a\n")
    lines = [
        f"{name}:{','.join(map(str, colour))}::\n"
        for name, colour in zip(["background", *CLASSES], COLOURS.tolist())
    ]
    write(root / "labelmap.txt", "".join(lines))


def write_ade20k(root: Path) -> None:
    """ADE20K of 2017: the class in green, with tens of red for each 256, the object in blue."""
    folder = root / "training" / "street"
    save_noise(folder / "1.jpg", HEIGHT, WIDTH)
    save(folder / "1_seg.png", np.stack([np.zeros_like(BY_CLASS), BY_CLASS, BY_OBJECT], -1))
    lines = [f'{n:03d} # 0 # 0 # {x} # {x} # ""\n' for n, (x, _) in enumerate(OBJECTS, 1)]
    write(folder / "1_atr.txt", "".join(lines))


def write_mapillary(root: Path) -> None:
    """Mapillary Vistas 2.0: 256 times the class, 255 where there is none, plus the object."""
    save_noise(root / "training" / "images" / "a.jpg", HEIGHT, WIDTH)
    classes = np.where(BY_CLASS, BY_CLASS.astype(int) - 1, 255)
    labels, instances = classes.astype(np.uint8), (256 * classes + BY_OBJECT).astype(np.uint16)
    save(root / "training" / "v2.0" / "labels" / "a.png", labels)
    save(root / "training" / "v2.0" / "instances" / "a.png", instances)
    labels = [
        {"color": [n, n, n], "instances": n > 0, "readable": x, "name": x, "evaluate": True}
        for n, x in enumerate(CLASSES)
    ]
    write(root / "config_v2.0.json", json.dumps({"labels": labels}))


# Of each: what writes it, and the options of our converter.
FORMATS = {
    "cvat": (write_cvat, []),
    "label_me": (write_label_me, []),
    "voc_instance_segmentation": (write_voc, ["--ignore-iscrowd"]),
    "ade20k2017": (write_ade20k, ["--ignore-iscrowd"]),
    "mapillary_vistas_instances": (write_mapillary, ["--ignore-iscrowd", "--skip-bad"]),
}


@pytest.fixture
def datumaro(tmp_path):
    """A function that converts a source to COCO; gives the folder of the images and the JSON."""
    if DATUM is None:
        pytest.skip("datumaro is not here: its command datum is neither $DATUM nor in $PATH")

    def convert(name: str) -> tuple[Path, Path]:
        source, converted = tmp_path / "source", tmp_path / "converted"
        command = [DATUM, "convert", "-i", source, "-if", name, "-f", "coco_instances"]
        command += ["-o", converted, "--", "--save-media"]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        (content,) = (converted / "annotations").glob("*.json")
        images = [x.parent for x in (converted / "images").rglob("*.*g")]
        return images[0] if images else source, content  # of LabelMe's XML it writes none

    return convert


@pytest.mark.parametrize("name", FORMATS)
def test_all_pixels_come_through(name, datumaro, run_tool, tmp_path):
    make, options = FORMATS[name]
    make(tmp_path / "source")
    images, content = datumaro(name)
    output = str(tmp_path / "done")
    arguments = ["--image-root", str(images), "--instances-json", str(content)]
    arguments += ["--stuff", "road", "--output", output, "--workers", "1", *options]
    run_tool("prepare_dataset", "instances", *arguments)
    categories = json.loads((tmp_path / "done" / "panoptic_train.json").read_text())["categories"]
    names = {x["id"]: (x["name"], x["isthing"]) for x in categories}
    (segments,) = read_written(tmp_path / "done").values()
    found = [(*names[category], crowd, pixels) for category, crowd, pixels in segments]
    objects = OBJECTS
    if name == "label_me":  # which joins no parts
        objects = [(x, [part]) for x, parts in OBJECTS for part in parts]
    wanted = [(x, int(x != "road"), 0, pixels_of(parts)) for x, parts in objects]
    assert sorted(found, key=repr) == sorted(wanted, key=repr)
