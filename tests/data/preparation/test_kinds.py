"""What used to go wrong without a word: sizes, kinds of classes, crowd, classes that are none."""

import json
from dataclasses import replace

import numpy as np
import pytest
from panoptic_files import read_written, save_noise
from PIL import Image

from detr_d2.data.doubts import doubts, unused_classes
from detr_d2.data.images import read_image, turned
from detr_d2.data.preparation import Kinds, from_instances, from_panoptic, write_panoptic
from detr_d2.data.preparation.kinds import leave_out_roots
from detr_d2.errors import UserError

CATEGORIES = [{"id": 3, "name": "car"}, {"id": 5, "name": "sky", "isthing": 0}]


def rectangle(x0, y0, x1, y1):
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


def block(x0, y0, x1, y1) -> frozenset:
    return frozenset((y, x) for y in range(y0, y1) for x in range(x0, x1))


@pytest.fixture
def write(tmp_path):
    """A function that writes an instances JSON of one image of 6 x 8, and gives its paths."""

    def write(*annotations, categories=CATEGORIES, size=(6, 8)):
        if not (tmp_path / "images").exists():
            save_noise(tmp_path / "images/a.jpg", 6, 8)
        listed = [{"id": n, "image_id": 9, "iscrowd": 0, **a} for n, a in enumerate(annotations, 1)]
        image = {"id": 9, "file_name": "a.jpg", "height": size[0], "width": size[1]}
        content = {"images": [image], "annotations": listed, "categories": categories}
        (tmp_path / "instances.json").write_text(json.dumps(content))
        return tmp_path / "images", tmp_path / "instances.json"

    return write


CAR = {"category_id": 3, "segmentation": rectangle(1, 2, 5, 4)}
SKY = [{"category_id": 5, "segmentation": rectangle(x, 0, x + 3, 3)} for x in (0, 5)]


def converted(source, output):
    said = write_panoptic(source, output, "train", workers=1).doubts
    return read_written(output)["a.jpg"], said


def test_isthing_of_a_category_is_kept(write, tmp_path):
    """Stuff is one segment, and lies below things."""
    source = from_instances(*write(SKY[0], CAR, SKY[1]))
    assert [(c["name"], c["isthing"]) for c in source.categories] == [("car", 1), ("sky", 0)]
    found, _ = converted(source, tmp_path / "out")
    car = block(1, 2, 5, 4)
    sky = (block(0, 0, 3, 3) | block(5, 0, 8, 3)) - car
    assert sorted(found) == sorted([(5, 0, sky), (3, 0, car)])


@pytest.mark.parametrize(
    "kinds, isthing", [(Kinds(stuff=("car",)), [0, 0]), (Kinds(things=("sky",)), [1, 1])]
)
def test_kinds_are_chosen(write, tmp_path, kinds, isthing):
    source = from_instances(*write(*SKY), kinds=kinds)
    assert [c["isthing"] for c in source.categories] == isthing
    found, _ = converted(source, tmp_path / "out")
    assert len(found) == (2 if isthing[1] else 1)


@pytest.mark.parametrize(
    "kinds, sentence",
    [
        (Kinds(stuff=("bus",)), "no class bus: the classes are car, sky"),
        (Kinds(stuff=("car",), things=("car",)), "car is in --stuff and in --things"),
    ],
)
def test_kinds_that_cannot_be(write, kinds, sentence):
    with pytest.raises(UserError, match=sentence):
        from_instances(*write(CAR), kinds=kinds)


def test_panoptic_data_gets_other_kinds(write, tmp_path):
    converted(from_instances(*write(*SKY, CAR), kinds=Kinds(things=("sky",))), tmp_path / "one")
    paths = (
        tmp_path / "images",
        tmp_path / "one/panoptic_train",
        tmp_path / "one/panoptic_train.json",
    )
    source = from_panoptic(*paths, kinds=Kinds(stuff=("sky",)))
    found, _ = converted(source, tmp_path / "two")
    assert sorted(category for category, _, _ in found) == [3, 5]
    assert [c["isthing"] for c in source.categories] == [1, 0]


def test_annotations_of_another_size_are_refused(write, tmp_path):
    source = from_instances(*write(CAR, size=(3, 4)))
    with pytest.raises(UserError, match=r"a\.jpg .*is 8 x 6 pixels, and .* are for 4 x 3"):
        converted(source, tmp_path / "out")
    assert not (tmp_path / "out/panoptic_train.json").exists()


@pytest.mark.parametrize("size", [(-1, -1), (None, None), (0, 8), ("6", "8")])
def test_a_size_that_is_not_known_is_that_of_the_file(write, tmp_path, size):
    found, _ = converted(from_instances(*write(CAR, size=size)), tmp_path / "out")
    assert found == [(3, 0, block(1, 2, 5, 4))]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_maps_turn_as_the_image(tmp_path, orientation):
    numbers = np.arange(12, dtype=np.uint8).reshape(3, 4)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(numbers).save(tmp_path / "a.png", exif=exif)
    upright = read_image(tmp_path / "a.png")[..., 0]
    assert np.array_equal(turned(numbers, orientation), upright)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_photographs_that_were_annotated_as_they_lie_in_the_file(write, tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "images").mkdir()
    stored = np.zeros((6, 8, 3), np.uint8)
    stored[2:4, 1:5] = 255
    Image.fromarray(stored).save(tmp_path / "images/a.jpg", exif=exif, quality=100)
    source = from_instances(*write(CAR))
    if orientation > 4:
        with pytest.raises(UserError, match=r"EXIF orientation.*--annotated-as-stored"):
            converted(source, tmp_path / "refused")
    ((_, _, pixels),), _ = converted(replace(source, as_stored=True), tmp_path / "out")
    bright = np.argwhere(read_image(tmp_path / "images/a.jpg")[..., 0] > 128)
    assert pixels == frozenset(map(tuple, bright.tolist()))
    content = json.loads((tmp_path / "out/panoptic_train.json").read_text())
    (info,) = content["annotations"][0]["segments_info"]
    rows, columns = bright[:, 0], bright[:, 1]
    box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
    assert (info["area"], info["bbox"]) == (8, [int(x) for x in box])


@pytest.mark.parametrize(
    "orientation, size, said", [(1, (6, 8), 0), (3, (6, 8), 1), (6, (8, 6), 0), (6, (None, 8), 1)]
)
def test_turned_photographs_whose_sizes_do_not_tell_are_counted(
    write, tmp_path, orientation, size, said
):
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "images").mkdir()
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(tmp_path / "images/a.jpg", exif=exif)
    source = from_instances(*write(CAR, size=size))
    remarks = write_panoptic(source, tmp_path / "out", "train", workers=1).remarks
    assert sum("EXIF" in remark for remark in remarks) == said


def test_an_option_for_photographs_as_stored_that_is_wrong_is_said(write, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "images").mkdir()
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(tmp_path / "images/a.jpg", exif=exif)
    source = replace(from_instances(*write(CAR, size=(8, 6))), as_stored=True)
    with pytest.raises(UserError, match=r"is 8 x 6 .* are for 6 x 8: .*Leave out --annotated-as"):
        converted(source, tmp_path / "out")


def test_crowd_is_doubted_and_can_be_ignored(write, tmp_path):
    crowd = {**CAR, "iscrowd": 1}
    found, said = converted(from_instances(*write(crowd)), tmp_path / "one")
    assert found == [(3, 1, block(1, 2, 5, 4))]
    assert any("All objects are crowd" in doubt and "--ignore-iscrowd" in doubt for doubt in said)
    found, said = converted(from_instances(*write(crowd), ignore_crowd=True), tmp_path / "two")
    assert found == [(3, 0, block(1, 2, 5, 4))]
    assert not any("crowd" in doubt for doubt in said)
    paths = (
        tmp_path / "images",
        tmp_path / "one/panoptic_train",
        tmp_path / "one/panoptic_train.json",
    )
    found, _ = converted(from_panoptic(*paths, ignore_crowd=True), tmp_path / "three")
    assert found == [(3, 0, block(1, 2, 5, 4))]


def segments(*pairs) -> dict:
    return {"segments_info": [{"category_id": c, "iscrowd": crowd} for c, crowd in pairs]}


def test_doubts():
    car, bus, sky = (
        {"id": n, "name": name, "isthing": int(n < 3)} for n, name in enumerate("cbs", 1)
    )
    assert doubts([car, sky], [segments((1, 0), (3, 0))]) == []
    assert doubts([car, sky], [segments((1, 0), (1, 1), (3, 0))]) == []
    (said,) = doubts([car, bus], [segments((1, 1), (2, 0)), segments((1, 1))])
    assert said.startswith("All objects of c are crowd")
    (said,) = doubts([sky], [segments((3, 0))])
    assert said.startswith("No class is a thing:")
    (said,) = doubts([sky], [segments((3, 0), (3, 0)), segments((3, 0))])
    assert "though 1 images have several segments of a class" in said
    assert unused_classes([car, bus, sky], [segments((1, 0), (3, 0)), segments()]) == ["b"]


ROOT = {"id": 0, "name": "shapes", "supercategory": "none"}
CIRCLE = {"id": 1, "name": "circle", "supercategory": "shapes"}


@pytest.mark.parametrize(
    "categories, used, kept",
    [
        ([ROOT, CIRCLE], [1], [1]),
        ([ROOT, CIRCLE], [0, 1], [0, 1]),  # it is a class after all
        ([{**ROOT, "name": "circle"}, {**CIRCLE, "supercategory": "circle"}], [1], [1]),
        ([{"id": 0, "name": "_background_"}, CIRCLE], [1], [1]),
        ([{"id": 0, "name": "background"}, CIRCLE], [1], [1]),
        ([{"id": 0, "name": "circle", "supercategory": "none"}, CIRCLE], [1], [1]),
        ([{"id": 0, "name": "circle"}, CIRCLE], [], [0, 1]),  # nothing says which of them it is
        ([{"id": 7, "name": "bus"}, CIRCLE], [1], [7, 1]),  # of another split, perhaps
        ([{"id": 7, "name": "bus", "supercategory": "bus"}, CIRCLE], [1], [7, 1]),
    ],
)
def test_names_that_are_no_class_are_left_out(categories, used, kept):
    found, notes = leave_out_roots(categories, [{"category_id": id_} for id_ in used])
    assert [c["id"] for c in found] == kept
    assert len(notes) == len(categories) - len(kept)
    assert all("left out" in note for note in notes)
