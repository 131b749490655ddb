import json

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from detr_d2.data import register_panoptic_dataset
from detr_d2.errors import UserError


@pytest.fixture
def register(tiny_dataset):
    folder, _ = tiny_dataset
    names = []

    def register(name="tiny"):
        paths = (folder / "images", folder / "panoptic", folder / "panoptic.json")
        register_panoptic_dataset(name, *map(str, paths))
        names.append(name)
        return name

    yield register
    for name in set(names):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_things_come_first_in_the_metadata(register):
    metadata = MetadataCatalog.get(register())
    assert metadata.thing_classes == metadata.stuff_classes == ["car", "road"]
    assert metadata.thing_dataset_id_to_contiguous_id == {3: 0}
    assert metadata.stuff_dataset_id_to_contiguous_id == {9: 1}
    assert (metadata.evaluator_type, metadata.label_divisor) == ("coco_panoptic_seg", 1000)


def test_dicts_have_contiguous_classes_and_whole_paths(register, tiny_dataset):
    folder, _ = tiny_dataset
    (only,) = DatasetCatalog.get(register())
    assert only["file_name"] == str(folder / "images" / "a.png")
    assert only["pan_seg_file_name"] == str(folder / "panoptic" / "a.png")
    assert (only["image_id"], only["height"], only["width"]) == (5, 4, 6)
    found = [(s["id"], s["category_id"], s["isthing"]) for s in only["segments_info"]]
    assert found == [(7, 0, True), (300, 1, False)]


def test_registering_the_same_files_again_is_harmless(register):
    register()
    register()


def test_a_name_with_other_files_is_refused(register, tmp_path):
    name = register()
    with pytest.raises(UserError, match="choose another name"):
        register_panoptic_dataset(name, str(tmp_path), str(tmp_path), str(tmp_path / "other.json"))


def test_a_missing_json_is_named():
    with pytest.raises(UserError, match=r"nowhere\.json.*does not exist"):
        register_panoptic_dataset("lost", "a", "b", "nowhere.json")


def with_segment(content, **changes):
    content["annotations"][0]["segments_info"][0].update(changes)
    return {"annotations": content["annotations"]}


def with_file_name(content, name):
    content["images"][0]["file_name"] = name
    return {"images": content["images"]}


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda c: with_segment(c, category_id=8), "image 5: segment 7 has category 8, which is"),
        (lambda c: with_file_name(c, "../a.png"), r"image 5: the file name \.\./a\.png leaves"),
        (lambda c: with_file_name(c, "/etc/a.png"), "image 5: the file name /etc/a.png leaves"),
        (lambda c: {"images": []}, "image 5 has an annotation but is not in `images`"),
    ],
)
def test_bad_annotations_are_named_when_the_dataset_is_used(
    register, tiny_dataset, change, sentence
):
    _, write = tiny_dataset
    name = register()
    write(**change(write()))
    with pytest.raises(UserError, match=sentence):
        DatasetCatalog.get(name)


@pytest.mark.parametrize(
    "categories, sentence",
    [
        ([], "has no categories"),
        ([{"id": 1, "name": "car"}], "has no isthing"),
        ([{"id": 1, "name": n, "isthing": 1} for n in "ab"], "two categories have the id 1"),
    ],
)
def test_bad_categories_are_named_at_once(register, tiny_dataset, categories, sentence):
    _, write = tiny_dataset
    write(categories=categories)
    with pytest.raises(UserError, match=sentence):
        register()


def test_classes_without_a_colour_get_one_each(register, tiny_dataset):
    _, write = tiny_dataset
    names = {1: "sky", 2: "road", 3: "car", 9: "tree"}
    categories = [{"id": id_, "name": n, "isthing": id_ == 3} for id_, n in names.items()]
    categories[0]["color"] = [10, 20, 30]
    write(categories=categories)
    metadata = MetadataCatalog.get(register())
    assert metadata.stuff_colors == metadata.thing_colors
    assert len(set(metadata.stuff_colors)) == 4 and metadata.stuff_colors[1] == (10, 20, 30)


def test_a_json_of_another_kind_is_named(register, tiny_dataset):
    (tiny_dataset[0] / "panoptic.json").write_text("[1, 2]")
    with pytest.raises(UserError, match=r"panoptic\.json holds no JSON object"):
        register()


def test_broken_json_is_named(register, tiny_dataset):
    folder, write = tiny_dataset
    (folder / "panoptic.json").write_text(json.dumps(write())[:-5])
    with pytest.raises(UserError, match="is not valid JSON"):
        register()


def test_images_without_annotation_are_counted_and_left_out(register, tiny_dataset, caplog):
    _, write = tiny_dataset
    images = [{"id": id_, "file_name": f"{id_}.png", "height": 4, "width": 6} for id_ in (4, 5, 6)]
    images[1]["file_name"] = "a.png"
    write(images=images)
    assert [d["image_id"] for d in DatasetCatalog.get(register())] == [5]
    assert "2 of 3 images have no annotation, such as image 4" in caplog.text


def test_all_that_is_wrong_is_told_at_once(register, tiny_dataset):
    _, write = tiny_dataset
    segments = [{"id": n, "category_id": 4} for n in range(1, 13)] + [{"id": 0, "category_id": 3}]
    write(annotations=[{"image_id": 5, "file_name": "a.png", "segments_info": segments}])
    with pytest.raises(UserError) as error:
        DatasetCatalog.get(register())
    lines = str(error.value).splitlines()
    assert len(lines) == 12 and "segment 1 has category 4" in lines[0]
    assert lines[-2:] == ["and 3 more.", "12 Unknown categories, 1 Segment ids in all."]
