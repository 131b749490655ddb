import json

import numpy as np
import pytest
from panoptic_files import read_written, save_ids, save_noise

from detr_d2.data.preparation import Classes, from_panoptic, write_panoptic
from detr_d2.errors import UserError

IDS = np.array([[5, 5, 6, 6], [5, 300, 300, 6], [70000, 300, 9, 0]])
CLASS_OF = {5: 1, 6: 2, 300: 3, 70000: 4, 9: 3}
CATEGORIES = [
    {"id": 1, "name": "sky", "isthing": 0},
    {"id": 2, "name": "tree", "isthing": 0},
    {"id": 3, "name": "car", "isthing": 1},
    {"id": 4, "name": "bus", "isthing": 1},
]


def pixels(*ids) -> frozenset:
    return frozenset(zip(*(x.tolist() for x in np.nonzero(np.isin(IDS, ids)))))


@pytest.fixture
def convert(tmp_path):
    """A function that converts one panoptic image; gives its segments, and names by class id."""

    def convert(infos=None, **classes):
        save_noise(tmp_path / "images/a.jpg", *IDS.shape)
        save_ids(tmp_path / "png/a.png", IDS)
        infos = infos or [{"id": i, "category_id": c, "iscrowd": 0} for i, c in CLASS_OF.items()]
        content = {
            "images": [{"id": 1, "file_name": "a.jpg", "height": 3, "width": 4}],
            "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": infos}],
            "categories": CATEGORIES,
        }
        (tmp_path / "a.json").write_text(json.dumps(content))
        paths = (tmp_path / "images", tmp_path / "png", tmp_path / "a.json")
        source = from_panoptic(*paths, Classes(**classes))
        convert.remarks = write_panoptic(source, tmp_path / "out", "train", 1).remarks
        content = json.loads((tmp_path / "out/panoptic_train.json").read_text())
        names = {c["id"]: c["name"] for c in content["categories"]}
        return read_written(tmp_path / "out")["a.jpg"], names

    return convert


def test_without_changes_every_segment_keeps_its_pixels(convert):
    found, names = convert()
    assert set(found) == {(class_, 0, pixels(id_)) for id_, class_ in CLASS_OF.items()}
    assert names == {1: "sky", 2: "tree", 3: "car", 4: "bus"}


def test_merged_stuff_becomes_one_segment_and_merged_things_stay_apart(convert):
    found, names = convert(merge={"far": ("tree", "sky"), "vehicle": ("car", "bus")})
    assert names == {1: "far", 3: "vehicle"} and not convert.remarks
    assert set(found) == {
        (1, 0, pixels(5, 6)),
        (3, 0, pixels(300)),
        (3, 0, pixels(9)),
        (3, 0, pixels(70000)),
    }


def test_dropped_classes_become_void(convert):
    found, names = convert(drop=("car", "sky"))
    assert names == {2: "tree", 4: "bus"}
    assert set(found) == {(2, 0, pixels(6)), (4, 0, pixels(70000))}


def test_kept_classes_may_have_new_names(convert):
    found, names = convert(keep=("car", "air"), rename={"sky": "air", "car": "auto"})
    assert names == {1: "air", 3: "auto"}
    assert set(found) == {(1, 0, pixels(5)), (3, 0, pixels(300)), (3, 0, pixels(9))}


def test_stuff_in_several_segments_is_united(convert):
    classes = {**CLASS_OF, 6: 1}
    found, _ = convert([{"id": i, "category_id": c, "iscrowd": 0} for i, c in classes.items()])
    assert (1, 0, pixels(5, 6)) in found
    assert [*convert.remarks.elements()] == [
        "times a class of stuff has several segments in an image: united"
    ]


@pytest.mark.parametrize(
    "classes, sentence",
    [
        ({"drop": ("cow",)}, "There is no class cow: the classes are sky, tree, car, bus"),
        ({"keep": ("cow",)}, "There is no class cow to keep"),
        ({"merge": {"x": ("sky", "car")}}, "x cannot be made of things and stuff"),
        ({"rename": {"sky": "tree"}}, "tree and sky would both be tree: use --merge"),
        ({"drop": ("sky", "tree", "car", "bus", "bus")}, "No class of .* is left"),
        ({"drop": ("car",), "merge": {"x": ("car", "bus")}}, "car is dropped, merged or renamed 2"),
    ],
)
def test_impossible_changes_are_named(convert, classes, sentence):
    with pytest.raises(UserError, match=sentence):
        convert(**classes)


def test_png_and_json_that_disagree_are_named(convert):
    with pytest.raises(UserError, match=r"a\.png \(image 1, a\.jpg\): the PNG has a segment"):
        convert([{"id": 5, "category_id": 1, "iscrowd": 0}])
