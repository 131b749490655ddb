import json

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from detr_d2.data import shapes as shapes_module
from detr_d2.data.panoptic_map import read_panoptic_png
from detr_d2.data.shapes import CATEGORIES, draw_scene, write_shapes


def test_the_same_seed_gives_the_same_files(tmp_path):
    for name in "ab":
        write_shapes(tmp_path / name, {"train": 2, "val": 1}, seed=3)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 8
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_another_seed_and_another_split_give_other_images(tmp_path):
    write_shapes(tmp_path / "a", {"train": 1, "val": 1}, seed=3)
    write_shapes(tmp_path / "b", {"train": 1}, seed=4)
    names = ("a/train/000000.jpg", "a/val/000000.jpg", "b/train/000000.jpg")
    assert len({(tmp_path / name).read_bytes() for name in names}) == 3


def test_annotation_and_png_agree(shapes):
    content = json.loads((shapes / "panoptic_train.json").read_text())
    for annotation in content["annotations"]:
        ids = read_panoptic_png(str(shapes / "panoptic_train" / annotation["file_name"]))
        infos = annotation["segments_info"]
        assert sorted(i["id"] for i in infos) == np.unique(ids).tolist()
        for info in infos:
            rows, columns = np.nonzero(ids == info["id"])
            x, y, w, h = info["bbox"]
            assert info["area"] == len(rows)
            assert (columns.min(), columns.max() + 1) == (x, x + w)
            assert (rows.min(), rows.max() + 1) == (y, y + h)


def test_there_are_all_kinds_of_scenes():
    scenes = [draw_scene(np.random.default_rng(i)) for i in range(100)]
    categories = {c for s in scenes for c in s.category_of_id.values()}
    assert categories == {c["id"] for c in CATEGORIES}
    things = [len(s.category_of_id) - 2 for s in scenes]
    assert min(things) >= 0 and max(things) == 5
    for scene in scenes:
        areas = np.bincount(scene.ids.ravel())
        assert areas[list(scene.category_of_id)].min() > 10


def test_registered_like_any_dataset(shapes):
    dicts = DatasetCatalog.get("shapes_panoptic_val")
    metadata = MetadataCatalog.get("shapes_panoptic_val")
    assert len(dicts) == 6
    assert metadata.thing_classes[:4] == ["circle", "square", "triangle", "star"]
    assert sorted(metadata.thing_dataset_id_to_contiguous_id.values()) == [0, 1, 2, 3]


def test_nothing_is_left_of_an_interrupted_run(tmp_path, monkeypatch):
    def fail(rng):
        raise KeyboardInterrupt

    monkeypatch.setattr(shapes_module, "draw_scene", fail)
    with pytest.raises(KeyboardInterrupt):
        write_shapes(tmp_path / "x", {"train": 1})
    assert list(tmp_path.iterdir()) == []
