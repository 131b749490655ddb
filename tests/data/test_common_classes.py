"""The same classes under other numbers: what would train and evaluate one class as another."""

import json
import logging

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from detr_d2.data import register_panoptic_dataset
from detr_d2.data.common_classes import has_classes, number_classes_alike, number_like
from detr_d2.data.panoptic_map import write_panoptic_png
from detr_d2.errors import UserError

TRAIN = [("car", 1), ("person", 1), ("sky", 0), ("road", 0)]


@pytest.fixture
def register(tmp_path):
    """A function that registers a dataset of one image, with one segment of each category."""
    names = []

    def register(name: str, categories: list[tuple[str, int]]) -> str:
        listed = [
            {"id": id_, "name": c, "isthing": thing} for id_, (c, thing) in enumerate(categories, 3)
        ]
        segments = [{"id": n, "category_id": c["id"]} for n, c in enumerate(listed, 1)]
        folder = tmp_path / name
        folder.mkdir()
        write_panoptic_png(folder / "a.png", np.arange(1, 5, dtype=np.uint16).reshape(2, 2))
        image = {"id": 1, "file_name": "a.jpg", "height": 2, "width": 2}
        annotation = {"image_id": 1, "file_name": "a.png", "segments_info": segments}
        content = {"images": [image], "annotations": [annotation], "categories": listed}
        (folder / "a.json").write_text(json.dumps(content))
        register_panoptic_dataset(name, str(folder), str(folder), str(folder / "a.json"))
        names.append(name)
        return name

    yield register
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def classes_of(name: str) -> list[str]:
    """The names of the classes of segments 1, 2, ... as the model learns them."""
    (only,) = DatasetCatalog.get(name)
    names = MetadataCatalog.get(name).thing_classes
    return [names[s["category_id"]] for s in only["segments_info"]]


def test_other_ids_are_matched_by_name(register, caplog):
    caplog.set_level(logging.WARNING)
    other = [TRAIN[n] for n in (3, 1, 0, 2)]
    train, val = register("train_of_test", TRAIN), register("val_of_test", other)
    before = MetadataCatalog.get(val).thing_classes
    assert before != MetadataCatalog.get(train).thing_classes
    number_classes_alike([train, val, train])
    first, second = MetadataCatalog.get(train), MetadataCatalog.get(val)
    assert first.thing_classes == second.thing_classes == second.stuff_classes
    assert classes_of(train) == [name for name, _ in TRAIN]
    assert classes_of(val) == [name for name, _ in other]
    (a,), (b,) = DatasetCatalog.get(train), DatasetCatalog.get(val)
    number_of = {n: s["category_id"] for (n, _), s in zip(TRAIN, a["segments_info"])}
    assert [s["category_id"] for s in b["segments_info"]] == [number_of[n] for n, _ in other]
    assert [s["isthing"] for s in b["segments_info"]] == [False, True, True, False]
    # Evaluators go back from the model's numbers to the file's ids.
    ids = {**second.thing_dataset_id_to_contiguous_id, **second.stuff_dataset_id_to_contiguous_id}
    assert ids == {id_: number_of[n] for id_, (n, _) in enumerate(other, 3)}
    assert "val_of_test numbers the classes differently than train_of_test" in caplog.text
    caplog.clear()
    number_classes_alike([train, val])
    assert not caplog.text


@pytest.mark.parametrize(
    "other, difference",
    [
        ([*TRAIN[:3], ("street", 0)], r"road only in train_of_test; street only in val_of_test"),
        (TRAIN[:2], r"sky, road only in train_of_test"),
        ([*TRAIN, ("tree", 0)], r"tree only in val_of_test"),
        ([*TRAIN[:3], ("road", 1)], r"road is stuff in train_of_test and a thing in val_of_test"),
    ],
)
def test_other_classes_are_named(register, other, difference):
    names = [register("train_of_test", TRAIN), register("val_of_test", other)]
    with pytest.raises(UserError, match=difference):
        number_classes_alike(names)


def only_names(name: str, *classes: str) -> str:
    """A dataset that tells names alone, as Detectron2's of boxes do once they are loaded."""
    MetadataCatalog.pop(name, None)
    MetadataCatalog.get(name).thing_classes = list(classes)
    return name


def test_boxes_of_another_order_or_other_names_are_refused():
    first, same = only_names("boxes_a", "car", "bus"), only_names("boxes_b", "car", "bus")
    number_classes_alike([first, same])
    with pytest.raises(UserError, match="boxes_a and boxes_c number the same classes differently"):
        number_classes_alike([first, only_names("boxes_c", "bus", "car")])
    with pytest.raises(UserError, match="bus only in boxes_a; van only in boxes_d"):
        number_classes_alike([first, only_names("boxes_d", "car", "van")])


def test_names_alone_are_compared_with_panoptic_classes(register):
    names = [name for name, _ in TRAIN]
    panoptic = register("train_of_test", TRAIN)
    order = MetadataCatalog.get(panoptic).thing_classes
    number_classes_alike([panoptic, only_names("boxes_a", *order)])
    number_classes_alike([only_names("boxes_a", *reversed(names)), panoptic])
    assert MetadataCatalog.get(panoptic).thing_classes == names[::-1]


def test_the_order_of_a_checkpoint_is_taken(register, caplog):
    caplog.set_level(logging.WARNING)
    name = register("train_of_test", TRAIN)
    wanted = [(c, bool(thing)) for c, thing in reversed(TRAIN)]
    assert has_classes(name, wanted) and not has_classes(name, wanted[1:])
    number_like(wanted, "the checkpoint x.pth", [name])
    assert MetadataCatalog.get(name).thing_classes == [c for c, _ in wanted]
    assert classes_of(name) == [c for c, _ in TRAIN]
    assert "train_of_test numbers the classes differently than the checkpoint x.pth" in caplog.text
    with pytest.raises(UserError, match=r"^The checkpoint x\.pth and .* only in train_of_test\)"):
        number_like(wanted[1:], "the checkpoint x.pth", [name])


def test_datasets_that_say_nothing_of_their_classes_are_left_alone(register):
    number_classes_alike([register("train_of_test", TRAIN), "nothing_is_known_of_this"])
