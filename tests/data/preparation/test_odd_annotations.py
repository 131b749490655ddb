"""What people and tools write into annotations, and how files lie in folders."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from panoptic_files import read_written, save, save_noise
from PIL import Image

from detr_d2.data.files import files_below
from detr_d2.data.images import find_image_files
from detr_d2.data.preparation import (
    Objects,
    from_instances,
    from_label_maps,
    from_mask_folders,
    from_panoptic,
    write_panoptic,
)
from detr_d2.errors import UserError

HEIGHT, WIDTH = 12, 16
MASK = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
MASK[2:5, 3:9] = 1
BLOCK = frozenset((y, x) for y in range(2, 5) for x in range(3, 9))
SQUARE = [3, 2, 9, 2, 9, 5, 3, 5]


@pytest.fixture
def convert(tmp_path):
    """A function that writes an instances JSON of two images, and converts it.

    Gives the segments by image, and what was said.
    """

    def convert(*annotations, names=("a.jpg", "b.jpg"), categories=None, **options):
        for name in ("a.jpg", "b.jpg"):
            save_noise(tmp_path / "images" / name, HEIGHT, WIDTH)
        content = {
            "images": [{"id": n, "file_name": name} for n, name in enumerate(names, 1)],
            "annotations": [{"id": 7, "image_id": 1, "category_id": 3, **a} for a in annotations],
            "categories": categories or [{"id": 3, "name": "car"}],
        }
        (tmp_path / "instances.json").write_text(json.dumps(content))
        source = from_instances(tmp_path / "images", tmp_path / "instances.json", **options)
        written = write_panoptic(source, tmp_path / "out", "train", workers=1)
        said = [*source.notes, *written.remarks, *written.doubts]
        return read_written(tmp_path / "out"), said

    return convert


def runs_of(mask: np.ndarray) -> dict:
    """Run lengths, row after row, which COCO has column after column."""
    flat = np.concatenate(([0], mask.ravel()))
    changes = [*(np.flatnonzero(np.diff(flat))), mask.size]
    return {"size": list(mask.shape), "counts": np.diff([0, *changes]).tolist()}


ELSEWHERE = "objects are not where their bbox says: look whether they were read rightly"


@pytest.mark.parametrize(
    "annotation, is_said",
    [
        ({"segmentation": [SQUARE], "bbox": [3, 2, 6, 3]}, False),
        ({"segmentation": [SQUARE], "bbox": [2.6, 1.7, 6.9, 3.2]}, False),
        ({"segmentation": [[3, 2, 9, 2, 9, 3, 3, 3]], "bbox": [3, 2, 6, 0.5]}, False),
        ({"segmentation": [SQUARE], "bbox": [0, 0, 0, 0]}, False),
        ({"segmentation": [SQUARE], "bbox": None}, False),
        ({"segmentation": [SQUARE], "bbox": [12, 8, 3, 3]}, True),
        ({"segmentation": runs_of(MASK), "bbox": [3, 2, 6, 3]}, True),
    ],
)
def test_masks_are_compared_with_their_boxes(convert, annotation, is_said):
    _, said = convert(annotation)
    assert (ELSEWHERE in said) == is_said


def test_images_without_annotation_are_said(convert):
    found, said = convert({"segmentation": [SQUARE]})
    assert found == {"a.jpg": [(3, 0, BLOCK)], "b.jpg": []}
    assert "images have no annotation: VOID where nothing else is given" in said


@pytest.mark.parametrize("name", ["./a.jpg", ".//a.jpg"])
def test_one_image_under_two_spellings_is_refused(convert, name):
    with pytest.raises(UserError, match="images 1 and 2 would both be the file a"):
        convert({"segmentation": [SQUARE]}, names=("a.jpg", name))


@pytest.mark.parametrize("name", ["", ".", "/"])
def test_a_name_that_names_no_file_is_refused(convert, name):
    with pytest.raises(UserError, match=r"image 2 has the file_name '.?': correct it"):
        convert({"segmentation": [SQUARE]}, names=("a.jpg", name))


def test_flags_may_be_true_and_false(convert, tmp_path):
    categories = [{"id": 3, "name": "car", "isthing": True}]
    convert({"segmentation": [SQUARE], "iscrowd": True}, categories=categories)
    written = (tmp_path / "out/panoptic_train.json").read_text()
    assert "true" not in written and '"iscrowd": 1' in written and '"isthing": 1' in written


@pytest.mark.parametrize("names", [("Car", "car"), ("traffic light", "traffic_light ")])
def test_classes_of_nearly_one_name_are_doubted(convert, names):
    categories = [{"id": n, "name": name} for n, name in enumerate(names, 3)]
    _, said = convert({"segmentation": [SQUARE]}, categories=categories)
    assert any(f"The classes {' and '.join(names)} differ in case or spaces" in s for s in said)


def test_a_class_without_a_name_is_refused(convert):
    with pytest.raises(UserError, match="the category name ' ' is no text"):
        convert({"segmentation": [SQUARE]}, categories=[{"id": 3, "name": " "}])


def test_text_is_no_segmentation(convert):
    with pytest.raises(UserError, match="no list of polygons, and no run lengths but text"):
        convert({"segmentation": json.dumps([SQUARE])})


@pytest.mark.parametrize(
    "content, words",
    [
        ({"shapes": [], "imagePath": "a.jpg"}, "labelme's own file"),
        ({"_via_img_metadata": {}, "_via_settings": {}}, "a project of VIA: export"),
        ({"imgHeight": 4, "imgWidth": 5, "objects": []}, "Cityscapes's polygons"),
        ({"info": {}, "categories": {}, "items": []}, "datumaro's own file"),
        ({"annotations": [{"segments_info": []}], "images": []}, "to the format panoptic"),
        ({"annotations": []}, "has no list images"),
    ],
)
def test_files_of_other_tools_are_named(tmp_path, content, words):
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=words):
        from_instances(tmp_path, tmp_path / "a.json")


def test_lvis_names_its_images_by_address(tmp_path):
    save_noise(tmp_path / "images/train2017/000001.jpg", HEIGHT, WIDTH)
    url = "http://images.cocodataset.org/train2017/000001.jpg"
    content = {
        "images": [{"id": 1, "coco_url": url, "height": HEIGHT, "width": WIDTH}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "segmentation": [SQUARE]}],
        "categories": [{"id": 3, "name": "car"}],
    }
    (tmp_path / "lvis.json").write_text(json.dumps(content))
    source = from_instances(tmp_path / "images", tmp_path / "lvis.json")
    write_panoptic(source, tmp_path / "out", "train", workers=1)
    assert read_written(tmp_path / "out") == {"train2017/000001.jpg": [(3, 0, BLOCK)]}


@pytest.mark.parametrize("text", ["[" * 100_000, "{}]", ""])
def test_what_is_no_json_is_named(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=r"a\.json is not valid JSON"):
        from_instances(tmp_path, tmp_path / "a.json")


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "a.json").write_text("{}")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UserError, match=r"a\.json cannot be read: Permission denied\."):
        from_instances(tmp_path, tmp_path / "a.json")


def test_linked_folders_are_searched_and_hidden_ones_are_not(tmp_path):
    for name in (
        *("outside/b.png", "inside/a.png", "inside/sub/f.png"),
        *("inside/.ipynb_checkpoints/a-checkpoint.png", "inside/.c.png"),
        *("inside/__MACOSX/d.png", "inside/@eaDir/e.png"),
    ):
        save_noise(tmp_path / name, 2, 2)
    os.symlink(tmp_path / "outside", tmp_path / "inside/linked")
    os.symlink(tmp_path / "inside", tmp_path / "inside/round")
    os.symlink(tmp_path / "inside/sub", tmp_path / "inside/again")
    assert find_image_files(tmp_path / "inside") == ["a.png", "linked/b.png", "sub/f.png"]
    assert [*files_below(tmp_path / "none")] == []


def test_a_link_to_nothing_is_named(convert, tmp_path):
    (tmp_path / "images").mkdir()
    os.symlink(tmp_path / "none.jpg", tmp_path / "images/c.jpg")
    with pytest.raises(UserError, match=r"c\.jpg .*does not exist: it is a link to nothing"):
        convert({"segmentation": [SQUARE]}, names=("a.jpg", "c.jpg"))


def palette(indices: np.ndarray, *colours: tuple[int, int, int]) -> Image.Image:
    picture = Image.fromarray(indices, mode="P")
    picture.putpalette([channel for colour in colours for channel in colour])
    return picture


@pytest.fixture
def mask_of(tmp_path):
    """A function that converts a picture as the mask of a car, and what was said of it."""

    def mask_of(picture: Image.Image, **options) -> tuple[frozenset, list[str]]:
        save_noise(tmp_path / "images/a.jpg", HEIGHT, WIDTH)
        (tmp_path / "masks/a").mkdir(parents=True)
        picture.save(tmp_path / "masks/a/car_1.png", **options)
        source = from_mask_folders(tmp_path / "images", tmp_path / "masks")
        remarks = write_panoptic(source, tmp_path / "out", "train", workers=1).remarks
        ((_, _, pixels),) = read_written(tmp_path / "out")["a.jpg"]
        return pixels, [*remarks]

    return mask_of


def test_a_black_object_on_transparent_white_is_read(mask_of):
    picture = palette(MASK, (255, 255, 255), (0, 0, 0))
    assert mask_of(picture, transparency=0) == (BLOCK, [])


def test_a_palette_that_begins_with_white_is_doubted(mask_of):
    pixels, (said,) = mask_of(palette(MASK, (255, 255, 255), (0, 0, 0)))
    assert pixels == frozenset(np.ndindex(HEIGHT, WIDTH)) - BLOCK
    assert "a palette whose first colour is not black: look whether they are inverted" in said


@pytest.mark.parametrize("channels", [(MASK, 255), (MASK, MASK, MASK, 255)])
def test_label_maps_may_have_a_channel_that_is_opaque(tmp_path, channels):
    save_noise(tmp_path / "images/a.jpg", HEIGHT, WIDTH)
    pixels = np.stack([np.broadcast_to(np.uint8(c), MASK.shape) for c in channels], axis=2)
    save(tmp_path / "labels/a.png", pixels)
    categories = [{"id": 1, "name": "car", "isthing": 1}]
    (tmp_path / "categories.json").write_text(json.dumps(categories))
    files = (tmp_path / "images", tmp_path / "labels", tmp_path / "categories.json")
    source = from_label_maps(*files, objects=Objects())
    write_panoptic(source, tmp_path / "out", "train", workers=1)
    assert read_written(tmp_path / "out") == {"a.jpg": [(1, 0, BLOCK)]}


def test_a_jpeg_is_no_map_whatever_its_name(tmp_path):
    save_noise(tmp_path / "images/a.jpg", HEIGHT, WIDTH)
    (tmp_path / "png").mkdir()
    Image.fromarray(np.stack([MASK] * 3, axis=2)).save(tmp_path / "png/a.png", format="JPEG")
    segment = {"id": 1, "category_id": 1}
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH}],
        "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": [segment]}],
        "categories": [{"id": 1, "name": "car", "isthing": 1}],
    }
    (tmp_path / "panoptic.json").write_text(json.dumps(content))
    source = from_panoptic(tmp_path / "images", tmp_path / "png", tmp_path / "panoptic.json")
    with pytest.raises(UserError, match=r"a\.png .* is a JPEG, which blurs the numbers"):
        write_panoptic(source, tmp_path / "out", "train", workers=1)
